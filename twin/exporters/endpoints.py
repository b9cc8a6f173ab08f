"""What serving engines tell of themselves: gauges and rates, all instances of a node together."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.batching.state import Records
from twin.exporters.base import TwinExporter
from twin.exporters.instruments import Column, Sensors, numbers, text
from twin.exporters.kernels import gauges, latencies, note_ended
from twin.fleet import Fleet
from twin.world import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class _Nodes(NamedTuple):
    """The nodes that serve: one row of the frame each."""

    node: Ints
    """[I] position of an instance's node among the rows; -1 = its machine has left"""
    names: Column
    endpoints: Column
    rows: int


def _nodes(fleet: Fleet, present: NDArray[np.bool_]) -> _Nodes:
    here = np.flatnonzero(present)
    servers, first = np.unique(fleet.instance_server[here], return_index=True)
    place = np.full(len(fleet.row), -1, dtype=np.int64)
    place[servers] = np.arange(len(servers))
    topology = fleet.topology
    names = text([topology.servers[i].name for i in servers])
    endpoints = text([topology.endpoints[e].name for e in fleet.instance_endpoint[here[first]]])
    return _Nodes(np.where(present, place[fleet.instance_server], -1), names, endpoints, len(servers))


def by_node(ended: Sequence[Records], node: Ints, nodes: int) -> Floats:
    """[3, nodes] P99 of TTFT and of TBT in s, percent within both objectives; NaN where nothing tells."""
    most = 4
    while True:
        count, top = np.zeros((nodes, 4), dtype=np.int64), np.empty((nodes, 2, most))
        for rows in ended:
            note_ended(rows, node, count, top)
        needed = 2 + int(count[:, 0].max(initial=0)) // 100  # no more lie above the 99th percentile, and one below it
        if needed <= most:
            return latencies(count, top)
        most = needed


class EndpointsExporter(TwinExporter):
    """Every serving node's gauges, and the latencies of all its requests that ended since the last frame.

    Requests/s are those that arrived, prompt tokens/s those of the requests that finished, output tokens/s those made.
    """

    topic: ClassVar[str] = "endpoints"

    def __init__(self, world: World, sensors: Sensors, period_s: float) -> None:
        """Counters are read as differences."""
        super().__init__(world, sensors, period_s)
        self._fleet = world.fleet
        self._nodes = _nodes(world.fleet, world.serving.present)
        self._before = np.zeros((3, len(world.fleet.instance_server)), dtype=np.int64)
        self._gauges()

    def _gauges(self) -> Floats:
        w = self._world
        return gauges(w.serving.s.inst, w.serving.points, self._nodes.node, self._nodes.rows, self._before)

    def _read(self) -> dict[str, Column]:
        w = self._world
        if w.fleet is not self._fleet:  # somebody moved in or out; instances that are new begin at nothing
            self._fleet, self._nodes = w.fleet, _nodes(w.fleet, w.serving.present)
            more = len(w.fleet.instance_server) - self._before.shape[1]
            self._before = np.pad(self._before, ((0, 0), (0, more)))
        running, waiting, kv_cache_pct, arrived, prompt, output = self._gauges()
        per_s = 1.0 / (w.second - self._last)
        ttft_s, tbt_s, ok_pct = by_node(self._ended(), self._nodes.node, self._nodes.rows)
        return {
            "ts": self._ts(self._nodes.rows),
            "endpoint": self._nodes.endpoints,
            "node": self._nodes.names,
            "running": numbers(running),
            "waiting": numbers(waiting),
            "kv_cache_pct": numbers(kv_cache_pct),
            "requests_rps": numbers(arrived * per_s),
            "prompt_tok_s": numbers(prompt * per_s),
            "output_tok_s": numbers(output * per_s),
            "ttft_p99_s": numbers(ttft_s),
            "tbt_p99_s": numbers(tbt_s),
            "slo_ok_pct": numbers(ok_pct),
        }
