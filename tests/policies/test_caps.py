from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.forecasts import Forecasts
from contracts.view import View
from policies.band import Band
from policies.caps import Caps, CapsSettings
from tests.factories import make_topology, make_view
from tests.policies.values import capped, clocks, forecasts, kinds, make_forecast, make_outcome, reasons


def at(share: float, **changes: Any) -> View:
    """8 servers in row 0 (4 SaaS), `share` of its limit; a flat, sure forecast unless another is given."""
    view = make_view(make_topology(servers_per_row=8, row_limit_w=60_000.0))
    power = view.index.row_limit_w * np.array([share, 0.3])
    flat = forecasts(*(make_forecast("power", f"row-{r}", [float(power[r])] * 15) for r in range(2)))
    each = power[view.index.server_row] / 8
    given = {"row_power_w": power, "row_power_max_w": power, "server_power_w": each, "forecasts": flat, **changes}
    return replace(view, **given)


def decide(view: View, **settings: Any) -> Any:
    return list(Caps(CapsSettings(**settings)).decide(view))


@pytest.mark.parametrize(
    ("share", "tenants", "lowest"),
    [
        (0.50, set(), 1980),
        (0.94, set(), 1980),  # below the early band's threshold
        (0.97, {"saas"}, 1020),  # cheap clocks, ahead of time
        (1.01, {"saas"}, 1020),
        (1.15, {"saas", "iaas"}, 800),  # SaaS is exhausted: IaaS last
    ],
)
def test_order_of_sacrifice(share: float, tenants: set[str], lowest: float) -> None:
    view = at(share)
    wanted = clocks(decide(view))
    assert kinds(view, wanted) == tenants
    assert min(wanted.values(), default=1980) >= lowest
    assert all(node.startswith("r0") for node in wanted)


def test_acts_on_the_upper_quantile_before_the_rise() -> None:
    power = 0.85 * 60_000
    rising = make_forecast("power", "row-0", [power + 600 * k for k in range(15)], spread=100.0)
    view = at(0.85)
    assert clocks(decide(view)) == {}
    view = replace(view, forecasts=forecasts(rising, among=view.forecasts))
    decisions = decide(view)
    assert kinds(view, clocks(decisions)) == {"saas"}
    assert decisions[0].forecast_ids == ("power-row-0",)
    assert "P(row-0 > 60 kW within 15 min) = " in decisions[0].counterfactual
    assert decisions[0].constraint == "row-0 power"


def test_iaas_is_not_touched_for_a_rise_that_is_far_away() -> None:
    power = 0.9 * 60_000
    far = make_forecast("power", "row-0", [power] * 10 + [power * 1.5] * 5)
    view = replace(at(0.9), forecasts=forecasts(far))
    assert kinds(view, clocks(decide(view))) == {"saas"}


def test_iaas_gives_in_few_servers() -> None:
    view = at(1.15)
    wanted = clocks(decide(view))
    iaas = [mhz for node, mhz in wanted.items() if kinds(view, {node: mhz}) == {"iaas"}]
    assert 1 <= len(iaas) < 4
    assert min(iaas) <= 1140


@pytest.mark.parametrize("share", [0.885, 0.90, 0.93])
def test_caps_in_force_hold_inside_the_band(share: float) -> None:
    """What the row would draw with its caps lies between release and tighten: nothing changes."""
    view = at(0.5)
    actions = capped(view, 1500.0)
    clock = np.where(view.index.saas, 1500.0, 1980.0)[view.index.gpu_server]
    view = replace(at(share), actions=actions, gpu_clock_mhz=clock)
    before = {action.node: 1500.0 for action in actions.values() if action.node.startswith("r0")}
    after = clocks(decide(view))
    assert after.keys() == before.keys()
    assert all(1500.0 <= mhz <= 1560.0 for mhz in after.values())


def test_caps_go_when_there_is_room() -> None:
    view = at(0.6)
    clock = np.where(view.index.saas, 1500.0, 1980.0)[view.index.gpu_server]
    assert clocks(decide(replace(view, actions=capped(view, 1500.0), gpu_clock_mhz=clock))) == {}


@pytest.mark.parametrize(
    ("pct", "waiting", "at_most_deep"), [(100.0, 0.0, True), (90.0, 0.0, False), (100.0, 50.0, False), (96.5, 0.0, False)]
)
def test_early_caps_spare_services_whose_slo_slips(pct: float, waiting: float, at_most_deep: bool) -> None:
    view = at(0.97)
    serving = view.index.saas
    view = replace(view, slo_ok_pct=np.where(serving, pct, np.nan), waiting=np.where(serving, waiting, np.nan))
    assert bool(clocks(decide(view))) == at_most_deep


def test_a_node_that_refuses_keeps_its_cap_and_others_save_in_its_place() -> None:
    view = at(0.97)
    target = "clock_cap/r0s0"
    actions = {target: capped(view, 1020.0)[target]}
    taken = decide(replace(view, actions=actions, outcomes={target: make_outcome(target, "applied")}))
    refused = decide(replace(view, actions=actions, outcomes={target: make_outcome(target, "refused")}))
    others = [node for node in clocks(refused) if node != "r0s0"]
    assert "r0s0" in clocks(refused)
    assert sum(1980 - clocks(refused)[n] for n in others) >= sum(1980 - clocks(taken).get(n, 1980) for n in others)


def test_stale_row_power_keeps_what_is_in_force_and_says_so() -> None:
    view = at(0.5)
    view = replace(view, actions=capped(view, 1200.0), row_age_s=np.array([60.0, 1.0]))
    decisions = decide(view)
    assert set(clocks(decisions).values()) == {1200.0}
    assert "row-0: row power is stale: caps in force stay" in reasons(decisions)


def test_silent_row_with_unknown_load_gets_the_static_safe_cap() -> None:
    dark: dict[str, Any] = {
        "row_age_s": np.array([500.0, 1.0]),
        "gpu_age_s": np.full(128, 500.0),
        "server_age_s": np.full(16, 500.0),
    }
    view = at(0.5, **dark)
    # 8 servers of 10.2 kW at their peak against 60 kW
    wanted = clocks(decide(view))
    assert kinds(view, wanted) == {"saas", "iaas"}
    assert set(clocks(decide(view, static_share=0.75)).values()) == {1485.0}
    lit = at(0.5, row_age_s=np.array([500.0, 1.0]))
    assert clocks(decide(lit)) == {}, "the load is known: no static cap"


def test_without_forecast_polcas_spike_is_assumed_and_said() -> None:
    view = at(0.85, forecasts=Forecasts())
    decisions = decide(view)
    assert kinds(view, clocks(decisions)) == {"saas"}
    assert reasons(decisions) == [f"row-{r}: no fresh forecast of its power: POLCA's spike is assumed" for r in range(2)]


def test_stuck_meter_is_not_believed_alone() -> None:
    view = at(0.4)  # 24 kW says the meter, its servers say 8 x 7.4 kW
    view = replace(view, server_power_w=np.full(16, 7_400.0))
    assert kinds(view, clocks(decide(view))) == {"saas"}


def test_lost_ups_lowers_the_limit() -> None:
    assert clocks(decide(at(0.8))) == {}
    assert clocks(decide(at(0.8, ups_lost=np.array([True, False])))) != {}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.2, 1.6), min_size=2, max_size=2), st.booleans(), st.floats(800, 1980), st.floats(0, 100))
def test_more_headroom_never_means_more_caps(shares: list[float], in_force: bool, clock: float, slo: float) -> None:
    """With all else equal, a lower row power never lowers any server's clock."""
    view = at(0.5, server_age_s=np.full(16, np.inf))  # nothing beside the meter that it could disagree with
    view = replace(view, slo_ok_pct=np.where(view.index.saas, slo, np.nan))
    if in_force:
        gpu_clock = np.where(view.index.saas, clock, 1980.0)[view.index.gpu_server]
        view = replace(view, actions=capped(view, clock), gpu_clock_mhz=gpu_clock)
    low, high = sorted(shares)
    roomy, tight = (clocks(decide(replace(view, row_power_w=view.index.row_limit_w * np.array([s, 0.3])))) for s in (low, high))
    assert all(roomy.get(server.name, 1980.0) >= tight.get(server.name, 1980.0) - 1e-6 for server in view.topology.servers)


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 2e6), st.floats(0, 5e5), st.floats(0, 1e5))
def test_band_never_needs_less_when_more_is_drawn(demand: float, in_force: float, more: float) -> None:
    band = Band(tighten=0.99, goal=0.97, release=0.95)
    assert band.need(demand + more, in_force, 4e5) >= band.need(demand, in_force, 4e5) - 1e-6


def test_a_band_that_would_flutter_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"release 0\.9 <= goal 0\.8 <= tighten 1\.0 does not hold"):
        msgspec.convert({"early": {"tighten": 1.0, "goal": 0.8, "release": 0.9}}, CapsSettings)
