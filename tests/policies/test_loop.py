"""Guard, policies and arbiter in a closed loop with known physics: limits hold, IaaS is spared, nothing flutters."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from contracts.ports import Policy
from contracts.view import View
from policies.alerts import Alerts
from policies.caps import Caps
from policies.emergency import Emergency
from policies.routing import Routing
from policies.thermal import Thermal
from tests.factories import make_topology, make_view
from tests.policies.loop import Loop, make_loop


def everybody() -> list[Policy]:
    return [Caps(), Thermal(), Routing(), Emergency(), Alerts()]


def site(demand_share: float, gpu_w: float, inlet_c: float = 25.0, air_share: float = 0.9) -> View:
    """Two rows of 12 that would draw `demand_share` of their limit without caps, in an aisle drawing `air_share` of its air."""
    topology = make_topology(12, 2, row_limit_w=12 * (3_200 + 7_000 * gpu_w / 700) / demand_share)
    supply = 24 * (450 + 655 * gpu_w / 700) / air_share
    aisles = tuple(msgspec.structs.replace(a, airflow_limit_cfm=supply) for a in topology.aisles)
    return make_view(msgspec.structs.replace(topology, aisles=aisles), inlet_c=np.full(24, inlet_c))


def run(loop: Loop, rounds: int = 80) -> Loop:
    for _ in range(rounds):
        loop.round()
    return loop


@pytest.mark.parametrize("demand", [0.6, 0.8])
def test_below_the_limit_nothing_is_capped(demand: float) -> None:
    loop = run(make_loop(base=site(demand, 550.0), policies=everybody(), guarded=False), 20)
    assert (loop.clock == 1980.0).all()


@pytest.mark.parametrize("demand", [1.0, 1.08])
def test_saas_alone_keeps_rows_below_their_limits(demand: float) -> None:
    loop = run(make_loop(base=site(demand, 550.0), policies=everybody(), noise=0.02))
    late = np.array(loop.row_share[10:])
    assert late.max() <= 1.0
    assert loop.iaas_capped_s == 0.0
    assert max(loop.issued.values()) <= 4, "caps settle"


def test_iaas_gives_when_saas_is_exhausted() -> None:
    loop = run(make_loop(base=site(1.25, 550.0), policies=everybody()))
    late = np.array(loop.row_share[30:])
    assert late.max() <= 1.0
    assert loop.iaas_capped_s > 0.0
    saas = loop.clock[loop.base.index.saas]
    assert (saas <= 800.0).all()


def test_guard_alone_brings_an_overload_down() -> None:
    loop = run(make_loop(base=site(1.1, 550.0), policies=[]))
    assert np.array(loop.row_share[5:]).max() <= 1.0
    assert loop.iaas_capped_s == 0.0


def test_lost_ahu_is_answered_by_saas_and_ends_in_stages() -> None:
    loop = make_loop(base=site(0.85, 650.0, inlet_c=47.0, air_share=1.05), policies=everybody(), gpu_w=650.0)
    run(loop, 10)
    loop.base = replace(loop.base, ahu_lost=np.array([True, False]))
    run(loop, 60)
    assert max(loop.hottest) < 87.0
    assert loop.iaas_capped_s == 0.0
    assert any("Airflow" in target for target in loop.alerts)
    capped = int((loop.clock < 1980.0).sum())
    assert capped == 12
    loop.base = replace(
        loop.base,
        ahu_lost=np.array([False, False]),
        inlet_c=np.full(24, 25.0),
    )
    loop.gpu_w = 300.0
    counts = []
    for _ in range(40):
        loop.round()
        counts.append(int((loop.clock < 1980.0).sum()))
    assert counts[-1] == 0
    assert max(-np.diff([capped, *counts])) < capped, "not all in one round"


def test_without_control_the_same_site_overheats_or_overloads() -> None:
    loop = run(make_loop(base=site(1.08, 550.0), policies=[], guarded=False), 10)
    assert np.array(loop.row_share[1:]).min() > 1.0
