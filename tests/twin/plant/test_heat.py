from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from twin import hardware, plant
from twin.compiled import kernel
from twin.plant import State, Supply, Units, heat

DT_S = [1.0, 5.0, 60.0, 300.0]


def exact(node: tuple[float, float, float, float], dt_s: float, start: list[float]) -> np.ndarray:
    """(die, sink, heat given to the air) after dt, by the matrix exponential; start = die, sink, 0, air, power."""
    die_j, sink_j, r_die, r_air = node
    rates = np.zeros((5, 5))
    rates[0, [0, 1, 4]] = np.array([-1.0, 1.0, r_die]) / (die_j * r_die)
    rates[1, 0] = 1.0 / (sink_j * r_die)
    rates[1, 1] = -(1.0 / r_die + 1.0 / r_air) / sink_j
    rates[1, 3] = 1.0 / (sink_j * r_air)
    rates[2, [1, 3]] = np.array([1.0, -1.0]) / r_air
    return np.asarray(expm(rates * dt_s) @ np.array(start))[:3]


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.floats(20, 2000), st.floats(100, 20_000), st.floats(0.002, 0.3), st.floats(0.005, 0.5)),
    st.floats(0.05, 600),
    st.tuples(st.floats(0, 110), st.floats(0, 110), st.just(0.0), st.floats(0, 60), st.floats(0, 1200)),
)
def test_a_step_is_the_matrix_exponential(
    node: tuple[float, float, float, float], dt_s: float, start: tuple[float, ...]
) -> None:
    die, sink, _, air, watts = start
    by_die, by_sink, by_w, sink_die, sink_sink, sink_w = heat.propagator(*node, dt_s)
    after = (
        air + by_die * (die - air) + by_sink * (sink - air) + by_w * watts,
        air + sink_die * (die - air) + sink_sink * (sink - air) + sink_w * watts,
    )
    assert after == pytest.approx(exact(node, dt_s, list(start))[:2].tolist(), rel=1e-9, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["h100", "a100"]),
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0.5, *DT_S]), st.one_of(st.none(), st.floats(0.33, 1))),
        min_size=1,
        max_size=8,
    ),
)
def test_electric_energy_is_heat_given_to_the_air_and_heat_stored(
    make_units: Callable[..., Units],
    make_supply: Callable[..., Supply],
    kind: str,
    steps: list[tuple[float, float, float | None]],
) -> None:
    u = make_units(kind, rows=1, per_row=2, gpus=2)
    supply, s = make_supply(u), plant.state(u, 1, 1)
    capacities = u.die_j_per_k[:, None], u.sink_j_per_k[:, None]
    cold_j = capacities[0] * s.die_c + capacities[1] * s.sink_c
    out_j = np.zeros_like(s.die_c)
    for load, dt_s, forced_duty in steps:
        if forced_duty is not None:
            s.duty[:] = forced_duty
        before = s.die_c.copy(), s.sink_c.copy()
        plant.step(u, s, np.full(s.die_c.shape, load * u.tdp_w[0]), 25.0, supply, dt_s)
        for i, g in product(range(2), range(2)):
            r_air = heat.sink_to_air(u.r_sink[i, g], s.duty[i])
            node = (u.die_j_per_k[i], u.sink_j_per_k[i], u.r_die[i, g], r_air)
            start = [before[0][i, g], before[1][i, g], 0.0, s.air_c[i, g], s.gpu_w[i, g]]
            out_j[i, g] += exact(node, dt_s, start)[2]
    stored_j = capacities[0] * s.die_c + capacities[1] * s.sink_c - cold_j
    np.testing.assert_allclose(s.energy_j, out_j + stored_j, rtol=1e-9, atol=1e-6)
    assert s.energy_j.sum() == pytest.approx((out_j + stored_j).sum(), rel=1e-9, abs=1e-6)


def test_it_settles_on_the_papers_line() -> None:
    """.053 K/W at 80 % fan duty (TAPAS Fig. 7), position apart."""
    of = hardware.load("h100").heat
    r_air = heat.sink_to_air(of.sink_k_per_w, 0.8)
    die_w = heat.propagator(of.die_j_per_k, of.sink_j_per_k, of.die_k_per_w, r_air, 3600.0)[heat.DIE_W]
    assert die_w == pytest.approx(0.053, abs=2e-4)


@pytest.mark.parametrize("kind", ["h100", "a100"])
@pytest.mark.parametrize("dt_s", DT_S)
def test_any_step_settles_without_swinging_where_steps_of_a_second_do(
    make_units: Callable[..., Units], make_supply: Callable[..., Supply], kind: str, dt_s: float
) -> None:
    u = make_units(kind, seed=3)
    supply, s, fine = make_supply(u), plant.state(u, 2, 1), plant.state(u, 2, 1)
    load = 0.85 * u.tdp_w[:, None] * np.ones(8)
    hottest_c = []
    for _ in range(max(8, int(1200 / dt_s))):
        plant.step(u, s, load, 24.0, supply, dt_s)
        hottest_c.append(s.die_c.max())
    for _ in range(1200):
        plant.step(u, fine, load, 24.0, supply, 1.0)
    tail = hottest_c[-4:]
    assert max(tail) - min(tail) < 0.1
    assert not s.down.any()
    np.testing.assert_allclose(s.die_c, fine.die_c, atol=1.5)  # two dead bands of the fans
    np.testing.assert_allclose(s.duty, fine.duty, atol=0.041)


@pytest.mark.parametrize("dt_s", [60.0, 300.0])
def test_a_long_step_into_full_load_does_not_leave_the_fans_behind(
    make_units: Callable[..., Units], make_supply: Callable[..., Supply], dt_s: float
) -> None:
    """Explicit fans would hold idle duty through the whole step and so shut GPUs down."""
    u = make_units("h100", rows=2, per_row=20)
    supply = make_supply(u, air=1.0)
    load = 0.9 * u.tdp_w[:, None] * np.ones(8)
    s, fine = plant.state(u, 2, 1), plant.state(u, 2, 1)
    hottest_c = 0.0
    for _ in range(300):
        plant.step(u, fine, load, 20.0, supply, 1.0)
        hottest_c = max(hottest_c, float(fine.die_c.max()))
    for _ in range(int(300 / dt_s)):
        plant.step(u, s, load, 20.0, supply, dt_s)
        assert s.die_c.max() < hottest_c + 1.0
    assert not s.down.any()


def noisy_load(u: Units, seconds: int) -> np.ndarray:
    """[seconds, S, G] W: levels that last for minutes, with noise in every second."""
    rng = np.random.default_rng(5)
    levels = np.repeat(rng.uniform(0.2, 0.9, (seconds // 240, len(u.row), 1)), 240, axis=0)
    noise = rng.normal(0.0, 0.15, (seconds, len(u.row), 1))
    return np.asarray(np.clip(levels + noise, 0.15, 1.0) * u.tdp_w[:, None] * np.ones(8))


def hour(u: Units, supply: Supply, load: np.ndarray, dt_s: int) -> tuple[float, float, float]:
    """Energy (J) and mean die and inlet temperature of an hour in steps of dt."""
    s = plant.state(u, 2, 1)
    dies, inlets = [], []
    for k in range(0, len(load), dt_s):
        plant.step(u, s, load[k : k + dt_s].mean(axis=0), 28.0, supply, float(dt_s))
        dies.append(s.die_c.mean())
        inlets.append(s.inlet_c.mean())
    return float(s.energy_j.sum()), float(np.mean(dies)), float(np.mean(inlets))


@pytest.mark.parametrize("kind", ["h100", "a100"])
def test_steps_of_1_s_and_5_s_agree(make_units: Callable[..., Units], make_supply: Callable[..., Supply], kind: str) -> None:
    u = make_units(kind)
    supply, load = make_supply(u, air=0.5), noisy_load(u, 3600)
    assert hour(u, supply, load, 5) == pytest.approx(hour(u, supply, load, 1), rel=0.01)


def test_a_rerun_is_bit_equal(make_units: Callable[..., Units], make_supply: Callable[..., Supply]) -> None:
    u = make_units()
    load = noisy_load(u, 240)

    def run() -> bytes:
        s = plant.state(u, 2, 1)
        for k in range(240):
            plant.step(u, s, load[k], 28.0, make_supply(u), 1.0)
        return b"".join(values.tobytes() for values in s)

    assert run() == run()


def test_many_seconds_in_one_kernel_are_the_same_seconds(
    make_units: Callable[..., Units], make_supply: Callable[..., Supply]
) -> None:
    u = make_units()
    load = noisy_load(u, 240)
    supply, one, fused = make_supply(u), plant.state(u, 2, 1), plant.state(u, 2, 1)
    for k in range(240):
        plant.step(u, one, load[k], 28.0, supply, 1.0)
    many_seconds(u, fused, load, supply)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, fused, strict=True))


@kernel
def many_seconds(u: Units, s: State, load: np.ndarray, supply: Supply) -> None:
    for k in range(len(load)):
        plant.step(u, s, load[k], 28.0, supply, 1.0)


def test_coefficients_follow_a_duty_or_a_step_length_set_from_outside(
    make_units: Callable[..., Units], make_supply: Callable[..., Supply]
) -> None:
    u = make_units(rows=1, per_row=2)
    s = plant.state(u, 1, 1)
    for duty, dt_s in ((0.5, 1.0), (0.9, 1.0), (0.9, 2.0)):
        s.duty[1] = duty
        s.fan_wait_s[:] = 0.0
        plant.step(u, s, np.full((2, 8), 400.0), 20.0, make_supply(u), dt_s)
        r_air = heat.sink_to_air(u.r_sink[1, 3], duty)
        expected = heat.propagator(u.die_j_per_k[1], u.sink_j_per_k[1], u.r_die[1, 3], r_air, dt_s)
        assert tuple(s.coef[:, 1, 3]) == expected
