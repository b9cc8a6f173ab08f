from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contracts.control import ClockCap, Weights
from contracts.view import View
from policies.routing import Routing, RoutingSettings
from tests.factories import make_topology, make_view
from tests.policies.values import forecasts, make_action, make_forecast, reasons


def decide(view: View, **settings: Any) -> Any:
    return list(Routing(RoutingSettings(**settings)).decide(view))


def shares(view: View, **settings: Any) -> dict[str, float]:
    (decision,) = decide(view, **settings)
    assert isinstance(decision.value, Weights)
    assert sum(decision.value.shares.values()) == pytest.approx(1.0)
    return decision.value.shares


def hot(view: View, *nodes: str, temp_c: float = 87.0) -> View:
    temp = view.gpu_temp_c.copy()
    for node in nodes:
        temp[view.index.gpu_server == view.index.server[node]] = temp_c
    return replace(view, gpu_temp_c=temp)


def test_equal_weights_serve_when_nothing_is_at_risk() -> None:
    assert reasons(decide(make_view())) == ["chat: equal weights serve"]


def test_hot_instance_gets_no_requests() -> None:
    assert shares(hot(make_view(), "r0s0")) == pytest.approx({"r0s2": 1 / 3, "r1s0": 1 / 3, "r1s2": 1 / 3}, abs=0.02)


def test_forecast_heat_counts_before_it_is_there() -> None:
    soon = make_forecast("gpu_temp", "r0s0", [86.0, 88.0, 90.0], spread=0.5)
    assert "r0s0" not in shares(make_view(forecasts=forecasts(soon)))


def test_floor_of_capacity_stays_whatever_the_risk() -> None:
    view = hot(make_view(), "r0s0", "r0s2", "r1s0", "r1s2")
    (decision,) = decide(view, floor=0.5)
    assert decision.value is None or len(decision.value.shares) >= 2


def test_row_over_its_limit_sends_requests_to_the_other_row() -> None:
    view = make_view()
    view = replace(view, row_power_w=view.index.row_limit_w * np.array([1.05, 0.8]))
    assert set(shares(view, floor=0.4)) == {"r1s0", "r1s2"}
    both = replace(view, row_power_w=view.index.row_limit_w * 1.05)
    assert reasons(decide(both)) == ["chat: equal weights serve"], "what all share cannot be routed around"


def test_lower_clock_gets_fewer_requests() -> None:
    view = make_view()
    target = "clock_cap/r0s0"
    view = replace(view, actions={target: make_action(target, ClockCap(max_mhz=800.0))})
    given = shares(view)
    assert given["r0s0"] < 0.2 < given["r0s2"]


def test_silent_instance_is_dropped_and_a_silent_endpoint_keeps_its_weights() -> None:
    view = make_view()
    age = view.endpoint_age_s.copy()
    age[0] = 1000.0
    assert "r0s0" not in shares(replace(view, endpoint_age_s=age))
    silent = replace(view, endpoint_age_s=np.full(8, 1000.0))
    assert reasons(decide(silent)) == ["chat: its gauges are silent: weights stay as they are"]
    standing = Weights(endpoint="chat", shares={"r0s0": 0.1, "r0s2": 0.3, "r1s0": 0.3, "r1s2": 0.3})
    held = replace(silent, actions={"weights/chat": make_action("weights/chat", standing, policy="routing")})
    assert shares(held) == standing.shares


def test_small_changes_leave_the_weights_in_force() -> None:
    view = hot(make_view(), "r0s0")
    standing = Weights(endpoint="chat", shares={"r0s2": 0.35, "r1s0": 0.33, "r1s2": 0.32})
    held = replace(view, actions={"weights/chat": make_action("weights/chat", standing, policy="routing")})
    assert shares(held) == standing.shares
    far = Weights(endpoint="chat", shares={"r0s2": 0.6, "r1s0": 0.2, "r1s2": 0.2})
    moved = replace(view, actions={"weights/chat": make_action("weights/chat", far, policy="routing")})
    assert shares(moved) != far.shares


def test_many_instances_stay_quantised() -> None:
    view = hot(make_view(make_topology(servers_per_row=40)), "r0s0", "r0s2", "r0s4")
    given = shares(view)
    assert len(given) == 37
    assert all(share * 800 == pytest.approx(round(share * 800)) for share in given.values())
