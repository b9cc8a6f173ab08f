"""The arbiter: one winner per target out of all that policies want, inside the bounds, released no faster than the ramp.

Order: an operator's mode, then for clocks the lowest cap (the brake below all), for weights the highest priority's with
everybody's exclusions, for alerts the highest priority's. The order in which decisions arrive does not matter.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import msgspec
import numpy as np

from contracts.control import Action, Bounds, ClockCap, Decision, Mode, Weights
from contracts.view import View
from policies.decisions import BRAKE, VALID_S, decision_id
from policies.present import Freshness, Present, capped_server, present
from policies.shares import Instance, quantised

RANK: Mapping[Mode, int] = {"observe": 0, "advise": 1, "enforce": 2}


class ArbiterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's bounds and the ramp of releases."""

    min_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """no cap below this share of the hardware's maximum clock, the brake excepted"""
    ramp_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.03
    """of a row's limit: how much power may be released within `ramp_s`"""
    ramp_s: Annotated[float, msgspec.Meta(gt=0)] = 15.0
    """run time"""
    freshness: Freshness = Freshness()


@dataclass(frozen=True, kw_only=True)
class Overruled:
    """A decision that did not win, and why."""

    decision: Decision
    reason: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is wanted of each target, all in all."""

    winners: Mapping[str, Decision]
    overruled: Sequence[Overruled]


def arbitrate(decisions: Iterable[Decision], view: View, settings: ArbiterSettings) -> Verdict:
    """Join the decisions: `winners` by target, each with its mode and inside its bounds."""
    by_target: dict[str, list[Decision]] = {}
    overruled: list[Overruled] = []
    for decision in sorted(decisions, key=_order):
        if decision.value is None:
            continue
        mode = mode_of(decision, view)
        if mode == "observe":
            overruled.append(Overruled(decision=decision, reason="its mode is observe"))
        elif decision.expires_at is not None and decision.expires_at < view.now:
            overruled.append(Overruled(decision=decision, reason="it has expired"))
        else:
            by_target.setdefault(decision.target, []).append(msgspec.structs.replace(decision, mode=mode))
    winners: dict[str, Decision] = {}
    for target, wanted in sorted(by_target.items()):
        strongest = max(RANK[d.mode] for d in wanted)
        able = [d for d in wanted if RANK[d.mode] == strongest]
        overruled.extend(Overruled(decision=d, reason="advice beside an enforced wish") for d in wanted if d not in able)
        winner = _winner(able, view, settings)
        if winner is not None:
            winners[target] = winner
        taken = None if winner is None else winner.decision_id
        overruled.extend(Overruled(decision=d, reason=_why(winner)) for d in able if d.decision_id != taken)
    return Verdict(winners=_ramped(winners, view, settings), overruled=tuple(overruled))


def mode_of(decision: Decision, view: View) -> Mode:
    """Return the weaker of the policy's mode and the target's (`view.modes` may name both); advise when neither is named."""
    policy = view.modes.get(decision.policy, "advise")
    target = view.modes.get(decision.target, policy)
    return min(policy, target, key=RANK.__getitem__)


def _order(decision: Decision) -> tuple[int, str, str, str]:
    return -decision.priority, decision.policy, decision.target, decision.decision_id


def _why(winner: Decision | None) -> str:
    return "it asks for no less than the maximum" if winner is None else f"{winner.policy} wins"


def _winner(able: Sequence[Decision], view: View, settings: ArbiterSettings) -> Decision | None:
    """The winner among decisions on one target, sorted by falling priority; None when nothing is left to ask for."""
    first = able[0]
    if isinstance(first.value, ClockCap):
        return _clock(able, view, settings)
    if isinstance(first.value, Weights):
        return _weights(able, first, first.value)
    return first


def _clock(able: Sequence[Decision], view: View, settings: ArbiterSettings) -> Decision | None:
    """The lowest cap; a brake before any other; inside the hardware's, the operator's and the decision's own bounds."""
    caps = [(d, d.value) for d in able if isinstance(d.value, ClockCap)]
    winner, value = min(caps, key=lambda c: (c[0].priority < BRAKE, c[1].max_mhz, _order(c[0])))
    server = view.index.server.get(winner.target.removeprefix("clock_cap/"))
    if server is None:
        return None
    hardware = view.topology.hardware[int(view.index.server_hardware[server])]
    low = max(hardware.min_clock_mhz, settings.min_share * hardware.max_clock_mhz)
    if winner.priority >= BRAKE:
        low = min(hardware.brake_clock_mhz, hardware.min_clock_mhz)
    high = hardware.max_clock_mhz
    if winner.bounds is not None:
        low, high = max(low, min(winner.bounds.low, high)), min(high, max(winner.bounds.high, low))
    clock = min(max(value.max_mhz, low), high)
    if clock >= hardware.max_clock_mhz:
        return None
    value = ClockCap(max_mhz=clock, gpus=_all_if_one_needs_all([v for _, v in caps]))
    return msgspec.structs.replace(winner, value=value, bounds=Bounds(low=low, high=high))


def _all_if_one_needs_all(caps: Sequence[ClockCap]) -> tuple[int, ...]:
    """GPUs under the joint cap: the union; one cap on the whole node makes it the whole node."""
    return () if any(not cap.gpus for cap in caps) else tuple(sorted({gpu for cap in caps for gpu in cap.gpus}))


def _weights(able: Sequence[Decision], first: Decision, value: Weights) -> Decision:
    """The highest priority's shares without the instances that anybody else gives nothing, as long as one is left."""
    nodes = set(value.shares).union(*(d.value.shares for d in able if isinstance(d.value, Weights)))
    excluded = {n for d in able[1:] if isinstance(d.value, Weights) for n in nodes if d.value.shares.get(n, 0.0) <= 0}
    left = [
        Instance(node=node, share=share) for node, share in sorted(value.shares.items()) if node not in excluded and share > 0
    ]
    if not excluded or not left:
        return first
    return msgspec.structs.replace(first, value=Weights(endpoint=value.endpoint, shares=quantised(left)))


def _ramped(winners: dict[str, Decision], view: View, settings: ArbiterSettings) -> dict[str, Decision]:
    """Hold back releases beyond each row's ramp: the caps in force stay for now."""
    waiting: dict[int, list[tuple[int, Action, float, float]]] = {}
    for target, action in view.actions.items():
        server = capped_server(view, action)
        if server is None or action.mode != "enforce" or not isinstance(action.value, ClockCap):
            continue
        if view.modes.get(action.policy, "advise") != "enforce" or view.modes.get(target, "enforce") != "enforce":
            continue  # switched off: nothing of it stays
        winner = winners.get(target)
        wanted = winner.value.max_mhz if winner and isinstance(winner.value, ClockCap) else view.index.max_clock_mhz[server]
        if wanted > action.value.max_mhz + 1.0:
            waiting.setdefault(int(view.index.server_row[server]), []).append(
                (server, action, action.value.max_mhz, float(wanted))
            )
    if not waiting:
        return winners
    now, result = present(view, settings.freshness), dict(winners)
    for row, releases in waiting.items():
        for server, action, clock in _held_back(view, now, settings, row, releases):
            result[action.target] = _hold(view, settings, server, action, clock, row)
    return dict(sorted(result.items()))


def _held_back(
    view: View, now: Present, settings: ArbiterSettings, row: int, releases: list[tuple[int, Action, float, float]]
) -> list[tuple[int, Action, float]]:
    """Which releases of a row wait, and at which clock: the braked go first, then IaaS, then SaaS, high priority before low."""
    index, top = view.index, view.index.max_clock_mhz
    releases.sort(key=lambda r: (r[2] >= index.min_clock_mhz[r[0]], index.saas[r[0]], not index.high[r[0]], r[1].target))
    server = np.array([r[0] for r in releases])
    before, after = top.copy(), top.copy()
    before[server], after[server] = [r[2] for r in releases], [r[3] for r in releases]
    share = now.plant.clock_power_share(after, top) - now.plant.clock_power_share(before, top)
    rise_w = np.maximum(now.demand_w * share * now.wall_per_w, 0.0)[server]
    reverted, issued = _lately(view, settings, row)
    limit_w = settings.ramp_share * float(index.row_limit_w[row])
    # one at least, so that a server larger than the ramp is released at all
    free = (np.cumsum(rise_w) <= limit_w) | (np.arange(len(server)) == 0)
    free &= np.logical_not(reverted) & ~(np.bool_(issued) & index.saas[server])
    return [(i, action, clock) for (i, action, clock, _), may in zip(releases, free.tolist(), strict=True) if not may]


def _lately(view: View, settings: ArbiterSettings, row: int) -> tuple[bool, bool]:
    """True where a cap of the row was reverted, and where one was first issued, within the ramp's period."""
    since, index = view.now - timedelta(seconds=settings.ramp_s), view.index
    in_row = {server.name for i, server in enumerate(view.topology.servers) if index.server_row[i] == row}
    caps = "clock_cap/"
    reverted = any(
        o.status == "reverted" and o.at > since and o.node in in_row and target.startswith(caps)
        for target, o in view.outcomes.items()
    )
    issued = any(
        not a.renews and a.at > since and a.node in in_row and target.startswith(caps) for target, a in view.actions.items()
    )
    return reverted, issued


def _hold(view: View, settings: ArbiterSettings, server: int, action: Action, clock: float, row: int) -> Decision:
    name, hardware = view.topology.rows[row].name, view.topology.hardware[int(view.index.server_hardware[server])]
    low = min(clock, hardware.min_clock_mhz)
    return Decision(
        decision_id=decision_id("arbiter", action.target, view.now),
        at=view.now,
        policy=action.policy,
        target=action.target,
        value=ClockCap(max_mhz=clock),
        reason=f"released in turn: {name} rises by {100 * settings.ramp_share:.0f} % of its limit in {settings.ramp_s:.0f} s",
        constraint=f"{name} ramp",
        bounds=Bounds(low=low, high=hardware.max_clock_mhz),
        priority=BRAKE if clock < hardware.min_clock_mhz else 0,
        expires_at=view.now + timedelta(seconds=VALID_S),
        mode=action.mode,
    )
