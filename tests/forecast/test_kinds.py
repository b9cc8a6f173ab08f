from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.kinds import KINDS, kinds
from forecast.refit import sampled
from tests.forecast.synthetic import T0_S, daily


def batch_of(values: NDArray[np.float64]) -> Batch:
    ts = T0_S + 600 * np.arange(1, values.shape[1] + 1, dtype=np.int64)
    return Batch(target="load", step_s=600, ts=ts, names=tuple(f"s{i}" for i in range(len(values))), values=values)


def test_a_temperature_is_smooth_bursts_are_bursty_and_rests_are_intermittent() -> None:
    rng = np.random.default_rng(3)
    smooth = 20 + np.cumsum(rng.normal(0, 0.05, 1_008))
    bursty = 20 * np.exp(rng.normal(0, 0.7, 1_008))
    resting = np.where(rng.random(1_008) < 0.7, 0.0, bursty)
    drifting = np.abs(np.cumsum(np.convolve(rng.normal(0, 1, 1_019), np.ones(12) / 12, "valid"))) + 0.5
    found = kinds(batch_of(np.stack([smooth, bursty, resting, drifting])))
    assert found == ("smooth", "bursty", "intermittent", "smooth")
    assert set(kinds(daily(8, series=4))) == {"smooth"}


def test_few_points_are_the_pools() -> None:
    batch = daily(3, series=2)
    values = batch.values.copy()
    values[0, :-100] = np.nan
    assert kinds(replace(batch, values=values)) == ("", "smooth")
    assert kinds(replace(batch, values=np.full_like(values, np.nan))) == ("", "")


def test_the_past_before_the_last_week_and_the_future_do_not_matter() -> None:
    batch = daily(10, series=3)
    changed = batch.values.copy()
    changed[:, : 3 * 288 - 1] = 0.0
    assert kinds(replace(batch, values=changed)) == kinds(batch)


@given(
    values=arrays(np.float64, (3, 300), elements=st.one_of(st.just(0.0), st.just(np.nan), st.floats(0.01, 1e3))),
    factor=st.sampled_from([2.0**-10, 0.25, 8.0, 2.0**12]),
)
@settings(deadline=None, max_examples=30)
def test_the_unit_and_the_order_of_series_do_not_matter(values: NDArray[np.float64], factor: float) -> None:
    found = kinds(batch_of(values))
    assert set(found) <= set(KINDS)
    assert kinds(batch_of(values * factor)) == found
    assert kinds(batch_of(values[::-1])) == found[::-1]


@given(count=st.integers(1, 60), most=st.integers(1, 20), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_the_sample_holds_every_kind_and_is_the_same_in_any_order(count: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"n{i:03d}" for i in range(count)]
    kind = [("smooth", "bursty")[i] for i in rng.integers(0, 2, count)]
    rows = sampled(names, kind, most)
    shuffled = rng.permutation(count)
    other = sampled([names[i] for i in shuffled], [kind[i] for i in shuffled], most)
    assert {names[r] for r in rows} == {names[shuffled[r]] for r in other}
    for wanted in set(kind):
        mine = sum(kind[r] == wanted for r in rows)
        assert mine == min(most, kind.count(wanted))


@pytest.mark.parametrize("count", [1, 512, 513])
def test_few_series_are_all_judged(count: int) -> None:
    rows = sampled([f"n{i:04d}" for i in range(count)], ["smooth"] * count)
    assert len(rows) == min(count, 512)
