"""The order of sacrifice: which clock of which server is given up first. One order for every policy that lowers clocks.

Limit excess comes first and IaaS cap-seconds second (docs/policies.md), so a service whose objective holds at a lower clock
gives first, and an opaque machine that somebody rents gives last.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

import msgspec
import numpy as np

from contracts.view import Bools, Floats, Ints, View
from policies.band import Band
from policies.present import Present

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
FREE, HELD, SLIPPING, BROKEN, UNKNOWN = range(5)
"""How an instance's SLO stands; FREE = nobody's server"""


class Tier(IntEnum):
    """Rising cost. What comes before `SAAS_UNKNOWN` costs no objective that is known."""

    FREE = 0
    SAAS_LOW = 1
    SAAS_HIGH = 2
    SAAS_UNKNOWN = 3
    SAAS_LOW_DEEP = 4
    SAAS_HIGH_DEEP = 5
    IAAS_LOW = 6
    IAAS_HIGH = 7
    IAAS_LOW_DEEP = 8
    IAAS_HIGH_DEEP = 9


CHEAP = Tier.SAAS_HIGH
"""last tier that costs no known objective"""
SAAS = Tier.SAAS_HIGH_DEEP
"""last tier that touches no IaaS"""


class OrderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Clocks as shares of the hardware's maximum, and when an objective counts as held."""

    safe_share: Share = 0.505
    """SaaS: lowest clock at which its SLO is expected to hold; 1000 of 1980 MHz (TBT x 1.39, DynamoLLM's profile)"""
    iaas_share: Share = 0.56
    """IaaS: the first clock asked for, 1110 of 1980 MHz [A]: few machines deeply rather than many a little, since cap-seconds
    count machines, and cap x fraction, TAPAS's measure, is the same for both (power is nearly linear in the clock)"""
    step_mhz: Annotated[float, msgspec.Meta(ge=15, le=300)] = 60.0
    """grid of the caps, so that they do not flutter; a multiple of the hardware's 15 MHz"""
    good_pct: Percent = 98.0
    """an endpoint's share of requests within SLO from which its clocks may be lowered [A]"""
    bad_pct: Percent = 95.0
    """below it, its clocks are raised a step [A]"""
    waiting_max: Annotated[float, msgspec.Meta(ge=0)] = 8.0
    """requests queued at an instance above which its SLO counts as slipping [A]"""
    decode_share: Share = 0.4
    """beta: the part of a request's time that goes with 1/f; .25 decode [A] to .64 prefill [F]"""
    endpoint_stale_s: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """older serving gauges tell nothing about the SLO"""


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Every clock of every server, in K steps down from its maximum. Step k goes from clock[:, k] to clock[:, k + 1]."""

    clock_mhz: Floats
    """[S, K + 1]"""
    share: Floats
    """[S, K + 1] busy GPU power relative to the maximum clock"""
    gpu_w: Floats
    """[S, K] GPU power that the step saves; 0 where the node does not obey"""
    tier: Ints
    """[S, K]"""
    loss: Floats
    """[S, K] cost per watt, not falling with depth"""
    held: Bools
    """[S, K] the step is in force"""


def ladder(view: View, now: Present, settings: OrderSettings) -> Ladder:
    """Return the ladder of all servers (the last one made is kept: every policy of a tick asks for the same)."""
    global _last
    known = _last
    if known is None or known[0] is not now or known[1] != settings:
        known = _last = (now, settings, _ladder(view, now, settings))
    return known[2]


_last: tuple[Present, OrderSettings, Ladder] | None = None


def _ladder(view: View, now: Present, settings: OrderSettings) -> Ladder:
    index = view.index
    top = index.max_clock_mhz
    steps = int(np.ceil(np.max((top - index.min_clock_mhz) / settings.step_mhz, initial=1.0)))
    grid = top[:, None] - settings.step_mhz * np.arange(steps + 1)
    clock = np.maximum(grid, index.min_clock_mhz[:, None])
    share = np.stack([now.plant.clock_power_share(clock[:, k], top) for k in range(steps + 1)], axis=1)
    share = np.minimum.accumulate(share, axis=1)
    gpu_w = now.demand_w[:, None] * (share[:, :-1] - share[:, 1:]) * now.cap_works[:, None]
    slowness = settings.decode_share * top[:, None] / clock
    load = np.nan_to_num(view.running + view.waiting, nan=1.0) + 1.0
    loss = load[:, None] * np.diff(slowness, axis=1) / np.maximum(gpu_w * now.wall_per_w[:, None], 1e-3)
    # IaaS: the metric counts who is held down, not how deep, so the fewest servers give: server by server, largest saving first
    gain = (gpu_w * now.wall_per_w[:, None]).sum(axis=1)
    loss = np.where(index.iaas[:, None], -gain[:, None], np.maximum.accumulate(loss, axis=1))
    tier = _tiers(view, now, clock[:, 1:], settings)
    # a brake is no choice to keep: what it holds down deeply is not counted on, lest others be lowered in its place
    braked = (now.cap_mhz < index.min_clock_mhz - 1.0)[:, None] & (tier >= Tier.IAAS_LOW_DEEP)
    held = (now.cap_mhz[:, None] <= clock[:, 1:] + 1.0) & ~braked
    return Ladder(clock_mhz=clock, share=share, gpu_w=gpu_w, tier=tier, loss=loss, held=held)


def slo_states(view: View, settings: OrderSettings) -> Ints:
    """[servers] how the SLO stands. An endpoint is judged as a whole: an instance answers too few requests a second."""
    index, endpoints = view.index, len(view.topology.endpoints)
    serving = index.server_endpoint >= 0
    fresh = serving & (view.endpoint_age_s <= settings.endpoint_stale_s)
    told = fresh & np.isfinite(view.slo_ok_pct)
    of = np.where(serving, index.server_endpoint, endpoints)
    weight = np.where(told, np.maximum(np.nan_to_num(view.requests_rps), 1e-6), 0.0)
    total = np.bincount(of, weights=weight, minlength=endpoints + 1)
    ok = np.bincount(of, weights=weight * np.nan_to_num(view.slo_ok_pct), minlength=endpoints + 1) / np.maximum(total, 1e-12)
    ok_pct = np.where(total > 0, ok, np.nan)[of]
    queued = fresh & (np.nan_to_num(view.waiting) > settings.waiting_max)
    state = np.where(ok_pct < settings.bad_pct, BROKEN, np.where((ok_pct < settings.good_pct) | queued, SLIPPING, HELD))
    state = np.where(np.isnan(ok_pct), np.where(fresh & np.isfinite(view.waiting) & ~queued, HELD, UNKNOWN), state)
    state = np.where(index.saas & ~fresh, UNKNOWN, state)
    return np.where(index.saas | index.iaas, state, FREE).astype(np.int64)


def _tiers(view: View, now: Present, clock: Floats, settings: OrderSettings) -> Ints:
    """[S, K] the tier of going down to each clock."""
    index, top = view.index, view.index.max_clock_mhz
    state = slo_states(view, settings)
    safe = settings.safe_share * top
    # a slipping SLO: no lower than now; a broken one: two steps up; an unknown one: only after all that are known
    floor = np.select(
        [state == SLIPPING, state == BROKEN],
        [np.maximum(safe, now.cap_mhz), np.maximum(safe, np.minimum(now.cap_mhz + 2 * settings.step_mhz, top))],
        default=safe,
    )[:, None]
    high, unknown = index.high[:, None], (state == UNKNOWN)[:, None]
    shallow = clock >= floor - 1.0
    saas = np.where(
        shallow, np.where(high, Tier.SAAS_HIGH, Tier.SAAS_LOW), np.where(high, Tier.SAAS_HIGH_DEEP, Tier.SAAS_LOW_DEEP)
    )
    saas = np.where(shallow & unknown, Tier.SAAS_UNKNOWN, saas)
    first = clock >= (settings.iaas_share * top)[:, None] - settings.step_mhz / 2
    iaas = np.where(high, Tier.IAAS_HIGH, Tier.IAAS_LOW)
    iaas = np.where(first, iaas, np.where(high, Tier.IAAS_HIGH_DEEP, Tier.IAAS_LOW_DEEP))
    tiers = np.where(index.iaas[:, None], iaas, np.where(index.saas[:, None], saas, Tier.FREE))
    return tiers.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The steps of some servers in the order of sacrifice; whoever needs more takes more of them from the front.

    A step comes after those above it on its server, so any number of steps from the front is a set of clocks; and more need
    never raises a clock.
    """

    server: Ints
    clock_mhz: Floats
    """where each step leads"""
    tier: Ints
    held: Bools
    gain: Floats
    saved: Floats
    """saved by all steps up to each"""

    def count(self, need: float, last: Tier) -> int:
        """Return how many steps from the front save `need`, or all up to tier `last`."""
        end = int(np.searchsorted(self.tier, last, side="right"))
        if need <= 0 or end == 0:
            return 0
        return min(int(np.searchsorted(self.saved[:end], need * (1 - 1e-9))) + 1, end)

    def saving(self, count: int) -> float:
        """Return what the first `count` steps save."""
        return float(self.saved[count - 1]) if count else 0.0

    def in_force(self, last: Tier) -> float:
        """Return what the caps in force save up to tier `last`, once they have taken effect."""
        end = int(np.searchsorted(self.tier, last, side="right"))
        return float(self.gain[:end][self.held[:end]].sum())

    def lower(self, clock_mhz: Floats, count: int) -> Floats:
        """Return `clock_mhz` [S] with the first `count` steps taken."""
        clock = clock_mhz.copy()
        np.minimum.at(clock, self.server[:count], self.clock_mhz[:count])
        return clock


def queue(steps: Ladder, members: Bools, gain: Floats) -> Queue:
    """Put the steps of `members` [S] in order: by tier, those in force first, then by loss per watt; ties by position.

    `gain` [S, K]: what each step saves, in any unit.
    """
    some = np.flatnonzero(members)
    tier, held, gains = steps.tier[some], steps.held[some], gain[some]
    server, step = np.nonzero((gains > 0) | held)
    order = np.lexsort((step, server, steps.loss[some[server], step], ~held[server, step], tier[server, step]))
    server, step = server[order], step[order]
    taken = gains[server, step]
    return Queue(
        server=some[server],
        clock_mhz=steps.clock_mhz[some[server], step + 1],
        tier=tier[server, step],
        held=held[server, step],
        gain=taken,
        saved=np.cumsum(taken),
    )


def lower(
    steps: Ladder, members: Bools, gain: Floats, band: Band, demand: float, limit: float, last: Tier
) -> tuple[Floats, float]:
    """Lower clocks of `members` until `demand` fits the band of `limit`, going no further than tier `last`.

    `gain`, `demand` and `limit` are in one unit. Returns the clock of every server [S] and what is saved.
    """
    line = queue(steps, members, gain)
    count = line.count(band.need(demand, line.in_force(last), limit), last)
    return line.lower(steps.clock_mhz[:, 0], count), line.saving(count)
