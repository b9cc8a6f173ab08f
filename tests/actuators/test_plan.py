import itertools
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actuators.plan import PlanSettings, Wanted, plan
from actuators.values import loosens, outside, tightens, within
from contracts.control import Action, Bounds, ClockCap, Mode, Raise, Revert, Value, Weights
from tests.actuators.targets import START, make_action

SETTINGS = PlanSettings(lease_s=30.0, dwell_s=60.0, interval_s=5.0)
TARGET = "clock_cap/r0s0"


def want(value: Value, target: str = TARGET, bounds: Bounds | None = None, mode: Mode = "enforce") -> Wanted:
    return Wanted(node="r0s0", target=target, value=value, bounds=bounds, mode=mode, decision_ids=("d1",), policy="caps")


def planned(
    wanted: Wanted | None, held: Action | None, after_s: float, run_s: float | None = None, config: PlanSettings = SETTINGS
) -> list[Action]:
    """Actions `after_s` wall seconds (and `run_s` run seconds) after START."""
    ids = map(str, itertools.count(100))
    return plan(
        {} if wanted is None else {wanted.target: wanted},
        {} if held is None else {held.target: held},
        START + timedelta(seconds=after_s if run_s is None else run_s),
        START + timedelta(seconds=after_s),
        7,
        config,
        lambda: next(ids),
    )


def held(value: Value = ClockCap(max_mhz=1200), **changes: Any) -> Action:  # noqa: B008  (frozen)
    return make_action(value, **{"created_wall": START, **changes})


def test_a_new_value_is_issued_whole() -> None:
    (action,) = planned(want(ClockCap(max_mhz=1200), bounds=Bounds(low=800, high=1980)), None, 0)
    assert (action.action_id, action.node, action.target, action.epoch) == ("100", "r0s0", TARGET, 7)
    assert (action.value, action.mode, action.renews) == (ClockCap(max_mhz=1200), "enforce", "")
    assert (action.decision_ids, action.policy) == (("d1",), "caps")


def test_a_lease_is_renewed_after_a_third() -> None:
    assert planned(want(ClockCap(max_mhz=1200)), held(), 9.9) == []
    (renewal,) = planned(want(ClockCap(max_mhz=1200)), held(), 10.0)
    assert (renewal.renews, renewal.value, renewal.at) == ("7-1", ClockCap(max_mhz=1200), START)
    assert renewal.created_wall == START + timedelta(seconds=10)
    (again,) = planned(want(ClockCap(max_mhz=1200)), renewal, 25.0)
    assert again.renews == "7-1", "the first issue, not the last renewal"


def test_a_new_controller_renews_at_once() -> None:
    (renewal,) = planned(want(ClockCap(max_mhz=1200)), held(epoch=6), 0.1)
    assert (renewal.epoch, renewal.renews) == (7, "7-1")


def test_a_lower_clock_goes_out_at_once() -> None:
    (action,) = planned(want(ClockCap(max_mhz=1100)), held(), 0.1)
    assert action.value == ClockCap(max_mhz=1100)


def test_a_higher_clock_waits_for_the_dwell_in_run_time() -> None:
    up = want(ClockCap(max_mhz=1500))
    assert planned(up, held(), 2.0, run_s=59.0) == []
    assert planned(up, held(), 12.0, run_s=59.0)[0].renews == "7-1", "while it waits, the old value is renewed"
    (action,) = planned(up, held(), 2.0, run_s=60.0)
    assert action.value == ClockCap(max_mhz=1500)
    renewed = planned(up, held(), 12.0, run_s=59.0)[0]
    assert planned(up, renewed, 13.0, run_s=60.0)[0].value == ClockCap(max_mhz=1500), "a renewal does not start the dwell anew"


def test_what_is_no_longer_wanted_is_reverted_after_the_dwell() -> None:
    assert planned(None, held(), 2.0, run_s=30.0) == []
    (action,) = planned(None, held(), 2.0, run_s=60.0)
    assert (action.value, action.mode, action.reason) == (Revert(), "enforce", "no longer wanted")
    assert planned(want(Revert()), held(), 2.0, run_s=60.0)[0].value == Revert()


def test_what_has_expired_is_just_gone() -> None:
    assert planned(None, held(), 30.0) == []
    (action,) = planned(want(ClockCap(max_mhz=1200)), held(), 30.0)
    assert action.renews == ""


def test_observe_sends_nothing_and_disabling_cleans_up() -> None:
    assert planned(want(ClockCap(max_mhz=1200), mode="observe"), None, 0) == []
    for mode in ("observe", "advise"):
        (action,) = planned(want(ClockCap(max_mhz=1200), mode=mode), held(), 1.0)
        assert (action.value, action.mode) == (Revert(), "enforce")
    (action,) = planned(want(ClockCap(max_mhz=1200)), held(mode="advise"), 1.0)
    assert (action.value, action.mode, action.renews) == (ClockCap(max_mhz=1200), "enforce", "")


def test_narrower_bounds_change_what_is_in_force_at_once() -> None:
    bounds = Bounds(low=1300, high=1980)
    (action,) = planned(want(ClockCap(max_mhz=1200), bounds=bounds), held(), 0.1)
    assert action.value == ClockCap(max_mhz=1300)


def test_protecting_actions_come_first() -> None:
    wanted = {
        "clock_cap/a": want(ClockCap(max_mhz=1900), "clock_cap/a"),
        "clock_cap/b": want(ClockCap(max_mhz=900), "clock_cap/b"),
    }
    in_force = {target: held(target=target) for target in wanted}
    ids = map(str, itertools.count())
    actions = plan(wanted, in_force, START + timedelta(hours=1), START + timedelta(seconds=1), 7, SETTINGS, lambda: next(ids))
    assert [action.target for action in actions] == ["clock_cap/b", "clock_cap/a"]


def test_weights_shift_at_the_rate_limit_and_drain_at_once() -> None:
    def weights(**shares: float) -> Wanted:
        return want(Weights(endpoint="chat", shares=shares), "weights/chat")

    now = held(Weights(endpoint="chat", shares={"a": 0.5, "b": 0.5}), target="weights/chat")
    assert planned(weights(a=0.6, b=0.4), now, 1.0, run_s=4.0) == []
    assert planned(weights(a=0.6, b=0.4), now, 1.0, run_s=5.0)[0].renews == ""
    assert planned(weights(a=1.0, b=0.0), now, 0.1)[0].value == Weights(endpoint="chat", shares={"a": 1.0, "b": 0.0})
    assert planned(weights(a=0.502, b=0.498), now, 9.0) == [], "inside the deadband nothing changes"
    drained = held(Weights(endpoint="chat", shares={"a": 1.0}), target="weights/chat")
    assert planned(weights(a=0.5, b=0.5), drained, 1.0, run_s=59.0) == [], "an instance comes back after the dwell"


def test_an_alert_that_becomes_critical_is_not_delayed() -> None:
    def alert(severity: str, summary: str) -> Raise:
        return msgspec.convert(
            {"type": "alert", "alertname": "A", "severity": severity, "labels": {}, "annotations": {"summary": summary}}, Raise
        )

    now = held(alert("warning", "x"), target="alert/A/row-1")
    assert planned(want(alert("warning", "y"), "alert/A/row-1"), now, 1.0) == []
    assert planned(want(alert("critical", "y"), "alert/A/row-1"), now, 1.0)[0].renews == ""


CAPS = st.builds(ClockCap, max_mhz=st.integers(300, 2000).map(float), gpus=st.sampled_from([(), (0,), (1,), (0, 1), (0, 1, 2)]))
SHARES = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 10).map(float), min_size=1).filter(
    lambda d: sum(d.values()) > 0
)
WEIGHTS = SHARES.map(lambda d: Weights(endpoint="chat", shares={k: v / sum(d.values()) for k, v in d.items()}))
BOUNDS = st.none() | st.tuples(st.integers(300, 1900), st.integers(0, 100)).map(
    lambda p: Bounds(low=float(p[0]), high=float(p[0] + p[1]))
)
HELD = st.builds(
    lambda value, age, renewed, epoch, mode, stood: make_action(
        value,
        at=START - timedelta(seconds=stood),
        created_wall=START - timedelta(seconds=age),
        renews="7-0" if renewed else "",
        epoch=epoch,
        mode=mode,
    ),
    CAPS,
    st.floats(0, 40),
    st.booleans(),
    st.integers(6, 7),
    st.sampled_from(["advise", "enforce"]),
    st.floats(0, 200),
)
WANTED = st.builds(want, CAPS, bounds=BOUNDS, mode=st.sampled_from(["observe", "advise", "enforce"]))


def run(wanted: Wanted | None, in_force: Action | None) -> Mapping[str, Action]:
    actions = planned(wanted, in_force, 0.0)
    assert len({a.target for a in actions}) == len(actions), "one action per target"
    assert len({a.action_id for a in actions}) == len(actions)
    return {a.target: a for a in actions}


@given(st.none() | WANTED, st.none() | HELD)
@settings(max_examples=300, deadline=None)
def test_whatever_is_wanted_stays_inside_its_bounds(wanted: Wanted | None, in_force: Action | None) -> None:
    for action in run(wanted, in_force).values():
        assert wanted is None or isinstance(action.value, Revert) or not outside(action.value, wanted.bounds)
        assert not outside(action.value, action.bounds)


@given(st.none() | WANTED, HELD)
@settings(max_examples=300, deadline=None)
def test_every_lease_is_renewed_changed_reverted_or_expires(wanted: Wanted | None, in_force: Action) -> None:
    age_s = (START - in_force.created_wall).total_seconds()
    action = run(wanted, in_force).get(TARGET)
    if age_s >= in_force.lease_s:
        assert action is None or not action.renews, "an expired lease is never renewed"
    elif action is None:
        assert age_s < in_force.lease_s * SETTINGS.renew_share
    elif action.renews:
        assert action.value == in_force.value
        assert action.created_wall == START
    else:
        assert isinstance(action.value, Revert) or action.value != in_force.value or wanted is not None


@given(WANTED, HELD)
@settings(max_examples=300, deadline=None)
def test_tightening_is_never_delayed(wanted: Wanted, in_force: Action) -> None:
    value = within(wanted.value, wanted.bounds)
    if wanted.mode != "enforce" or not tightens(in_force.value, value):
        return
    action = run(wanted, in_force)[TARGET]
    assert (action.value, action.renews) == (value, "")


@given(CAPS | WEIGHTS, CAPS | WEIGHTS)
@settings(deadline=None)
def test_a_change_of_caps_gives_takes_or_is_none(old: Value, new: Value) -> None:
    if isinstance(old, ClockCap) and isinstance(new, ClockCap):
        same_everywhere = not tightens(old, new) and not loosens(old, new)
        assert same_everywhere == all(_cap(old, gpu) == _cap(new, gpu) for gpu in range(5))
    assert not tightens(old, old)


def _cap(value: ClockCap, gpu: int) -> float:
    return value.max_mhz if not value.gpus or gpu in value.gpus else float("inf")


@given(WEIGHTS, st.integers(0, 30), st.integers(40, 100))
@settings(deadline=None)
def test_weights_are_brought_inside_bounds_and_sum_to_one(weights: Weights, low_pct: int, high_pct: int) -> None:
    live = [share for share in weights.shares.values() if share]
    bounds = Bounds(low=low_pct / 100, high=high_pct / 100)
    found = within(weights, bounds)
    assert isinstance(found, Weights)
    if len(live) * bounds.low <= 1 <= len(live) * bounds.high:
        assert sum(found.shares.values()) == pytest.approx(1.0, abs=1e-6)
        assert not outside(found, bounds)
    assert {node for node, share in found.shares.items() if not share} == {n for n, s in weights.shares.items() if not s}
