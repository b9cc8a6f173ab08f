"""What serving engines tell of themselves: gauges and rates, all instances of a node together."""

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.batching.admit import BLOCK
from twin.batching.state import Records
from twin.exporters.base import TwinExporter
from twin.exporters.instruments import Column, Sensors, numbers, text
from twin.exporters.latency import by_node
from twin.fleet import Fleet
from twin.world import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COUNTERS = ("prompt_tokens", "made_tokens")


class _Nodes(NamedTuple):
    """The nodes that serve: one row of the frame each."""

    node: Ints
    """[I] position of an instance's node among the rows; -1 = its machine has left"""
    names: Column
    endpoints: Column
    rows: int


def _nodes(fleet: Fleet, present: NDArray[np.bool_]) -> _Nodes:
    servers = np.unique(fleet.instance_server[present])
    place = np.full(len(fleet.row), -1, dtype=np.int64)
    place[servers] = np.arange(len(servers))
    topology = fleet.topology
    names = text([topology.servers[i].name for i in servers])
    endpoints = text([topology.endpoints[e].name for e in fleet.endpoint[servers]])
    return _Nodes(np.where(present, place[fleet.instance_server], -1), names, endpoints, len(servers))


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
        self._before = self._counters()

    def _counters(self) -> Floats:
        """[3, I] arrived, prompt tokens, output tokens. What has come to an instance is counted there at its next boundary."""
        h = self._world.serving.s.inst
        return np.stack([h["arrived"] + h["coming"], *(h[name] for name in COUNTERS)]).astype(np.float64)

    def _read(self) -> dict[str, Column]:
        w = self._world
        if w.fleet is not self._fleet:
            self._fleet, self._nodes = w.fleet, _nodes(w.fleet, w.serving.present)
        counters = self._counters()
        rates = counters.copy()
        rates[:, : self._before.shape[1]] -= self._before
        rates /= w.second - self._last
        self._before = counters
        h = w.serving.s.inst
        arrived, prompt, output = (self._summed(rate) for rate in rates)
        ttft_s, tbt_s, ok_pct = by_node(self._ended(), self._nodes.node, self._nodes.rows)
        return {
            "ts": self._ts(self._nodes.rows),
            "endpoint": self._nodes.endpoints,
            "node": self._nodes.names,
            "running": numbers(self._summed(h["decoding"] + h["fresh"])),
            "waiting": numbers(self._summed(h["waiting_low"] + h["waiting_high"] + h["coming"])),
            "kv_cache_pct": numbers(self._kv_cache_pct(h)),
            "requests_rps": numbers(arrived),
            "prompt_tok_s": numbers(prompt),
            "output_tok_s": numbers(output),
            "ttft_p99_s": numbers(ttft_s),
            "tbt_p99_s": numbers(tbt_s),
            "slo_ok_pct": numbers(ok_pct),
        }

    def _summed(self, values: NDArray[np.generic]) -> Floats:
        """[N] over the instances of each node."""
        here = self._nodes.node >= 0
        sums: Floats = np.bincount(self._nodes.node[here], weights=values[here], minlength=self._nodes.rows).astype(np.float64)
        return sums

    def _kv_cache_pct(self, h: Records) -> Floats:
        """Blocks in use: a decoding request's last block is half full on average."""
        blocks = (h["context"] + h["decoding"] * ((BLOCK - 1) / 2)) / BLOCK + h["prompt_blocks"]
        room = self._world.serving.points["kv_blocks"][h["point"]]
        return np.minimum(100.0, 100.0 * self._summed(blocks) / self._summed(room))
