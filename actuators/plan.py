"""From what is wanted to what is sent: new and changed values, renewals of leases, reverts. Pure.

Protecting is never delayed. Giving back waits until the value in force has stood for the dwell time, so that a cap does not
flap; other changes (weights that shift, an alert's text) are rate-limited per target. See docs/actuation.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import msgspec

from actuators.values import loosens, outside, tightens, within
from contracts.control import Action, Bounds, Mode, Raise, Revert, Value, Weights

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class PlanSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long leases last and how fast values may change."""

    lease_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 30.0
    """wall time; without renewal the agent reverts after it"""
    renew_share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1 / 3
    """share of the lease after which it is renewed: two renewals may be lost"""
    dwell_s: Seconds = 30.0
    """run time that a value stands before anything of it is given back"""
    interval_s: Seconds = 5.0
    """run time between two changes of a target that neither protect nor give back"""
    alert_interval_s: Seconds = 60.0
    """the same for the text of an alert"""
    share_deadband: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.005
    """routing shares that all differ by less are the same"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the arbiter wants of one target now."""

    node: str
    """the agent that obeys"""
    target: str
    value: Value
    """Revert = nothing"""
    bounds: Bounds | None = None
    mode: Mode = "advise"
    """observe = send nothing"""
    decision_ids: tuple[str, ...] = ()
    policy: str = ""
    reason: str = ""


def plan(
    wanted: Mapping[str, Wanted],
    in_force: Mapping[str, Action],
    now: datetime,
    wall: datetime,
    epoch: int,
    settings: PlanSettings,
    ids: Callable[[], str],
) -> list[Action]:
    """Return the unsigned actions that lead from what is in force to what is wanted: protecting ones first, then by target.

    `in_force`: target -> newest action of this controller; expired ones count as gone. `now` is run time, `wall` wall time.
    A renewal keeps the `at` of the first issue, which tells how long the value has stood; its `created_wall` is new.
    """
    made = _Maker(now=now, wall=wall, epoch=epoch, settings=settings, ids=ids)
    urgent: list[Action] = []
    rest: list[Action] = []
    for target in sorted({*wanted, *in_force}):
        want, held = wanted.get(target), in_force.get(target)
        if want is not None and isinstance(want.value, Revert):
            want = None
        if held is not None and (isinstance(held.value, Revert) or made.age_s(held) >= held.lease_s):
            held = None
        if want is not None and held is None:
            urgent.extend([made.issue(want)] if want.mode != "observe" else [])
        elif want is not None and held is not None:
            action, first = _change(want, held, made)
            (urgent if first else rest).extend(action)
        elif held is not None:
            rest.extend(_release(held, made))
    return [*urgent, *rest]


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes actions of one moment."""

    now: datetime
    wall: datetime
    epoch: int
    settings: PlanSettings
    ids: Callable[[], str]

    def age_s(self, held: Action) -> float:
        """Wall seconds since the newest issue or renewal."""
        return (self.wall - held.created_wall).total_seconds()

    def stood_s(self, held: Action) -> float:
        """Run seconds for which the value has stood."""
        return (self.now - held.at).total_seconds()

    def issue(self, want: Wanted) -> Action:
        """A new value."""
        return Action(
            action_id=self.ids(),
            at=self.now,
            created_wall=self.wall,
            node=want.node,
            target=want.target,
            value=within(want.value, want.bounds),
            lease_s=self.settings.lease_s,
            epoch=self.epoch,
            decision_ids=want.decision_ids,
            policy=want.policy,
            reason=want.reason,
            bounds=want.bounds,
            mode=want.mode,
        )

    def renew(self, held: Action) -> list[Action]:
        """The same value again, once a share of its lease is over or the controller has changed."""
        if held.epoch == self.epoch and self.age_s(held) < held.lease_s * self.settings.renew_share:
            return []
        return [
            msgspec.structs.replace(
                held,
                action_id=self.ids(),
                created_wall=self.wall,
                lease_s=self.settings.lease_s,
                epoch=self.epoch,
                renews=held.renews or held.action_id,
                signature="",
            )
        ]

    def revert(self, held: Action, reason: str) -> Action:
        """The end of a value."""
        return msgspec.structs.replace(
            held,
            action_id=self.ids(),
            at=self.now,
            created_wall=self.wall,
            value=Revert(),
            lease_s=self.settings.lease_s,
            epoch=self.epoch,
            bounds=None,
            reason=reason,
            renews="",
            signature="",
        )


def _change(want: Wanted, held: Action, made: _Maker) -> tuple[list[Action], bool]:
    """Actions for a target that is wanted and held, and whether they protect (and so go first)."""
    if want.mode == "observe" or (held.mode == "enforce" and want.mode != "enforce"):
        return [made.revert(held, f"mode of {want.policy or 'its policy'} is now {want.mode}")], False
    value = within(want.value, want.bounds)
    illegal = bool(outside(held.value, want.bounds))
    if held.node != want.node or held.mode != want.mode or illegal or _tightens(held.value, value, made.settings):
        return [made.issue(want)], True
    if _same(held.value, value, made.settings):
        return _renew(held, want, made), False
    if made.stood_s(held) < _wait_s(held.value, value, made.settings):
        return _renew(held, want, made), False
    return [made.issue(want)], False


def _renew(held: Action, want: Wanted, made: _Maker) -> list[Action]:
    """A renewal under the bounds that hold now."""
    return made.renew(held if held.bounds == want.bounds else msgspec.structs.replace(held, bounds=want.bounds))


def _release(held: Action, made: _Maker) -> list[Action]:
    """Actions for a target that is held and no longer wanted."""
    if made.stood_s(held) < made.settings.dwell_s:
        return made.renew(held)
    return [made.revert(held, "no longer wanted")]


def _tightens(old: Value, new: Value, settings: PlanSettings) -> bool:
    return not _same(old, new, settings) and tightens(old, new)


def _same(old: Value, new: Value, settings: PlanSettings) -> bool:
    if isinstance(old, Weights) and isinstance(new, Weights) and old.endpoint == new.endpoint:
        nodes = {*old.shares, *new.shares}
        return all(_alike(old.shares.get(n, 0.0), new.shares.get(n, 0.0), settings.share_deadband) for n in nodes)
    return old == new


def _alike(old: float, new: float, deadband: float) -> bool:
    return (old > 0) == (new > 0) and abs(old - new) <= deadband


def _wait_s(old: Value, new: Value, settings: PlanSettings) -> float:
    if loosens(old, new):
        return settings.dwell_s
    return settings.alert_interval_s if isinstance(new, Raise) else settings.interval_s
