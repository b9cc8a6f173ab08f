"""What a run suffered: the design's words with one meaning, counted second by second."""

from collections import deque

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.topology import Topology
from twin import calibration as c
from twin.caps import Caps
from twin.finished import Finished
from twin.fleet import Fleet
from twin.physics import State

Bools = NDArray[np.bool_]
MERGE_S = 60
"""shorter gaps do not end an event"""
SLO_WINDOW_S, SLO_QUANTILE = 300, 0.99
"""an endpoint's objectives (P99) hold when so many of the requests of the last 5 min met them"""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of a run. Energy in J, temperatures in degC; shares 0 to 1."""

    simulated_s: int
    requests: int
    """ended, rejected ones included"""
    slo_ok: float
    """share of them within TTFT and TBT; 1 when there was none"""
    prompt_tokens: int
    output_tokens: int
    thermal_events: int
    """maximal intervals per server with a hardware slowdown, or a clock held down for temperature; gaps below 60 s merge"""
    power_events: int
    """the same per row and UPS: above its limit in 1 s power, or a clock of the row held down for power"""
    throttled_gpu_s: float
    """GPU-seconds with the clock below the tenant's choice. A cap on an instance whose endpoint meets its objectives is a
    configurator's clock and does not count; hardware slowdown, shutdown, the brake, and any cap on IaaS do"""
    slowdown_gpu_s: float
    """of these, hardware slowdown and shutdown"""
    energy_gpu_j: float
    energy_wall_j: float
    max_gpu_c: float
    max_row_power_ratio: float
    """highest 1 s row power over the row's present limit"""
    max_inlet_c: float


class Intervals:
    """Counts maximal intervals of flags."""

    def __init__(self, count: int) -> None:
        """`count` independent flags."""
        self._last = np.full(count, -(10**9), dtype=np.int64)
        self.events = 0

    def add(self, second: int, flags: Bools) -> None:
        """Take the flags of one second; seconds rise."""
        self.events += int((flags & (second - self._last - 1 >= MERGE_S)).sum())
        self._last[flags] = second


class Scorer:
    """Adds up a run."""

    def __init__(self, topology: Topology, fleet: Fleet) -> None:
        """Everything at zero."""
        self._fleet = fleet
        self._row_limit_w = np.array([r.power_limit_w for r in topology.rows])
        self._ups_limit_w = np.array([u.power_limit_w for u in topology.upses])
        self._ups_lost_share = topology.ups_lost_share
        self._endpoints = len(topology.endpoints)
        self._window: deque[NDArray[np.int64]] = deque()
        self._recent = np.zeros((2, self._endpoints), dtype=np.int64)
        self._thermal = Intervals(len(fleet.row))
        self._power = Intervals(len(topology.rows) + len(topology.upses))
        self._sums = np.zeros(9)
        self._max_gpu_c = self._max_ratio = self._max_inlet_c = 0.0

    def add(self, second: int, s: State, caps: Caps, finished: Finished, ups_lost: Bools) -> None:
        """Take one second, as it stands at its end."""
        held = s.slow | s.down
        counted = held | self._counted_caps(caps, finished)
        caps_only = (counted & ~held).any(axis=1)
        self._thermal.add(second, held.any(axis=1) | (caps_only & caps.for_heat))
        ratio = s.row_w / (self._row_limit_w * (self._ups_lost_share if ups_lost.any() else 1.0))
        row_capped = np.bincount(self._fleet.row, weights=caps_only & ~caps.for_heat, minlength=len(ratio)) > 0
        self._power.add(second, np.concatenate([(ratio > 1.0) | row_capped, self._ups_over(s, ups_lost)]))
        gpu_w = float(s.gpu_w.sum())
        done = np.isfinite(finished.first_s)
        self._sums += (
            1,
            len(finished.ok),
            finished.ok.sum(),
            finished.prompt[done].sum(),
            finished.output[done].sum(),
            counted.sum(),
            held.sum(),
            gpu_w,
            s.server_w.sum(),
        )
        self._max_gpu_c = max(self._max_gpu_c, float(s.die_c.max()))
        self._max_ratio = max(self._max_ratio, float(ratio.max()))
        self._max_inlet_c = max(self._max_inlet_c, float(s.inlet_c.max()))

    def score(self) -> Score:
        """The sum so far."""
        seconds, requests, ok, prompt, output, throttled, slowdown, energy, wall = self._sums.tolist()
        return Score(
            simulated_s=int(seconds),
            requests=int(requests),
            slo_ok=ok / requests if requests else 1.0,
            prompt_tokens=int(prompt),
            output_tokens=int(output),
            thermal_events=self._thermal.events,
            power_events=self._power.events,
            throttled_gpu_s=throttled,
            slowdown_gpu_s=slowdown,
            energy_gpu_j=energy,
            energy_wall_j=wall,
            max_gpu_c=self._max_gpu_c,
            max_row_power_ratio=self._max_ratio,
            max_inlet_c=self._max_inlet_c,
        )

    def slo_holds(self) -> Bools:
        """[endpoints] whether the requests of the last 5 min met the objectives at the 99th percentile; True without any."""
        holds: Bools = self._recent[1] >= SLO_QUANTILE * self._recent[0]
        return holds

    def _counted_caps(self, caps: Caps, finished: Finished) -> Bools:
        endpoint = self._fleet.instance_endpoint[finished.instance]
        ended = np.stack([np.bincount(who, minlength=self._endpoints) for who in (endpoint, endpoint[finished.ok])])
        self._window.append(ended)
        self._recent += ended
        if len(self._window) > SLO_WINDOW_S:
            self._recent -= self._window.popleft()
        capped = caps.mhz < c.MAX_MHZ
        if not capped.any():
            return capped
        brake = caps.mhz <= c.BRAKE_MHZ
        iaas = self._fleet.endpoint < 0
        missed = np.where(iaas, True, ~self.slo_holds()[self._fleet.endpoint]) if self._endpoints else iaas
        counted: Bools = brake | (capped & missed[:, None])
        return counted

    def _ups_over(self, s: State, ups_lost: Bools) -> Bools:
        left = max(1, int((~ups_lost).sum()))
        over: Bools = ~ups_lost & (s.row_w.sum() / left > self._ups_limit_w)
        return over
