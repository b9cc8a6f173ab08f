import numpy as np
import pytest

from forecast.grids import Floats
from forecast.intervals import mean, mean_ratio


def test_the_figure_is_the_mean_over_series_over_the_mean_over_series() -> None:
    top, bottom = [np.array([1.0, 3.0]), np.array([10.0, np.nan])], [np.array([4.0, 4.0]), np.array([4.0, 100.0])]
    found = mean_ratio(top, bottom, 1)
    assert found.value == pytest.approx((2 + 10) / (4 + 4))
    assert found.pairs == 3


def test_blocks_widen_the_interval_of_errors_that_hang_together() -> None:
    rng = np.random.default_rng(1)
    slow = [1 + np.repeat(rng.normal(0, 0.3, 40), 36)]
    steady = [np.ones(1440)]
    narrow, wide = (mean_ratio(slow, steady, block) for block in (1, 36))
    assert narrow.value == wide.value
    assert wide.hi - wide.lo > 3 * (narrow.hi - narrow.lo)
    assert wide.lo < wide.value < wide.hi


def test_ninety_percent_of_intervals_hold_the_truth() -> None:
    held = 0
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(0, 1, 600)
        series = np.convolve(noise, np.ones(6) / 6, mode="same") + 5
        found = mean([series], 40, draws=200)
        held += found.lo <= 5 <= found.hi
    assert 78 <= held <= 97


def test_series_that_stand_for_others_are_drawn_too() -> None:
    top = [np.full(50, ratio) for ratio in (0.5, 1.0, 1.5)]
    bottom = [np.ones(50)] * 3
    assert mean_ratio(top, bottom, 10)[:3] == pytest.approx((1, 1, 1))
    found = mean_ratio(top, bottom, 10, series_too=True)
    assert found.lo < 0.8
    assert found.hi > 1.2


def test_series_and_hours_drawn_hold_the_truth_of_all_series() -> None:
    """34 series of a population whose true ratio is .9, with hours of their own and in common. Somewhat fewer than nine
    of ten intervals hold it: few series vary less among themselves than the population does."""
    held = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        shared, top, bottom = _slow(rng), [], []
        for _ in range(34):
            below = np.exp(rng.normal(0, 0.3) + 0.3 * (0.6 * shared + 0.8 * _slow(rng)))
            below = below[-int(rng.choice([200, 400])) :]
            top.append(rng.normal(0.9, 0.15) * below * np.exp(rng.normal(-0.02, 0.2, len(below))))
            bottom.append(below)
        found = mean_ratio(top, bottom, 36, series_too=True, draws=150)
        held += found.lo <= 0.9 <= found.hi
    assert 36 <= held <= 49


def _slow(rng: np.random.Generator) -> Floats:
    return np.convolve(rng.normal(0, 1, 411), np.ones(12) / 12**0.5, mode="valid")


def test_series_of_one_length_keep_what_they_share() -> None:
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 1, 400)
    opposite = mean([1 + shared, 1 - shared], 20)
    assert opposite.hi - opposite.lo == pytest.approx(0, abs=1e-12)


def test_nothing_to_score_is_said() -> None:
    found = mean([np.full(5, np.nan), np.array([])], 3)
    assert found.pairs == 0
    assert np.isnan(found.value)
    assert np.isnan(mean_ratio([], [], 3).value)
    with pytest.raises(ValueError, match="same series"):
        mean_ratio([np.ones(3)], [np.ones(4)], 2)


def test_the_same_seed_gives_the_same_interval() -> None:
    series = [np.random.default_rng(1).random(100)]
    assert mean(series, 7) == mean(series, 7)
    assert mean(series, 7) != mean(series, 7, seed=1)
