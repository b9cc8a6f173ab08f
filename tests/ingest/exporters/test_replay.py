import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.errors import InputError
from contracts.ports import Collected
from ingest.codec import frame_of
from ingest.exporters.replay import RateReplay, ReplayExporter, ReplaySettings, TraceReplay
from ingest.workload import generated
from tests.factories import NOW


def run(exporter: ReplayExporter, seconds: int, begin: datetime = NOW) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All rows of `seconds` calls a second apart, checked against the schemas."""
    found: list[Collected] = []
    for second in range(seconds + 1):
        found += exporter.collect(begin + timedelta(seconds=second))
    frames = {topic: [frame_of(topic, c.columns) for c in found if c.topic == topic] for topic in ("requests", "facility")}
    return pl.concat(frames["requests"]), pl.concat(frames["facility"])


def test_replays_a_generated_week_without_inventing_what_it_cannot_know() -> None:
    requests, facility = run(ReplayExporter(ReplaySettings(peak_rps=20.0, endpoint="chat", model="m")), 120)
    assert requests.height > 500
    assert requests["request_id"].n_unique() == requests.height
    assert requests["endpoint"].unique().to_list() == ["chat"]
    assert (requests["ts"] == requests["received_at"]).all()
    assert requests["ts"].is_sorted()
    assert requests["ts"].is_between(NOW.replace(tzinfo=None), (NOW + timedelta(seconds=120)).replace(tzinfo=None)).all()
    unknown = ["status", "ttft_s", "tbt_s", "e2e_s", "node", "cached_tokens", "weight"]
    assert requests.select(pl.col(unknown).is_not_null().any()).row(0) == (False,) * len(unknown)
    assert facility.select("kind", "unit").unique().rows() == [("site", "site")]
    assert facility.height == 3  # one a minute
    assert facility["power_w"].is_null().all()


def test_the_temperature_is_that_of_the_day_of_the_year() -> None:
    def afternoon_c(month: int) -> float:
        (found,) = ReplayExporter(ReplaySettings()).collect(datetime(2031, month, 20, 23, tzinfo=UTC))
        return float(found.columns["outside_c"][0])

    assert afternoon_c(7) > 33
    assert afternoon_c(1) < 28


def test_the_rate_follows_the_week_and_scales_with_the_peak() -> None:
    workload = generated(0)
    replay = RateReplay(workload, peak_rps=50.0, rng=np.random.default_rng(0))
    monday = datetime(2026, 7, 13, tzinfo=UTC)
    rates = [replay.rate_rps(monday + timedelta(minutes=5 * i)) for i in range(2016)]
    assert max(rates) == pytest.approx(50.0)
    assert np.mean(rates) == pytest.approx(50.0 / 1.7, rel=0.01)
    assert replay.rate_rps(monday + timedelta(days=5, hours=14)) < 0.7 * replay.rate_rps(monday + timedelta(hours=14))


def test_arrivals_have_the_rate_and_the_burstiness_of_the_workload() -> None:
    workload = generated(0)
    replay = RateReplay(workload, peak_rps=100.0, rng=np.random.default_rng(1))
    at_s: list[float] = []
    for second in range(300):
        start = NOW + timedelta(seconds=second)
        at_s.extend(second + replay.between(start, start + timedelta(seconds=1)).after_s)
    gaps_s = np.diff(at_s)
    expected = replay.rate_rps(NOW + timedelta(seconds=150)) * 300
    assert len(at_s) == pytest.approx(expected, rel=0.05)
    assert gaps_s.min() >= 0
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(workload.burst_cv, rel=0.1)


STEPS = st.lists(st.floats(0.01, 40.0), min_size=1, max_size=30)


@settings(max_examples=50)
@given(STEPS)
@example([40.0, 5.0])
@example([13.333333, 0.01, 13.33])
def test_a_trace_gives_each_request_once_however_it_is_asked(steps_s: Sequence[float]) -> None:
    trace = TraceReplay(np.array([5.0, 5.0, 7.5, 15.0]), np.arange(1, 5), np.arange(4), speed=1.0)
    start, seen = NOW, []
    for step_s in steps_s:
        end = start + timedelta(seconds=step_s)
        arrivals = trace.between(start, end)
        assert (np.diff(arrivals.after_s) >= 0).all()
        offset_s = (start - NOW).total_seconds()
        seen += [(offset_s + s, int(p)) for s, p in zip(arrivals.after_s, arrivals.prompt_tokens, strict=True)]
        start = end
    total_s = (start - NOW).total_seconds()
    length_s = 10.0 * 4 / 3  # the span and one mean gap
    wanted = [(cycle * length_s + at, p) for cycle in range(200) for at, p in ((0.0, 1), (0.0, 2), (2.5, 3), (10.0, 4))]
    assert [p for _, p in seen] == [p for at, p in wanted if at <= total_s]
    assert [at for at, _ in seen] == pytest.approx([at for at, _ in wanted if at <= total_s], abs=1e-6)


def test_speed_makes_a_trace_denser() -> None:
    trace = TraceReplay(np.arange(100.0), np.ones(100, dtype=np.int64), np.ones(100, dtype=np.int64), speed=4.0)
    assert len(trace.between(NOW, NOW + timedelta(seconds=10)).after_s) == 41


def test_after_a_long_pause_only_the_last_minute_is_made_up_for() -> None:
    exporter = ReplayExporter(ReplaySettings(peak_rps=10.0))
    exporter.collect(NOW)
    requests, _ = exporter.collect(NOW + timedelta(hours=5))
    assert min(requests.columns["ts"]) >= NOW + timedelta(hours=5) - timedelta(seconds=60)
    assert [p.reason for p in requests.problems] == ["not asked for 18000 s; only the last 60 s are replayed"]


def test_a_folder_without_the_files_names_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"azure2024_week_rpm.parquet: there is no such file"):
        ReplayExporter(ReplaySettings(data=str(tmp_path)))


@pytest.mark.parametrize(
    ("trace", "first_lengths"),
    [("azure2023_conv", [(374, 44), (396, 109)]), ("mooncake_conv", [(6758, 500), (7322, 490)]), ("azure2024_week", None)],
)
def test_replays_the_real_traces(trace: Any, first_lengths: list[tuple[int, int]] | None) -> None:
    folder = os.environ.get("COLDAISLE_DATA")
    if not folder:
        pytest.skip("COLDAISLE_DATA names no folder of reference data; set it to replay the real traces")
    requests, facility = run(ReplayExporter(ReplaySettings(data=folder, trace=trace, peak_rps=5.0)), 120)
    assert requests.height > 100
    if first_lengths:
        assert requests.select("prompt_tokens", "output_tokens").head(2).rows() == first_lengths
    assert -20 < float(facility["outside_c"][0]) < 40
