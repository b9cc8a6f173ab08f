import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from forecast.tail import FEWEST_PEAKS, SHAPES, TAIL_SHARE, gaussian_maximum, gpd, law, peaks

Floats = NDArray[np.float64]
BEYOND = np.array([0.5, 0.1, 0.02, 0.01, 0.001, 0.0001])


def pareto(xi: float, sigma: float, count: int, seed: int = 0) -> Floats:
    u = np.random.default_rng(seed).random(count)
    return -sigma * np.log(u) if xi == 0 else sigma * np.expm1(-xi * np.log(u)) / xi


@pytest.mark.parametrize("xi", [-0.2, 0.0, 0.2])
def test_a_pareto_sample_gives_its_shape_and_scale(xi: float) -> None:
    found, sigma = gpd(pareto(xi, 3.0, 20_000))
    assert found == pytest.approx(xi, abs=0.04)
    assert sigma == pytest.approx(3.0, rel=0.05)


def test_a_shape_beyond_the_bounds_is_drawn_to_them_and_keeps_the_mean() -> None:
    excess = pareto(0.6, 1.0, 5_000)
    xi, sigma = gpd(excess)
    assert xi == SHAPES[1]
    assert sigma / (1 - xi) == pytest.approx(excess.mean())


def test_few_peaks_make_an_exponential_tail() -> None:
    excess = pareto(0.3, 2.0, FEWEST_PEAKS - 1)
    xi, sigma = gpd(excess)
    assert xi == 0.0
    assert sigma == pytest.approx(excess.mean())
    assert gpd(np.zeros(0)) == (0.0, 0.0)


def test_peaks_near_each_other_are_one() -> None:
    sample = np.zeros(100)
    sample[[10, 11, 14, 40, 99]] = [2, 5, 3, 4, 1]
    assert peaks(sample, 0.5, 6).tolist() == [5, 4, 1]
    assert peaks(sample, 0.5, 1).tolist() == [5, 3, 4, 1]
    assert peaks(sample, 9.0, 6).size == 0


def test_a_gap_is_neither_a_peak_nor_its_end() -> None:
    sample = np.array([0, 3.0, np.nan, 4.0, 0, 0, 0, 2.0])
    assert peaks(sample, 1.0, 3).tolist() == [4, 2]


def test_the_far_quantiles_of_a_normal_are_met() -> None:
    found = law([np.random.default_rng(s).normal(0, 1, 25_000) for s in range(4)], apart=1)
    assert found.quantile(np.array([0.5, 0.02, 0.001, 0.0001])) == pytest.approx([0.0, 2.054, 3.090, 3.719], abs=0.12)
    assert found.points == 100_000
    assert found.peaks == pytest.approx(100_000 * TAIL_SHARE, rel=0.05)


@given(
    sample=arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6) | st.just(np.nan)), apart=st.integers(1, 10)
)
@settings(deadline=None)
def test_quantiles_rise_and_probabilities_fall_whatever_the_sample(sample: Floats, apart: int) -> None:
    if np.isnan(sample).all():
        with pytest.raises(ValueError, match="nothing"):
            law([sample], apart=apart)
        return
    found = law([sample], apart=apart)
    quantiles = found.quantile(BEYOND)
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles) >= 0).all()
    x = np.sort(np.concatenate([quantiles, [-2e6, 0.0, 2e6, 1e30]]))
    beyond = found.beyond(x)
    assert (np.diff(beyond) <= 0).all()
    assert ((beyond >= 0) & (beyond <= 1)).all()


@given(seed=st.integers(0, 1000), xi=st.floats(-0.25, 0.25))
@settings(deadline=None, max_examples=30)
def test_quantile_and_probability_are_each_others_inverse(seed: int, xi: float) -> None:
    found = law([pareto(xi, 5.0, 2_000, seed)], apart=1)
    assert found.beyond(found.quantile(BEYOND)) == pytest.approx(BEYOND, rel=1e-6)


def test_a_sample_that_never_changes_has_no_tail() -> None:
    found = law([np.full(50, 7.0)], apart=1)
    assert found.quantile(BEYOND).tolist() == [7.0] * len(BEYOND)
    assert found.beyond(np.array([6.9, 7.0, 7.1])).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("count", [1, 5, 150])
def test_what_is_assumed_at_first_is_the_maximum_of_gaussian_samples(count: int) -> None:
    drawn = np.random.default_rng(count).normal(0, 1, (20_000, count)).max(axis=1)
    assumed = gaussian_maximum(count, 1.0)
    assert assumed.quantile(np.array([0.5, 0.1, 0.01])) == pytest.approx(np.quantile(drawn, [0.5, 0.9, 0.99]), abs=0.08)
    assert assumed.points == 0
    assert gaussian_maximum(count, 2.0).quantile(BEYOND) == pytest.approx(2 * assumed.quantile(BEYOND))
