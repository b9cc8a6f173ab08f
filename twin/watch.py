"""Watches a run for its map and for its series: what rows draw and how hot they get, at a memory bound or by the minute."""

from dataclasses import dataclass, field
from datetime import UTC

import numpy as np
from numpy.typing import NDArray

from twin import events
from twin.map import Frames
from twin.map_recorder import Recorder
from twin.world import World

Floats = NDArray[np.float64]
SAMPLES_S = (1, 5, 10, 20, 30, 60)
"""seconds between two samples of temperatures: parts of a minute"""
MINUTE_S = 60


def sample_s(run_s: float, frames: int = 240) -> int:
    """Return the seconds between two samples, so that a run of `run_s` has about `frames` of them or more."""
    return max(each for each in SAMPLES_S if each == SAMPLES_S[0] or each * frames <= run_s)


class Map:
    """Gathers the map's frames. Power counts second by second; temperatures and servers' power are taken at each call."""

    def __init__(self, world: World) -> None:
        """Begin at the world's present moment."""
        self._recorder = Recorder(world.topology)
        self._second = world.second
        for event in world.scenario.happenings():
            self._recorder.event(event.at_s, event.at_s + event.for_s, said(event))

    def take(self, world: World) -> None:
        """Take what happened since the last call, at most an hour ago."""
        s = world.state
        servers = {
            "inlet_c": s.inlet_c,
            "hottest_gpu_c": s.die_c.max(axis=1),
            "slowed": (s.slow | s.down).any(axis=1),
            "server_w": s.server_w,
        }
        for second, row_w in enumerate(world.row_power(self._second), start=self._second):
            self._recorder.add(float(second), row_w=row_w, row_limit_w=world.ledger.row_limit_w, **servers)
        self._second = world.second

    def frames(self) -> Frames:
        """Return what was seen so far."""
        return self._recorder.frames()


@dataclass
class _Minute:
    """Of one minute, rows [R]."""

    row_w: list[Floats] = field(default_factory=list)
    hottest_c: list[Floats] = field(default_factory=list)


class Series:
    """Row power, its highest second, the limit and the hottest GPU of each row, by the minute."""

    def __init__(self, world: World) -> None:
        """Begin at the world's present moment."""
        self._world, self._second, self._minute = world, world.second, _Minute()
        self._ends_s: list[int] = []
        self._values: list[Floats] = []

    def take(self, world: World) -> None:
        """Take what happened since the last call, at most an hour ago; calls come at whole minutes among others."""
        self._minute.row_w.append(world.row_power(self._second))
        self._minute.hottest_c.append(self._hottest(world))
        self._second = world.second
        if world.second % MINUTE_S == 0:
            self._close()

    def columns(self) -> dict[str, object]:
        """Return ts (naive UTC, the minute's end), row, power_w, power_max_w, limit_w, gpu_max_c: a row per minute and row."""
        if self._minute.row_w:
            self._close()
        world, count = self._world, len(self._world.topology.rows)
        start = np.datetime64(world.scenario.start.astimezone(UTC).replace(tzinfo=None), "us")
        ends = start + np.array(self._ends_s, dtype="timedelta64[s]")
        names = ("power_w", "power_max_w", "limit_w", "gpu_max_c")
        values = np.array(self._values).reshape(-1, len(names), count).transpose(1, 0, 2).reshape(len(names), -1)
        rows = [row.name for row in world.topology.rows] * len(self._ends_s)
        return {"ts": np.repeat(ends, count), "row": rows, **dict(zip(names, values, strict=True))}

    def _hottest(self, world: World) -> Floats:
        hottest = np.full(len(world.topology.rows), -np.inf)
        np.maximum.at(hottest, world.fleet.row, world.state.die_c.max(axis=1))
        return hottest

    def _close(self) -> None:
        power = np.concatenate(self._minute.row_w)
        hottest = np.max(self._minute.hottest_c, axis=0)
        limit = self._world.ledger.row_limit_w
        self._ends_s.append(self._second)
        self._values.append(np.array([power.mean(axis=0), power.max(axis=0), limit, hottest], dtype=np.float32))
        self._minute = _Minute()


def said(event: events.Event) -> str:
    """Say in a few words what an event is."""
    if isinstance(event, events.ChillerRestart):
        return f"{event.unit} restarts"
    if isinstance(event, events.Lost):
        return f"{event.unit} lost"
    if isinstance(event, events.HeatWave):
        return f"heat wave: up to {event.peak_k:g} K warmer outside"
    if isinstance(event, events.LoadSpike | events.FlashCrowd):
        kind = "load" if isinstance(event, events.LoadSpike) else "a crowd: load"
        return f"{kind} x {event.factor:g} on {event.endpoint or 'all endpoints'}"
    if isinstance(event, events.ExporterOutage):
        return f"exporter {event.exporter} silent"
    if isinstance(event, events.SensorDrift):
        return f"{event.quantity} of {event.node} drifts by {event.k_per_h:g} K/h"
    what = "stuck" if isinstance(event, events.SensorStuck) else "silent"
    return f"{event.quantity} of {event.node} {what}"
