from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.control import Bounds, ClockCap, Decision, Raise, Value, Weights
from contracts.view import View
from policies.arbiter import ArbiterSettings, Verdict, arbitrate
from tests.factories import NOW, make_topology, make_view
from tests.policies.values import capped, make_action, make_outcome

SETTINGS = ArbiterSettings()
ENFORCE: dict[str, Any] = dict.fromkeys(("caps", "thermal", "emergency", "guard", "routing", "alerts"), "enforce")


def wish(policy: str, target: str, value: Value, priority: int = 20, **more: Any) -> Decision:
    return Decision(
        decision_id=f"{policy}-{target}-{priority}-{value}",
        at=NOW,
        policy=policy,
        target=target,
        value=value,
        priority=priority,
        **more,
    )


def cap(policy: str, mhz: float, node: str = "r0s0", priority: int = 20, **more: Any) -> Decision:
    return wish(policy, f"clock_cap/{node}", ClockCap(max_mhz=mhz), priority, **more)


def clock_of(verdict: Verdict, node: str = "r0s0") -> float | None:
    winner = verdict.winners.get(f"clock_cap/{node}")
    return winner.value.max_mhz if winner is not None and isinstance(winner.value, ClockCap) else None


def view_of(**changes: Any) -> View:
    return make_view(**{"modes": ENFORCE, **changes})


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ([cap("caps", 1500), cap("thermal", 1200)], 1200),
        ([cap("caps", 1100), cap("emergency", 1300, priority=40)], 1100),
        ([cap("caps", 900), cap("guard", 288, priority=50)], 288),
        ([cap("caps", 500)], 800),
        ([cap("caps", 100, priority=50)], 288),
        ([cap("caps", 2500)], None),
        ([cap("caps", 1000, bounds=Bounds(low=1200, high=1900))], 1200),
        ([cap("caps", 1000, bounds=Bounds(low=100, high=1900))], 1000),
        ([], None),
    ],
)
def test_lowest_cap_wins_inside_the_bounds(wishes: list[Decision], expected: float | None) -> None:
    assert clock_of(arbitrate(wishes, view_of(), SETTINGS)) == expected


def test_operators_bound_holds_for_all_but_the_brake() -> None:
    bounded = ArbiterSettings(min_share=0.6)
    assert clock_of(arbitrate([cap("caps", 900)], view_of(), bounded)) == pytest.approx(1188)
    assert clock_of(arbitrate([cap("guard", 288, priority=50)], view_of(), bounded)) == 288


def test_modes_by_policy_and_target() -> None:
    wishes = [cap("caps", 1100), cap("thermal", 1400)]
    advise = view_of(modes={"thermal": "enforce"})
    verdict = arbitrate(wishes, advise, SETTINGS)
    assert clock_of(verdict) == 1400, "advice never stands in the way of what is enforced"
    assert verdict.winners["clock_cap/r0s0"].mode == "enforce"
    assert [o.reason for o in verdict.overruled] == ["advice beside an enforced wish"]
    only = arbitrate(wishes[:1], advise, SETTINGS)
    assert only.winners["clock_cap/r0s0"].mode == "advise"
    assert not arbitrate(wishes, view_of(modes={"caps": "observe", "thermal": "observe"}), SETTINGS).winners
    by_target = view_of(modes={**ENFORCE, "clock_cap/r0s0": "advise"})
    assert arbitrate(wishes, by_target, SETTINGS).winners["clock_cap/r0s0"].mode == "advise"


def test_expired_and_unknown_have_no_say() -> None:
    old = cap("caps", 1000, expires_at=NOW - timedelta(seconds=1))
    verdict = arbitrate([old, cap("caps", 1000, node="nobody")], view_of(), SETTINGS)
    assert not verdict.winners
    assert {o.reason for o in verdict.overruled} == {"it has expired", "it asks for no less than the maximum"}


def test_weights_of_the_highest_priority_without_others_exclusions() -> None:
    routing = wish("routing", "weights/chat", Weights(endpoint="chat", shares={"r0s0": 0.5, "r1s0": 0.5}), 10)
    urgent = wish(
        "emergency", "weights/chat", Weights(endpoint="chat", shares={"r0s0": 0.2, "r0s2": 0.4, "r1s0": 0.2, "r1s2": 0.2}), 40
    )
    winner = arbitrate([routing, urgent], view_of(), SETTINGS).winners["weights/chat"]
    assert winner.policy == "emergency"
    assert isinstance(winner.value, Weights)
    assert winner.value.shares == pytest.approx({"r0s0": 0.5, "r1s0": 0.5})


def test_exclusion_of_everybody_is_not_followed() -> None:
    one = wish("routing", "weights/chat", Weights(endpoint="chat", shares={"r0s0": 1.0}), 10)
    other = wish("emergency", "weights/chat", Weights(endpoint="chat", shares={"r1s0": 1.0}), 40)
    winner = arbitrate([one, other], view_of(), SETTINGS).winners["weights/chat"]
    assert isinstance(winner.value, Weights)
    assert winner.value.shares == {"r1s0": 1.0}


def test_alerts_pass() -> None:
    value = Raise(alertname="X", severity="warning", labels={}, annotations={})
    assert arbitrate([wish("alerts", "alert/X/row-0", value)], view_of(), SETTINGS).winners["alert/X/row-0"].value == value


def big_view(**changes: Any) -> View:
    """40 servers a row at 4.4 kW of GPU power, all SaaS capped at 1020 MHz."""
    view = make_view(make_topology(servers_per_row=40, row_limit_w=220_000.0))
    clock = np.where(view.index.saas, 1020.0, 1980.0)[view.index.gpu_server]
    return replace(view, **{"modes": ENFORCE, "actions": capped(view, 1020.0), "gpu_clock_mhz": clock, **changes})


def test_caps_never_all_lift_in_one_tick() -> None:
    view = big_view()
    held = arbitrate([], view, SETTINGS).winners
    freed = len(view.actions) - len(held)
    assert 2 <= freed < 20, "3 % of 220 kW a row"
    assert all(w.value == ClockCap(max_mhz=1020.0) and w.mode == "enforce" and w.policy == "caps" for w in held.values())
    target = "clock_cap/r0s38"
    again = replace(
        view,
        actions={t: a for t, a in view.actions.items() if t in held},
        outcomes={target: make_outcome(target, "reverted", NOW - timedelta(seconds=3))},
    )
    rows = [w.target.split("/")[1][:2] for w in arbitrate([], again, SETTINGS).winners.values()]
    assert rows.count("r0") == sum(t.startswith("clock_cap/r0") for t in again.actions), "row 0 released 3 s ago"
    assert rows.count("r1") < sum(t.startswith("clock_cap/r1") for t in again.actions)


def test_iaas_is_released_before_saas() -> None:
    view = make_view(make_topology(servers_per_row=40, row_limit_w=220_000.0), modes=ENFORCE)
    view = replace(view, actions={**capped(view, 1020.0), **capped(view, 1020.0, saas=False)})
    held = {w.target.split("/")[1] for w in arbitrate([], view, SETTINGS).winners.values()}
    freed = {s.name for s in view.topology.servers} - held
    assert freed
    assert all(view.index.iaas[view.index.server[node]] for node in freed)


def test_a_raise_waits_its_turn_and_a_tightening_never_does() -> None:
    view = big_view()
    nodes = [a.node for a in view.actions.values()]
    raised = arbitrate([cap("caps", 1500, node=n) for n in nodes], view, SETTINGS)
    values = {clock_of(raised, n) for n in nodes}
    assert values == {1020.0, 1500.0}
    lowered = arbitrate([cap("caps", 900, node=n) for n in nodes], view, SETTINGS)
    assert {clock_of(lowered, n) for n in nodes} == {900.0}


def test_switching_a_policy_off_lifts_its_caps_at_once() -> None:
    assert not arbitrate([], big_view(modes={"caps": "observe"}), SETTINGS).winners


policies = st.sampled_from(["caps", "thermal", "emergency", "guard"])
nodes = st.sampled_from([s.name for s in make_topology().servers])
wishes = st.lists(
    st.builds(
        lambda p, n, mhz, prio, low, high: cap(p, mhz, node=n, priority=prio, bounds=Bounds(low=low, high=high)),
        policies,
        nodes,
        st.floats(1, 5000),
        st.sampled_from([0, 20, 30, 40, 50]),
        st.floats(0, 1900),
        st.floats(1980, 3000),
    ),
    max_size=20,
)
standing = st.dictionaries(nodes, st.floats(288, 1980), max_size=8)


@settings(deadline=None, max_examples=40)
@given(wishes, standing, st.randoms())
def test_never_leaves_the_bounds_and_the_order_does_not_matter(
    asked: list[Decision], held: dict[str, float], random: Any
) -> None:
    actions = {f"clock_cap/{n}": make_action(f"clock_cap/{n}", ClockCap(max_mhz=mhz)) for n, mhz in held.items()}
    view = view_of(actions=actions)
    verdict = arbitrate(asked, view, SETTINGS)
    shuffled = list(asked)
    random.shuffle(shuffled)
    assert arbitrate(shuffled, view, SETTINGS).winners == verdict.winners
    for target, winner in verdict.winners.items():
        assert isinstance(winner.value, ClockCap)
        floor = 288.0 if winner.priority >= 50 else 800.0
        assert floor <= winner.value.max_mhz < 1980.0
        lowest = min([d.value.max_mhz for d in asked if d.target == target and isinstance(d.value, ClockCap)], default=1980.0)
        before = held.get(target.split("/")[1], 1980.0)
        assert winner.value.max_mhz >= min(max(lowest, floor), before), "nobody is capped lower than anybody asked or holds"


@settings(deadline=None, max_examples=40)
@given(wishes, standing)
def test_winners_keep_their_value_valid(asked: list[Decision], held: dict[str, float]) -> None:
    actions = {f"clock_cap/{n}": make_action(f"clock_cap/{n}", ClockCap(max_mhz=mhz)) for n, mhz in held.items()}
    for winner in arbitrate(asked, view_of(actions=actions), SETTINGS).winners.values():
        assert msgspec.json.decode(msgspec.json.encode(winner), type=Decision) == winner
