"""A thousand series of a week: a small part of the 10,000 of four weeks that one core must refit in 20 s within 1 GiB."""

import time
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.ports import Batch, Forecaster
from contracts.registry import FORECASTERS, load
from forecast.models import ridge
from tests.forecast.synthetic import T0_S, daily

CHEAP = ("persistence", "seasonal_naive", "weekly_naive", "seasonal_mean", "ridge", "kalman")


@pytest.fixture(scope="module")
def thousand() -> Batch:
    columns, rng = 7 * 288, np.random.default_rng(0)
    ts = T0_S + 300 * np.arange(1, columns + 1, dtype=np.int64)
    noise = rng.normal(0, 0.2, (1_000, columns)).astype(np.float32)
    values = np.float32(24) + np.sin(2 * np.pi * (ts % 86_400) / 86_400).astype(np.float32) + noise
    values[::3, 1_000:1_040] = np.nan
    names = tuple(f"s{i:04}" for i in range(1_000))
    single: NDArray[Any] = values
    return Batch(target="inlet", step_s=300, ts=ts, names=names, values=single)


@pytest.mark.parametrize("name", CHEAP)
def test_a_refit_and_a_path_of_a_thousand_series_are_cheap(name: str, thousand: Batch) -> None:
    """CPU seconds of this process, several times what they take on a slow core; memory beyond the batch's own."""
    model: Forecaster = load(FORECASTERS, name)()
    model.fit(replace(thousand, names=thousand.names[:20], values=thousand.values[:20]))  # imports are no part of it
    tracemalloc.start()
    try:
        began = time.process_time()
        path = model.fit(thousand).predict(thousand, 288)
        took = time.process_time() - began
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.shape == (1_000, 288)
    assert np.isfinite(path).all()
    assert took < (5.0 if name == "ridge" else 2.0)
    assert most < 50e6


@pytest.mark.parametrize("name", ["ridge", "kalman", "seasonal_mean"])
def test_the_order_of_the_series_does_not_matter_in_a_large_class_either(name: str) -> None:
    batch = daily(1.5, series=600)
    order = np.random.default_rng(1).permutation(600)
    turned = replace(batch, names=tuple(batch.names[i] for i in order), values=batch.values[order])
    model: Forecaster = load(FORECASTERS, name)()
    np.testing.assert_allclose(model.fit(turned).predict(turned, 12), model.fit(batch).predict(batch, 12)[order], rtol=1e-6)


def test_thinned_rows_forecast_about_as_well_as_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a class of 10,000 has them: 100 rows a series in the place of 2,000."""
    batch = daily(8, series=40, noise=0.3)
    known = replace(batch, ts=batch.ts[:-288], values=batch.values[:, :-288])
    errors = []
    for most in (2_000, 100):
        monkeypatch.setattr(ridge, "MOST_ROWS", most)
        path = ridge.Ridge().fit(known).predict(known, 288)
        errors.append(np.abs(path - batch.values[:, -288:]).mean())
    assert errors[1] < 1.03 * errors[0]
