"""How restless series are, and medians, gaps and samples on a grid: against a plain reading of the definitions."""

import numpy as np
import pytest
from numpy.typing import NDArray

from forecast.grids import carried, last_seen, median_of, sampled, taken
from forecast.rolling import volatility
from tests.forecast.synthetic import daily


def plain(values: NDArray[np.float64], origin: int) -> NDArray[np.float64]:
    """Half the mean absolute step of the last day, half that of the last hour, one series after the other."""
    out = []
    for row in values[:, : origin + 1]:
        steps, last = [], np.nan
        for x in row:
            steps.append(abs(x - last))
            last = last if np.isnan(x) else x
        day, hour = np.array(steps[-288:]), np.array(steps[-12:])
        slow = day[~np.isnan(day)].mean() if (~np.isnan(day)).any() else np.nan
        fast = hour[~np.isnan(hour)].mean() if (~np.isnan(hour)).any() else np.nan
        out.append(slow if np.isnan(fast) else 0.5 * slow + 0.5 * fast)
    typical = np.median([v for v in out if v > 0])
    return np.maximum(np.where(np.isnan(out), typical, out), max(0.1 * typical, 1e-9))


def holed() -> NDArray[np.float64]:
    values = daily(4, series=6).values.copy()
    values[0, 300:900] = np.nan  # a gap of two days: the step after it counts
    values[1, -1:] = np.nan
    values[2, :1_000] = np.nan
    values[3] = np.nan
    values[4] = 20.0
    values[5, np.random.default_rng(1).random(values.shape[1]) < 0.4] = np.nan
    return values


@pytest.mark.parametrize("origin", [5, 250, 905, 1_000, 1_151])
def test_the_volatility_at_one_origin_is_what_its_definition_says(origin: int) -> None:
    values = holed()
    np.testing.assert_allclose(volatility(values, 300, np.array([origin]))[0], plain(values, origin), rtol=1e-9)


def test_many_origins_at_once_are_as_one_by_one() -> None:
    values, origins = holed(), np.array([3, 288, 600, 910, 1_151])
    alone = np.concatenate([volatility(values, 300, np.array([o])) for o in origins])
    np.testing.assert_allclose(volatility(values, 300, origins), alone, rtol=1e-9)


def test_what_lies_behind_the_day_of_the_first_origin_and_after_the_last_is_not_read() -> None:
    values = holed()
    values[3] = 1.0
    values[:, 800] = 20.0  # nothing is open at the edge of the day
    poisoned = values.copy()
    poisoned[:, :800] = 1e9
    poisoned[:, 1_101:] = 1e9
    at = np.array([1_089, 1_100])
    np.testing.assert_array_equal(volatility(values, 300, at), volatility(poisoned, 300, at))


def test_the_median_of_a_few_leaves_gaps_out() -> None:
    rng = np.random.default_rng(2)
    for members in range(1, 7):
        stack = rng.normal(size=(members, 40, 30))
        assert np.array_equal(median_of(list(stack)), np.median(stack, axis=0))
        stack[rng.random(stack.shape) < 0.5] = np.nan
        stack[0] = np.where(np.isnan(stack).all(axis=0), 1.0, stack[0])
        np.testing.assert_array_equal(median_of(list(stack)), np.nanmedian(stack, axis=0))
    assert np.isnan(median_of([np.full((2, 2), np.nan)] * 3)).all()


def test_a_gap_carries_the_value_before_it_and_no_other_series() -> None:
    nan = np.nan
    values = np.array([[nan, 1.0, nan, nan, 2.0, nan], [nan, nan, 3.0, 4.0, nan, 5.0], [nan] * 6])
    expected = [[nan, 1.0, 1.0, 1.0, 2.0, 2.0], [nan, nan, 3.0, 4.0, 4.0, 5.0], [nan] * 6]
    np.testing.assert_array_equal(carried(values), expected)
    np.testing.assert_array_equal(last_seen(values), [2.0, 5.0, nan])
    np.testing.assert_array_equal(carried(values.astype(np.float32)), np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(carried(np.asfortranarray(values)), expected)
    assert carried(values[:, :0]).shape == (3, 0)
    assert np.isnan(last_seen(values[:, :0])).all()


def test_columns_before_the_first_are_gaps() -> None:
    values = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(taken(values, np.array([1, 2])), values[:, 1:])
    np.testing.assert_array_equal(taken(values, np.array([-1, 2, 0])), [[np.nan, 2, 0], [np.nan, 5, 3]])


def test_a_sample_of_series_is_the_same_in_whatever_order_they_come() -> None:
    names = [f"s{i:03}" for i in range(100)]
    turned = [names[i] for i in np.random.default_rng(3).permutation(100)]
    picked = [names[i] for i in sampled(names, 30)]
    assert picked == [turned[i] for i in sampled(turned, 30)] == names[::4]
    assert len(sampled(names, 200)) == 100
    assert len(sampled([], 5)) == 0
