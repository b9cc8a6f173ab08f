"""What a router's log tells: requests that ended, one in so many of them."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from twin.exporters.base import TwinExporter
from twin.exporters.instruments import Column, Names, Sensors, numbered_text, numbers
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
        ended = self._ended()
        first = (-self._seen) % self._sample
        f = ended[first :: self._sample].copy()
        ids = numbered_text(self._prefix, self._seen + first, self._sample, len(f))
        self._seen += len(ended)
        endpoint, output, served = f["endpoint"].copy(), f["output"].copy(), np.isfinite(f["first_s"])
        decoded = f["end_s"] - f["first_s"]
        return {
            "ts": self._at(f["end_s"]),
            "request_id": ids,
            "endpoint": self._endpoint.at(endpoint),
            "model": self._model.at(endpoint),
            "node": self._node.at(self._world.fleet.instance_server[f["instance"]]),
            "received_at": self._at(f["arrival_s"]),
            "status": self._status.at(served),
            "prompt_tokens": f["prompt"].copy(),
            "output_tokens": output * served,
            "cached_tokens": f["cached"] * served,
            "ttft_s": numbers(f["first_s"] - f["arrival_s"]),
            "tbt_s": numbers(np.where(output > 1, decoded / np.maximum(1, output - 1), np.nan)),
            "e2e_s": numbers(np.where(served, f["end_s"] - f["arrival_s"], np.nan)),
            "weight": np.full(len(f), self._sample, dtype=np.float32),
        }

    def _at(self, seconds: NDArray[np.float64]) -> Column:
        return self._start + (seconds * 1e6).astype("timedelta64[us]")
