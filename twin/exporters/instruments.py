"""The sensors of a world, and their readings as columns."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from twin.draws import per_server
from twin.events import SensorFault
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


def chosen(names: Column, positions: NDArray[Any]) -> Column:
    """Return the names at some positions."""
    return cast(Column, cast(Any, names).take(pa.array(positions)))


def numbers(values: NDArray[Any], dtype: DTypeLike = np.float32) -> Column:
    """Return a column of numbers, NULL where a value is NaN."""
    flat = values.ravel()
    missing = np.isnan(flat)
    if not missing.any():
        return flat.astype(dtype)
    return cast(Column, pa.array(np.where(missing, 0, flat).astype(dtype), mask=missing))


_FOUR = np.frombuffer("".join(f"{k:04d}" for k in range(10_000)).encode(), dtype=np.uint8).reshape(-1, 4)


def numbered(prefix: str, numbers: NDArray[np.int64]) -> Column:
    """Return `prefix` with each of the numbers, in twelve digits."""
    lead, parts = np.frombuffer(prefix.encode(), dtype=np.uint8), 3
    letters = np.empty((len(numbers), len(lead) + 4 * parts), dtype=np.uint8)
    letters[:, : len(lead)] = lead
    rest = numbers
    for k in range(parts):
        rest, four = np.divmod(rest, len(_FOUR))
        end = letters.shape[1] - 4 * k
        letters[:, end - 4 : end] = _FOUR[four]
    ends = np.arange(len(numbers) + 1, dtype=np.int64) * letters.shape[1]
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(letters)]
    return cast(Column, pa.Array.from_buffers(pa.large_string(), len(numbers), buffers))
