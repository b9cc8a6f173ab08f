"""The world: a site that serves, draws power, warms up and fails, second by second. Bit-equal for one seed."""

import threading
from collections import deque
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from contracts.workload import Workload
from twin import calibration as c
from twin import fleet as fleets
from twin import physics, serving, steady
from twin.caps import Caps
from twin.demand import BLOCK_S, Arrivals, Demand
from twin.finished import Finished, taken
from twin.scenario import Scenario
from twin.score import Score, Scorer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
METERS_S = 3600
"""seconds that the meters remember for an exporter that comes late"""


class World:
    """One site. `lock` guards everything that changes; whoever reads several things takes it."""

    def __init__(self, scenario: Scenario, workload: Workload, seed: int) -> None:
        """Build the site and settle it at scenario.start, with full batches."""
        self.scenario, self.workload, self.seed = scenario, workload, seed
        self.lock = threading.RLock()
        self.fleet = fleets.build(scenario, seed)
        self.topology = self.fleet.topology
        self.demand = Demand(scenario, workload, self.fleet, seed)
        self.second = 0
        self._units = steady.units(self.fleet)
        count = len(self.fleet.instance_server)
        self.serving = serving.instances(count, scenario.batch_limit, scenario.queue_limit, -float(scenario.warm_s))
        self.work = serving.work(count)
        self._done = serving.done()
        by_endpoint = np.argsort(self.fleet.instance_endpoint, kind="stable")
        self._members = by_endpoint.astype(np.int64)
        sizes = np.bincount(self.fleet.instance_endpoint, minlength=scenario.endpoints)
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.weights = self.equal_weights()
        self.state = physics.state(len(self.fleet.row), scenario.rows, int(self.fleet.aisle.max()) + 1)
        self.caps = Caps(len(self.fleet.row))
        self.ahu_lost = np.zeros(sum(len(a.ahus) for a in self.topology.aisles), dtype=np.bool_)
        self.ups_lost = np.zeros(len(self.topology.upses), dtype=np.bool_)
        self.row_power: deque[tuple[int, Floats]] = deque(maxlen=METERS_S)
        """(second, [R] W): the newest METERS_S seconds, as the requests that ended in them below"""
        self.finished: deque[tuple[int, Finished]] = deque(maxlen=METERS_S)
        objectives = self.topology.endpoints
        self._ttft_slo_s = np.array([e.ttft_slo_s for e in objectives])[self.fleet.instance_endpoint]
        self._tbt_slo_s = np.array([e.tbt_slo_s for e in objectives])[self.fleet.instance_endpoint]
        self.scorer = Scorer(self.topology, self.fleet)
        self._block: tuple[int, Arrivals] | None = None
        self._settle()

    @property
    def now(self) -> datetime:
        """The moment up to which everything has happened."""
        return self.scenario.start + timedelta(seconds=self.second)

    def advance(self, to: datetime) -> None:
        """Go on in steps of 1 s to the last whole second not after `to`; nothing happens when that has passed.

        ColdaisleError when more requests end within one second than can be.
        """
        target = int((to - self.scenario.start).total_seconds() // 1)
        while self.second < target:
            with self.lock:
                self._step()

    def score(self) -> Score:
        """What the run has suffered so far."""
        with self.lock:
            return self.scorer.score()

    def equal_weights(self) -> Floats:
        """[I] the declared routing: every instance of an endpoint alike."""
        sizes = np.bincount(self.fleet.instance_endpoint, minlength=self.scenario.endpoints)
        weights: Floats = 1.0 / np.maximum(1, sizes)[self.fleet.instance_endpoint]
        return weights

    def supplied_cfm(self) -> Floats:
        """[A] what the air handlers supply now (TAPAS Table 2: 90 % when one is lost)."""
        lost = self.ahu_lost.reshape(len(self.topology.aisles), -1).any(axis=1)
        supplied: Floats = self.scenario.aisle_limit_cfm * np.where(lost, c.AHU_LOST_SHARE, 1.0)
        return supplied

    def outside_c(self) -> float:
        """Outside temperature now."""
        return float(self.demand.outside_c(np.array([float(self.second)]))[0])

    def refresh_clocks(self, second: int | None = None) -> None:
        """Put the caps in force (by default now) into the clocks: an in-band cap acts in 50 to 80 ms, far below a step."""
        physics.clocks(self.state, self.caps.in_force(self.second if second is None else second))

    def _settle(self) -> None:
        """Begin `warm_s` seconds before the start near the settled state, and live through them: full batches, real slowdowns.

        No GPU begins hotter than just below its slowdown: what is too hot gets there by itself, and is held there.
        """
        s, warm_s = self.state, self.scenario.warm_s
        settled = steady.settle(
            self.scenario,
            self.workload,
            self.fleet,
            self.demand,
            np.full(1, -float(warm_s)),
            supplied_cfm=self.scenario.aisle_limit_cfm,
        )
        s.duty[:], s.rise_c[:], s.site_load[:] = settled.duty[0], settled.rise_c[0], settled.site_load[0]
        s.inlet_c[:] = settled.inlet_c[0]
        s.gpu_w[:] = settled.gpu_w[0][:, None] / c.GPUS
        for i in range(len(s.duty)):
            for g in range(c.GPUS):
                r = self.fleet.resistance[i, g]
                air_c = physics.air_at(s.inlet_c[i], g, settled.gpu_w[0, i])
                sink_c = air_c + r * physics.sink_resistance(s.duty[i]) * s.gpu_w[i, g]
                die_k = r * c.DIE_K_PER_W * s.gpu_w[i, g]
                s.sink_c[i, g] = min(sink_c, c.SLOWDOWN_C - 1.0 - die_k)
                s.die_c[i, g] = s.sink_c[i, g] + die_k
        for second in range(-warm_s, 0):
            self._live(second)
        for counter in (*self.work, s.energy_j):
            counter[:] = 0

    def _step(self) -> None:
        if len(self.ahu_lost) and self.second >= self.scenario.ahu_lost_after_s:
            self.ahu_lost[0] = True
        if len(self.ups_lost) and self.second >= self.scenario.ups_lost_after_s:
            self.ups_lost[0] = True
        finished = self._live(self.second)
        self.second += 1
        self.row_power.append((self.second, self.state.row_w.copy()))
        self.finished.append((self.second, finished))
        self.scorer.add(self.second, self.state, self.caps, finished, self.ups_lost)

    def _live(self, second: int) -> Finished:
        """Serve, draw power and warm up in [second, second + 1)."""
        self.refresh_clocks(second)
        finished = self._serve(second)
        middle = np.array([second + 0.5])
        w = self.work
        physics.second(
            self._units,
            self.state,
            w.prefill_s,
            w.decode_s,
            w.decode_load_s,
            self.demand.levels(middle)[0],
            float(self.demand.outside_c(middle)[0]),
            self.supplied_cfm(),
        )
        return finished

    def _serve(self, second: int) -> Finished:
        """Route and serve the requests of [second, second + 1); the work counters say what the instances did in it."""
        w, d = self.work, self._done
        w.prefill_s[:] = 0.0
        w.decode_s[:] = 0.0
        w.decode_load_s[:] = 0.0
        d.total[0] = 0
        a = self._arrivals(second)
        serving.route(self.serving, w, d, a.at_s, a.endpoint, a.prompt, a.output, self.weights, self._first, self._members)
        clock_mhz = self.state.clock_mhz[self.fleet.instance_server].min(axis=1)
        serving.serve(self.serving, w, d, float(second + 1), clock_mhz, self.scenario.prefill_tokens)
        return taken(d, self._ttft_slo_s, self._tbt_slo_s)

    def _arrivals(self, second: int) -> Arrivals:
        number = second // BLOCK_S
        if self._block is None or self._block[0] != number:
            self._block = (number, self.demand.arrivals(number))
        block = self._block[1]
        low, high = np.searchsorted(block.at_s, [second, second + 1])
        return Arrivals(
            at_s=block.at_s[low:high],
            endpoint=block.endpoint[low:high],
            prompt=block.prompt[low:high],
            output=block.output[low:high],
        )
