from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from contracts.forecasts import LEVELS, ROW_POWER_LEVELS
from contracts.ports import Batch
from forecast.calibration import FEWEST, bands, table, tail_quantiles
from forecast.models.persistence import Persistence
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
