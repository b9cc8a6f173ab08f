"""ETS and unobserved components: they recover the process that made a series, and go on as statsmodels' own would."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.grids import restricted
from forecast.models.components import Components
from forecast.models.ets import Ets
from forecast.models.innovations import curves, season_terms
from tests.forecast.synthetic import T0_S, walk

DAY = 144


def batch_of(values: NDArray[np.float64], target: str = "inlet") -> Batch:
    ts = T0_S + 600 * np.arange(1, values.shape[1] + 1, dtype=np.int64)
    names = tuple(f"s{i}" for i in range(len(values)))
    return Batch(target=target, step_s=600, ts=ts, names=names, values=values, lower=float("-inf"))


def smoothed(alpha: float, steps: int, seed: int = 1) -> NDArray[np.float64]:
    """Simple exponential smoothing's own process: y = l + e, l' = l + alpha e."""
    e = np.random.default_rng(seed).normal(0.0, 1.0, steps)
    return 100.0 + np.concatenate([[0.0], np.cumsum(alpha * e)[:-1]]) + e


def day_curve(ts: NDArray[np.int64]) -> NDArray[np.float64]:
    return 6.0 * np.sin(2 * np.pi * (ts % 86_400) / 86_400)


@pytest.mark.parametrize("alpha", [0.2, 0.8])
def test_ets_recovers_how_much_of_a_surprise_stays(alpha: float) -> None:
    fitted = Ets().fit(batch_of(smoothed(alpha, 10 * DAY)[None]))
    assert fitted.gain[0, 0] == pytest.approx(alpha, abs=0.1)


def test_ets_goes_on_with_newer_readings_as_statsmodels_does() -> None:
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    whole = batch_of(smoothed(0.5, DAY + 80)[None])  # a day: too short for a curve
    known = restricted(whole, DAY - 1)
    fitted = Ets().fit(known)
    y = known.values[0]
    model = ETSModel((y - y.mean()) / y.std(), error="add", trend="add", damped_trend=True, initialization_method="heuristic")
    longer = ETSModel(
        (whole.values[0] - y.mean()) / y.std(),
        error="add",
        trend="add",
        damped_trend=True,
        initialization_method="known",
        initial_level=float(model.initial_level),
        initial_trend=float(model.initial_trend),
    )
    theirs = longer.smooth(model.fit(disp=False).params).forecast(12) * y.std() + y.mean()
    np.testing.assert_allclose(fitted.predict(whole, 12)[0], theirs, rtol=1e-6)


def test_components_tell_what_stays_from_what_passes() -> None:
    rng = np.random.default_rng(2)
    steps = 7 * DAY
    level = np.cumsum(rng.normal(0.0, 0.15, (1, steps)), axis=1)
    batch = batch_of(50.0 + level + walk(rng, 1, steps, 0.7, 1.0))
    fitted = Components().fit(batch)
    assert fitted.transition[0, -1, -1] == pytest.approx(0.7, abs=0.12)
    newer = batch_of(np.concatenate([batch.values, batch.values[:, -1:] + 10.0], axis=1))
    jump = fitted.predict(newer, 24)[0] - fitted.predict(batch, 25)[0, 1:]
    assert jump[0] > 5.0
    assert jump[-1] < 4.0, "most of a burst passes"


def test_components_find_the_day_beside_a_drifting_level() -> None:
    rng = np.random.default_rng(3)
    whole = batch_of(np.zeros((1, 8 * DAY)))
    noise = walk(rng, 1, 8 * DAY, 0.9, 0.05)
    whole = replace(whole, values=50.0 + np.linspace(0, 3, 8 * DAY) + day_curve(whole.ts) + noise)
    known = restricted(whole, 7 * DAY - 1)
    error = np.abs(Components().fit(known).predict(known, DAY) - whole.values[:, 7 * DAY :])
    assert error.mean() < 0.5
    assert np.abs(known.values[:, -1:] - whole.values[:, 7 * DAY :]).mean() > 3.0


@pytest.mark.parametrize("model", [Ets(), Components()])
def test_a_gap_moves_the_state_on_without_a_surprise(model: Ets | Components) -> None:
    batch = batch_of(smoothed(0.5, 3 * DAY)[None])
    fitted = model.fit(batch)
    later = batch_of(np.concatenate([batch.values, np.full((1, 5), np.nan)], axis=1))
    np.testing.assert_allclose(fitted.predict(later, 7), fitted.predict(batch, 12)[:, 5:], rtol=1e-9)


@pytest.mark.parametrize("model", [Ets(), Components()])
def test_another_grid_or_a_batch_from_before_the_fit_gets_no_opinion(model: Ets | Components) -> None:
    batch = batch_of(smoothed(0.5, 3 * DAY)[None])
    fitted = model.fit(batch)
    assert np.isnan(fitted.predict(restricted(batch, 2 * DAY), 3)).all()
    assert np.isnan(fitted.predict(replace(batch, step_s=300, ts=T0_S + 300 * np.arange(1, 3 * DAY + 1)), 3)).all()


@pytest.mark.parametrize("model", [Ets(), Components()])
def test_a_load_stays_above_zero_and_near_what_was_seen(model: Ets | Components) -> None:
    values = np.exp(walk(np.random.default_rng(4), 2, 4 * DAY, 0.98, 0.1)) * 3.0
    batch = replace(batch_of(values, "load"), lower=0.0)
    path = model.fit(batch).predict(batch, DAY)
    assert (path >= 0.0).all()
    assert (path.max(axis=1) < 3.0 * values.max(axis=1)).all()


def test_the_curve_is_that_of_the_points_that_are_there() -> None:
    batch = batch_of(np.zeros((2, 6 * DAY)))
    values = 20.0 + np.repeat(day_curve(batch.ts)[None], 2, axis=0)
    values[1, np.random.default_rng(5).random(6 * DAY) < 0.4] = np.nan
    own = curves(values, batch, (4, 0)) @ season_terms(batch.ts, (4, 0)).T
    np.testing.assert_allclose(own, np.repeat(day_curve(batch.ts)[None], 2, axis=0), atol=0.1)
