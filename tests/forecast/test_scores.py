"""Figures over series, levels and days have their known answers."""

from datetime import date
from typing import Any

import numpy as np
import pytest

from contracts.forecasts import LEVELS, ROW_POWER_LEVELS
from forecast.scores import Score, days, opposite, overall, reliability

DAY_S = 86_400


def scored(series: str, **figures: Any) -> Score:
    empty: dict[str, Any] = dict.fromkeys(
        ("mase", "pinball_99", "coverage_90", "coverage_98", "below_99", "vs_persistence", "vs_seasonal")
    )
    return Score(model="m", horizon="1h", series=series, points=10, **(empty | figures))


def test_a_ratio_is_the_mean_over_series_over_the_mean_over_series() -> None:
    (one,) = overall(
        [
            scored("a", mase=1.0, persistence_mase=2.0, seasonal_mase=1.0, coverage_90=1.0, below_99=1.0, banded=30),
            scored("b", mase=3.0, persistence_mase=2.0, seasonal_mase=1.0, coverage_90=0.6, below_99=0.9, banded=10),
            scored("unscaled", coverage_90=0.9, below_99=0.95, banded=0),
        ]
    )
    assert (one.series, one.points, one.mase, one.vs_persistence, one.vs_seasonal) == (2, 30, 2.0, 1.0, 2.0)
    assert one.coverage_90 == pytest.approx(0.9), "over all points, not over the series"
    assert (one.worst_series, one.worst_below_99) == ("b", 0.9)


def test_outcomes_on_a_quantile_count_as_they_suit_the_promise() -> None:
    actual = np.array([[0.0], [0.0], [1.0], [np.nan], [2.0]])
    quantiles = np.tile(np.array([0.0, 0.5, 3.0]), (5, 1, 1))
    low, middle, high = reliability("m", "1h", actual, quantiles, (0.05, 0.5, 0.95))
    assert (low.below, low.at_or_below, low.share, low.points) == (0.0, 0.5, 0.05, 4)
    assert (middle.below, middle.at_or_below, middle.share) == (0.5, 0.5, 0.5)
    assert (high.below, high.at_or_below, high.share) == (1.0, 1.0, 1.0)
    (none,) = reliability("m", "1h", np.full((2, 1), np.nan), np.zeros((2, 1, 1)), (0.5,))
    assert (none.share, none.points) == (None, 0)


def test_the_day_with_the_least_coverage_comes_first() -> None:
    valid_ts = np.array([1, DAY_S, DAY_S + 1, 2 * DAY_S])  # midnight ends the day before
    actual = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 9.0], [1.0, 9.0]])
    flat = np.ones_like(actual)
    first, second = days(
        "m",
        "1h",
        ("a", "b"),
        valid_ts=valid_ts,
        actual=actual,
        path=flat,
        persistence=actual - 4.0,
        low=flat * 0.5,
        high=flat * 2.0,
        scale=np.array([1.0, 2.0]),
    )
    assert (first.day, first.points, first.coverage_90) == (date(1970, 1, 2), 4, 0.5)
    assert (first.worst_series, first.worst_coverage_90) == ("b", 0.0)
    assert first.vs_persistence == pytest.approx((8 / 2 * 2) / (4 * 2 + 4 / 2 * 2))
    assert (second.day, second.coverage_90, second.vs_persistence) == (date(1970, 1, 1), 1.0, 0.0)


def test_levels_have_their_opposites() -> None:
    assert [opposite(LEVELS, i) for i in range(3)] == [6, 5, 4]
    assert [opposite(ROW_POWER_LEVELS, i) for i in range(3)] == [6, 5, 4]
    assert opposite((0.05, 0.5, 0.95, 0.99), 0) == 2
