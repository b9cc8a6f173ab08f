"""What all exporters of the twin share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import numpy as np

from contracts.ports import Collected
from twin.batching.state import Records
from twin.events import ExporterOutage, exporters_out
from twin.exporters.instruments import Column, Sensors
from twin.world import World

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TwinExporter(ABC):
    """Rows of one topic for the whole site. Nothing to say until the world has moved on, and while an outage lasts.

    Rows describe the time since the last frame; the first frame after an outage the time since the last one before it.
    """

    topic: ClassVar[str]

    def __init__(self, world: World, sensors: Sensors, period_s: float) -> None:
        """The first frame describes the time from now on."""
        self.name, self.period_s = f"twin_{self.topic}", period_s
        self._world, self._sensors = world, sensors
        self._outages = tuple(e for e in world.scenario.happenings() if isinstance(e, ExporterOutage))
        self._last = world.second
        self._start_us = (world.scenario.start - EPOCH) // timedelta(microseconds=1)

    def collect(self, now: datetime) -> Sequence[Collected]:  # noqa: ARG002 - the world has its own time, which rows carry
        """Read once; ts = the world's present moment. Empty while that has not moved."""
        with self._world.lock:
            if self._world.second <= self._last:
                return ()
            if self.topic in exporters_out(self._outages, self._world.second):
                self._look()
                return ()
            frame = Collected(topic=self.topic, columns=self._read())
            self._last = self._world.second
        return (frame,)

    def close(self) -> None:  # noqa: B027 - nothing is held; no exporter needs to say so again
        """Nothing is held."""

    @abstractmethod
    def _read(self) -> dict[str, Column]:
        """The columns of (self._last, world.second]."""

    def _look(self) -> None:  # noqa: B027 - only those with sensors have anything to look at
        """Let sensors that get stuck in an outage hold what they show then."""

    def _ts(self, rows: int) -> Column:
        stamps = np.empty(rows, dtype=np.int64)
        stamps.fill(self._start_us + 1_000_000 * self._world.second)
        return stamps.view("datetime64[us]")

    def _ended(self) -> list[Records]:
        """The requests (ENDED) that ended since the last frame, in order; not to be written to."""
        newest = []
        for second, rows in reversed(self._world.ended):
            if second <= self._last:
                break
            newest.append(rows)
        return newest[::-1]
