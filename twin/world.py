"""The world: a site that serves, draws power, warms up and fails, second by second. Bit-equal for one seed."""

import threading
from collections import deque
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ColdaisleError
from contracts.workload import Workload
from twin import fleet as fleets
from twin import made, plant
from twin.batching.book import book
from twin.batching.route import set_weights
from twin.batching.state import ENDED, Records, instances, log
from twin.caps import Caps
from twin.demand import BLOCK_S, Demand
from twin.events import Down, down, next_change_s
from twin.fluid import Fluid
from twin.ledger import ledger
from twin.live import seconds
from twin.machines import Machines, Moves
from twin.parts import Asked
from twin.parts import Caps as InForce
from twin.scenario import Scenario
from twin.score import Score, score
from twin.tenancy import Depart, Placement, first_fit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LOG_ROWS = 1 << 18
"""requests that may end in one go while somebody reads them"""
DRAIN_LOOK_S = 5
"""who drains is looked at so often"""
KEPT_S = 900
"""seconds for which they are kept for a reader that comes late"""
SETTLE_S, SETTLE_STEP_S = 3600, 5
"""the fluid engine leads up to a run for so long"""


class World:
    """One site. `lock` guards everything that changes; whoever reads several things takes it."""

    def __init__(self, scenario: Scenario, workload: Workload, seed: int, *, step_s: int = 1, logged: bool = True) -> None:
        """Build the site and settle it at scenario.start, with full batches.

        `step_s` 1 or 5: seconds between two updates of power, heat and clocks (requests are exact in both). `logged` = keep
        what becomes of each request for exporters; histograms and counts are exact without.
        """
        if step_s not in (1, 5):
            raise ValueError(f"step_s = {step_s}: must be 1 or 5")
        self.scenario, self.workload, self.seed, self.step_s = scenario, workload, seed, step_s
        self.lock = threading.RLock()
        self.fleet = fleets.build(scenario, seed)
        self.topology = self.fleet.topology
        self.demand = Demand(scenario, workload, self.fleet, seed)
        self.second = -scenario.warm_s
        self._events = scenario.happenings()
        self.site = made.site(self.fleet)
        found, _ = made.points(scenario, self.fleet, {})
        batch = max((p.batch_limit for p in found), default=1)
        count = len(self.fleet.instance_server)
        empty = instances(count, batch, scenario.queue_limit, float(self.second))
        record = book(made.slo_s(self.topology), (255, 1023), (99, 349))  # classes of DynamoLLM's Table IV
        self.serving = made.serving(scenario, self.fleet, empty, record, log(LOG_ROWS if logged else 0), 1 << 16, {})
        self._logged = logged
        self.weights = self.equal_weights()
        self.caps = Caps(self.fleet.power_factor.shape)
        self.ledger = ledger(self.topology)
        self._same_until = -(1 << 40)
        """nothing is lost or comes back before this second"""
        self.down: Down = down(self._events, self.topology, self.second)
        self.ended: deque[tuple[int, Records]] = deque()
        """(second, ENDED rows) of the newest KEPT_S seconds, when logged"""
        self._asked: tuple[int, Asked] | None = None
        self.machines = Machines(self.fleet, seed)
        self.placement: Placement = first_fit
        """chooses the server of a machine that arrives"""
        self.batch_limits: dict[int, int] = {}
        """server -> requests that each of its instances may run, where it is less than they can"""
        self._moves = Moves(scenario, self.fleet, seed)
        self._taking = self.machines.takes(0.0)
        self._look_s = self.second
        """machines are to be looked at again"""
        self._settle()

    @property
    def now(self) -> datetime:
        """The moment up to which everything has happened."""
        return self.scenario.start + timedelta(seconds=self.second)

    @property
    def state(self) -> plant.State:
        """Temperatures, power, clocks, fans."""
        return self.site.s

    def advance(self, to: datetime) -> None:
        """Go on to the last whole second not after `to`; nothing happens when that has passed.

        ColdaisleError when more requests come within a moment than can be.
        """
        target = int((to - self.scenario.start).total_seconds() // 1)
        while self.second < target:
            with self.lock:
                self._live(target, counted=True)

    def score(self) -> Score:
        """What the run has suffered so far."""
        with self.lock:
            return score(self.ledger, self.serving.book, self.serving.s.inst)

    def equal_weights(self) -> Floats:
        """[I] the declared routing: every instance of an endpoint alike."""
        sizes = np.bincount(self.fleet.instance_endpoint, minlength=max(1, len(self.topology.endpoints)))
        weights: Floats = 1.0 / np.maximum(1, sizes)[self.fleet.instance_endpoint]
        return weights

    def set_weights(self, weights: Floats) -> None:
        """Route by `weights` [I] >= 0 from now on; within an endpoint they count relative to each other."""
        with self.lock:
            self.weights = np.asarray(weights, dtype=np.float64)
            set_weights(self.serving.router, self.weights * self._taking)

    def row_power(self, after: int) -> Floats:
        """[T, R] mean power of the rows in each second after `after` (as far back as the meters remember)."""
        kept = len(self.site.row_w)
        numbers = np.arange(max(after, self.second - kept), self.second)
        power: Floats = self.site.row_w[numbers % kept]
        return power

    def ended_after(self, second: int) -> Records:
        """Return the requests (ENDED rows) that ended in steps after `second`."""
        parts = [rows for at, rows in self.ended if at > second]
        return np.concatenate(parts) if parts else self.serving.log.rows[:0].copy()

    def outside_c(self) -> float:
        """Outside temperature now."""
        return float(self.demand.outside_c(np.array([float(self.second)]))[0])

    def refresh_clocks(self) -> None:
        """Put the caps in force now into the clocks: an in-band cap acts in 50 to 80 ms, far below a step."""
        plant.clocks(self.site.u, self.site.s, self.caps.in_force(self.second))

    def _settle(self) -> None:
        """Lead up to the run with the fluid engine, then serve `warm_s` seconds exactly: full batches, real slowdowns."""
        fluid = Fluid(self.scenario, self.workload, self.seed, fleet=self.fleet, at_s=float(self.second - SETTLE_S))
        fluid.advance(SETTLE_S // SETTLE_STEP_S, SETTLE_STEP_S, lasting=False)
        for own, settled in zip(self.site.s, fluid.site.s, strict=True):
            own[:] = settled
        while self.second < 0:
            self._live(0, counted=False)
        self.serving.book.histogram[:] = 0
        self.serving.book.total_s[:] = 0.0
        self.serving.book.counts[:] = 0
        for name in ("arrived", "rejected", "finished", "preempted", "prompt_tokens", "output_tokens", "computed_tokens"):
            self.serving.s.inst[name] = 0
        for name in ("made_tokens", "batch_s", "busy_s"):
            self.serving.s.inst[name] = 0
        self.site.s.energy_j[:] = 0.0
        self.ended.clear()

    def _live(self, target: int, *, counted: bool) -> None:
        """Go on to `target`, or to the next moment at which something changes from outside."""
        if self.second >= self._look_s or self.machines.unsettled:
            self._move()
            self._look_s = self._next_move()
        asked = self._ask()
        mhz = self.caps.in_force(self.second)
        in_force = InForce(mhz, self.caps.for_heat, self.caps.any)
        self._lose()
        until = min(target, int(asked.start_s) + BLOCK_S, self.caps.next_change(self.second))
        until = min(until, self._same_until, self._look_s)
        lived = seconds(
            self.serving, asked, self.site, in_force, self.ledger, self.second, until - self.second, self.step_s, counted
        )
        self.second += lived
        self._keep()

    def _ask(self) -> Asked:
        number = self.second // BLOCK_S
        if self._asked is None or self._asked[0] != number:
            block = self.demand.arrivals(number)
            self._check_room(len(block.rows))
            ends = np.array([number * BLOCK_S, (number + 1) * BLOCK_S], dtype=np.float64)
            asked = Asked(
                block=block,
                cursor=block.first[:-1].copy(),
                start_s=float(ends[0]),
                seconds=float(BLOCK_S),
                level=self.demand.levels(ends),
                outside_c=self.demand.outside_c(ends),
            )
            for e in range(len(asked.cursor)):  # a run may begin within a minute
                own = block.rows["at_s"][block.first[e] : block.first[e + 1]]
                asked.cursor[e] += np.searchsorted(own, self.second)
            self._asked = (number, asked)
        return self._asked[1]

    def _move(self) -> None:
        """Let machines come, go and become ready."""
        before = self.machines.fleet
        for move in self._moves.due(self.second):
            if isinstance(move, Depart):
                self.machines.depart(move.vm)
            elif (server := self.placement(move, self.machines.free())) >= 0:
                self.machines.arrive(move, server, float(self.second))
                if move.kind == "iaas":
                    self.demand.adopt(self.machines.fleet, move.owner, move.peak_level)
        if self.machines.unsettled:
            inst = self.serving.s.inst
            held = sum(inst[name] for name in ("decoding", "fresh", "coming", "waiting_low", "waiting_high"))
            self.machines.drained(self.serving.server[(held > 0) & self.serving.present], float(self.second))
        if self.machines.fleet is not before:
            self.refit()
        taking = self.machines.takes(float(self.second))
        if not np.array_equal(taking, self._taking):
            self._taking = taking
            set_weights(self.serving.router, self.weights * taking)

    def _next_move(self) -> int:
        """The second at which machines are to be looked at again."""
        soonest = min(self._moves.next_s(), self.machines.next_s(float(self.second)))
        if self.machines.unsettled:
            soonest = min(soonest, self.second + DRAIN_LOOK_S)
        return max(self.second + 1, made.forever(soonest))

    def refit(self) -> None:
        """Bring everything into line with a fleet or knobs that have changed."""
        old, fleet = self.serving, self.machines.fleet
        self.fleet, self.topology = fleet, fleet.topology
        self.demand.adopt(fleet)
        self.serving = made.refitted(self.scenario, fleet, old, self.batch_limits, float(self.second))
        self.site = self.site._replace(tenants=made.tenants(fleet))
        self.site.nominal_w[:] = self.site.tenants.idle_w[:, None]
        self.weights = made.more_weights(self.weights, fleet)
        self._taking = self.machines.takes(float(self.second))
        set_weights(self.serving.router, self.weights * self._taking)
        self._look_s = self.second

    def _check_room(self, coming: int) -> None:
        """Make room for what may be routed within a stride; ColdaisleError where the instances cannot hold it."""
        s = self.serving.s
        if s.pool[2] + coming > len(s.requests):
            raise ColdaisleError(
                f"{s.pool[2]} requests wait and {coming} more come within a minute: at most {len(s.requests)}; lower peak_rps"
            )
        if coming > self.serving.pick.shape[1]:
            self.serving = self.serving._replace(pick=np.zeros((4, 2 * coming), dtype=np.int32))

    def _lose(self) -> None:
        """Let what stands still now act on cooling and on limits."""
        if self.second < self._same_until:
            return
        self._same_until = min(made.forever(next_change_s(self._events, self.second)), 1 << 40)
        self.down = down(self._events, self.topology, self.second)
        made.supply_now(self.topology, self.down, self.site.supply)
        self.ledger.row_limit_w[:] = made.limits_now(self.topology, self.down)
        self.ledger.part_share[:] = made.shares(self.topology, self.down)

    def _keep(self) -> None:
        """Take the log's rows out for whoever reads them."""
        rows = self.serving.log
        if self._logged and rows.total[0]:
            plain = rows.rows[: int(rows.total[0])].view(np.int64)  # field by field, a copy takes twenty times as long
            self.ended.append((self.second, plain.copy().view(ENDED)))
            while self.ended[0][0] <= self.second - KEPT_S:
                self.ended.popleft()
        rows.total[0] = 0
