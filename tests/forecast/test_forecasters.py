"""The contract of every forecaster in the registry, and one known answer each."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contracts.ports import Batch, Forecaster
from contracts.registry import FORECASTERS, NEEDS, installed, load
from forecast.grids import restricted
from forecast.rolling import roll
from tests.forecast.synthetic import T0_S, daily

HERE = installed(FORECASTERS)
QUICK = tuple(name for name in HERE if name not in ("prophet", "components", "boosted"))
SCALES = tuple(name for name in QUICK if name not in ("ets", "shared"))
"""who promises that twice the series (not a load) is twice the forecast"""
FEW = settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make(name: str) -> Forecaster:
    model: Forecaster = load(FORECASTERS, name)()
    assert model.name == name
    assert model.min_points >= 1
    return model


def paths(name: str, batch: Batch, steps: int = 12) -> NDArray[np.float64]:
    return make(name).fit(batch).predict(batch, steps)


@pytest.mark.parametrize("name", HERE)
def test_the_shape_is_series_by_steps_and_whole_with_whole_history(name: str) -> None:
    batch = daily(4, target="load", level=10.0)
    out = paths(name, batch, 300)
    assert out.shape == (3, 300)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("name", HERE)
def test_nothing_after_the_origin_is_read(name: str) -> None:
    batch = daily(4, target="load", level=10.0)
    poisoned = batch.values.copy()
    poisoned[:, 1_000:] = 1e9
    fits = [make(name).fit(restricted(b, 899)) for b in (batch, replace(batch, values=poisoned))]
    clean, dirty = (
        roll(name, f, b, [899, 999], [1, 12]).paths for f, b in zip(fits, (batch, replace(batch, values=poisoned)), strict=True)
    )
    np.testing.assert_array_equal(clean, dirty)


@pytest.mark.parametrize("name", HERE)
def test_many_origins_at_once_are_as_one_by_one(name: str) -> None:
    batch = daily(3.5, target="load", level=10.0)
    fitted = make(name).fit(restricted(batch, 899))
    together = roll(name, fitted, batch, [899, 950, 980], [1, 6, 12]).paths
    alone = [fitted.predict(restricted(batch, o), 12)[:, [0, 5, 11]].T for o in (899, 950, 980)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-9)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("points", [1, 5, 40])
def test_a_short_history_gives_paths_or_no_opinion_but_no_error(name: str, points: int) -> None:
    batch = daily(1)
    out = paths(name, replace(batch, ts=batch.ts[:points], values=batch.values[:, :points]))
    assert out.shape == (3, 12)
    assert np.isnan(out).all() or (np.abs(out - 24.0) < 10.0).all()


@pytest.mark.parametrize("name", HERE)
def test_no_series_at_all_is_no_error(name: str) -> None:
    batch = daily(1)
    out = paths(name, replace(batch, names=(), values=batch.values[:0]))
    assert out.shape == (0, 12)


def all_gaps(batch: Batch) -> Batch:
    return replace(batch, values=np.full_like(batch.values, np.nan))


def two_points(batch: Batch) -> Batch:
    values = np.full_like(batch.values, np.nan)
    values[:, [-40, -3]] = batch.values[:, [-40, -3]]
    return replace(batch, values=values)


def no_columns(batch: Batch) -> Batch:
    return replace(batch, ts=batch.ts[:0], values=batch.values[:, :0])


def one_series(batch: Batch) -> Batch:
    return replace(batch, names=batch.names[:1], values=batch.values[:1])


def dead_for_days(batch: Batch) -> Batch:
    values = batch.values.copy()
    values[:, -3 * 288 :] = np.nan
    return replace(batch, values=values)


def zeros_but_one(batch: Batch) -> Batch:
    values = np.zeros_like(batch.values)
    values[:, 500] = 1.0
    return replace(batch, values=values)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("bad", [all_gaps, two_points, one_series, dead_for_days, zeros_but_one])
def test_a_bad_batch_gives_a_path_or_no_opinion(name: str, bad: Callable[[Batch], Batch]) -> None:
    """No error, no warning (they are errors here), nothing infinite; without a point no opinion, and no opinion in parts."""
    batch = bad(daily(4, target="load", level=10.0))
    out = paths(name, batch)
    assert out.shape == (len(batch.names), 12)
    assert not np.isinf(out).any()
    assert (np.isnan(out).all(axis=1) | np.isfinite(out).all(axis=1)).all()
    assert np.isnan(out[np.isnan(batch.values).all(axis=1)]).all()
    assert (np.nan_to_num(out) >= 0).all()
    assert (np.nan_to_num(out) < 20).all()


@pytest.mark.parametrize("name", HERE)
def test_a_model_that_was_fitted_on_whole_history_bears_a_bad_batch(name: str) -> None:
    batch = daily(4, target="load", level=10.0)
    fitted = make(name).fit(batch)
    for bad in (all_gaps, two_points, one_series, dead_for_days, zeros_but_one):
        given = bad(batch)
        out = fitted.predict(given, 12)
        assert out.shape == (len(given.names), 12), bad.__name__
        assert not np.isinf(out).any(), bad.__name__
        assert (np.nan_to_num(out) < 100).all(), bad.__name__


@pytest.mark.parametrize("name", HERE)
def test_no_interval_at_all_gives_no_opinion(name: str) -> None:
    batch = daily(1)
    out = make(name).fit(no_columns(batch)).predict(no_columns(batch), 12)
    assert out.shape == (3, 12)
    assert np.isnan(out).all()
    assert np.isnan(make(name).fit(batch).predict(no_columns(batch), 12)).all()


@pytest.mark.parametrize("name", QUICK)
def test_single_precision_gives_nearly_the_same_path(name: str) -> None:
    """Thousands of series are kept so."""
    batch = daily(4, target="load", level=10.0)
    holed = batch.values.copy()
    holed[0, 700:740] = np.nan
    batch = replace(batch, values=holed)
    single = replace(batch, values=np.asarray(holed, dtype=np.float32))
    np.testing.assert_allclose(paths(name, single, 288), paths(name, batch, 288), rtol=2e-3)


@pytest.mark.parametrize("name", HERE)
def test_a_series_without_a_point_gets_no_opinion_and_leaves_the_others_alone(name: str) -> None:
    batch = daily(4)
    holed = batch.values.copy()
    holed[1] = np.nan
    out = paths(name, replace(batch, values=holed))
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[[0, 2]]).all()


@pytest.mark.parametrize("name", HERE)
def test_gaps_do_not_become_zeros(name: str) -> None:
    batch = daily(4)
    holed = batch.values.copy()
    holed[:, np.random.default_rng(3).random(holed.shape[1]) < 0.3] = np.nan
    holed[:, 700:760] = np.nan
    holed[:, -3:] = np.nan
    out = paths(name, replace(batch, values=holed))
    assert np.isfinite(out).all()
    assert (np.abs(out - 24.0) < 10.0).all()


@pytest.mark.parametrize("name", HERE)
def test_a_constant_series_stays_constant(name: str) -> None:
    batch = daily(4)
    out = paths(name, replace(batch, values=np.full_like(batch.values, 7.0)))
    np.testing.assert_allclose(out, 7.0, rtol=1e-3)


@pytest.mark.parametrize("name", HERE)
def test_paths_stay_within_the_bounds(name: str) -> None:
    batch = replace(daily(4, target="load", level=10.0), upper=10.5, lower=9.0)
    out = paths(name, replace(batch, values=np.clip(batch.values, 9.0, 10.5)), 288)
    assert (out <= 10.5).all()
    assert (out >= 9.0).all()


@FEW
@given(order=st.permutations(range(4)))
@pytest.mark.parametrize("name", QUICK)
def test_the_order_of_the_series_does_not_matter(name: str, order: list[int]) -> None:
    batch = daily(3, series=4, target="load", level=5.0)
    turned = replace(batch, names=tuple(batch.names[i] for i in order), values=batch.values[order])
    fitted = make(name).fit(batch)
    np.testing.assert_allclose(fitted.predict(turned, 12), fitted.predict(batch, 12)[order], rtol=1e-9)
    np.testing.assert_allclose(paths(name, turned), paths(name, batch)[order], rtol=1e-6)


@FEW
@given(factor=st.floats(min_value=0.01, max_value=1_000.0))
@pytest.mark.parametrize("name", SCALES)
def test_twice_the_series_is_twice_the_forecast(name: str, factor: float) -> None:
    batch = daily(3)
    np.testing.assert_allclose(
        paths(name, replace(batch, values=batch.values * factor)), paths(name, batch) * factor, rtol=1e-5
    )


def test_a_model_is_offered_only_where_it_can_run() -> None:
    assert set(NEEDS) <= set(FORECASTERS)
    assert set(FORECASTERS) - set(HERE) <= set(NEEDS)


@pytest.mark.parametrize("name", HERE)
def test_a_fitted_model_pickles(name: str) -> None:
    batch = daily(3)
    fitted = make(name).fit(batch)
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(again.predict(batch, 12), fitted.predict(batch, 12))


def curve(days: int, step_s: int = 300) -> Batch:
    """No noise: what is left is the calendar alone."""
    ts = T0_S + step_s * np.arange(1, days * 86_400 // step_s + 1, dtype=np.int64)
    return Batch(
        target="inlet", step_s=step_s, ts=ts, names=("a",), values=(20 + 5 * np.sin(2 * np.pi * (ts % 86_400) / 86_400))[None]
    )


def test_persistence_holds_the_last_value_over_a_gap_of_less_than_a_day() -> None:
    batch = daily(2)
    values = batch.values.copy()
    values[0, -10:] = np.nan
    values[1, -288:] = np.nan
    out = paths("persistence", replace(batch, values=values))
    assert (out[0] == batch.values[0, -11]).all()
    assert np.isnan(out[1]).all()


def test_seasonal_naive_repeats_the_day_and_from_two_weeks_on_the_week() -> None:
    short, long = daily(3), daily(15)
    np.testing.assert_array_equal(paths("seasonal_naive", short, 288), short.values[:, -288:])
    np.testing.assert_array_equal(paths("seasonal_naive", long, 288), long.values[:, -7 * 288 : -6 * 288])


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("ridge", 0.15),
        ("autoreg", 0.01),
        ("prophet", 0.3),
        ("seasonal_mean", 1e-9),
        ("ets", 0.2),
        ("components", 0.2),
        ("arx", 1.0),
    ],
)
def test_a_pure_daily_curve_is_continued(name: str, within: float) -> None:
    whole = curve(5)
    known = restricted(whole, 4 * 288 - 1)
    np.testing.assert_allclose(paths(name, known, 288), whole.values[:, 4 * 288 :], atol=within)


def test_the_kalman_node_goes_on_to_where_it_is_driven() -> None:
    """A node of 120 s that has been driven from 24 to 30 degC for three minutes is forecast to reach about 30."""
    calm = daily(3, series=1, noise=0.05)
    fitted = make("kalman").fit(calm)
    seconds = np.arange(1, 61) * 60
    heated = np.where(seconds > 57 * 60, 30 - 6 * np.exp(-(seconds - 57 * 60) / 120.0), 24.0)[None]
    batch = Batch(target="inlet", step_s=60, ts=T0_S + seconds, names=("s0",), values=heated)
    ahead = fitted.predict(batch, 15)[0]
    assert heated[0, -1] < 29.0
    assert ahead[-1] > heated[0, -1] + 0.3
    assert abs(ahead[-1] - 30.0) < 1.5
