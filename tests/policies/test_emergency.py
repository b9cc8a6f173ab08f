from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from contracts.control import Weights
from contracts.view import View
from policies.decisions import EMERGENCY
from policies.emergency import Emergency
from tests.factories import make_topology, make_view
from tests.policies.values import capped, clocks, kinds, reasons


def at(row_share: float = 0.9, air_share: float = 0.98, rows: int = 2, **changes: Any) -> View:
    """Rows at `row_share` of their limits, aisles at `air_share` of their supply."""
    topology = make_topology(rows=rows)
    air = 4 * 2 * 775.0
    aisles = tuple(msgspec.structs.replace(a, airflow_limit_cfm=air / air_share) for a in topology.aisles)
    view = make_view(msgspec.structs.replace(topology, aisles=aisles))
    power = view.index.row_limit_w * row_share
    each = power[view.index.server_row] / 4
    given = {
        "row_power_w": power,
        "row_power_max_w": power,
        "server_power_w": each,
        "aisle_airflow_cfm": np.full(len(aisles), air),
    }
    return replace(view, **{**given, **changes})


def decide(view: View) -> Any:
    return list(Emergency().decide(view))


def lost(n: int, first: int = 1) -> Any:
    return np.array([i < first for i in range(n)])


def test_nothing_lost_is_one_reason() -> None:
    assert reasons(decide(at())) == ["no AHU and no UPS is lost"]


def test_lost_ahu_lowers_the_aisles_saas_to_its_safe_clock_at_most() -> None:
    view = at(ahu_lost=lost(2))
    decisions = decide(view)
    wanted = clocks(decisions)
    assert kinds(view, wanted) == {"saas"}
    assert min(wanted.values()) >= 0.505 * 1980 - 1
    assert {d.priority for d in decisions} == {EMERGENCY}
    assert decisions[0].reason == "ahu-0a lost: aisle-0 airflow must fit what is left"


def test_lost_ahu_with_air_to_spare_changes_nothing() -> None:
    assert reasons(decide(at(air_share=0.7, ahu_lost=lost(2)))) == ["demand fits what the failure leaves"]


def test_lost_ups_brings_rows_within_what_is_left_iaas_last() -> None:
    view = at(0.75, ups_lost=lost(2))
    assert kinds(view, clocks(decide(view))) == {"saas"}
    view = at(0.92, ups_lost=lost(2))
    wanted = clocks(decide(view))
    assert kinds(view, wanted) == {"saas", "iaas"}
    saas = [mhz for node, mhz in wanted.items() if kinds(view, {node: mhz}) == {"saas"}]
    assert set(saas) == {800.0}, "SaaS gives all it has before IaaS is asked"


def test_unknown_row_power_counts_at_its_peak() -> None:
    dark = at(0.5, ups_lost=lost(2), row_age_s=np.full(2, 500.0))
    assert clocks(decide(at(0.5, ups_lost=lost(2)))) == {}
    assert clocks(decide(dark)) != {}


def test_only_the_aisle_of_the_lost_ahu_is_touched_and_load_is_steered_away() -> None:
    view = at(rows=4, ahu_lost=lost(4))
    decisions = decide(view)
    assert {node[:2] for node in clocks(decisions)} == {"r0", "r1"}
    (weights,) = [d.value for d in decisions if isinstance(d.value, Weights)]
    assert weights.shares["r0s0"] < weights.shares["r2s0"]


def test_caps_hold_while_the_failure_lasts_and_end_with_it() -> None:
    view = at(ahu_lost=lost(2))
    first = clocks(decide(view))
    gpu_clock = np.array([first.get(s.name, 1980.0) for s in view.topology.servers])
    share = np.asarray(0.25 + 0.75 * (gpu_clock / 1980.0) ** 1.05)
    actions = {
        target: msgspec.structs.replace(action, value=msgspec.structs.replace(action.value, max_mhz=first[action.node]))
        for target, action in capped(view, 1.0, policy="emergency").items()
        if action.node in first
    }
    air = float(view.aisle_airflow_cfm[0]) - float((400.0 * 8 * (1 - share) * 655.0 / 5600.0).sum())
    later = replace(
        view,
        actions=actions,
        gpu_clock_mhz=gpu_clock[view.index.gpu_server],
        gpu_power_w=np.asarray(400.0 * share)[view.index.gpu_server],
        aisle_airflow_cfm=np.array([air]),
    )
    assert clocks(decide(later)) == first
    assert clocks(decide(replace(later, ahu_lost=lost(2, 0)))) == {}
