"""What models would have said at past moments: honest, kept, and made up for where nothing was fitted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
import pytest

from contracts.ports import Batch
from forecast.coarse import coarse_paths
from forecast.folds import Tried, origins_of, tried
from forecast.grids import DAY_S, Floats, restricted
from forecast.models.persistence import Persistence
from forecast.refit import FOLDED, MOST_FITS, refit
from forecast.state import State
from tests.forecast.synthetic import T0_S, at, daily

KNOTS = np.array([1, 12], dtype=np.int64)


@dataclass(frozen=True)
class Until:
    """Says up to when it was fitted."""

    until_s: int

    def predict(self, batch: Batch, steps: int) -> Floats:
        assert batch.ts[-1] >= self.until_s, "asked about a moment before its fit"
        return np.full((len(batch.names), steps), float(self.until_s - T0_S))


@dataclass(kw_only=True)
class Teller:
    """Fits `Until`, and counts."""

    name: str = "teller"
    min_points: int = 1
    fits: list[int] = field(default_factory=list)

    def fit(self, batch: Batch) -> Until:
        self.fits.append(int(batch.ts[-1]))
        return Until(int(batch.ts[-1]))


def until(given: Tried, name: str = "teller") -> Floats:
    return given.paths[name][:, 0, 0].astype(np.float64) + T0_S


def test_origins_are_of_the_last_week_fixed_in_time_and_of_all_hours() -> None:
    batch = daily(14, series=2)
    origins = origins_of(batch, 24)
    assert 14 * 288 - 7 * 288 <= origins[0] < origins[-1] < 14 * 288 - 1
    assert 19 * 7 <= len(origins) <= 24 * 7
    assert len(np.unique(batch.ts[origins] % DAY_S)) > 80
    earlier = restricted(batch, 14 * 288 - 1 - 100)
    shared = np.intersect1d(batch.ts[origins], earlier.ts[origins_of(earlier, 24)])
    assert len(shared) > 0.9 * len(origins)


@pytest.mark.parametrize(("days", "first"), [(4, 2.0), (10, 3.0), (28, 21.0), (1.5, 1.0)])
def test_a_short_history_keeps_a_past_to_learn_from(days: float, first: float) -> None:
    assert origins_of(daily(days, series=1), 24)[0] / 288 == pytest.approx(first, abs=0.06)


def test_a_single_series_of_two_days_is_judged_more_often_so_that_it_gets_a_band() -> None:
    batch = daily(2, series=1)
    assert len(origins_of(batch, 24)) > 50
    assert refit(State(), [batch], at(2 * DAY_S)).classes["inlet"].voices is not None


def test_what_was_never_fitted_is_fitted_once_a_day_with_what_was_known_then() -> None:
    batch, teller = daily(5, series=2), Teller()
    found = tried(batch, origins_of(batch, 24), KNOTS, [teller], {})
    assert len(teller.fits) == 3
    assert (until(found) <= found.origin_ts).all()
    assert (found.origin_ts - until(found) < DAY_S).all()
    assert found.made["teller"].all()


def test_dear_models_share_few_fits() -> None:
    batch, teller = daily(12, series=2), Teller()
    found = tried(batch, origins_of(batch, 24), KNOTS, [teller], {}, most_fits={"teller": 3})
    assert len(teller.fits) == 3
    assert (until(found) <= found.origin_ts).all()


def test_the_last_fit_speaks_for_what_came_after_it_and_kept_paths_stay() -> None:
    whole, teller = daily(6, series=2), Teller()
    old = restricted(whole, 5 * 288)
    before = tried(old, origins_of(old, 24), KNOTS, [teller], {})
    fits, new = len(teller.fits), restricted(whole, 5 * 288 + 60)
    known = {"teller": [(int(old.ts[-1]), Until(int(old.ts[-1])))]}
    found = tried(new, origins_of(new, 24), KNOTS, [teller], known, before)
    assert len(teller.fits) == fits
    fresh = found.origin_ts >= old.ts[-1]
    assert fresh.any()
    assert (until(found)[fresh] == old.ts[-1]).all()
    kept = np.isin(found.origin_ts, before.origin_ts)
    np.testing.assert_array_equal(found.paths["teller"][kept], before.paths["teller"][-kept.sum() :])


def test_a_new_series_has_no_paths_in_the_past_unless_it_is_known_for_a_day() -> None:
    batch = daily(5, series=3)
    two = replace(batch, names=batch.names[:2], values=batch.values[:2])
    before = tried(two, origins_of(two, 24), KNOTS, [Persistence()], {})
    fits = Teller()
    young = replace(batch, values=np.where(np.arange(len(batch.ts)) < len(batch.ts) - 200, np.nan, batch.values))
    young.values[:2] = batch.values[:2]
    joined = tried(young, origins_of(young, 24), KNOTS, [Persistence()], {}, before)
    assert np.isnan(joined.paths["persistence"][:, :, 2]).all()
    np.testing.assert_array_equal(joined.paths["persistence"][:, :, :2], before.paths["persistence"])
    tried(batch, origins_of(batch, 24), KNOTS, [fits], {}, replace(before, paths={}, made={}))
    again = tried(batch, origins_of(batch, 24), KNOTS, [Persistence()], {}, before)
    assert np.isfinite(again.paths["persistence"]).all()


def test_refits_of_a_service_judge_with_what_spoke_and_never_make_the_past_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted at ridge: the first refit fits once for its judged days and once for good, the second makes up for each judged
    day, and every hourly one after it fits once."""
    from forecast.models.ridge import Ridge, RidgeFitted

    seen: list[int] = []
    plain = Ridge.fit

    def counted(self: Ridge, batch: Batch) -> RidgeFitted:
        seen.append(int(batch.ts[-1]))
        return plain(self, batch)

    monkeypatch.setattr(Ridge, "fit", counted)
    whole = daily(4.2, series=2)
    state, fits = State(), []
    for column in (4 * 288 - 13, 4 * 288 - 1, 4 * 288 + 11, 4 * 288 + 23):
        seen.clear()
        state = refit(state, [restricted(whole, column)], at(300 * (column + 1)))
        fits.append(len(seen))
    assert fits[0] == 2
    assert 2 <= fits[1] <= 4
    assert fits[2:] == [1, 1]
    klass = state.classes["inlet"]
    assert klass.tried is not None
    assert klass.until_s == whole.ts[4 * 288 + 23]
    assert klass.tried.origin_ts[-1] < klass.until_s
    assert klass.tables["ridge"].points.min() >= 30


def test_trees_join_the_second_refit_for_tokens_with_a_past_of_their_own() -> None:
    """Before that, who starts would wait for them."""
    batch = daily(4, series=2, target="prompt_tok", step_s=900)
    first = refit(State(), [batch], at(4 * DAY_S))
    assert not {"ets", "boosted"} & set(first.classes["prompt_tok"].fitted)
    second = refit(first, [batch], at(4 * DAY_S) + timedelta(minutes=1)).classes["prompt_tok"]
    assert "ets" in second.fitted
    assert second.tried is not None
    assert second.tried.made["ets"].all()
    assert "ets" in MOST_FITS


def test_a_large_class_keeps_no_paths() -> None:
    batch = daily(2, series=FOLDED + 1, step_s=900)
    klass = refit(State(), [batch], at(2 * DAY_S)).classes["inlet"]
    assert klass.tried is None
    assert klass.voices is not None


def test_a_new_interval_costs_no_predictions_of_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """The surprise is what was said against what came; the same as if it had been said anew, while the models are the same."""
    whole = daily(4.2, series=3)
    state = refit(State(), [restricted(whole, 4 * 288 - 1)], at(4 * DAY_S))
    klass = state.classes["inlet"]
    jumped = replace(whole, values=whole.values.copy())
    jumped.values[0, 4 * 288 + 12 :] += 3.0
    for column in range(4 * 288 - 1, 4 * 288 + 14):
        klass = replace(klass, coarse=coarse_paths(klass, restricted(jumped, column), 13, ["persistence"]))
    asked: list[Sequence[str]] = []
    monkeypatch.setattr("forecast.coarse._alone", lambda *given: asked.append(given))
    last = restricted(jumped, 4 * 288 + 14)
    found = coarse_paths(klass, last, 13, ["persistence"])
    monkeypatch.undo()
    assert not asked
    anew = coarse_paths(replace(klass, coarse=None), last, 13, ["persistence"])
    np.testing.assert_allclose(found.surprise, anew.surprise, rtol=1e-4)
    assert found.surprise[0] > 3 * found.surprise[1]
    assert len(found.trail) == 12
