"""The guard: POLCA's two thresholds, two priorities and the brake, on measured row power. Runs on every batch of row power.

It needs no forecast, no learnt plant and no other policy: what remains when those fail. Where rows have SaaS, the thresholds
lower SaaS alone: its clocks follow in band within 0.1 s, POLCA had only the out-of-band path of up to 40 s.
"""

from datetime import timedelta
from typing import Annotated

import msgspec
import numpy as np

from contracts.control import Bounds, Decision
from contracts.view import Bools, Floats, View
from policies.band import Band, OfLimit
from policies.decisions import BRAKE, MEASURED, Because, cap, no_change
from policies.order import Ladder, OrderSettings, Share, Tier, ladder, lower
from policies.present import Freshness, Present, present

NAME = "guard"


class GuardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POLCA's two thresholds, as shares of the row's present limit; clocks as shares of the hardware's maximum clock."""

    t1: OfLimit = 0.80
    t2: OfLimit = 0.89
    """1 - .118, the highest spike within the 40 s of an out-of-band cap [INF]"""
    overload: Band = Band(tighten=1.0, goal=0.97, release=0.955)
    """above 1.0 clocks go down in the order of sacrifice, then the brake [INF: that POLCA's brake stands at 100 %]"""
    hysteresis: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.05
    """[INF]"""
    t1_share: Share = 0.904
    """low priority above T1: the base clock, 1275 of 1410 MHz [MEM for 1410]"""
    t2_share: Share = 0.787
    """low priority above T2: 1110 of 1410 MHz"""
    t2_high_share: Share = 0.925
    """high priority, still above T2: 1305 of 1410 MHz"""
    saas_share_min: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.25
    """share of a row's servers that are SaaS from which T1 and T2 leave its IaaS alone [A]"""
    settle_s: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    """a reading counts as "still above" when it ends this long after the caps took effect"""
    order: OrderSettings = OrderSettings()
    freshness: Freshness = Freshness()


def guard(view: View, settings: GuardSettings) -> list[Decision]:
    """Return the caps that measured row power demands now; hysteresis comes from the caps in force."""
    now, answering = present(view, settings.freshness), _answering(view)
    brake_clock = np.array([h.brake_clock_mhz for h in view.topology.hardware], dtype=np.float64)[view.index.server_hardware]
    decisions: list[Decision] = []
    for row, name in enumerate(r.name for r in view.topology.rows):
        if not now.row_fresh[row]:
            if np.isfinite(view.row_age_s[row]):
                reason = f"{name}: row power is stale: thresholds cannot be watched"
                decisions.append(no_change(NAME, f"clock_cap/{name}", reason, at=view.now))
            continue
        p = float(now.row_w[row] / now.row_limit_w[row]) if now.row_limit_w[row] > 0 else float("inf")
        steps = ladder(view, now, settings.order) if p > settings.overload.tighten or row in answering else None
        decisions.extend(_row(view, now, settings, row, p, steps, brake_clock))
    return decisions


def _row(
    view: View, now: Present, settings: GuardSettings, row: int, p: float, steps: Ladder | None, brake_clock: Floats
) -> list[Decision]:
    """Decisions for one row at `p` of its limit; `steps` where an overload has to be answered."""
    index, members = view.index, view.index.server_row == row
    clock = np.where(members, _thresholds(view, now, settings, row, p), index.max_clock_mhz)
    braked = np.zeros(len(clock), dtype=np.bool_)
    if steps is not None:
        down, braked = _overload(view, now, settings, row, steps, brake_clock)
        clock = np.minimum(clock, down)
    clock = np.where(braked, brake_clock, clock)
    name, share = view.topology.rows[row].name, f"{100 * p:.1f} %"
    because = Because(reason=f"{name} draws {share} of its limit, measured", constraint=f"{name} power")
    stop = Because(reason=f"power brake: {name} draws {share} of its limit, measured", constraint=f"{name} power")
    return [
        cap(
            NAME,
            view.topology.servers[i].name,
            clock[i],
            stop if braked[i] else because,
            at=view.now,
            priority=BRAKE if braked[i] else MEASURED,
            bounds=Bounds(
                low=float(brake_clock[i] if braked[i] else index.min_clock_mhz[i]), high=float(index.max_clock_mhz[i])
            ),
        )
        for i in np.flatnonzero(members & (clock < index.max_clock_mhz - 1.0))
    ]


def _thresholds(view: View, now: Present, settings: GuardSettings, row: int, p: float) -> Floats:
    """[servers] clocks of T1 and T2, for those of the row that the thresholds reach."""
    index, top = view.index, view.index.max_clock_mhz
    members = index.server_row == row
    saas = members & index.saas
    reached = saas if saas.sum() >= settings.saas_share_min * members.sum() else members & (index.saas | index.iaas)
    low, high = reached & ~index.high, reached & index.high
    t1, t2, t2_high = (
        np.maximum(s * top, index.min_clock_mhz) for s in (settings.t1_share, settings.t2_share, settings.t2_high_share)
    )
    capped1, capped2 = low & (now.cap_mhz <= t1 + 1.0), low & (now.cap_mhz <= t2 + 1.0)
    over1 = p > settings.t1 or (capped1.any() and p > settings.t1 - settings.hysteresis)
    over2 = p > settings.t2 or (capped2.any() and p > settings.t2 - settings.hysteresis)
    clock = top.copy()
    if over1:
        clock = np.where(low, t1, clock)
    if over2:
        clock = np.where(low, t2, clock)
        held = bool((high & (now.cap_mhz <= t2_high + 1.0)).any())
        if held or (p > settings.t2 and _settled(view, settings, low & ~capped2, low, row)):
            clock = np.where(high, t2_high, clock)
    return clock


def _settled(view: View, settings: GuardSettings, missing: Bools, asked: Bools, row: int) -> bool:
    """True when the row was measured after every cap that is asked for had taken effect."""
    if missing.any():
        return False
    measured_at = view.now - timedelta(seconds=float(view.row_age_s[row]))
    for i in np.flatnonzero(asked):
        outcome = view.outcomes.get(f"clock_cap/{view.topology.servers[i].name}")
        if outcome is None or measured_at < outcome.at + timedelta(seconds=settings.settle_s):
            return False
    return True


def _answering(view: View) -> set[int]:
    """Rows in which caps of the guard stand."""
    server, row = view.index.server, view.index.server_row
    return {int(row[server[a.node]]) for a in view.actions.values() if a.policy == NAME and a.node in server}


def _overload(
    view: View, now: Present, settings: GuardSettings, row: int, steps: Ladder, brake_clock: Floats
) -> tuple[Floats, Bools]:
    """[servers] clocks that bring the row to its goal, and who is braked because clocks within the bounds do not suffice.

    In-band caps on their way count, so that one overload is not answered twice. The brake takes SaaS first, and no more
    servers than needed (POLCA's takes all).
    """
    index, members = view.index, view.index.server_row == row
    wall_w = steps.gpu_w * now.wall_per_w[:, None]
    limit = float(now.row_limit_w[row])
    demand = float(now.row_demand_w[row])
    clock, _ = lower(steps, members, wall_w, settings.overload, demand, limit, Tier(max(Tier)))
    # only in-band clocks help within the ten seconds of a UPS: an IaaS cap counts once readings show it
    soon = np.where(index.iaas, np.maximum(clock, now.shown_mhz), clock)
    share = now.plant.clock_power_share(soon, index.max_clock_mhz)
    expected = demand - float((now.demand_w * (1.0 - share) * now.wall_per_w * now.cap_works)[members].sum())
    standing = members & (now.cap_mhz <= brake_clock + 1.0)
    braked = standing & (expected > (settings.overload.tighten + settings.overload.goal) / 2 * limit)
    if expected > settings.overload.tighten * limit:
        stopped = now.plant.clock_power_share(brake_clock, index.max_clock_mhz)
        more_w = now.demand_w * np.maximum(share - stopped, 0.0) * now.wall_per_w * now.cap_works
        order = np.lexsort((-more_w, index.high, index.iaas, ~standing))
        order = order[members[order] & (more_w[order] > 0)]
        count = int(np.searchsorted(np.cumsum(more_w[order]), expected - settings.overload.goal * limit)) + 1
        braked[order[:count]] = True
    return clock, braked
