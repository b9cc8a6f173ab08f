from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies import morris
from studies.morris import Effect, Floats
from tests.studies.functions import ishigami

NAMES = ("x1", "x2", "x3")


def studied(function: Callable[[Floats], float], parameters: int, count: int, seed: int = 1) -> dict[str, Effect]:
    """Effects of a function of quantiles."""
    quantiles = morris.trajectories(parameters, count, seed)
    results = np.apply_along_axis(function, 2, quantiles)
    names = tuple(f"x{k + 1}" for k in range(parameters))
    return {e.name: e for e in morris.effects(names, morris.elementary(quantiles, results), seed)}


def ishigami_of(quantiles: Floats) -> float:
    return ishigami(dict(zip(NAMES, (2 * quantiles - 1) * np.pi, strict=True)))


def exact(k: int) -> tuple[float, float, float]:
    """mu, mu_star, sigma of Ishigami's k-th parameter over the whole grid of levels."""
    levels = (np.arange(morris.LEVELS) + 0.5) / morris.LEVELS
    found = []
    for point in product(levels, repeat=3):
        if point[k] < 0.5:
            up = np.array(point)
            up[k] += 0.5
            found.append((ishigami_of(up) - ishigami_of(np.array(point))) / 0.5)
    return float(np.mean(found)), float(np.mean(np.abs(found))), float(np.std(found))


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 1000))
def test_a_trajectory_moves_each_parameter_once_by_half(parameters: int, count: int, seed: int) -> None:
    quantiles = morris.trajectories(parameters, count, seed)
    assert quantiles.shape == (count, parameters + 1, parameters)
    assert quantiles.min() > 0
    assert quantiles.max() < 1
    step = np.abs(np.diff(quantiles, axis=1))
    assert np.array_equal(np.sort(step, axis=2)[:, :, -1], np.full((count, parameters), 0.5))
    assert np.array_equal(step.sum(axis=2), np.full((count, parameters), 0.5))
    assert np.array_equal(step.sum(axis=1), np.full((count, parameters), 0.5))


def test_all_levels_are_met_equally_often() -> None:
    levels = np.floor(morris.trajectories(5, 800, 3) * morris.LEVELS).astype(int)
    counts = np.bincount(levels.ravel(), minlength=morris.LEVELS)
    assert counts == pytest.approx(np.full(morris.LEVELS, counts.mean()), rel=0.1)


@given(st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=6), st.integers(0, 99))
def test_a_linear_functions_effects_are_its_coefficients(coefficients: list[float], seed: int) -> None:
    effects = studied(lambda q: float(np.dot(q, coefficients)), len(coefficients), 4, seed)
    for k, coefficient in enumerate(coefficients):
        effect = effects[f"x{k + 1}"]
        assert effect.mu == pytest.approx(coefficient, abs=1e-9)
        assert effect.mu_star == pytest.approx(abs(coefficient), abs=1e-9)
        assert effect.mu_star_low == pytest.approx(abs(coefficient), abs=1e-9)
        assert effect.mu_star_high == pytest.approx(abs(coefficient), abs=1e-9)
        assert effect.sigma == pytest.approx(0.0, abs=1e-9)
        assert effect.count == 4
    assert [e.mu_star for e in effects.values()] == sorted((e.mu_star for e in effects.values()), reverse=True)


def test_dead_parameters_have_no_effect_and_bent_ones_have_sigma() -> None:
    effects = studied(lambda q: float(3.0 * q[0] + 4.0 * q[2] ** 2), 4, 30)
    assert list(effects)[:2] == ["x3", "x1"]
    assert effects["x2"].mu_star == effects["x4"].mu_star == 0.0
    assert effects["x1"].sigma == pytest.approx(0.0, abs=1e-9)
    assert effects["x3"].sigma is not None
    assert effects["x3"].sigma > 0.5
    assert effects["x3"].mu == pytest.approx(4.0, rel=0.2)


def test_ishigamis_effects_are_those_of_the_whole_grid() -> None:
    effects = studied(ishigami_of, 3, 3000)
    for k, name in enumerate(NAMES):
        mu, mu_star, sigma = exact(k)
        effect = effects[name]
        assert effect.mu_star_low <= mu_star <= effect.mu_star_high
        assert effect.mu == pytest.approx(mu, abs=0.1 * sigma)
        assert effect.sigma == pytest.approx(sigma, rel=0.05)
    # x2 and x3 cancel over their ranges: only the absolutes show them
    assert abs(effects["x3"].mu) < 0.1 * effects["x3"].mu_star
    assert effects["x2"].mu_star > 0


def test_the_interval_covers_the_true_mu_star_about_as_often_as_it_says() -> None:
    true = exact(0)[1]
    covered = [e.mu_star_low <= true <= e.mu_star_high for e in (studied(ishigami_of, 3, 25, s)["x1"] for s in range(100))]
    assert 0.85 <= np.mean(covered) <= 1.0


def test_what_could_not_be_evaluated_costs_only_its_own_effects() -> None:
    quantiles = morris.trajectories(2, 3, 1)
    results = quantiles @ np.array([1.0, 2.0])
    results[1, 0] = np.nan
    effects = morris.effects(("a", "b"), morris.elementary(quantiles, results), 1)
    assert sorted(e.count for e in effects) == [2, 3]
    assert {e.name: e.mu for e in effects} == pytest.approx({"a": 1.0, "b": 2.0})
    results[:] = np.nan
    assert morris.effects(("a", "b"), morris.elementary(quantiles, results), 1) == ()


def test_one_effect_has_no_sigma() -> None:
    assert studied(lambda q: float(q[0]), 1, 1)["x1"].sigma is None
