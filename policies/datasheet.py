"""A plant from public data sheets, for as long as none is learnt: one set of parameters for every server of a model.

Servers differ by up to 20 degC at equal load (TAPAS Fig. 9), so whoever uses it corrects it by what the server shows now.
"""

from collections.abc import Callable

import numpy as np

from contracts.topology import Hardware
from contracts.view import Floats, View

INLET_FROM_OUTSIDE = ((15.0, 18.0), (25.0, 27.0), (29.0, 30.0))
"""(outside, inlet) degC: TAPAS Fig. 3, read off its figure: held at 18 below 15, then rising, flat above 29"""
INLET_LOAD_K = 2.0
"""inlet rise from low to high load of the site (TAPAS Fig. 5)"""
GPU_OFFSET_C, GPU_PER_INLET, GPU_PER_W = 2.6, 0.96, 0.053
"""TAPAS Fig. 7's line; the paper calls its server an A100, its 700 W say H100 [INF]"""
CLOCK_FLOOR, CLOCK_SLOPE, CLOCK_POWER = 0.25, 0.75, 1.05
"""P(f)/P(max) = .25 + .75 (f/max)^1.05, fitted to DynamoLLM's H100 profile"""


class DataSheet:
    """Implements contracts.view.ServerPlant from `Topology.hardware` alone."""

    def __init__(self, view: View) -> None:
        """Take the data sheets of the view's servers."""
        index, hardware = view.index, view.topology.hardware

        def each(of: Callable[[Hardware], float]) -> Floats:
            return np.array([of(h) for h in hardware], dtype=np.float64)[index.server_hardware]

        self._tdp_w = each(lambda h: h.gpus * h.gpu_tdp_w)
        self._gpus = each(lambda h: h.gpus)
        self._idle_w = each(lambda h: h.idle_power_w)
        self._max_w = each(lambda h: h.max_power_w)
        self._idle_cfm = each(lambda h: h.airflow_idle_cfm)
        self._max_cfm = each(lambda h: h.airflow_max_cfm)

    def inlet_c(self, outside_c: float, load_share: float) -> Floats:
        """[servers] the same for all: TAPAS Fig. 3's line plus the site's load."""
        outside, inlet = zip(*INLET_FROM_OUTSIDE, strict=True)
        return np.full(len(self._tdp_w), float(np.interp(outside_c, outside, inlet)) + INLET_LOAD_K * load_share)

    def gpu_c(self, inlet_c: Floats, gpu_power_w: Floats) -> Floats:
        """[servers] TAPAS Fig. 7's line at the server's mean GPU power."""
        return GPU_OFFSET_C + GPU_PER_INLET * inlet_c + GPU_PER_W * gpu_power_w / self._gpus

    def gpu_power_at_c(self, inlet_c: Floats, gpu_c: Floats) -> Floats:
        """[servers] the inverse of `gpu_c`; never below 0."""
        return np.maximum((gpu_c - GPU_OFFSET_C - GPU_PER_INLET * inlet_c) / GPU_PER_W * self._gpus, 0.0)

    def server_power_w(self, gpu_power_w: Floats) -> Floats:
        """[servers] linear from idle to the nameplate's power."""
        return self._idle_w + (self._max_w - self._idle_w) * gpu_power_w / self._tdp_w

    def airflow_cfm(self, gpu_power_w: Floats) -> Floats:
        """[servers] linear from idle to full load (TAPAS f_air)."""
        return self._idle_cfm + (self._max_cfm - self._idle_cfm) * np.clip(gpu_power_w / self._tdp_w, 0.0, 1.0)

    def clock_power_share(self, clock_mhz: Floats, max_clock_mhz: Floats) -> Floats:
        """[servers] DynamoLLM's profile."""
        return CLOCK_FLOOR + CLOCK_SLOPE * np.clip(clock_mhz / max_clock_mhz, 0.0, 1.0) ** CLOCK_POWER

    def peak_gpu_power_w(self) -> Floats:
        """[servers] the GPUs' TDP."""
        return self._tdp_w
