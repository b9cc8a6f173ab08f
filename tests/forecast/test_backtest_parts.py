"""The backtest in parts: no order or dealing of tasks changes a figure, no future leaks, no bad input costs the others."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from contracts.errors import InputError
from contracts.ports import Batch, Fitted
from contracts.registry import FORECASTERS
from forecast.backtest import Result, join
from forecast.backtest_report import judged
from forecast.backtest_series import Table, known_at, outcomes, tabled
from forecast.backtest_tasks import Plan, plan, run
from forecast.voices import CHAMPION
from tests.forecast.synthetic import T0_S, daily, frame_of

STEP_S = 1_800
HORIZONS = {"30m": STEP_S, "2h": 4 * STEP_S}
MODELS = ("ridge", "seasonal_mean")
Change = Callable[[pl.DataFrame], pl.DataFrame]


class Broken:
    """A model that never fits."""

    name = "broken"
    min_points = 1

    def fit(self, batch: Batch) -> Fitted:
        raise ArithmeticError(f"singular, with {len(batch.names)} series")


def batch(days: float = 7) -> Batch:
    return daily(days, step_s=STEP_S, target="load", level=20.0, noise=0.3)


def planned(given: Batch, **options: Any) -> Plan:
    table = Table(batch=given, left_out=(), notes=())
    usual: dict[str, Any] = {"models": MODELS, "test": 0.5, "origins_per_day": 6}
    return plan(table, HORIZONS, **(usual | options))


def done(given: Plan) -> Result:
    return join(given, [run(task, given.table.batch, lambda: 0.0) for task in given.tasks])


@pytest.fixture(scope="module")
def whole() -> Result:
    return done(planned(batch()))


def test_neither_order_nor_dealing_of_the_tasks_changes_a_figure(whole: Result) -> None:
    dealt = planned(batch(), split=3)
    assert len(dealt.tasks) == 3 * len(whole.plan.tasks)
    parts = [run(task, dealt.table.batch, lambda: 0.0) for task in reversed(dealt.tasks)]
    again = join(dealt, parts)
    assert again.report == whole.report
    for name, quantiles in whole.quantiles.items():
        np.testing.assert_array_equal(again.quantiles[name], quantiles)


@pytest.mark.parametrize("poison", [1e7, 0.0, math.nan, 20_000.0])
def test_a_poisoned_future_reaches_nobody(whole: Result, poison: float) -> None:
    given = batch()
    first = len(given.ts) - 70  # within a day, so that some of its origins are before and some after
    values = given.values.copy()
    values[:, first:] = poison
    dirty = done(planned(replace(given, values=values)))
    for name, past in whole.rolled.pasts.items():
        early = past.origins < first
        assert early.any()
        assert (~early).any()
        other = dirty.rolled.pasts[name]
        np.testing.assert_allclose(other.paths[early], past.paths[early], rtol=1e-12)
        np.testing.assert_array_equal(other.scale[early], past.scale[early])
        np.testing.assert_allclose(dirty.quantiles[name][early], whole.quantiles[name][early], rtol=1e-12)
    at_s = int(given.ts[first])
    early_choices, same = ([c for c in one.rolled.choices if c.at.timestamp() < at_s] for one in (whole, dirty))
    assert early_choices == same
    np.testing.assert_array_equal(dirty.rolled.batch.values[:, :first], whole.rolled.batch.values[:, :first])


def test_cutting_comes_before_cleaning() -> None:
    given = batch()
    values = given.values.copy()
    values[1, 200:203] = 0.0  # a hole that has ended is masked; one that goes on may be a service that stopped
    holed = replace(given, values=values)
    assert np.isnan(known_at(holed, 210).batch.values[1, 200:203]).all()
    then = known_at(holed, 201)
    other = np.concatenate([values[:, :202], np.full_like(values[:, 202:], 5.0)], axis=1)
    np.testing.assert_array_equal(known_at(replace(given, values=other), 201).batch.values, then.batch.values)
    # An outcome counts as it was believed at the first moment that had it, whatever is found out later.
    seen = outcomes(holed, [known_at(holed, 200), known_at(holed, 210)], 199)
    assert seen[1, 1] == 0.0
    assert np.isnan(seen[1, 2:4]).all()
    assert seen.shape == (3, 12)


def test_the_reports_figures_come_from_the_kept_arrays(whole: Result) -> None:
    own = judged(whole.rolled, whole.quantiles[CHAMPION], whole.plan.horizons["2h"])
    scored = [s for s in whole.report.scores if (s.model, s.horizon) == (CHAMPION, "2h")]
    for i, one in enumerate(scored):
        there = ~np.isnan(own.actual[:, i]) & ~np.isnan(own.quantiles[:, i]).any(axis=1)
        assert one.banded == there.sum()
        assert one.below_99 == pytest.approx(np.mean(own.actual[there, i] <= own.quantiles[there, i, -1]))
    persistence = [o for o in whole.report.overall if o.model == "persistence"]
    assert [o.vs_persistence for o in persistence] == [1.0, 1.0]
    assert [o.vs_seasonal for o in whole.report.overall if o.model == "seasonal_naive"] == [1.0, 1.0]


def test_a_model_that_fails_costs_only_itself(whole: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORECASTERS, "broken", f"{__name__}:Broken")
    found = done(planned(batch(), models=(*MODELS, "broken")))
    assert {(model, why) for model, _, why in found.report.failed} == {("broken", "ArithmeticError: singular, with 3 series")}
    assert len(found.report.failed) == len(found.plan.tasks)
    assert [s for s in found.report.scores if s.model != "broken"] == list(whole.report.scores)
    assert all(s.points == 0 and s.mase is None for s in found.report.scores if s.model == "broken")


def changed(values: pl.Expr) -> Change:
    return lambda frame: frame.with_columns(value=values)


def local(frame: pl.DataFrame) -> pl.DataFrame:
    """Times of a clock on the wall in Berlin, as text without offset, over the night in which it is set back."""
    moved = frame["ts"] + (datetime(2026, 10, 22) - datetime(2026, 6, 1))  # noqa: DTZ001
    berlin = moved.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin").dt.replace_time_zone(None)
    return frame.with_columns(ts=berlin)


LATE = pl.int_range(pl.len()) > 250
AT = pl.int_range(pl.len())
BAD: dict[str, tuple[Change, str]] = {
    "constant": (changed(pl.lit(5.0)), "constant: 5 in all"),
    "all gap": (changed(pl.lit(None, dtype=pl.Float64)), "no reading at all"),
    "two points": (lambda f: f.filter(AT.is_in([10, 12])), "0.1 days of history; 4 are needed"),
    "far points": (lambda f: f.filter(AT.is_in([10, 300])), ""),
    "repeated": (lambda f: pl.concat([f, f.head(9)]), "repeated: 9 times given twice"),
    "unsorted": (lambda f: f.reverse(), "put in order"),
    "infinite": (changed(pl.when(AT % 50 == 7).then(math.inf).otherwise(pl.col("value"))), "infinite: 7 readings"),
    "negative": (changed(pl.when(AT % 50 == 7).then(-1.0).otherwise(pl.col("value"))), "out of range: 7 readings"),
    "unit": (changed(pl.when(LATE).then(1e3 * pl.col("value")).otherwise(pl.col("value"))), "unit: 1000 times"),
    "clock jump": (
        lambda f: f.with_columns(ts=pl.when(LATE).then(pl.col("ts") - timedelta(hours=3)).otherwise(pl.col("ts"))),
        "repeated: 6 times given twice",
    ),
    "wild stamp": (
        lambda f: f.with_columns(ts=pl.when(AT == 3).then(pl.lit(datetime(1970, 1, 1))).otherwise(pl.col("ts"))),  # noqa: DTZ001
        "times: 1 rows far from all others",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_scored_or_left_out_with_a_reason(kind: str) -> None:
    change, said = BAD[kind]
    frame = frame_of(batch())
    bad = change(frame.filter(pl.col("series") == "s0")).with_columns(series=pl.lit("bad"))
    report = done(plan(tabled(pl.concat([frame, bad]), "load"), HORIZONS, models=("seasonal_mean",), origins_per_day=8)).report
    scored, left_out = {s.series for s in report.scores}, dict(report.left_out)
    assert scored == {"s0", "s1", "s2"} | ({"bad"} - left_out.keys())
    told = [left_out.get("bad", ""), *(note.note for note in report.notes if note.series == "bad")]
    assert any(said in words for words in told), told
    assert not any(note.series != "bad" for note in report.notes)
    figures = [value for one in report.scores for value in msgspec.structs.astuple(one) if isinstance(value, float)]
    assert np.isfinite(figures).all()
    champion = [s for s in report.scores if s.model == CHAMPION and s.series == "bad"]
    assert all(s.points > 0 and s.banded > 0 for s in champion if kind != "far points")


def test_a_clock_that_is_set_back_is_named() -> None:
    with_offset = frame_of(batch()).filter(pl.col("series") == "s0")
    report = done(plan(tabled(local(with_offset), "load"), HORIZONS, models=("seasonal_mean",), origins_per_day=8)).report
    (note,) = [note.note for note in report.notes if note.note.startswith("repeated")]
    assert note.startswith("repeated: 2 times given twice, averaged (local time without offset?")


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (pl.DataFrame(), "columns none, 0 rows"),
        (pl.DataFrame({"ts": ["soon"], "series": ["a"], "value": [1.0]}), "'soon' is no time"),
        (pl.DataFrame({"ts": ["2026-07-15T00:00:00"], "series": ["a"], "value": ["x"]}), "value must be numbers"),
        (pl.DataFrame({"ts": ["2026-07-15T00:00:00"], "series": ["a"], "value": [1.0]}), "one point per series"),
        (pl.DataFrame({"ts": [None], "series": ["a"], "value": [1.0]}), "no row has a time"),
        (
            pl.DataFrame({"ts": ["2026-07-15T00:00:00", "2026-07-15T00:10:00"], "series": ["a"] * 2, "value": [1.0, 2.0]}),
            "none of 1 can be judged: a: 0.0 days",
        ),
    ],
)
def test_a_table_with_nothing_usable_is_refused_in_one_line(frame: pl.DataFrame, why: str) -> None:
    with pytest.raises(InputError, match=why) as refused:
        tabled(frame, "load")
    assert "\n" not in str(refused.value)


def test_what_is_not_observed_in_the_scored_part_is_left_out() -> None:
    frame = frame_of(batch(10))
    end = datetime.fromtimestamp(T0_S + 6 * 86_400, UTC).replace(tzinfo=None)
    cut = frame.filter((pl.col("series") != "s1") | (pl.col("ts") <= end))
    given = plan(tabled(cut, "load"), HORIZONS)
    assert given.table.left_out == (("s1", "nothing observed in the scored part"),)
    assert given.table.batch.names == ("s0", "s2")
    with pytest.raises(InputError, match="scored part must be above 0 and at most"):
        plan(tabled(cut, "load"), HORIZONS, test=0.9)


def test_a_cutoff_hides_what_comes_after() -> None:
    frame = frame_of(batch())
    end = datetime.fromtimestamp(T0_S + 5 * 86_400, UTC)
    assert tabled(frame, "load", cutoff=end).batch.ts[-1] == T0_S + 5 * 86_400
