"""Positions derived from a topology, and the check that the topology can be."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import ConfigError
from contracts.topology import Topology
from contracts.view import Index


def build(topology: Topology) -> Index:
    """Return the positions of everything in `topology`.

    Raises ConfigError naming the thing when a name stands twice or refers to what is not there.
    """
    server = _positions("server", (s.name for s in topology.servers))
    row = _positions("row", (r.name for r in topology.rows))
    aisle = _positions("aisle", (a.name for a in topology.aisles))
    ups = _positions("ups", (u.name for u in topology.upses))
    ahu = _positions("ahu", (name for a in topology.aisles for name in a.ahus))
    endpoint = _positions("endpoint", (e.name for e in topology.endpoints))
    hardware = _positions("hardware", (h.name for h in topology.hardware))
    for r in topology.rows:
        for name in r.upses:
            _of(ups, f"row {r.name}", "ups", name)

    row_aisle = _ints(_of(aisle, f"row {r.name}", "aisle", r.aisle) for r in topology.rows)
    server_row = _ints(_of(row, f"server {s.name}", "row", s.row) for s in topology.servers)
    kind = [_of(hardware, f"server {s.name}", "hardware", s.hardware) for s in topology.servers]
    specs = [topology.hardware[k] for k in kind]
    gpus = [h.gpus for h in specs]
    return Index(
        server=server,
        row=row,
        aisle=aisle,
        ups=ups,
        ahu=ahu,
        endpoint=endpoint,
        server_row=server_row,
        server_aisle=_frozen(row_aisle[server_row]) if len(specs) else _ints(()),
        server_endpoint=_ints(
            -1 if s.endpoint is None else _of(endpoint, f"server {s.name}", "endpoint", s.endpoint) for s in topology.servers
        ),
        server_hardware=_ints(kind),
        saas=_bools(s.tenant == "saas" for s in topology.servers),
        iaas=_bools(s.tenant == "iaas" for s in topology.servers),
        high=_bools(s.priority == "high" for s in topology.servers),
        gpu_first=_ints(np.concatenate([[0], np.cumsum(gpus)])),
        gpu_server=_ints(np.repeat(np.arange(len(gpus)), gpus)),
        row_aisle=row_aisle,
        row_limit_w=_floats(r.power_limit_w for r in topology.rows),
        aisle_limit_cfm=_floats(a.airflow_limit_cfm for a in topology.aisles),
        max_clock_mhz=_floats(h.max_clock_mhz for h in specs),
        min_clock_mhz=_floats(h.min_clock_mhz for h in specs),
        base_clock_mhz=_floats(h.base_clock_mhz for h in specs),
        slowdown_c=_floats(h.slowdown_c for h in specs),
    )


def _positions(kind: str, names: Iterable[str]) -> dict[str, int]:
    positions: dict[str, int] = {}
    for name in names:
        if name in positions:
            raise ConfigError(f"topology: {kind} {name!r} stands twice; names must be unique")
        positions[name] = len(positions)
    return positions


def _of(positions: dict[str, int], owner: str, kind: str, name: str) -> int:
    if name not in positions:
        raise ConfigError(f"topology: {owner}: unknown {kind} {name!r}; there are {', '.join(positions) or 'none'}")
    return positions[name]


def _frozen(array: NDArray[np.int64]) -> NDArray[np.int64]:
    array.flags.writeable = False
    return array


def _ints(values: Iterable[int] | ArrayLike) -> NDArray[np.int64]:
    return _frozen(np.array(values if isinstance(values, np.ndarray) else list(values), dtype=np.int64))  # type: ignore[arg-type]


def _floats(values: Iterable[float]) -> NDArray[np.float64]:
    array = np.array(list(values), dtype=np.float64)
    array.flags.writeable = False
    return array


def _bools(values: Iterable[bool]) -> NDArray[np.bool_]:
    array = np.array(list(values), dtype=np.bool_)
    array.flags.writeable = False
    return array
