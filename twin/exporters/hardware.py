"""What drivers and management controllers tell: of every GPU, and of every server."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from twin.draws import per_server
from twin.exporters.base import TwinExporter
from twin.exporters.instruments import Column, Sensors, chosen, numbers, text
from twin.world import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

REASON_IDLE, REASON_CAP, REASON_POWER, REASON_SLOWDOWN, REASON_HEAT, REASON_BRAKE = 0x1, 0x2, 0x4, 0x8, 0x40, 0x80
"""NVML's clock event reasons: idle, clocks set by somebody, power limit, hardware slowdown, by heat, by power brake"""
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
        self._gpu = np.tile(np.arange(gpus, dtype=np.int16), servers)
        self._uuid = text([f"GPU-{name}-{g}" for name in names for g in range(gpus)])
        of = per_server(fleet.profiles, fleet.server_hardware)
        self._memory_mhz = of(lambda p: MEMORY_MHZ.get(p.gpu, np.nan))
        self._brake_mhz = of(lambda p: p.sheet.brake_clock_mhz)[:, None]
        self._states = text(["ok", "lost"])
        self._down: Bools = np.zeros((servers, gpus), dtype=np.bool_)
        self._state = chosen(self._states, self._down.ravel().astype(np.int64))
        self._fleet, self._instance = fleet, _instances(world)
        self._busy_s = world.serving.s.inst["busy_s"].copy()

    def _look(self) -> None:
        self._sensors.gpus()

    def _read(self) -> dict[str, Column]:
        w, s = self._world, self._world.state
        if not np.array_equal(s.down, self._down):
            self._down = s.down.copy()
            self._state = chosen(self._states, self._down.ravel().astype(np.int64))
        shown, fleet = self._sensors.gpus(), w.fleet
        mib = np.where(fleet.endpoint >= 0, SERVING_MIB, np.where(fleet.customer >= 0, OPAQUE_MIB, FREE_MIB))
        return {
            "ts": self._ts(s.down.size),
            "node": self._node,
            "gpu": self._gpu,
            "uuid": self._uuid,
            "state": self._state,
            "power_w": numbers(shown["power_w"]),
            "temp_c": numbers(shown["temp_c"]),
            "mem_temp_c": numbers(shown["mem_temp_c"]),
            "sm_clock_mhz": self._known(s.clock_mhz),
            "mem_clock_mhz": self._known(self._of_servers(self._memory_mhz)),
            "util_pct": self._known(self._util()),
            "mem_used_mib": self._known(self._of_servers(mib)),
            "energy_j": self._known(s.energy_j, np.float64),
            "clock_event_reasons": self._known(self._reasons(), np.int64),
        }

    def _known(self, values: Floats | Ints, dtype: type = np.float32) -> Column:
        """A column that is NULL where the driver no longer answers, or nothing is known."""
        if self._down.any():
            return numbers(np.where(self._down, np.nan, values), dtype)
        return numbers(values, dtype)

    def _of_servers(self, values: Floats) -> Floats:
        """[S, G] from [S]"""
        return np.broadcast_to(values[:, None], self._down.shape)

    def _util(self) -> Floats:
        """[S, G] percent: of an instance's GPUs the share of time with an iteration in progress, of a tenant's its level."""
        w = self._world
        busy_s = w.serving.s.inst["busy_s"].copy()
        share = busy_s.copy()
        share[: len(self._busy_s)] -= self._busy_s
        share *= 100.0 / (w.second - self._last)
        self._busy_s = busy_s
        if w.fleet is not self._fleet:
            self._fleet, self._instance = w.fleet, _instances(w)
        busy = np.append(share, 0.0)[self._instance]
        return np.minimum(100.0, np.where(self._instance >= 0, busy, 100.0 * w.state.util[:, None]))

    def _reasons(self) -> Ints:
        w, s = self._world, self._world.state
        mhz, max_mhz = w.caps.mhz, w.site.u.max_mhz[:, None]
        reasons = (s.gpu_w >= w.site.u.tdp_w[:, None]) * np.int64(REASON_POWER)
        reasons[s.util <= 0.0] |= REASON_IDLE
        if s.slow.any():
            reasons[s.slow] |= REASON_SLOWDOWN | REASON_HEAT
        if np.isfinite(mhz).any():
            reasons[(mhz < max_mhz) & (mhz > self._brake_mhz)] |= REASON_CAP
            reasons[mhz <= self._brake_mhz] |= REASON_SLOWDOWN | REASON_BRAKE
        return reasons


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
        shown, gpus, down = self._sensors.servers(), self._sensors.gpus(), self._world.state.down
        gpu_w = np.where(down, 0.0, gpus["power_w"])  # one that is shut down draws nothing
        return {
            "ts": self._ts(len(gpu_w)),
            "node": self._node,
            "inlet_c": numbers(shown["inlet_c"]),
            "power_w": numbers(shown["server_power_w"]),
            "fan_pct": numbers(shown["fan_pct"]),
            "gpu_power_w": numbers(gpu_w.sum(axis=1)),
            "gpu_max_c": numbers(np.fmax.reduce(gpus["temp_c"], axis=1)),
        }
