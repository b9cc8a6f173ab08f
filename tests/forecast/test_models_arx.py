"""ARX: it recovers a driven node, uses what is known of its inputs' future, and agrees with statsmodels' OLS and RLM."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.grids import restricted
from forecast.models.arx import Arx, robust_arx
from forecast.models.persistence import Persistence
from tests.forecast.synthetic import T0_S

Floats = NDArray[np.float64]
DAY = 288
TAU_S = 1_200.0


def node(days: int, *, resolution: float = 0.0, seed: int = 0) -> Batch:
    """Six inlets of time constant 20 min, driven by outside temperature and the site's load; read every minute in steps of
    `resolution`, as means over 5 min."""
    rng = np.random.default_rng(seed)
    t = 60 * np.arange(1, days * 1_440 + 1)
    outside = 20 + 6 * np.sin(2 * np.pi * t / 86_400) + np.cumsum(rng.normal(0, 0.03, len(t)))
    load = np.zeros(len(t))
    for i in range(1, len(t)):
        load[i] = 0.99 * load[i - 1] + rng.normal(0, 0.05)
    goal = 10 + rng.normal(0, 1, (6, 1)) + 0.5 * outside + 4.0 * load
    inlet = np.zeros_like(goal)
    inlet[:, 0] = goal[:, 0]
    for i in range(1, len(t)):
        inlet[:, i] = inlet[:, i - 1] + (1 - np.exp(-60 / TAU_S)) * (goal[:, i] - inlet[:, i - 1])
    read = np.round(inlet / resolution) * resolution if resolution else inlet
    ts = T0_S + 300 * np.arange(1, days * DAY + 1, dtype=np.int64)
    names = tuple(f"s{i}" for i in range(6))
    covariates = {"outside_c": _means(outside), "load": _means(load)}
    return Batch(target="inlet", step_s=300, ts=ts, names=names, values=_means(read), lower=-np.inf, covariates=covariates)


def _means(values: Floats) -> Floats:
    return np.asarray(values.reshape(*values.shape[:-1], -1, 5).mean(axis=-1))


def error(batch: Batch, model: Arx | Persistence, cut: int, steps: int, *, foresight: bool = False) -> float:
    fitted = model.fit(restricted(batch, cut))
    errors = []
    for origin in range(cut, len(batch.ts) - steps, 7):
        known = restricted(batch, origin)
        if foresight:
            known = replace(known, covariates={k: v[: origin + steps + 1] for k, v in batch.covariates.items()})
        errors.append(np.abs(fitted.predict(known, steps)[:, -1] - batch.values[:, origin + steps]))
    return float(np.mean(errors))


def test_it_beats_persistence_and_more_so_where_the_inputs_future_is_known() -> None:
    batch = node(6)
    naive, blind = error(batch, Persistence(), 4 * DAY, 12), error(batch, Arx(), 4 * DAY, 12)
    known = error(batch, Arx(), 4 * DAY, 12, foresight=True)
    assert blind < 0.9 * naive
    assert known < 0.4 * naive


def test_the_time_constant_of_a_driven_node_is_found() -> None:
    fitted = Arx(prior=0.0).fit(node(8))
    np.testing.assert_allclose(fitted.tau_s(300), TAU_S, rtol=0.35)


def test_instruments_undo_what_a_sensor_in_whole_degrees_does_to_the_time_constant() -> None:
    """Rounding shortens the time constants of plain regressions on the reading; instrumented, they are nearer the truth."""
    batch = node(12, resolution=1.0)
    plain = np.median([_one_reading_tau(batch, s) for s in range(6)])
    instrumented = float(np.nanmedian(Arx(prior=0.0, instruments=True).fit(batch).tau_s(300)))
    assert plain < 0.8 * instrumented
    assert instrumented == pytest.approx(TAU_S, rel=0.35)


def _one_reading_tau(batch: Batch, s: int) -> float:
    """The same regression by ordinary least squares."""
    y, u = batch.values[s], np.stack([batch.covariates["outside_c"], batch.covariates["load"]])
    x = np.column_stack([np.ones(len(y) - 1), y[:-1], u[:, :-1].T, np.diff(u).T])
    keeps = 1.0 + np.linalg.lstsq(x, np.diff(y), rcond=None)[0][1]
    return float(-300 / np.log(keeps))


@pytest.mark.parametrize("robust", [False, True])
def test_the_coefficients_are_those_of_statsmodels(robust: bool) -> None:
    from statsmodels.regression.linear_model import OLS
    from statsmodels.robust.robust_linear_model import RLM

    rng = np.random.default_rng(1)
    x = np.stack([np.column_stack([np.ones(400), rng.normal(0, 1, (400, 3))]) for _ in range(2)])
    goal = x @ np.array([0.5, -1.0, 2.0, 0.0]) + rng.standard_t(2, (2, 400))
    weight = np.ones((2, 400))
    weight[:, :50] = 0.0
    ours = Arx(prior=0.0, robust=robust)._estimate(x, x, goal, weight)
    for s in range(2):
        model = RLM(goal[s, 50:], x[s, 50:]) if robust else OLS(goal[s, 50:], x[s, 50:])
        np.testing.assert_allclose(ours[s], model.fit().params, atol=0.01 if robust else 1e-4)


def test_a_past_fault_does_not_bend_the_robust_variant() -> None:
    batch = node(6)
    hurt = batch.values.copy()
    rng = np.random.default_rng(2)
    hurt[:, 2 * DAY : 2 * DAY + 100] += rng.choice([0.0, 15.0], 100)  # a flapping sensor
    faulty = replace(batch, values=hurt)
    assert error(faulty, robust_arx(), 4 * DAY, 3) < 0.9 * error(faulty, Arx(), 4 * DAY, 3)


def test_covariates_per_series_are_taken_row_by_row() -> None:
    batch = node(4)
    own = {name: np.repeat(values[None], 6, axis=0) for name, values in batch.covariates.items()}
    together = Arx().fit(batch).predict(batch, 12)
    np.testing.assert_allclose(Arx().fit(replace(batch, covariates=own)).predict(batch, 12), together, rtol=1e-9)


@pytest.mark.parametrize(
    "covariates",
    [{}, {"outside_c": np.full(2 * DAY, np.nan)}, {"outside_c": np.full(2 * DAY, 20.0), "load": np.zeros(2 * DAY)}],
)
def test_inputs_that_are_gone_empty_or_still_leave_a_path(covariates: Mapping[str, Floats]) -> None:
    batch = restricted(node(2), 2 * DAY - 1)
    poor = replace(batch, covariates=covariates)
    for fitted in (Arx().fit(batch), Arx().fit(poor)):
        path = fitted.predict(poor, 12)
        assert np.isfinite(path).all()
        assert np.abs(path - batch.values[:, -1:]).max() < 8.0


def test_gaps_of_inputs_and_series_are_no_zeros() -> None:
    batch = node(4)
    rng = np.random.default_rng(3)
    holed = np.where(rng.random(batch.values.shape) < 0.3, np.nan, batch.values)
    inputs = {name: np.where(rng.random(len(v)) < 0.3, np.nan, v) for name, v in batch.covariates.items()}
    path = (
        Arx().fit(replace(batch, values=holed, covariates=inputs)).predict(replace(batch, values=holed, covariates=inputs), 12)
    )
    np.testing.assert_allclose(path, Arx().fit(batch).predict(batch, 12), atol=1.0)
