from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from contracts.errors import InputError
from forecast.backtest import backtest, batch_of, rolling
from forecast.backtest_report import Report
from forecast.scores import pinball, score, seasonal_scale
from forecast.voices import CHAMPION
from tests.forecast.synthetic import daily, frame_of

MODELS = ("ridge", "autoreg", "kalman")
FIGURES = {"mase", "pinball_99", "coverage_90", "coverage_98", "below_99", "vs_persistence", "vs_seasonal"}


@pytest.fixture(scope="module")
def report() -> Report:
    ticks = iter(range(1_000_000))
    frame = frame_of(daily(10, step_s=600, target="load", level=20.0, noise=0.3))
    return backtest(frame, {"20m": 1_200, "1h": 3_600}, models=MODELS, origins_per_day=48, timer=lambda: float(next(ticks)))


def test_every_model_horizon_and_series_is_scored(report: Report) -> None:
    found = {(s.model, s.horizon, s.series) for s in report.scores}
    models = {"persistence", "seasonal_naive", *MODELS, "blend", "ensemble", CHAMPION}
    assert found == {(m, h, f"s{i}") for m in models for h in ("20m", "1h") for i in range(3)}
    assert set(report.scores[0].__struct_fields__) >= FIGURES | {"model", "horizon", "series"}
    assert report.fit_s > 0
    assert report.predict_s > 0
    assert set(report.selected) == {"hour"}, "both horizons lie between 15 min and 1 h"


def test_the_champion_beats_the_naive_ones_where_there_is_a_daily_curve(report: Report) -> None:
    champion = [s for s in report.scores if s.model == CHAMPION and s.horizon == "1h"]
    assert np.mean([s.vs_persistence or np.inf for s in champion]) < 0.9
    assert np.mean([s.vs_seasonal or np.inf for s in champion]) < 1.0


def test_bands_cover_what_they_promise(report: Report) -> None:
    ridge = [s for s in report.scores if s.model == "ridge"]
    assert np.mean([s.coverage_90 or 0.0 for s in ridge]) == pytest.approx(0.9, abs=0.05)
    assert np.mean([s.below_99 or 0.0 for s in ridge]) == pytest.approx(0.99, abs=0.02)


def test_a_poisoned_future_changes_nothing_before_it() -> None:
    batch = daily(6, step_s=600, target="load", level=20.0)
    poison = len(batch.ts) - 200
    values = batch.values.copy()
    values[:, poison:] = 1e7
    clean, dirty = (
        rolling(b, [1, 6], models=MODELS, origins_per_day=24, timer=lambda: 0.0) for b in (batch, replace(batch, values=values))
    )
    for name, past in clean.pasts.items():
        early = past.origins < poison
        assert early.any()
        assert (~early).any()
        np.testing.assert_array_equal(past.paths[early], dirty.pasts[name].paths[early])
        np.testing.assert_array_equal(past.scale[early], dirty.pasts[name].scale[early])


def test_scores_have_their_known_answers() -> None:
    actual = np.array([1.0, 2.0, 3.0, np.nan])
    levels = (0.01, 0.05, 0.5, 0.95, 0.99)
    quantiles = np.array([[0.0, 0.5, 1.0, 1.5, 2.5]] * 4)
    found = score(
        "m",
        "1h",
        "s",
        actual=actual,
        path=np.array([1.0, 1.0, 1.0, 1.0]),
        quantiles=quantiles,
        levels=levels,
        scale=2.0,
        persistence=np.array([3.0, 4.0, 5.0, 0.0]),
        seasonal=np.array([np.nan, 4.0, 3.0, 0.0]),
    )
    assert (found.points, found.mase) == (3, 0.5)
    assert (found.coverage_90, found.coverage_98, found.below_99) == pytest.approx((1 / 3, 2 / 3, 2 / 3))
    assert found.pinball_99 == pytest.approx((0.01 * 1.5 + 0.01 * 0.5 + 0.99 * 0.5) / 3 / 2)
    assert (found.vs_persistence, found.vs_seasonal) == (0.5, 1.5)


def test_pinball_and_scale() -> None:
    np.testing.assert_allclose(pinball(np.array([3.0, 1.0]), np.array([2.0, 2.0]), 0.99), [0.99, 0.01])
    two_days = np.concatenate([np.full(144, 1.0), np.full(144, 3.0)])[None]
    assert seasonal_scale(two_days, 600) == [2.0]
    assert np.isnan(seasonal_scale(two_days[:, :144], 600)).all()


def test_unusable_input_is_refused_in_one_line() -> None:
    frame = frame_of(daily(6, step_s=600, target="load"))
    with pytest.raises(InputError, match="horizon 15m: the series' step is 600 s"):
        backtest(frame, {"15m": 900})
    with pytest.raises(InputError, match=r"2.0 days of history"):
        batch_of(frame.filter(pl.col("ts") <= frame["ts"].min() + pl.duration(days=2) - pl.duration(minutes=10)), "load")
    with pytest.raises(InputError, match="give rows with ts, series and value"):
        batch_of(frame.drop("value"), "load")
