"""The window tells the same as reading all anew, whatever was read in between."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldaisle import series_window
from coldaisle.series_window import SeriesWindow
from forecast.batches import to_batch
from tests.factories import NOW

STEP_S = 300


class Told:
    """A history whose rows appear with time: (ts, arrived, series, value)."""

    def __init__(self, rows: list[tuple[datetime, datetime, str, float]]) -> None:
        self.rows, self.asked = rows, 0

    def query(self, sql: str, params: object = None) -> pl.DataFrame:
        raise NotImplementedError

    def series(
        self,
        target: str,  # noqa: ARG002
        *,
        as_of: datetime,
        since: datetime,
        until: datetime | None = None,
        step_s: int = 300,  # noqa: ARG002
    ) -> pl.DataFrame:
        end = min(until or as_of, as_of)
        seen = [(ts, s, v) for ts, arrived, s, v in self.rows if since < ts <= end and arrived <= as_of]
        self.asked += len(seen)
        frame = pl.DataFrame(
            {
                "ts": [ts.astimezone(UTC).replace(tzinfo=None) for ts, _, _ in seen],
                "series": [s for _, s, _ in seen],
                "value": [v for _, _, v in seen],
            },
            schema={"ts": pl.Datetime("us"), "series": pl.String, "value": pl.Float64},
        )
        return frame.sort("series", "ts")


def rows(count: int, names: tuple[str, ...], seed: int = 1) -> list[tuple[datetime, datetime, str, float]]:
    rng = np.random.default_rng(seed)
    ends = [NOW + timedelta(seconds=STEP_S * k) for k in range(-count + 1, 40)]
    return [
        (end, end + timedelta(seconds=float(rng.uniform(0, 700))), name, float(rng.uniform(1, 9)))
        for name in names
        for end in ends
        if rng.uniform() > 0.1
    ]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 99))
def test_it_tells_what_reading_all_anew_tells(steps: list[int], seed: int) -> None:
    told = Told(rows(60, ("b", "a", "c"), seed))
    window, span = SeriesWindow(told), timedelta(seconds=STEP_S * 30)
    series_window.SLACK, kept = 7, series_window.SLACK
    try:
        now = NOW
        for step in steps:
            now += timedelta(seconds=STEP_S * step)
            batch = window.batch("power", STEP_S, span, now)
            if now > NOW + timedelta(seconds=STEP_S * 35):
                break
            assert batch is not None
            anew = to_batch(
                told.series("power", as_of=now, since=now - span, step_s=STEP_S),
                "power",
                STEP_S,
                now,
                now - span,
                names=batch.names,
            )
            assert batch.ts.tolist() == anew.ts.tolist()
            early = len(batch.ts) - series_window.OVERLAP
            same = (batch.values == anew.values) | (np.isnan(batch.values) & np.isnan(anew.values))
            # What came later than OVERLAP steps after its interval is not seen again: there it may only be absent.
            assert (same[:, early:]).all()
            assert np.isnan(batch.values[:, :early][~same[:, :early]]).all()
    finally:
        series_window.SLACK = kept


def test_within_an_interval_nothing_is_read_again_and_the_batch_is_the_same() -> None:
    told = Told(rows(60, ("a",)))
    window, span = SeriesWindow(told), timedelta(hours=3)
    first = window.batch("inlet", STEP_S, span, NOW)
    asked = told.asked
    assert window.batch("inlet", STEP_S, span, NOW + timedelta(seconds=STEP_S - 1)) is first
    assert told.asked == asked
    second = window.batch("inlet", STEP_S, span, NOW + timedelta(seconds=STEP_S))
    assert second is not None
    assert second is not first
    assert told.asked - asked <= series_window.OVERLAP + 1
    assert (second.lower, second.upper) == (-40.0, 80.0)


def test_series_that_appear_later_have_gaps_before_and_many_take_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_window, "MANY", 1)
    old = [(NOW, NOW, "a", 1.0)]
    new = NOW + timedelta(seconds=STEP_S)
    told = Told([*old, (new, new, "a", 2.0), (new, new, "b", 3.0)])
    window = SeriesWindow(told)
    first = window.batch("power", STEP_S, timedelta(hours=1), NOW)
    assert first is not None
    assert first.names == ("a",)
    second = window.batch("power", STEP_S, timedelta(hours=1), new)
    assert second is not None
    assert second.names == ("a", "b")
    assert second.values.dtype == np.float32
    assert second.values[:, -1].tolist() == [2.0, 3.0]
    assert np.isnan(second.values[1, :-1]).all()


def test_without_any_row_there_is_no_batch() -> None:
    assert SeriesWindow(Told([])).batch("load", STEP_S, timedelta(hours=1), NOW) is None


def test_a_long_window_is_read_in_few_portions_and_a_large_one_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(rows(288 * 8, ("a", "b")))
    asked: list[timedelta] = []
    plain = told.series

    def series(
        target: str, *, as_of: datetime, since: datetime, until: datetime | None = None, step_s: int = 300
    ) -> pl.DataFrame:
        asked.append((until or as_of) - since)
        return plain(target, as_of=as_of, since=since, until=until, step_s=step_s)

    monkeypatch.setattr(told, "series", series)
    SeriesWindow(told).batch("power", STEP_S, timedelta(days=7), NOW)
    assert asked == [timedelta(days=1), timedelta(days=6)]
    asked.clear()
    monkeypatch.setattr(series_window, "CHUNK_ROWS", 400)
    SeriesWindow(told).batch("power", STEP_S, timedelta(days=7), NOW)
    assert asked == [timedelta(days=1)] * 7
