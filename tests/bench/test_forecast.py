"""The judge of forecasts: what it scores, what nobody may see, and what a line says."""

import importlib
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bench import forecast as bench
from bench import forecast_lines as lines
from bench import forecast_ours
from bench import forecast_peers as peers
from bench import forecast_plants as plants
from bench import forecast_sets as sets
from bench import forecast_speed as speed
from bench.forecast_ours import Issued, Way, issued
from bench.forecast_scores import Scored, coverage, mase_ratio, naive, ours, pinball_ratio, yesterday
from contracts.forecasts import LEVELS
from forecast import produce
from forecast.grids import Floats
from forecast.intervals import Interval
from forecast.state import State

DAY = sets.DAY


def curve(days: float, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    at = np.arange(int(days * DAY))
    return 100 + 40 * np.sin(2 * np.pi * at / DAY) + np.convolve(rng.normal(0, 5, len(at)), np.ones(4), mode="same")


@pytest.fixture(scope="module")
def pair() -> sets.Judged:
    return sets.judged("level", "load", {"m-large": ("model", curve(9)), "b": ("model", curve(5, 1))}, "test")


def told(given: sets.Judged, shift: float = 0.0) -> Scored:
    """Persistence, moved, with bands of +-20."""
    origins = np.arange(int(given.first.min()), len(given.batch.ts) - 1)
    now = given.batch.values.T[origins]
    offset = np.array([-20, -15, -5, 0, 5, 15, 20]) + shift
    seconds = np.array(lines.HORIZONS_S)
    values = np.repeat((now[:, :, None] + offset)[:, :, None], len(seconds), axis=2)
    return Scored(given=given, issued=Issued(origins=origins, seconds=seconds, levels=LEVELS, values=values, spoke=()))


def test_series_keep_their_time_of_day_and_their_own_parts(pair: sets.Judged) -> None:
    assert pair.begins.tolist() == [0, 4 * DAY]
    assert pair.ends.tolist() == [9 * DAY, 9 * DAY]
    assert pair.first.tolist() == [int(0.7 * 9 * DAY), 4 * DAY + int(0.7 * 5 * DAY)]
    assert np.isnan(pair.batch.values[1, : 4 * DAY]).all()


def test_the_development_part_holds_nothing_of_the_test_part() -> None:
    series = {"a": ("model", curve(9)), "b": ("model", curve(5, 1))}
    poisoned = {name: (group, np.where(np.arange(len(v)) < len(v) * 7 // 10, v, 1e9)) for name, (group, v) in series.items()}
    ours, theirs = (sets.judged("x", "load", some, "dev") for some in (series, poisoned))
    np.testing.assert_array_equal(ours.batch.values, theirs.batch.values)
    assert (ours.ends - ours.begins).tolist() == [int(0.7 * 9 * DAY), int(0.7 * 5 * DAY)]


def test_azures_points_are_held_not_interpolated() -> None:
    week = pl.DataFrame({"minute_of_week": [7.2, 14.4, 21.6, 28.8], "mid_rpm": [60, 120, 180, 240]})
    assert sets.held(week)[:3].tolist() == [1.0, 2.0, 4.0]


def test_a_forecast_of_the_last_value_stands_at_one(pair: sets.Judged) -> None:
    one = told(pair)
    assert mase_ratio([one], 1_200, ours, naive, series_too=False)[:3] == (1.0, 1.0, 1.0)
    worse = mase_ratio([told(pair, 50.0)], 1_200, ours, naive, series_too=False)
    assert worse.lo > 2
    assert worse.pairs == sum(pair.ends - pair.first - 2)


def test_pairs_end_with_the_series_and_leave_gaps_out(pair: sets.Judged) -> None:
    one = told(pair)
    assert np.isnan(one.actual(86_400)[-DAY + 1 :]).all()
    before = pair.batch.values.copy()
    before[0, -5] = np.nan
    gap = Scored(given=replace(pair, batch=replace(pair.batch, values=before)), issued=one.issued)
    assert (~np.isnan(one.actual(1_200))).sum() == (~np.isnan(gap.actual(1_200))).sum() + 1


def test_yesterday_and_coverage_are_what_they_say(pair: sets.Judged) -> None:
    one = told(pair)
    o = 10
    at = one.issued.origins[o]
    assert yesterday(one, 3_600)[o, 0] == pair.batch.values[0, at + 6 - DAY]
    assert yesterday(one, 86_400)[o, 0] == pair.batch.values[0, at]
    error = one.actual(600) - one.persistence(600)
    inside = np.abs(error[~np.isnan(error)]) <= 15
    assert coverage([one], [600], 0.05, 0.95, series_too=False).value == pytest.approx(inside.mean())


def test_gaussian_persistence_knows_no_error_of_the_future(pair: sets.Judged) -> None:
    one = told(pair)
    values = pair.batch.values.copy()
    values[:, -DAY:] *= 100
    other = Scored(given=replace(pair, batch=replace(pair.batch, values=values)), issued=one.issued)
    begin = int(np.searchsorted(one.issued.origins, len(pair.batch.ts) - DAY))
    np.testing.assert_array_equal(one.gaussian(1_200, 0.99)[:begin], other.gaussian(1_200, 0.99)[:begin])
    assert pinball_ratio([one], 1_200, 0.99, series_too=False).value > 0


def test_a_bar_is_met_when_the_interval_does_not_exclude_it() -> None:
    near, far = Interval(0.98, 0.94, 1.02, 100), Interval(0.99, 0.97, 1.02, 100)
    assert lines.line("x", "y", near, lines.at_most(0.95), lines.at_most(0.9)) == {
        "what": "x", "set": "y", "value": 0.98, "lo": 0.94, "hi": 1.02, "pairs": 100,
        "bar": [None, 0.95], "met": True, "point_met": False, "goal": [None, 0.9], "goal_met": False,
    }  # fmt: skip
    assert not lines.at_most(0.95).holds(far)
    assert lines.around(0.9, 0.015).holds(Interval(0.92, 0.914, 0.93, 9))
    assert not lines.at_most(1.0).holds(Interval(float("nan"), float("nan"), float("nan"), 0))


def test_row_maxima_are_judged_by_how_often_they_are_exceeded() -> None:
    record = {"kind": "week", "forecaster": "ours", "window_s": 45.0, "low": 4e-4, "high": 8e-4, "windows": 1000}
    records = [record | {"beyond": 0.001, "observed": 6e-4}, record | {"beyond": 0.01, "observed": 6e-3}]
    (found,) = lines.maxima(records)
    assert (found["value"], found["lo"], found["met"], found["bar"]) == (6e-4, 4e-4, True, [0.0005, 0.002])
    assert not lines.maxima([record | {"beyond": 0.001, "observed": 4e-3, "low": 3e-3, "high": 5e-3}])[0]["met"]


def test_where_naive_wins_is_listed(pair: sets.Judged) -> None:
    found = lines.naive_wins({"level": [told(pair, 50.0)]})
    assert {(one["series"], one["naive"]) for one in found} >= {("all", "persistence"), ("m-large", "persistence")}
    assert all(one["value"] > 1 for one in found)


def test_peers_are_asked_evenly_and_answer_on_our_grid(pair: sets.Judged, tmp_path: Path) -> None:
    asked = peers.shared(pair, 40)
    assert asked.group_by("series").len()["len"].to_list() == [20, 20]
    first = asked.filter((pl.col("series") == "b") & (pl.col("rank") < 4))["origin"].sort().to_list()
    gaps = np.diff([pair.first[1] - pair.begins[1], *first])
    assert max(gaps) <= 2 * max(min(gaps[1:]), 1)
    (tmp_path / "answers").mkdir()
    row = {"set": ["level"], "series": ["b"], "origin": [first[1]], "step": [2], "value": [7.0], "fit_s": [0.1]}
    pl.DataFrame(row).write_parquet(tmp_path / "answers" / "AutoTheta-0000.parquet")
    one = told(pair)
    table = peers.on_grid(peers.answers(tmp_path, "AutoTheta"), pair, one.issued.origins, 2)
    o, s = np.argwhere(~np.isnan(table))[0]
    assert (~np.isnan(table)).sum() == 1
    assert (one.issued.origins[o] - pair.begins[s], pair.batch.names[s]) == (first[1], "b")
    long = peers.long(pair).filter(pl.col("series") == "b")["value"].to_numpy()
    assert long[first[1]] == pair.batch.values[1, one.issued.origins[o]]


def test_on_a_finer_grid_peers_are_asked_where_ours_speak() -> None:
    rows = {"r1": ("row", curve(8)), "r2": ("row", curve(7, 1))}
    given = sets.judged("rows", "power", rows, "test", step_s=300)
    asked = peers.shared(given, 60)
    begins = dict(zip(given.batch.names, given.begins.tolist(), strict=True))
    ends = dict(zip(given.batch.names, given.ends.tolist(), strict=True))
    for series, origin in asked.select("series", "origin").iter_rows():
        column = origin + begins[series]
        assert (column - int(given.first.min())) % 2 == 0
        assert column + 12 < ends[series]


def test_ours_meets_peers_on_their_pairs_only(pair: sets.Judged) -> None:
    one = told(pair)
    o, s = 5, 0
    step = 2
    row = {"set": ["level"], "series": ["m-large"], "origin": [int(one.issued.origins[o] - pair.begins[s])], "step": [step]}
    actual = float(one.actual(1_200)[o, s])
    twice = actual + 2 * (actual - float(one.persistence(1_200)[o, s]))
    found = lines.peers([one], {"AutoTheta": pl.DataFrame({**row, "value": [twice], "fit_s": [0.1]})})
    mine = next(x for x in found if x["what"] == "15 min: ours / AutoTheta")
    assert (mine["value"], mine["pairs"], mine["series"], mine["met"]) == (0.5, 1, 1, True)
    assert next(x for x in found if x["what"] == "24 h: ours / AutoTheta")["value"] is None


@pytest.mark.parametrize(("way", "days", "stride"), [("service", 3, 24), ("backtest", 5, 8)])
def test_our_forecasts_do_not_peek(way: Way, days: int, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_ours, "installed", lambda _: ("ridge",))  # the backtest's line-up; of the service's all stand
    series = {"a": ("model", curve(days)), "b": ("model", curve(days, 1))}
    given = sets.judged("level", "inlet", series, "test")
    seconds = [1_200, 3_600]
    one = issued(given, seconds, way=way, stride=stride, told=lambda _: None)
    cut = int(one.origins[3])
    values = given.batch.values.copy()
    values[:, cut + 1 :] = 1e6
    poisoned = replace(given, batch=replace(given.batch, values=values))
    other = issued(poisoned, seconds, way=way, stride=stride, told=lambda _: None)
    np.testing.assert_array_equal(one.values[:4], other.values[:4])
    assert np.isfinite(one.values[:, :, 0, 3]).any()


def test_a_quick_look_knows_the_last_days_only(pair: sets.Judged) -> None:
    few = sets.lately(pair, 12, 2)
    assert len(few.batch.ts) == 2 * DAY + DAY // 2
    assert few.first.tolist() == [2 * DAY] * 2
    np.testing.assert_array_equal(few.batch.values, pair.batch.values[:, -len(few.batch.ts) :])
    assert few.batch.ts[few.ends[0] - 1] == pair.batch.ts[pair.ends[0] - 1]


def test_plants_are_judged_over_servers_and_days() -> None:
    errors = {"inlet_c": [np.full(2_016, 0.2), np.full(2_016, 1.4)], "airflow_cfm": [np.full(2_016, 3.0)]}
    inlet, air = plants.scored(errors)
    assert (inlet["value"], inlet["worst"], inlet["units"], inlet["met"], inlet["bar"]) == (0.8, 1.4, 2, True, [None, 1.0])
    assert "bar" not in air
    assert not plants.scored({"server_power_w": [np.full(2_016, 3.1)] * 4})[0]["met"]


def test_what_a_large_class_did_not_come_to_is_said() -> None:
    found = {one["what"]: one for one in speed.of_many({"first_refit_s": 30.0, "rss_mib": 900.0, "before_mib": 500.0}, 10_000)}
    assert "not done" in found["tick of 10,000 series, ms"]["absent"]
    assert found["peak memory with 10,000 series, MiB"]["met"]
    ticks = speed.of_many({"tick_ms": [90.0, 95.0, 300.0]}, 10_000)[0]
    assert (ticks["value"], ticks["hi"], ticks["met"], ticks["goal_met"]) == (95.0, 300.0, True, False)


def test_ticks_are_those_of_a_quarter_of_an_hour() -> None:
    whole = speed.series(4, 4, 300, "inlet")
    batch = speed.cut(whole, len(whole.ts) - 3)
    fine = speed.minutes(whole, int(batch.ts[-1]) + 60)
    assert (fine.step_s, fine.values.shape) == (60, (4, 180))
    assert fine.values.dtype.itemsize == 4
    assert fine.ts[-1] == batch.ts[-1] + 60
    state = produce.refit(State(), [batch], datetime.fromtimestamp(int(batch.ts[-1]), UTC))
    found = speed.ticks(state, whole, int(batch.ts[-1]))
    assert [len(samples) for samples in found.values()] == [1, 2, 12]
    assert all(sample > 0 for samples in found.values() for sample in samples)


def test_the_planner_is_asked_for_its_next_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "core/load/predictors.py": "class Growth:\n"
        "    def __init__(self, config):\n        self.config, self.seen = config, []\n"
        "    def add_data_point(self, value):\n        self.seen.append(value)\n"
        "    def predict_next(self):\n        return 2 * self.seen[-1] - self.seen[-2]\n"
        "LOAD_PREDICTORS = {'kalman': Growth}\n",
        "config/planner_config.py": "from types import SimpleNamespace as PlannerConfig\n",
        "__init__.py": "raise ImportError('a cluster is wanted')\n",
    }
    for name, text in files.items():
        (tmp_path / "dynamo" / "planner" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dynamo" / "planner" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(peers.HERE))
    kept = dict(sys.modules)
    try:
        predict = importlib.import_module("planner").planner("kalman", np.asarray, lambda _: 600)
        said = predict(np.arange(100.0) ** 2, (2, 6))
    finally:
        for name in set(sys.modules) - set(kept):
            if name.split(".")[0] in ("dynamo", "planner"):
                del sys.modules[name]
    assert said.tolist() == pytest.approx([2 * 99**2 - 97**2, 2 * 99**2 - 93**2])


def test_without_data_every_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COLDAISLE_DATA", raising=False)
    report = tmp_path / "r.json"
    monkeypatch.setattr("sys.argv", ["bench.forecast", "--quick", "--report", str(report)])
    bench.main()
    found = json.loads(report.read_text())
    assert found["load_15m_vs_persistence"] is None
    assert all("absent" in one for one in found["lines"])
    assert set(bench.KEYS) <= set(found)
