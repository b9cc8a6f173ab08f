"""Boosted trees: what many series show together, and what one alone cannot."""

from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import ConfigError
from contracts.ports import Batch
from contracts.registry import FORECASTERS, installed
from forecast.grids import restricted
from forecast.models.boosted import Boosted
from forecast.models.persistence import Persistence
from forecast.rolling import roll
from tests.forecast.synthetic import T0_S, daily

NOT_HERE = "boosted" not in installed(FORECASTERS)
needs_lightgbm = pytest.mark.skipif(NOT_HERE, reason="LightGBM needs libgomp.so.1: install OpenMP (Debian: libgomp1)")


QUICK = Boosted(rounds=30)


def bursts(series: int = 12, days: int = 4, seed: int = 0) -> Batch:
    """Clients at rest that burst for two steps of 10 min: the next but one value is rest again, whatever the last one was."""
    rng = np.random.default_rng(seed)
    steps = days * 144
    starts = rng.random((series, steps)) < 0.04
    busy = starts | np.concatenate([np.zeros((series, 1), dtype=bool), starts[:, :-1]], axis=1)
    values = np.where(busy, rng.gamma(4.0, 2.0, (series, steps)), rng.gamma(2.0, 0.05, (series, steps)))
    ts = T0_S + 600 * np.arange(1, steps + 1, dtype=np.int64)
    return Batch(target="load", step_s=600, ts=ts, names=tuple(f"c{i}" for i in range(series)), values=values)


@needs_lightgbm
def test_it_learns_from_all_series_that_a_burst_passes() -> None:
    batch = bursts()
    cut = 3 * 144
    origins = list(range(cut, len(batch.ts) - 3))
    ours, naive = (roll("", model.fit(restricted(batch, cut)), batch, origins, [2]).errors for model in (QUICK, Persistence()))
    assert np.nanmean(np.abs(ours)) < 0.75 * np.nanmean(np.abs(naive))


@needs_lightgbm
def test_a_series_that_was_not_there_at_the_fit_is_forecast_by_what_the_others_taught() -> None:
    batch = bursts()
    newcomer = replace(batch, names=tuple(f"new{i}" for i in range(len(batch.names))))
    path = QUICK.fit(batch).predict(newcomer, 6)
    assert np.isfinite(path).all()
    assert (path < batch.values.max(axis=1, keepdims=True)).all()


@needs_lightgbm
def test_the_order_of_the_series_decides_nothing() -> None:
    batch, order = bursts(4, 3), [2, 0, 3, 1]
    turned = replace(batch, names=tuple(batch.names[i] for i in order), values=batch.values[order])
    np.testing.assert_allclose(QUICK.fit(turned).predict(turned, 6), QUICK.fit(batch).predict(batch, 6)[order], rtol=1e-9)


@needs_lightgbm
def test_twice_the_series_is_twice_the_forecast() -> None:
    batch = daily(2.5, step_s=600)
    twice = replace(batch, values=batch.values * 2.0)
    np.testing.assert_allclose(QUICK.fit(twice).predict(twice, 6), 2.0 * QUICK.fit(batch).predict(batch, 6), rtol=1e-9)


@pytest.mark.skipif(not NOT_HERE, reason="LightGBM is installed")
def test_without_the_extra_the_fit_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match="extra 'boost'"):
        QUICK.fit(bursts(2, 3))
