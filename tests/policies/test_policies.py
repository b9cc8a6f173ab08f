"""What holds for every policy: pure, deterministic, inside the hardware's bounds, silent about what it cannot know."""

from dataclasses import fields, replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.control import ClockCap, Decision, Weights
from contracts.ports import Policy
from contracts.registry import POLICIES, load
from contracts.view import View
from policies.guard import GuardSettings, guard
from tests.factories import make_topology, make_view
from tests.policies.values import capped

NAMES = sorted(POLICIES)


class Guard:
    """The guard in the place of a policy."""

    name = "guard"

    def decide(self, view: View) -> list[Decision]:
        return guard(view, GuardSettings())


def make(name: str) -> Policy:
    return Guard() if name == "guard" else load(POLICIES, name)()


everyone = pytest.mark.parametrize("name", [*NAMES, "guard"])


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_frozen_structs_with_defaults(name: str) -> None:
    kind = load(POLICIES, name)
    defaults = msgspec.convert({}, kind.Settings)
    assert defaults == kind.Settings()
    assert kind(defaults).name == name
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"no_such_key": 1}, kind.Settings)


@everyone
def test_knows_nothing_and_wants_nothing(name: str) -> None:
    """Before the first reading: everything NaN, every age infinite."""
    view = make_view()
    changes: dict[str, Any] = {}
    for field in fields(View):
        value = getattr(view, field.name)
        if isinstance(value, np.ndarray) and value.dtype == np.float64:
            changes[field.name] = np.full_like(value, np.inf if field.name.endswith("age_s") else np.nan)
    blind = replace(view, **changes, outside_c=float("nan"))
    assert [d for d in make(name).decide(blind) if d.value is not None] == []


@everyone
@settings(deadline=None, max_examples=25)
@given(st.data())
def test_decides_within_bounds_whatever_the_view(name: str, data: st.DataObject) -> None:
    view = random_view(data)
    policy = make(name)
    before = [a.copy() for a in (view.row_power_w, view.gpu_power_w, view.inlet_c)]
    decisions = list(policy.decide(view))
    assert list(policy.decide(replace(view))) == decisions, "the same View, the same decisions"
    assert all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip(before, (view.row_power_w, view.gpu_power_w, view.inlet_c), strict=True)
    )
    valued = [d for d in decisions if d.value is not None]
    assert len({d.target for d in valued}) == len(valued), "one wish per target"
    assert len({d.decision_id for d in decisions}) == len(decisions)
    for decision in decisions:
        check(view, decision)


def check(view: View, decision: Decision) -> None:
    assert (decision.value is None) == bool(decision.no_change)
    if isinstance(decision.value, ClockCap):
        server = view.index.server[decision.target.split("/")[1]]
        low = 288.0 if decision.priority >= 50 else view.index.min_clock_mhz[server]
        assert low <= decision.value.max_mhz < view.index.max_clock_mhz[server]
        assert decision.bounds is not None
        assert decision.bounds.low <= decision.value.max_mhz <= decision.bounds.high
    if isinstance(decision.value, Weights):
        assert sum(decision.value.shares.values()) == pytest.approx(1.0)
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


def random_view(data: st.DataObject) -> View:
    seed = data.draw(st.integers(0, 2**32 - 1))
    level = data.draw(st.floats(0.3, 1.6))
    random = np.random.default_rng(seed)
    view = make_view(make_topology(servers_per_row=4, rows=4))
    servers, gpus, rows = 16, 128, 4

    def gaps(values: Any) -> Any:
        return np.where(random.random(len(values)) < 0.15, np.nan, values)

    def ages(n: int) -> Any:
        return random.choice([1.0, 1.0, 1.0, 60.0, 500.0, np.inf], n)

    view = replace(
        view,
        row_power_w=gaps(view.index.row_limit_w * random.uniform(0.5, 1.0, rows) * level),
        row_age_s=ages(rows),
        gpu_power_w=gaps(random.uniform(0, 750, gpus)),
        gpu_temp_c=gaps(random.uniform(30, 95, gpus)),
        gpu_clock_mhz=gaps(random.uniform(300, 1980, gpus)),
        gpu_reasons=random.choice([0, 0, 8, 64], gpus),
        gpu_age_s=ages(gpus),
        inlet_c=gaps(random.uniform(10, 55, servers)),
        server_age_s=ages(servers),
        slo_ok_pct=gaps(np.where(view.index.saas, random.uniform(80, 100, servers), np.nan)),
        waiting=gaps(np.where(view.index.saas, random.uniform(0, 20, servers), np.nan)),
        aisle_airflow_cfm=gaps(view.index.aisle_limit_cfm * random.uniform(0.5, 1.3, 2)),
        ahu_lost=random.random(4) < 0.3,
        ups_lost=random.random(2) < 0.3,
    )
    if random.random() < 0.5:
        view = replace(view, actions=capped(view, float(random.uniform(288, 1980)), saas=bool(random.random() < 0.7)))
    return view
