"""The sensors of a world, and their readings as columns."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from twin.draws import per_server
from twin.events import SensorFault
from twin.exporters.kernels import numbered, spelt
from twin.sensors import Memory, Readings, apply, degrees, faults_at, inlet
from twin.world import World

Floats = NDArray[np.float64]
Column = Sequence[Any] | NDArray[Any]


class Sensors:
    """The sensors of a world. Its exporters share them, so that a sensor shows all of them the same. Hold the world's lock."""

    def __init__(self, world: World) -> None:
        """Nothing has been looked at yet."""
        self._world = world
        self._events = tuple(e for e in world.scenario.happenings() if isinstance(e, SensorFault))
        self._servers = {server.name: i for i, server in enumerate(world.topology.servers)}
        fleet = world.fleet
        step_c = per_server(fleet.profiles, fleet.server_hardware)(lambda p: p.sensors.step_c)
        self._step_c: float | Floats = float(step_c[0]) if (step_c == step_c[0]).all() else step_c
        self._memory: Memory = {}
        self._seen: tuple[int, Readings] | None = None
        """the newest second of the GPUs' readings, and these: two exporters tell of them"""

    def servers(self) -> Readings:
        """[S] inlet_c, server_power_w, fan_pct."""
        s, share = self._world.state, self._world.fleet.inlet_bias_share
        true = {"inlet_c": inlet(s.inlet_c, share, self._step_c), "server_power_w": s.server_w, "fan_pct": 100.0 * s.duty}
        return self._faulty(true)

    def gpus(self) -> Readings:
        """[S, G] temp_c, mem_temp_c, power_w; NaN where the driver no longer answers."""
        s, fleet = self._world.state, self._world.fleet
        step_c = self._step_c if isinstance(self._step_c, float) else self._step_c[:, None]
        if self._seen is not None and self._seen[0] == self._world.second:
            return self._seen[1]
        true = {
            "temp_c": degrees(s.die_c, fleet.temp_bias_c, step_c),
            "mem_temp_c": degrees(s.die_c, fleet.memory_offset_c, step_c),
            "power_w": s.gpu_w,
        }
        shown = self._faulty(true)
        if s.down.any():
            shown = {name: np.where(s.down, np.nan, values) for name, values in shown.items()}
        self._seen = (self._world.second, shown)
        return shown

    def _faulty(self, readings: Readings) -> Readings:
        if not self._events:
            return readings
        faults = faults_at(self._events, self._servers, self._world.second)
        shown, self._memory = apply(readings, faults, self._memory, self._step_c)
        return shown


def text(values: Sequence[str | None]) -> Column:
    """Return a text column. Keep it: the same object costs nothing to encode again."""
    return cast(Column, pa.array(values, pa.large_string()))  # it has a length and positions: all that a column needs


def kept(values: NDArray[Any]) -> Column:
    """Return a column of numbers that never change; keep it, as `text`. NULL where a value is NaN."""
    column = numbers(values, values.dtype)
    return cast(Column, pa.array(column)) if isinstance(column, np.ndarray) else column


class Names:
    """Names to choose from."""

    def __init__(self, names: Sequence[str]) -> None:
        """At least one."""
        _, starts, letters = pa.array(names, pa.large_string()).buffers()
        self._starts = np.frombuffer(starts, dtype=np.int64)[: len(names) + 1]
        self._letters = np.frombuffer(letters, dtype=np.uint8)

    def at(self, positions: NDArray[Any]) -> Column:
        """Return a text column of the names at these positions."""
        return _text(*spelt(positions.astype(np.int64), self._starts, self._letters))


def numbered_text(prefix: str, first: int, step: int, count: int) -> Column:
    """Return a text column of `prefix` with `count` numbers from `first` on, twelve digits each."""
    return _text(*numbered(np.frombuffer(prefix.encode(), dtype=np.uint8), first, step, count, 12))


def _text(ends: NDArray[np.int64], letters: NDArray[np.uint8]) -> Column:
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(letters)]
    return cast(Column, pa.Array.from_buffers(pa.large_string(), len(ends) - 1, buffers))


def numbers(values: NDArray[Any], dtype: DTypeLike = np.float32) -> Column:
    """Return a column of numbers, NULL where a value is NaN; a view where neither shape nor dtype changes."""
    flat = values.ravel()
    if len(flat) == 0 or not np.isnan(np.minimum.reduce(flat)):
        return flat.astype(dtype, copy=values.ndim > 1)
    missing = np.isnan(flat)
    return cast(Column, pa.array(np.where(missing, 0, flat).astype(dtype), mask=missing))


class Somewhere:
    """Columns of numbers that stand in some rows only, always the same."""

    def __init__(self, rows: int, first: int, count: int) -> None:
        """From row `first` on there are `count` numbers."""
        self._rows, self._here = rows, slice(first, first + count)
        there = np.zeros(rows, dtype=np.bool_)
        there[self._here] = True
        self._valid = pa.py_buffer(np.packbits(there, bitorder="little"))

    def numbers(self, values: NDArray[Any], dtype: type[np.float32 | np.float64] = np.float64) -> Column:
        """Return the column; NULL also where a value is NaN."""
        out = np.zeros(self._rows, dtype=dtype)
        out[self._here] = values
        if np.isnan(np.minimum.reduce(out)):
            there = np.full(self._rows, np.nan, dtype=dtype)
            there[self._here] = values
            return numbers(there, dtype)
        kind, nulls = pa.float32() if dtype is np.float32 else pa.float64(), self._rows - len(values)
        return cast(Column, pa.Array.from_buffers(kind, self._rows, [self._valid, pa.py_buffer(out)], nulls))
