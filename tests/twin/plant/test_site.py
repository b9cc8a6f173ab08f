from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import plant
from twin.plant import State, Supply, Units, air, cooling, fans

MakeUnits = Callable[..., Units]
MakeSupply = Callable[..., Supply]


def run(u: Units, s: State, supply: Supply, seconds: int, share: float = 0.8, dt_s: float = 1.0) -> None:
    load = share * u.tdp_w[:, None] * np.ones(u.r_die.shape)
    for _ in range(int(seconds / dt_s)):
        plant.step(u, s, load, 25.0, supply, dt_s)


def aisle_inlets(u: Units, s: State) -> list[float]:
    return [float((s.inlet_c - u.inlet_offset_c)[u.aisle == a].mean()) for a in range(len(s.rise_c))]


def test_power_has_its_factor_and_leakage_and_stays_below_tdp(make_units: MakeUnits, make_supply: MakeSupply) -> None:
    u = make_units(rows=1, per_row=1)._replace(power_factor=np.array([[1.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9]]))
    s = plant.state(u, 1, 1)
    s.die_c[0, :3] = 65.0, 65.0, 75.0
    s.down[0, 6] = True
    nominal = np.array([[500.0, 500.0, 500.0, 900.0, 0.0, 500.0, 500.0, 500.0]])
    plant.step(u, s, nominal, 20.0, make_supply(u), 2.0)
    leak_30 = 1.0 + u.leakage_per_k[0] * (30.0 - 65.0)
    expected = [550.0, 500.0, 510.0, 700.0, 0.0, 500.0 * leak_30, 0.0, 450.0 * leak_30]
    assert s.gpu_w[0].tolist() == pytest.approx(expected)
    assert s.energy_j[0].tolist() == pytest.approx([2.0 * w for w in expected])
    wall = (sum(expected) + u.overhead_w[0] + u.fans_w[0] * s.duty[0] ** 3) / u.psu_share[0]
    assert s.server_w[0] == pytest.approx(wall)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.sampled_from([1, 2, 8]))
def test_rows_and_aisles_are_the_sums_of_their_servers(
    make_units: MakeUnits, make_supply: MakeSupply, rows: int, per_row: int, gpus: int
) -> None:
    u = make_units(rows=rows, per_row=per_row, gpus=gpus)
    aisles = int(u.aisle.max()) + 1
    s = plant.state(u, rows, aisles)
    run(u, s, make_supply(u), 20)
    np.testing.assert_allclose(s.row_w, np.bincount(u.row, s.server_w, rows))
    np.testing.assert_allclose(s.airflow_cfm, np.bincount(u.aisle, s.duty * u.cfm_full, aisles))
    np.testing.assert_allclose(s.gpus_w, s.gpu_w.sum(axis=1))


@settings(deadline=None)
@given(st.floats(-30, 50), st.floats(-30, 50), st.floats(0, 1))
def test_inlets_rise_with_the_outside_and_stay_flat_above_29(a: float, b: float, load: float) -> None:
    low, high = sorted((a, b))
    assert air.inlet_base(low, load) <= air.inlet_base(high, load)
    assert air.inlet_base(29.0, load) == air.inlet_base(45.0, load) == pytest.approx(29.2 + 3.0 * load)
    assert air.inlet_base(-10.0, 0.0) == 18.0


def test_fans_rest_in_steady_state_and_stand_in_whole_percents(make_units: MakeUnits, make_supply: MakeSupply) -> None:
    u = make_units()
    s, supply = plant.state(u, 2, 1), make_supply(u)
    run(u, s, supply, 900)
    duty = s.duty.copy()
    run(u, s, supply, 300)
    assert s.duty.tolist() == duty.tolist()
    np.testing.assert_allclose(duty, np.round(duty, 2), atol=1e-12)
    wanted = [fans.law(u, i, float(s.die_c[i].max())) for i in range(len(duty))]
    np.testing.assert_allclose(duty, wanted, atol=fans.DEAD_BAND)
    assert duty.min() > u.idle_duty[0]


def test_settled_duty_is_the_fixed_point_of_the_fan_law(make_units: MakeUnits) -> None:
    u = make_units("a100")
    for watts in (50.0, 250.0, 400.0):
        duty = fans.settled_duty(u, 1, 2, 35.0, watts)
        die_c = 35.0 + watts * (u.r_die[1, 2] + u.r_sink[1, 2] / (0.25 + 0.75 * duty))
        assert duty == pytest.approx(u.fan_hot_duty[1] + u.fan_per_k[1] * (die_c - u.fan_hot_c[1]))


def test_a_lost_ahu_warms_its_aisle_with_the_lag_and_only_there(make_units: MakeUnits, make_supply: MakeSupply) -> None:
    u = make_units(rows=4)
    s, supply = plant.state(u, 4, 2), make_supply(u, air=0.72)
    run(u, s, supply, 900, share=0.7)
    before = aisle_inlets(u, s)
    assert s.rise_c.tolist() == [0.0, 0.0]
    supply.aisle_cfm[0] = 0.8 * s.airflow_cfm[0]
    run(u, s, supply, 60, share=0.7)
    after_60_s = s.rise_c[0]
    run(u, s, supply, 900, share=0.7)
    wanted = supply.recirculation[0, 0] * (s.airflow_cfm[0] / supply.aisle_cfm[0] - 1.0)
    assert s.rise_c[0] == pytest.approx(wanted, rel=0.01)
    assert 0.4 * s.rise_c[0] < after_60_s < 0.75 * s.rise_c[0]
    after = aisle_inlets(u, s)
    assert after[0] - before[0] == pytest.approx(s.rise_c[0], abs=0.1)
    assert after[1] - before[1] == pytest.approx(0.0, abs=0.1)
    supply.aisle_cfm[0] = 2.0 * supply.aisle_cfm[1]
    run(u, s, supply, 900, share=0.7)
    assert aisle_inlets(u, s) == pytest.approx(before, abs=0.1)


def test_the_matrix_says_whose_warm_air_comes_where(make_units: MakeUnits, make_supply: MakeSupply) -> None:
    u = make_units(rows=4)
    s, supply = plant.state(u, 4, 2), make_supply(u, air=0.72)
    supply.recirculation[:] = [[10.0, 0.0], [4.0, 10.0]]
    supply.aisle_cfm[0] *= 0.5
    run(u, s, supply, 2700, share=0.6)
    excess = s.airflow_cfm[0] / supply.aisle_cfm[0] - 1.0
    assert excess > 0.1
    assert s.rise_c.tolist() == pytest.approx([10.0 * excess, 4.0 * excess], rel=0.01)


@pytest.mark.parametrize("dt_s", [1.0, 5.0, 60.0, 300.0])
def test_the_aisle_loop_does_not_blow_up(make_units: MakeUnits, make_supply: MakeSupply, dt_s: float) -> None:
    """Warm air drives the fans, which draw more of it: the rise ends where the fans are at full speed."""
    u = make_units(rows=4)
    s, supply = plant.state(u, 4, 2), make_supply(u, air=0.3)
    supply.recirculation[:] = [[10.0, 6.0], [6.0, 10.0]]
    rises = []
    for _ in range(8):
        run(u, s, supply, 900, share=0.5, dt_s=dt_s)
        rises.append(float(s.rise_c.max()))
    assert rises[-1] == pytest.approx(rises[-2], abs=0.02)
    assert 0.0 < rises[-1] <= 16.0 * (1.0 / 0.3 - 1.0)
    supply.aisle_cfm[:] = 0.0
    run(u, s, supply, 3600, share=0.5, dt_s=dt_s)
    assert s.rise_c.tolist() == pytest.approx([16.0 * air.OVERDRAW_MOST] * 2, rel=0.01)
    assert np.isfinite(s.die_c).all()


def test_a_lost_cooling_device_warms_all_aisles_and_they_return(make_units: MakeUnits, make_supply: MakeSupply) -> None:
    u = make_units(rows=4)
    s, supply = plant.state(u, 4, 2), make_supply(u, air=2.0)
    run(u, s, supply, 600, share=0.6)
    before = aisle_inlets(u, s)
    supply.cooling_share[0] = 0.5
    run(u, s, supply, 300, share=0.6)
    warm = aisle_inlets(u, s)
    assert min(w - b for w, b in zip(warm, before, strict=True)) > 1.0
    assert warm[0] == pytest.approx(warm[1])
    supply.cooling_share[0] = 1.0
    run(u, s, supply, 3600, share=0.6)
    assert aisle_inlets(u, s) == pytest.approx(before, abs=0.1)
    assert s.supply_rise_c[0] >= 0.0


@pytest.mark.parametrize("dt_s", [1.0, 5.0, 60.0])
def test_full_loss_at_full_load_warms_as_slowly_as_the_slowest_closed_racks(
    make_units: MakeUnits, make_supply: MakeSupply, dt_s: float
) -> None:
    u = make_units(rows=2, per_row=4)
    supply = make_supply(u, capacity=1.0)
    s = plant.state(u, 2, 1)
    heat_w = float(supply.capacity_w[0])
    s.shares_lagged[1] = supply.chiller_share[0] = 0.0
    for _ in range(int(300 / dt_s)):
        cooling.supply_air(s, supply, heat_w, dt_s)
    assert 4.0 <= s.supply_rise_c[0] / 5.0 <= 10.0  # K/min, published 4 to 99


def test_the_chilled_water_holds_for_a_while_and_the_air_returns_by_its_spare_capacity(
    make_units: MakeUnits, make_supply: MakeSupply
) -> None:
    u = make_units(rows=2, per_row=4)
    supply, s = make_supply(u, capacity=1.0), plant.state(u, 2, 1)
    full_w = float(supply.capacity_w[0])
    supply.chiller_share[0] = 0.0
    cooling.supply_air(s, supply, 0.7 * full_w, 10.0)
    assert s.supply_rise_c[0] == 0.0
    for _ in range(60):
        cooling.supply_air(s, supply, 0.7 * full_w, 10.0)
    hot = float(s.supply_rise_c[0])
    assert hot > 10.0
    s.shares_lagged[1] = supply.chiller_share[0] = 1.0
    cooling.supply_air(s, supply, 0.99 * full_w, 60.0)
    assert s.supply_rise_c[0] == pytest.approx(hot - 0.01 * 60.0 / cooling.ROOM_J_PER_K_PER_W)
    cooling.supply_air(s, supply, 0.0, 1e6)
    assert s.supply_rise_c[0] == pytest.approx(0.0, abs=1e-9)


def test_no_cooling_for_long_stays_finite(make_units: MakeUnits, make_supply: MakeSupply) -> None:
    u = make_units()
    s, supply = plant.state(u, 2, 1), make_supply(u)
    supply.chiller_share[0] = 0.0
    run(u, s, supply, 7200, dt_s=5.0)
    assert s.down.all()
    assert s.supply_rise_c[0] == cooling.MOST_K
    assert s.gpu_w.max() == 0.0


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("die_j_per_k", -1.0, "die_j_per_k of server 2: must be positive"),
        ("row", 7, "row of server 2: must be 0 to 1"),
        ("shutdown_c", 80.0, "shutdown_c of server 2: must not be below slowdown_c"),
        ("idle_duty", 1.5, "idle_duty of server 2: must be at most 1"),
        ("tdp_w", float("nan"), "tdp_w: must be finite"),
    ],
)
def test_units_that_cannot_be_are_refused(make_units: MakeUnits, field: str, value: float, said: str) -> None:
    u = make_units()
    bad = getattr(u, field).copy()
    bad[2] = value
    with pytest.raises(ValueError, match=said):
        plant.state(u._replace(**{field: bad}), 2, 1)


def test_arrays_of_a_wrong_shape_are_refused(make_units: MakeUnits) -> None:
    u = make_units()
    with pytest.raises(ValueError, match="cfm_full: shape"):
        plant.state(u._replace(cfm_full=np.ones(3)), 2, 1)
