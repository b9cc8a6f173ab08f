"""TAPAS's curves: what settles, what an offset may forgive and what not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import fleet as fleets
from twin.validate import tapas
from twin.validate.agreement import Check
from twin.validate.settled import average, servers, settle

ONE = np.zeros(1, dtype=np.int64)


@pytest.mark.parametrize("check", [tapas.inlet, tapas.gpu, tapas.a100])
def test_the_curves_agree(check: Check) -> None:
    found = check(None)
    assert [each.name for each in found if each.outcome == "off"] == []
    assert any(each.ok for each in found)


@given(st.lists(st.floats(-50.0, 50.0), min_size=3, max_size=15), st.floats(-30.0, 30.0))
def test_an_offset_is_forgiven_and_no_more(line: list[float], by: float) -> None:
    published = np.array(line)
    mae, offset = tapas._off(published + by, published)
    assert mae == pytest.approx(0.0, abs=1e-9)
    assert offset == pytest.approx(-by, abs=1e-9)
    bent = published.copy()
    bent[0] += 3.0
    assert tapas._off(bent, published)[0] == pytest.approx(3.0 / len(line))


def test_a_settled_server_obeys_its_resistance_and_its_fans() -> None:
    u = average("h100")
    watts = np.full((1, 8), 600.0)
    came = settle(u, ONE, np.array([24.0]), watts, drawn=True)
    duty = came.duty[0]
    hottest_c = came.gpu_c.max()
    wanted = u.fan_hot_duty[0] + u.fan_per_k[0] * (hottest_c - u.fan_hot_c[0])
    assert duty == pytest.approx(wanted, abs=0.04)  # whole percents, and a dead band of two
    air_c = u.air_offset_c[0] + u.air_slope[0] * 24.0 + u.position_k_per_w[0] * 4800.0
    r = u.r_die[0] + u.r_sink[0] / (0.25 + 0.75 * duty)
    assert came.gpu_c[0] == pytest.approx(air_c + 600.0 * r, abs=0.05)
    wall_w = (4800.0 + u.overhead_w[0] + u.fans_w[0] * duty**3) / u.psu_share[0]
    assert came.server_w[0] == pytest.approx(wall_w)


@settings(max_examples=20, deadline=None)
@given(inlet_c=st.floats(10.0, 45.0), watts=st.floats(50.0, 700.0), more=st.floats(20.0, 200.0))
def test_more_power_is_never_cooler(inlet_c: float, watts: float, more: float) -> None:
    u = average("a100")
    two = np.array([[watts] * 8, [watts + more] * 8])
    came = settle(u, np.zeros(2, dtype=np.int64), np.full(2, inlet_c), two, drawn=True)
    assert (came.gpu_c[1] > came.gpu_c[0]).all()


def test_a_copy_of_a_drawn_server_is_that_server() -> None:
    u = fleets.units(fleets.build(servers("a100", 1, 3), 5))
    watts = np.full((4, 8), 300.0)
    came = settle(u, np.array([2, 0, 1, 2]), np.full(4, 25.0), watts)
    assert came.gpu_c[0].tolist() == came.gpu_c[3].tolist()
    assert came.gpu_c[0].tolist() != came.gpu_c[1].tolist()
    r = settle(u, np.array([2]), np.array([25.0]), watts[:1])
    assert r.gpu_c[0].tolist() == came.gpu_c[0].tolist()
