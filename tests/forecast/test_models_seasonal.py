"""What repeats by the day and the week, and days that do not: seasonal median, weekly naive, Prophet's holidays."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from contracts.errors import ConfigError
from forecast.grids import restricted
from forecast.models.prophet_model import ProphetModel
from forecast.models.seasonal_mean import SeasonalMean
from forecast.models.seasonal_naive import SeasonalNaive, WeeklyNaive
from tests.forecast.synthetic import daily

DAY = 288


def test_the_seasonal_median_is_that_of_the_last_four_days() -> None:
    batch = daily(6)
    days = batch.values.reshape(3, 6, DAY)
    np.testing.assert_allclose(SeasonalMean().fit(batch).predict(batch, DAY), np.median(days[:, 2:], axis=1))


def test_from_eight_days_on_the_day_a_week_ago_is_one_of_them() -> None:
    batch = daily(9)
    days = batch.values.reshape(3, 9, DAY)
    members = np.concatenate([days[:, 5:], days[:, 2:3]], axis=1)
    np.testing.assert_allclose(SeasonalMean().fit(batch).predict(batch, DAY), np.median(members, axis=1))


def test_one_day_off_does_not_move_the_seasonal_median() -> None:
    batch = daily(5, noise=0.01)
    holed = batch.values.copy()
    holed[:, -DAY:] = 0.0
    holed[:, -2 * DAY : -2 * DAY + 50] = np.nan
    path = SeasonalMean().fit(batch).predict(replace(batch, values=holed), DAY)
    assert np.abs(path - batch.values[:, -DAY:]).max() < 0.5


def test_the_second_day_ahead_repeats_the_same_days() -> None:
    batch = daily(5)
    path = SeasonalMean().fit(batch).predict(batch, 2 * DAY)
    assert np.isfinite(path).all()
    np.testing.assert_allclose(path[:, DAY:], np.median(batch.values.reshape(3, 5, DAY)[:, 1:], axis=1), atol=1.0)


def test_weekly_naive_looks_a_week_back_from_eight_days_on_and_leaves_the_yardstick_alone() -> None:
    seven, eight = daily(7.5), daily(8)
    yesterday, week = seven.values[:, -DAY:], eight.values[:, -7 * DAY : -6 * DAY]
    np.testing.assert_array_equal(WeeklyNaive().fit(seven).predict(seven, DAY), yesterday)
    np.testing.assert_array_equal(WeeklyNaive().fit(eight).predict(eight, DAY), week)
    np.testing.assert_array_equal(SeasonalNaive().fit(eight).predict(eight, DAY), eight.values[:, -DAY:])


def test_prophet_learns_a_holiday_from_others_and_forecasts_the_next_one() -> None:
    """Half the load on two holidays of ten days: tomorrow is a third."""
    whole = daily(11, series=1, target="load", level=10.0, noise=0.02)
    first = datetime.fromtimestamp(int(whole.ts[0]), UTC).date()
    off = tuple(first + timedelta(days=k) for k in (3, 6, 10))
    values = whole.values.copy()
    for day in (3, 6, 10):
        values[:, day * DAY : (day + 1) * DAY] *= 0.5
    known = restricted(replace(whole, values=values), 10 * DAY - 1)
    told = ProphetModel(days=off).fit(known).predict(known, DAY)
    untold = ProphetModel().fit(known).predict(known, DAY)
    actual = values[:, 10 * DAY :]
    assert np.abs(told - actual).mean() < 1.5
    assert np.abs(untold - actual).mean() > 3.0


def test_public_holidays_come_from_the_country_and_its_region() -> None:
    days = ProphetModel(country="DE", region="BY")._public(range(2026, 2027))
    assert date(2026, 12, 25) in days
    assert date(2026, 1, 6) in days, "Epiphany is a holiday in Bavaria"
    assert date(2026, 1, 6) not in ProphetModel(country="DE")._public(range(2026, 2027))


def test_when_the_clocks_go_back_the_path_keeps_its_order() -> None:
    """The path of a pure curve stays near it on the day with 25 hours."""
    batch = daily(3, series=1, noise=0.001)
    back = int(datetime(2026, 10, 25, tzinfo=UTC).timestamp())
    shifted = replace(batch, ts=batch.ts - batch.ts[-1] + back)
    path = ProphetModel(zone="Europe/Berlin").fit(shifted).predict(shifted, DAY)
    assert np.abs(np.diff(path[0])).max() < 0.5


@pytest.mark.parametrize("wrong", [{"zone": "Mars/Base"}, {"country": "XX"}, {"country": "DE", "region": "XX"}])
def test_a_wrong_calendar_is_said_in_one_line(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="prophet: no"):
        ProphetModel(**wrong).fit(daily(3, series=1))  # type: ignore[arg-type]
