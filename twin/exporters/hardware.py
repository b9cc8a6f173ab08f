"""What drivers and management controllers tell: of every GPU, and of every server."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from twin.draws import per_server
from twin.exporters.base import TwinExporter
from twin.exporters.instruments import Column, Names, Sensors, kept, numbers, text
from twin.exporters.readings import narrowed, reasons, server_columns, utilised
from twin.world import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MEMORY_MHZ = {"h100": 2619.0, "a100": 1593.0}
"""[S] H100 SXM, [MEM] A100 SXM 80 GB; memory clocks of other GPUs are not known"""
SERVING_MIB, OPAQUE_MIB, FREE_MIB = 73_400.0, 40_000.0, 500.0
"""[S] a serving engine reserves .9 of 81,559 MiB (vLLM's default); [A] an opaque tenant uses half; [A] the driver's own"""


def _instances(world: World) -> Ints:
    """[S, G] the instance that each GPU serves, -1 = none."""
    v, found = world.serving, np.full(world.state.die_c.shape, -1)
    for i in np.flatnonzero(v.present).tolist():
        found[v.server[i], v.first_gpu[i] : v.first_gpu[i] + v.gpus[i]] = i
    return found


class GpuExporter(TwinExporter):
    """Every GPU: power, temperatures, clocks, reasons."""

    topic: ClassVar[str] = "gpu"

    def __init__(self, world: World, sensors: Sensors, period_s: float) -> None:
        """Utilisation is the share of the time since the frame before."""
        super().__init__(world, sensors, period_s)
        fleet, names = world.fleet, [server.name for server in world.topology.servers]
        servers, gpus = fleet.power_factor.shape
        self._node = text([name for name in names for _ in range(gpus)])
        self._gpu = kept(np.tile(np.arange(gpus, dtype=np.int16), servers))
        self._uuid = text([f"GPU-{name}-{g}" for name in names for g in range(gpus)])
        of = per_server(fleet.profiles, fleet.server_hardware)
        self._memory_mhz = np.repeat(of(lambda p: MEMORY_MHZ.get(p.gpu, np.nan)), gpus).astype(np.float32)
        self._brake_mhz = of(lambda p: p.sheet.brake_clock_mhz)
        self._states = Names(["ok", "lost"])
        self._down: Bools = np.zeros((servers, gpus), dtype=np.bool_)
        self._busy_s = world.serving.s.inst["busy_s"].copy()
        self._settle()

    def _look(self) -> None:
        self._sensors.gpus()

    def _read(self) -> dict[str, Column]:
        w, s = self._world, self._world.state
        if w.fleet is not self._fleet or not np.array_equal(s.down, self._down):
            self._down = s.down.copy()
            self._settle()
        shown, u = self._sensors.gpus(), w.site.u
        power_w, temp_c, mem_temp_c = narrowed(shown["power_w"], shown["temp_c"], shown["mem_temp_c"])
        util_pct = utilised(self._instance, w.serving.s.inst, self._busy_s, s.util, float(w.second - self._last))
        why = reasons(s.util, s.gpu_w, s.slow, u.tdp_w, w.caps.mhz, u.max_mhz, self._brake_mhz)
        return {
            "ts": self._ts(s.down.size),
            "node": self._node,
            "gpu": self._gpu,
            "uuid": self._uuid,
            "state": self._state,
            "power_w": numbers(power_w),
            "temp_c": numbers(temp_c),
            "mem_temp_c": numbers(mem_temp_c),
            "sm_clock_mhz": self._known(s.clock_mhz, np.float32),
            "mem_clock_mhz": self._clock,
            "util_pct": self._known(util_pct, np.float32),
            "mem_used_mib": self._memory,
            "energy_j": self._known(s.energy_j, np.float64),
            "clock_event_reasons": self._known(why, np.int64),
        }

    def _known(self, values: NDArray[Any], dtype: type) -> Column:
        """A column of what the driver tells: NULL where it no longer answers."""
        if self._down.any():
            return numbers(np.where(self._down.ravel(), np.nan, values.ravel()), dtype)
        return values.ravel().astype(dtype, copy=values.ndim > 1)

    def _settle(self) -> None:
        """Make what changes only when somebody moves in or out, or a GPU is lost."""
        self._fleet = fleet = self._world.fleet
        self._instance = _instances(self._world)
        self._busy_s = np.append(self._busy_s, np.zeros(len(fleet.instance_server) - len(self._busy_s)))
        down, gpus = self._down.ravel(), self._down.shape[1]
        self._state = self._states.at(down)
        self._clock = kept(np.where(down, np.float32(np.nan), self._memory_mhz))
        mib = np.where(fleet.endpoint >= 0, SERVING_MIB, np.where(fleet.customer >= 0, OPAQUE_MIB, FREE_MIB))
        self._memory = kept(np.where(down, np.nan, np.repeat(mib, gpus)).astype(np.float32))


class ServerExporter(TwinExporter):
    """Every server: inlet, power at the wall, fans; of its GPUs what their sensors show."""

    topic: ClassVar[str] = "server"

    def __init__(self, world: World, sensors: Sensors, period_s: float) -> None:
        """Names are kept."""
        super().__init__(world, sensors, period_s)
        self._node = text([server.name for server in world.topology.servers])

    def _look(self) -> None:
        self._sensors.servers()
        self._sensors.gpus()

    def _read(self) -> dict[str, Column]:
        shown, gpus = self._sensors.servers(), self._sensors.gpus()
        inlet_c, power_w, fan_pct, gpu_w, hottest_c = server_columns(
            shown["inlet_c"], shown["server_power_w"], shown["fan_pct"], gpus["power_w"], gpus["temp_c"], self._world.state.down
        )
        return {
            "ts": self._ts(len(inlet_c)),
            "node": self._node,
            "inlet_c": numbers(inlet_c),
            "power_w": numbers(power_w),
            "fan_pct": numbers(fan_pct),
            "gpu_power_w": numbers(gpu_w),
            "gpu_max_c": numbers(hottest_c),
        }
