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
    iaas_share: Share = 0.787
    """IaaS: the first clock asked for; POLCA's T2 clock, 1110 of 1410 MHz [MEM for 1410]"""
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
    """Return the ladder of all servers."""
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
    return Ladder(
        clock_mhz=clock,
        share=share,
        gpu_w=gpu_w,
        tier=_tiers(view, now, clock[:, 1:], settings),
        loss=loss,
        held=now.cap_mhz[:, None] <= clock[:, 1:] + 1.0,
    )


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


def lower(
    steps: Ladder, members: Bools, gain: Floats, need: float, last: Tier, *, at_least: int = 0
) -> tuple[Floats, float, int]:
    """Lower clocks of `members` in the order of sacrifice until `need` is saved, going no further than tier `last`.

    `gain` [S, K]: what each step saves, in the unit of `need`. `at_least`: how many steps of the order are taken in any case.
    Returns the clock of every server [S] (its maximum where untouched), what is saved, and the number of steps taken.
    More need never raises a clock: the steps taken are always a prefix of one order, which `need` does not touch.
    """
    clock = steps.clock_mhz[:, 0].copy()
    some = np.flatnonzero(members)
    tier, held, gains = steps.tier[some], steps.held[some], gain[some]
    inside = (tier <= last) & ((gains > 0) | held)
    if (need <= 0 and at_least == 0) or not inside.any():
        return clock, 0.0, 0
    server, step = np.nonzero(inside)
    order = np.lexsort((step, server, steps.loss[some][inside], ~held[inside], tier[inside]))
    server, step, saved = some[server[order]], step[order], np.cumsum(gains[inside][order])
    count = int(np.searchsorted(saved, need * (1 - 1e-9))) + 1 if need > 0 else 0
    count = min(max(count, at_least), len(saved))
    np.minimum.at(clock, server[:count], steps.clock_mhz[server[:count], step[:count] + 1])
    return clock, float(saved[count - 1]) if count else 0.0, count


def in_force(steps: Ladder, members: Bools, gain: Floats, last: Tier) -> float:
    """Return what the caps in force save among `members` up to tier `last`, once they have taken effect."""
    some = np.flatnonzero(members)
    return float(gain[some][steps.held[some] & (steps.tier[some] <= last)].sum())
