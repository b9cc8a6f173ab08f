"""What a router's log tells: requests that ended, one in so many of them."""

from typing import ClassVar

import numpy as np

from twin.batching.state import ENDED, Records
from twin.exporters.base import TwinExporter
from twin.exporters.instruments import Column, Names, Sensors, numbered_text, numbers
from twin.exporters.kernels import request_columns
from twin.world import World


class RequestsExporter(TwinExporter):
    """One ended request in `sample`, counted through, so that the weights add up to all of them.

    Only the provider's own instances have a log: opaque tenants' requests are seen by nobody.
    """

    topic: ClassVar[str] = "requests"

    def __init__(self, world: World, sensors: Sensors, period_s: float, sample: int) -> None:
        """`sample` >= 1."""
        super().__init__(world, sensors, period_s)
        self._sample = sample
        self._seen = 0
        t = world.topology
        self._node = Names([server.name for server in t.servers])
        self._endpoint = Names([e.name for e in t.endpoints])
        self._model = Names([e.model for e in t.endpoints])
        self._status = Names(["rejected", "ok"])
        self._prefix = f"{world.scenario.name}-{world.seed}-"

    def _read(self) -> dict[str, Column]:
        first = self._seen + (-self._seen) % self._sample
        f = self._sampled()
        ints, tokens, seconds = request_columns(f, self._world.fleet.instance_server, self._start_us)
        at, received_at, endpoint, node, served = ints
        return {
            "ts": at.view("datetime64[us]"),
            "request_id": numbered_text(self._prefix, first, self._sample, len(f)),
            "endpoint": self._endpoint.at(endpoint),
            "model": self._model.at(endpoint),
            "node": self._node.at(node),
            "received_at": received_at.view("datetime64[us]"),
            "status": self._status.at(served),
            "prompt_tokens": tokens[0],
            "output_tokens": tokens[1],
            "cached_tokens": tokens[2],
            "ttft_s": numbers(seconds[0]),
            "tbt_s": numbers(seconds[1]),
            "e2e_s": numbers(seconds[2]),
            "weight": np.full(len(f), self._sample, dtype=np.float32),
        }

    def _sampled(self) -> Records:
        """One in so many of those that ended since the last frame."""
        picked = []
        for rows in self._ended():
            picked.append(rows[(-self._seen) % self._sample :: self._sample])
            self._seen += len(rows)
        found, at = np.empty(sum(len(rows) for rows in picked), dtype=ENDED), 0
        for rows in picked:  # numpy would look at each field anew to put structures together
            found[at : at + len(rows)] = rows
            at += len(rows)
        return found
