"""What the topology knows of series: what they can be at most by data sheet, and what shares what moves them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from contracts.ports import Batch
from contracts.topology import Topology


class SiteFacts:
    """Upper bounds of power and airflow, and the aisles of inlets."""

    def __init__(self, topology: Topology) -> None:
        """Sum the data sheets over rows, UPSes and aisles; a UPS carries at most all of the rows that it feeds."""
        sheets = {hardware.name: hardware for hardware in topology.hardware}
        server = {s.name: sheets[s.hardware].max_power_w for s in topology.servers}
        rows = {row.name: sum(server[s.name] for s in topology.servers if s.row == row.name) for row in topology.rows}
        air = {s.name: sheets[s.hardware].airflow_max_cfm for s in topology.servers}
        aisle_of = {row.name: row.aisle for row in topology.rows}
        self._aisle = {s.name: aisle_of[s.row] for s in topology.servers}
        self._most: Mapping[str, Mapping[str, float]] = {
            "server_power": server,
            "gpu_power": server,
            "power": rows,
            "ups_power": {u.name: sum(rows[r.name] for r in topology.rows if u.name in r.upses) for u in topology.upses},
            "airflow": {
                aisle.name: sum(air[s.name] for s in topology.servers if aisle_of[s.row] == aisle.name)
                for aisle in topology.aisles
            },
        }

    def told(self, batch: Batch) -> Batch:
        """Return the batch with what its series can be at most (where a sheet has been exceeded, what was seen counts), and of
        inlets with their aisles as groups."""
        if batch.target == "inlet":
            return replace(batch, groups=tuple(self._aisle.get(name, "") for name in batch.names))
        most = self._most.get(batch.target)
        if most is None or not len(batch.ts):
            return batch
        sheet = np.array([most.get(name, np.inf) for name in batch.names])
        seen = np.fmax.reduce(batch.values, axis=1, initial=0.0)
        return replace(batch, upper=np.maximum(sheet, seen))
