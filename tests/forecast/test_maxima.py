import pickle
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contracts.errors import InputError
from forecast.maxima import LEVELS, RATE_AT, WINDOWS_S, Maxima, RowMaxima, follow, learn
from forecast.maxima_fit import FEWEST
from forecast.trails import looks, maxima

Floats = NDArray[np.float64]
UNTIL_S = 1_800_000_000
HOUR = 1800
"""columns"""


def row_power(hours: float, rows: int = 3, seed: int = 0, sd_w: float = 600.0) -> Floats:
    """Rows of 100 kW and more: noise around a level that wanders."""
    rng = np.random.default_rng(seed)
    columns = int(hours * HOUR)
    wander = np.cumsum(rng.normal(0, 0.02, (rows, columns)), axis=1)
    return np.asarray((100e3 + 10e3 * np.arange(rows))[:, None] + sd_w * (rng.normal(0, 1, (rows, columns)) + wander))


@cache
def learnt(rows: int = 3) -> tuple[Maxima, Floats]:
    power_w = row_power(8, rows)
    return learn(power_w[:, : 6 * HOUR], UNTIL_S), power_w


def check(found: RowMaxima) -> None:
    known = found.quantiles[found.known]
    assert np.isfinite(known).all()
    assert (np.diff(known, axis=1) >= 0).all()  # along windows
    assert (np.diff(known, axis=2) >= 0).all()  # along levels
    assert (known >= 0).all()
    assert np.isnan(found.quantiles[~found.known]).all()
    assert all("no forecast" in note for note, there in zip(found.notes, found.known, strict=True) if not there)


def test_the_maximum_of_a_window_counts_once_it_is_over_and_has_few_holes() -> None:
    power_w = row_power(0.1)
    power_w[1, 50] = np.nan
    power_w[2, 40:60] = np.nan
    origins = np.array([0, 45, 100, 156, 157, 170])
    for steps in (1, 5, 23):
        found = maxima(power_w, origins, steps)
        for row in range(3):
            for at, origin in enumerate(origins):
                window = power_w[row, origin + 1 : origin + 1 + steps]
                if len(window) < steps or np.isnan(window).mean() > 0.1:
                    assert np.isnan(found[row, at])
                else:
                    assert found[row, at] == np.nanmax(window)


def test_the_asked_share_of_later_windows_lies_above_a_quantile() -> None:
    model, power_w = learnt()
    origins = np.arange(6 * HOUR, 8 * HOUR - 151, 3)
    said = model.at(power_w, origins)
    for w, window_s in enumerate(WINDOWS_S):
        came = maxima(power_w, origins, int(-(-window_s // 2)))
        for level, allowed in ((0.5, 0.12), (0.9, 0.05), (0.99, 0.006)):
            if window_s == 300 and level == 0.99:  # 24 windows of three rows tell nothing of it
                continue
            assert (came > said[:, :, w, LEVELS.index(level)]).mean() == pytest.approx(1 - level, abs=allowed)


def test_what_is_said_now_is_what_would_have_been_said_then() -> None:
    model, power_w = learnt()
    then = model.at(power_w, np.array([7 * HOUR]))[:, 0]
    assert model.now(power_w[:, 7 * HOUR - 899 : 7 * HOUR + 1]).quantiles == pytest.approx(then, rel=1e-9)


def test_a_poisoned_future_changes_nothing() -> None:
    model, power_w = learnt()
    poisoned = power_w.copy()
    poisoned[:, 7 * HOUR + 1 :] = 1e9
    at = np.array([6 * HOUR, 7 * HOUR])
    assert (model.at(poisoned, at) == model.at(power_w, at)).all()
    cut = looks(power_w[:, : 7 * HOUR + 1], at, 2)
    assert (looks(poisoned, at, 2).x == cut.x).all()


def test_a_window_teaches_once_and_only_when_it_is_over() -> None:
    model, power_w = learnt()
    whole = follow(model, power_w[:, : 7 * HOUR], UNTIL_S + 3600)
    parts = model
    for minutes in (1, 7, 31, 60):
        to = 6 * HOUR + minutes * 30
        parts = follow(parts, power_w[:, to - 1500 - 30 * 30 : to], UNTIL_S + minutes * 60)
    assert parts.watched == pytest.approx(whole.watched)
    assert parts.hits == pytest.approx(whole.hits, abs=0.5)
    assert follow(whole, power_w[:, : 7 * HOUR], UNTIL_S + 3600) is whole
    soon = follow(model, power_w[:, : 6 * HOUR + 5], UNTIL_S + 10)
    aged = model.watched * 0.5 ** (10 / 3600)
    assert soon.watched - aged == pytest.approx(1.0, abs=0.01)  # one origin's window of each length has ended


def test_a_rate_above_the_expected_one_raises_the_tail_and_leaves_the_median() -> None:
    model, power_w = learnt()
    wild = power_w[:, 6 * HOUR : 7 * HOUR].copy()
    wild[:, ::50] += 4_000.0
    after = follow(model, np.concatenate([power_w[:, : 6 * HOUR], wild], axis=1), UNTIL_S + 3600)
    assert (after.rates()[:, 2] > 1.5).all()
    near = power_w[:, 7 * HOUR - 600 : 7 * HOUR]
    change = after.now(near).quantiles - model.now(near).quantiles
    assert (change[:, 2, 2:] > 0).all()
    assert (change[:, 2, 0] < change[:, 2, 3] / 2).all()


@given(scale=st.floats(0.01, 100.0))
@settings(deadline=None, max_examples=10)
def test_other_units_give_the_same_in_those_units(scale: float) -> None:
    power_w = row_power(1.5, 2)
    plain, scaled = learn(power_w, UNTIL_S), learn(power_w * scale, UNTIL_S)
    near = power_w[:, -600:]
    assert scaled.now(near * scale).quantiles == pytest.approx(plain.now(near).quantiles * scale, rel=1e-5)


@given(order=st.permutations(range(3)))
@settings(deadline=None, max_examples=6)
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    power_w = row_power(1.5)
    plain, other = learn(power_w, UNTIL_S).now(power_w), learn(power_w[order], UNTIL_S).now(power_w[order])
    assert other.quantiles == pytest.approx(plain.quantiles[order], rel=1e-3)  # the regression takes every n-th window


@given(shift=st.floats(-20_000, 20_000), limit=st.floats(0, 300_000), data=st.data())
@settings(deadline=None, max_examples=40)
def test_orders_hold_through_gaps_and_jumps(shift: float, limit: float, data: st.DataObject) -> None:
    model, power_w = learnt()
    near = power_w[:, -600:].copy()
    near[:, 300:] += shift
    for row in range(3):
        first = data.draw(st.integers(0, 599))
        near[row, first : first + data.draw(st.integers(0, 600))] = np.nan
    found = model.now(near)
    check(found)
    chance = found.exceedance(np.full(3, limit))[found.known]
    assert ((chance >= 0) & (chance <= 1)).all()
    assert (np.diff(chance, axis=1) >= 0).all()
    assert (found.exceedance(np.full(3, limit + 1000.0))[found.known] <= chance).all()


def test_the_chance_to_exceed_a_quantile_is_that_of_its_level() -> None:
    model, power_w = learnt()
    found = model.now(power_w)
    for w in range(len(WINDOWS_S)):
        for q, level in enumerate(LEVELS):
            chance = found.exceedance(found.quantiles[:, w, q])[:, w]
            assert chance == pytest.approx(1 - level, rel=1e-6)
    ends = found.exceedance(np.array([np.inf, 0.0, -1.0]))
    assert ends[0].tolist() == [0.0] * 4
    assert ends[1:].min() == 1.0


def test_nothing_lies_above_capacity() -> None:
    model, power_w = learnt()
    upper = power_w[:, -1]
    found = model.now(power_w, upper_w=upper)
    check(found)
    assert (found.quantiles <= upper[:, None, None]).all()
    assert (found.exceedance(upper) == 0).all()


def test_a_rising_level_forecast_raises_the_far_window_most() -> None:
    rng = np.random.default_rng(3)
    ramp = np.repeat(rng.normal(0, 3_000, (3, 12 * 6)), 150, axis=1)  # W that the level changes by in each 5 min
    level = 100e3 + np.cumsum(ramp / 150, axis=1)
    power_w = level + rng.normal(0, 300, level.shape)
    ahead = np.concatenate([level[:, 150:], level[:, -1:].repeat(150, axis=1)], axis=1) - level
    model = learn(power_w, UNTIL_S, rise_w=ahead)
    calm, rising = (model.now(power_w, rise_w=np.full(3, rise)).quantiles for rise in (0.0, 3_000.0))
    gained = (rising - calm)[:, :, 0]
    assert (gained[:, 3] > 1_000).all()
    assert (gained[:, 0] < gained[:, 3] / 3).all()


def test_an_old_sample_takes_the_law_of_a_longer_window_and_is_named() -> None:
    model, power_w = learnt()
    fresh = model.now(power_w)
    stale = np.concatenate([power_w, np.full((3, 15), np.nan)], axis=1)
    found = model.now(stale)
    check(found)
    assert found.age_s.tolist() == [30.0] * 3
    assert found.quantiles[:, 1] == pytest.approx(fresh.quantiles[:, 2])  # 10 s from now are 40 s from that sample
    assert (found.quantiles[:, 3, 3] > fresh.quantiles[:, 3, 3]).all()
    assert all("30 s old" in note for note in found.notes)
    silent = model.now(np.concatenate([power_w, np.full((3, 450), np.nan)], axis=1))
    check(silent)
    assert not silent.known.any()
    assert np.isnan(silent.exceedance(np.full(3, 1e5))).all()


def test_a_row_with_little_data_has_its_class_s_law_and_says_so() -> None:
    power_w = row_power(2, 4)
    power_w[1, : -2 * 60 * 5] = np.nan  # 20 min
    found = learn(power_w, UNTIL_S, classes=["h100", "h100", "a100", "a100"]).now(power_w)
    check(found)
    assert found.known.all()
    assert "pooled with its class" in found.notes[1]
    assert [found.notes[r] for r in (0, 2, 3)] == ["", "", ""]
    alone = learn(power_w, UNTIL_S, classes=["h100", "new", "a100", "a100"]).now(power_w)
    assert "pooled with all rows" in alone.notes[1]
    check(alone)


@pytest.mark.parametrize("columns", [1, 2, 40, 400])
def test_before_an_hour_was_seen_the_law_is_assumed_and_says_so(columns: int) -> None:
    power_w = row_power(1, 1)[:, :columns]
    found = learn(power_w, UNTIL_S).now(power_w)
    check(found)
    assert found.known.all()
    assert "assumed" in found.notes[0]
    assert found.quantiles[0, -1, -1] > power_w.max()


def test_one_row_of_hours_needs_nobody() -> None:
    power_w = row_power(2, 1)
    found = learn(power_w, UNTIL_S).now(power_w)
    check(found)
    assert found.notes == ("",)
    assert len(power_w[0]) // 5 > FEWEST


def test_a_row_that_stands_still_is_not_believed_and_says_so() -> None:
    power_w = row_power(2)
    power_w[1] = 50e3
    for found in (learn(power_w, UNTIL_S).now(power_w), learn(power_w[1:2], UNTIL_S).now(power_w[1:2])):
        check(found)
        row = found.centre.shape[0] // 2
        assert "stands still" in found.notes[row]
        assert found.quantiles[row, 0, 0] == pytest.approx(50e3, rel=1e-3)
        assert 50.2e3 < found.quantiles[row, 3, 3] < 53e3


def test_no_power_at_all_stays_none() -> None:
    found = learn(np.zeros((1, 2 * HOUR)), UNTIL_S).now(np.zeros((1, 500)))
    check(found)
    assert (found.quantiles == 0).all()
    assert found.exceedance(np.array([1.0])).tolist() == [[0.0] * 4]


def test_what_is_no_power_is_a_gap() -> None:
    model, power_w = learnt()
    odd = power_w.copy()
    odd[0, -300], odd[1, -300], odd[2, -300] = np.inf, -5.0, -np.inf
    gaps = power_w.copy()
    gaps[:, -300] = np.nan
    assert (model.now(odd).quantiles == model.now(gaps).quantiles).all()


def test_rows_never_measured_have_no_forecast_and_a_reason() -> None:
    nothing = np.full((2, 500), np.nan)
    found = learn(nothing, UNTIL_S).now(nothing)
    check(found)
    assert not found.known.any()
    assert follow(learn(nothing, UNTIL_S), nothing, UNTIL_S + 60).watched.sum() == 0


def test_other_rows_than_were_learnt_of_are_refused() -> None:
    model, power_w = learnt()
    for wrong in (power_w[:2], power_w[:, :0], power_w[0]):
        with pytest.raises(InputError, match="row maxima"):
            model.now(wrong)
    with pytest.raises(InputError, match="class per row"):
        learn(power_w, UNTIL_S, classes=["one"])


def test_what_was_learnt_pickles() -> None:
    model, power_w = learnt()
    again = pickle.loads(pickle.dumps(model))  # noqa: S301  our own
    assert (again.now(power_w).quantiles == model.now(power_w).quantiles).all()
    assert RATE_AT * again.watched.sum() > 0
