import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import calibration as c
from twin import physics, steady
from twin.fleet import build
from twin.scenario import load


@settings(max_examples=50, deadline=None)
@given(st.floats(20, 90), st.floats(20, 90), st.floats(15, 50), st.floats(0, 700), st.floats(0.33, 1.0), st.floats(0.7, 1.4))
def test_a_second_is_exact_and_conserves_energy(
    die: float, sink: float, air: float, watts: float, duty: float, r: float
) -> None:
    r_die, r_sink = c.DIE_K_PER_W * r, physics.sink_resistance(duty) * r
    after_die, after_sink = physics.two_nodes(die, sink, air, watts, r_die, r_sink)
    d, s, out_j, steps = die, sink, 0.0, 2_000
    for _ in range(steps):  # explicit midpoint with 0.5 ms steps
        flow_w, out_w = (d - s) / r_die, (s - air) / r_sink
        half_d = d + (watts - flow_w) / c.DIE_J_PER_K * 0.5 / steps
        half_s = s + (flow_w - out_w) / c.SINK_J_PER_K * 0.5 / steps
        flow_w, out_w = (half_d - half_s) / r_die, (half_s - air) / r_sink
        d += (watts - flow_w) / c.DIE_J_PER_K / steps
        s += (flow_w - out_w) / c.SINK_J_PER_K / steps
        out_j += out_w / steps
    assert (after_die, after_sink) == pytest.approx((d, s), abs=1e-4)
    stored_j = c.DIE_J_PER_K * (after_die - die) + c.SINK_J_PER_K * (after_sink - sink)
    assert watts == pytest.approx(stored_j + out_j, abs=0.05)


def test_it_settles_on_the_papers_line() -> None:
    """T = 2.6 + .96 inlet + .053 P at 80 % fan duty (TAPAS Fig. 7), position apart."""
    die = sink = 30.0
    r_sink = physics.sink_resistance(0.8)
    for _ in range(600):
        air = physics.air_at(25.0, 0, 0.0)
        die, sink = physics.two_nodes(die, sink, air, 640.0, c.DIE_K_PER_W, r_sink)
    assert die == pytest.approx(2.6 + 0.96 * 25.0 + 0.053 * 640.0, abs=0.1)


@pytest.mark.parametrize(("mhz", "share"), [(800, 0.55), (1000, 0.60), (1200, 0.66), (1400, 0.78), (1600, 0.90), (1980, 1.0)])
def test_power_follows_the_clock_as_profiled(mhz: float, share: float) -> None:
    assert physics.clock_power(mhz) == pytest.approx(share, rel=0.09)  # the fit's own error


def test_decode_and_prefill_draw_what_was_measured() -> None:
    assert physics.saas_power(0.0, 1.0, 64 / (64 + 137.0), c.MAX_MHZ) == pytest.approx(420 + 250 * 64 / 201)
    assert physics.saas_power(1.0, 0.0, 0.0, c.MAX_MHZ) == pytest.approx(c.TDP_W)
    assert physics.saas_power(0.0, 0.0, 0.0, c.MAX_MHZ) == pytest.approx(c.LOADED_W)
    assert physics.server_power(8 * c.TDP_W, 1.0) <= 10_200.0


@settings(deadline=None)
@given(st.floats(-30, 50), st.floats(-30, 50), st.floats(0, 1))
def test_inlets_rise_with_the_outside_and_stay_flat_above_29(a: float, b: float, load: float) -> None:
    low, high = sorted((a, b))
    assert physics.inlet_base(low, load) <= physics.inlet_base(high, load)
    assert physics.inlet_base(29.0, load) == physics.inlet_base(45.0, load)
    assert physics.inlet_base(-10.0, 0.0) == 18.0


def test_slowdown_has_a_hysteresis_and_shutdown_is_for_good() -> None:
    s = physics.state(1, 1, 1)
    seen = []
    for temp in (86.9, 87.0, 80.0, 77.5, 77.0, 86.9, 92.0, 30.0):
        s.die_c[0, 0] = temp
        physics._protect(s, 0, 0)
        seen.append(bool(s.slow[0, 0]))
    assert seen == [False, True, True, True, False, False, True, False]
    assert s.down[0, 0]
    physics.clocks(s, np.full((1, 8), np.inf))
    assert s.clock_mhz[0].tolist() == [0.0] + [c.MAX_MHZ] * 7


def test_the_lowest_of_cap_and_slowdown_is_in_force() -> None:
    s = physics.state(1, 1, 1)
    s.slow[0, :2] = True
    caps = np.full((1, 8), np.inf)
    caps[0, 1:3] = 800.0
    physics.clocks(s, caps)
    assert s.clock_mhz[0, :4].tolist() == [c.SLOWDOWN_MHZ, 800.0, 800.0, c.MAX_MHZ]


def test_too_little_air_warms_the_aisle_with_its_lag() -> None:
    fleet = build(load("normal", servers_per_row=4, endpoints=2, row_limit_w=3e4, aisle_limit_cfm=5e3), 1)
    units = steady.units(fleet)
    s = physics.state(8, 2, 1)
    idle = np.zeros(len(fleet.instance_server))
    rises = []
    for _ in range(600):
        physics.second(units, s, idle, idle, idle, np.where(fleet.customer >= 0, 1.0, 0.0), 35.0, np.array([4000.0]))
        rises.append(float(s.rise_c[0]))
    assert s.airflow_cfm[0] > 4000.0
    assert rises == sorted(rises)
    assert rises[-1] == pytest.approx(10.0 * (s.airflow_cfm[0] / 4000.0 - 1.0), rel=0.02)
    assert rises[59] < 0.75 * rises[-1]
