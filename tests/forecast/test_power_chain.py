"""The power chain on rows whose curves are known: curves rise, forecasts follow the loads, and nothing peeks."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.grids import restricted
from forecast.power_chain import Chain, ChainFitted, load_batch, with_loads
from forecast.rolling import roll
from tests.forecast.synthetic import T0_S, walk

Floats = NDArray[np.float64]
STEP_S, DAYS = 600, 10


def rows() -> tuple[Batch, Batch]:
    """Three rows of two endpoints: W = base + share x 3,000 sqrt(load) and a slow rest; loads with a day and a walk."""
    rng = np.random.default_rng(3)
    ts = T0_S + STEP_S * np.arange(1, DAYS * 144 + 1, dtype=np.int64)
    hour = 2 * np.pi * (ts % 86_400) / 86_400
    load = 30 * np.exp(0.6 * np.sin(hour + np.array([[0.0], [1.5]])) + walk(rng, 2, len(ts), 0.98, 0.02))
    share = np.array([[1.0, 0.2], [0.3, 1.0], [0.5, 0.5]])
    power = 40_000 + share @ (3_000 * np.sqrt(load)) + walk(rng, 3, len(ts), 0.95, 30)
    return (
        Batch(target="power", step_s=STEP_S, ts=ts, names=("row-1", "row-2", "row-3"), values=power),
        Batch(target="load", step_s=STEP_S, ts=ts, names=("chat", "code"), values=load),
    )


@pytest.fixture(scope="module")
def batch() -> Batch:
    return with_loads(*rows())


@pytest.fixture(scope="module")
def fitted(batch: Batch) -> ChainFitted:
    return Chain().fit(restricted(batch, 1_000))


def test_curves_rise_and_say_what_a_row_draws(fitted: ChainFitted) -> None:
    assert (fitted.weights >= 0).all()
    future = np.tile(np.array([[20.0], [60.0]]), (1, 6))
    power, loads = rows()
    known = with_loads(restricted(power, 1_000), restricted(loads, 1_000), future)
    more = with_loads(restricted(power, 1_000), restricted(loads, 1_000), future + np.array([[10.0], [0.0]]))
    rise = fitted.predict(more, 6) - fitted.predict(known, 6)
    assert (rise > 0).all()
    assert rise[0].mean() > 2 * rise[1].mean()  # the first row serves most of `chat`


def test_at_an_hour_it_beats_the_last_value_and_knowing_the_loads_beats_both(batch: Batch, fitted: ChainFitted) -> None:
    power, loads = rows()
    origins = list(range(1_001, len(batch.ts) - 7, 11))
    chain = np.abs(roll("chain", fitted, batch, origins, [6]).errors).mean()
    last = np.mean([np.abs(power.values[:, o + 6] - power.values[:, o]) for o in origins])
    assert chain < 0.8 * last
    known = [
        fitted.predict(with_loads(restricted(power, o), restricted(loads, o), loads.values[:, o + 1 : o + 7]), 6)
        for o in origins
    ]
    told = np.mean([np.abs(power.values[:, o + 6] - k[:, 5]) for o, k in zip(origins, known, strict=True)])
    assert told < 0.6 * chain


def test_a_poisoned_future_changes_nothing(batch: Batch, fitted: ChainFitted) -> None:
    poisoned = replace(
        batch,
        values=np.where(np.arange(len(batch.ts)) > 1_100, 1e9, batch.values),
        covariates={name: np.where(np.arange(len(v)) > 1_100, 1e6, v) for name, v in batch.covariates.items()},
    )
    np.testing.assert_array_equal(
        roll("chain", fitted, poisoned, [1_100], [1, 6]).paths, roll("chain", fitted, batch, [1_100], [1, 6]).paths
    )
    again = Chain().fit(restricted(poisoned, 1_000))
    np.testing.assert_array_equal(again.follow, fitted.follow)


def test_without_loads_or_without_one_of_them_it_has_no_opinion(batch: Batch, fitted: ChainFitted) -> None:
    bare = replace(batch, covariates={})
    assert np.isnan(fitted.predict(bare, 3)).all()
    assert np.isnan(Chain().fit(bare).predict(batch, 3)).all()
    assert np.isnan(fitted.predict(replace(batch, covariates={"load/chat": batch.covariates["load/chat"]}), 3)).all()
    assert load_batch(bare) is None


def test_order_gaps_and_strangers(batch: Batch, fitted: ChainFitted) -> None:
    first = fitted.predict(restricted(batch, 1_200), 12)
    assert np.isfinite(first).all()
    turned = replace(restricted(batch, 1_200), names=("row-3", "new", "row-1"), values=batch.values[[2, 1, 0], :1_201])
    found = fitted.predict(turned, 12)
    np.testing.assert_allclose(found[[2, 0]], first[[0, 2]])
    assert np.isnan(found[1]).all()
    holes = batch.values[:, :1_001].copy()
    holes[:, ::5] = np.nan
    loads = {name: np.where(np.arange(1_001) % 7 == 0, np.nan, v[:1_001]) for name, v in batch.covariates.items()}
    gappy = Chain().fit(replace(restricted(batch, 1_000), values=holes, covariates=loads))
    np.testing.assert_allclose(gappy.predict(restricted(batch, 1_200), 12), first, rtol=0.05)


def test_a_fit_travels_between_processes(batch: Batch, fitted: ChainFitted) -> None:
    back = pickle.loads(pickle.dumps(fitted))  # noqa: S301 - our own
    np.testing.assert_array_equal(back.predict(batch, 6), fitted.predict(batch, 6))


def test_a_short_past_has_no_curve(batch: Batch) -> None:
    assert np.isnan(Chain().fit(restricted(batch, 40)).predict(batch, 6)).all()


def test_bounds_hold(batch: Batch, fitted: ChainFitted) -> None:
    tight = replace(batch, upper=np.array([50_000.0, 1e9, 1e9]))
    assert fitted.predict(tight, 6)[0].max() <= 50_000
