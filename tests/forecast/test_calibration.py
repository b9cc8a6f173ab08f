from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from contracts.forecasts import LEVELS, ROW_POWER_LEVELS
from contracts.ports import Batch
from forecast.calibration import (
    FEWEST,
    LEAST_SERIES,
    LEAST_STRETCH,
    MOST_STRETCH,
    bands,
    calibrated,
    factors,
    table,
    tail_quantiles,
)
from forecast.models.persistence import Persistence
from forecast.restless import restless, restlessness, weekly
from forecast.rolling import Residuals, roll, volatility
from tests.forecast.synthetic import daily

NORMAL = {0.01: -2.326, 0.05: -1.645, 0.25: -0.674, 0.5: 0.0, 0.75: 0.674, 0.95: 1.645, 0.99: 2.326, 0.999: 3.090}


def persistence_errors(days: float = 8, seed: int = 0, noise: float = 0.1) -> tuple[Batch, Residuals]:
    batch = daily(days, series=6, noise=noise, seed=seed)
    fitted = Persistence().fit(batch)
    return batch, roll("persistence", fitted, batch, range(400, len(batch.ts) - 1, 7), [1, 3, 12])


@given(errors=arrays(np.float64, st.integers(30, 200), elements=st.floats(-1e6, 1e6)))
@settings(deadline=None)
def test_quantiles_rise_with_their_level(errors: NDArray[np.float64]) -> None:
    assert (np.diff(tail_quantiles(errors, ROW_POWER_LEVELS)) >= 0).all()


def test_quantiles_of_a_normal_are_found_and_its_far_tail_is_not_understated() -> None:
    errors = np.random.default_rng(1).normal(0, 1, 2_000)
    found = dict(zip(ROW_POWER_LEVELS, tail_quantiles(errors, ROW_POWER_LEVELS), strict=True))
    for level in LEVELS:
        assert found[level] == pytest.approx(NORMAL[level], abs=0.15)
    assert 3.0 < found[0.999] < 4.5


@given(
    centre=arrays(np.float64, (2, 3), elements=st.floats(-50, 150)),
    scale=arrays(np.float64, 2, elements=st.floats(0, 50)),
    noise=arrays(np.float64, 2, elements=st.floats(0, 5)),
)
@settings(deadline=None)
def test_bands_are_ordered_and_within_the_bounds(
    centre: NDArray[np.float64], scale: NDArray[np.float64], noise: NDArray[np.float64]
) -> None:
    z = np.tile(np.array([NORMAL[level] for level in LEVELS]), (3, 1))
    signed = noise[:, None] * z[0]
    out = bands(centre, scale, z, LEVELS, lower=0.0, upper=100.0, noise=signed)
    assert (np.diff(out, axis=2) >= 0).all()
    assert (out >= 0).all()
    assert (out <= 100).all()


def test_an_error_counts_only_once_it_was_observed() -> None:
    _, past = persistence_errors()
    until = int(past.origin_ts[200])
    early = table(past, LEVELS, until_s=until)
    known = past.origin_ts + 12 * 300 <= until
    assert early.points[2] == known.sum() * 6
    assert early.points[0] > early.points[2]
    later = past.errors.copy()
    later[past.origin_ts > until] = 1e9
    later[(past.origin_ts[:, None] + past.knots * 300 > until)[:, :, None].repeat(6, axis=2)] = 1e9
    poisoned = table(replace(past, errors=later), LEVELS, until_s=until)
    np.testing.assert_array_equal(early.z, poisoned.z)


def test_a_horizon_with_too_few_errors_has_no_band() -> None:
    _, past = persistence_errors()
    few = int(past.origin_ts[FEWEST // 6 - 2] + 300)
    assert table(past, LEVELS, until_s=few).reach_s() == 0


def test_bands_cover_what_they_promise_on_data_that_they_have_not_seen() -> None:
    _, past = persistence_errors(days=14)
    half = int(past.origin_ts[len(past.origins) // 2])
    known = table(past, LEVELS, until_s=half)
    later = past.origin_ts > half
    inside = []
    for k in range(3):
        width = past.scale[later][:, :, None] * known.z[k]
        inside.append((past.errors[later, k] >= width[:, :, 1]) & (past.errors[later, k] <= width[:, :, 5]))
    covered = [float(part[np.isfinite(past.errors[later, k])].mean()) for k, part in enumerate(inside)]
    assert covered == pytest.approx([0.9] * 3, abs=0.04)


def test_surprise_fades_with_time_and_never_grows() -> None:
    _, past = persistence_errors(noise=0.5)
    phi = table(past, LEVELS, until_s=2**40).damping(np.array([0.0, 300.0, 3_600.0, 86_400.0]))
    assert phi[0] == 1.0
    assert (np.diff(phi) <= 0).all()
    assert (phi >= 0).all()


def test_below_the_first_horizon_the_band_shrinks_with_the_root_of_time() -> None:
    _, past = persistence_errors()
    known = table(past, LEVELS, until_s=2**40)
    np.testing.assert_allclose(known.quantiles(np.array([75.0]))[0], known.z[0] / 2)


def test_volatility_is_positive_and_follows_a_restless_hour() -> None:
    batch = daily(3, series=2)
    values = batch.values.copy()
    values[0, -12:] += np.tile([2.0, -2.0], 6)
    values[1] = 5.0
    calm, restless = volatility(values, 300, np.array([len(batch.ts) - 13, len(batch.ts) - 1]))
    assert (calm > 0).all()
    assert restless[0] > 5 * calm[0]


def two_kinds() -> tuple[Residuals, list[str]]:
    """Six calm series and six whose scaled errors are three times as wide; the first of the calm ones is twice as wide."""
    rng = np.random.default_rng(5)
    errors = rng.normal(0, 1, (500, 3, 12))
    errors[:, :, 6:] *= 3
    errors[:, :, 0] *= 2
    origins = np.arange(500)
    past = Residuals(
        model="m",
        origins=origins,
        origin_ts=origins * 600,
        step_s=600,
        knots=np.array([1, 6, 144]),
        paths=np.zeros(errors.shape),
        errors=errors,
        scale=np.ones((500, 12)),
    )
    return past, ["smooth"] * 6 + ["bursty"] * 6


def test_each_kind_has_its_own_band_and_few_series_the_pools() -> None:
    past, kind = two_kinds()
    found = calibrated(past, kind, LEVELS, until_s=2**40)
    z = found.quantiles(np.arange(12), np.array([[600.0, 86_400.0]]), np.zeros(12, dtype=np.int64), np.zeros(12))
    assert z[6, 0, 4] == pytest.approx(3 * 0.674, rel=0.1)
    assert z[1, 0, 4] == pytest.approx(0.75, rel=0.15)
    few = calibrated(past, ["smooth"] * (13 - LEAST_SERIES) + ["bursty"] * (LEAST_SERIES - 1), LEVELS, until_s=2**40)
    assert few.tables[2] is few.tables[0]
    assert few.kind[-1] == 0


def test_a_series_that_misses_more_gets_more_up_to_an_hour_and_none_of_it_at_a_day() -> None:
    past, kind = two_kinds()
    found = calibrated(past, kind, LEVELS, until_s=500 * 600)
    assert (found.stretch >= LEAST_STRETCH).all()
    assert (found.stretch <= MOST_STRETCH).all()
    assert (found.stretch[0] > 1.15).all()
    assert (found.stretch[1:6] < 1.05).all()
    seconds, of, calm = np.array([[600.0, 3_600.0, 7_200.0, 86_400.0]]), np.zeros(2, dtype=np.int64), np.zeros(2)
    wide, usual = found.quantiles(np.array([0, 1]), seconds, of, calm)
    assert (wide[:2, 6] > usual[:2, 6]).all()
    assert (wide[:2, 0] < usual[:2, 0]).all()
    np.testing.assert_allclose(wide[2:], usual[2:])
    np.testing.assert_allclose(wide[:, 2:5], usual[:, 2:5])
    startled = found.quantiles(np.array([1, 1]), seconds, of, np.array([1.0, 4.0]))
    assert startled[1, 0, 6] > 2 * startled[0, 0, 6]
    np.testing.assert_allclose(startled[0, :, 1:6], startled[1, :, 1:6])


def test_a_series_own_correction_does_not_know_what_was_not_observed_yet() -> None:
    past, kind = two_kinds()
    later = past.errors.copy()
    later[past.origin_ts[:, None] + past.knots * 600 > 200 * 600] = 1e9
    honest, poisoned = (calibrated(replace(past, errors=e), kind, LEVELS, until_s=200 * 600) for e in (past.errors, later))
    np.testing.assert_array_equal(honest.stretch, poisoned.stretch)
    for clean, dirty in zip(honest.tables, poisoned.tables, strict=True):
        np.testing.assert_array_equal(clean.z, dirty.z)


@given(
    surprise=arrays(np.float64, 4, elements=st.floats(0, 1e6)), stretch=arrays(np.float64, (4, 4), elements=st.floats(0.8, 3))
)
@settings(deadline=None)
def test_factors_are_finite_and_leave_the_middle_alone(surprise: NDArray[np.float64], stretch: NDArray[np.float64]) -> None:
    out = factors(stretch, ROW_POWER_LEVELS, surprise)
    assert (out[:, 2:5] == 1.0).all()
    assert (out > 0.5).all()
    assert (out <= 12.0).all()


@given(seed=st.integers(0, 50), factor=st.sampled_from([2.0**-7, 2.0**6]))
@settings(deadline=None, max_examples=20)
def test_bands_depend_on_neither_order_nor_unit(seed: int, factor: float) -> None:
    past, kind = two_kinds()
    order = np.random.default_rng(seed).permutation(12)
    other = replace(past, errors=past.errors[:, :, order] * factor, scale=past.scale[:, order] * factor)
    one = calibrated(past, kind, LEVELS, until_s=2**40)
    two = calibrated(other, [kind[i] for i in order], LEVELS, until_s=2**40)
    np.testing.assert_allclose(two.stretch, one.stretch[order], rtol=1e-12)
    np.testing.assert_array_equal(two.kind, one.kind[order])
    for table_one, table_two in zip(one.tables, two.tables, strict=True):
        np.testing.assert_allclose(table_two.z, table_one.z, rtol=1e-12)


def test_restlessness_remembers_a_week_and_a_tick_reckons_the_same() -> None:
    batch = daily(9, series=3)
    values = batch.values.copy()
    values[0, -400:] = values[0, -401]  # a still day after a week of steps
    values[1, ::7] = np.nan
    last = np.array([len(batch.ts) - 1])
    found = restlessness(values, 300, last)[0]
    assert found[0] > 3 * volatility(values, 300, last)[0, 0] > 0
    at_once = restless(values, 300, weekly(values, 300)).now(None)
    np.testing.assert_allclose(at_once, found, rtol=0.005)  # a gap before the day's first step is not looked across
    assert (restless(values, 300, np.full(3, np.nan)).now(values[:, -1] + 50.0) > at_once).all()
