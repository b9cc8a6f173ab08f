"""`coldaisle backtest` and `coldaisle forecast`: what they say, draw and write, and how they refuse."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from coldaisle.cli import main
from contracts.forecasts import LEVELS
from forecast.backtest import join
from forecast.backtest_series import tabled
from forecast.backtest_tasks import plan, run
from tests.forecast.synthetic import daily, frame_of

Call = Callable[..., tuple[int, str, str]]
HORIZONS = {"30m": 1_800, "2h": 7_200}
NOW = datetime(2026, 7, 15, 14, tzinfo=UTC)
CELL = re.compile(r'<td data-key="([^"]*)" data-value="([^"]*)"')


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line; return its status, what it said and what it complained about."""

    def run_it(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["coldaisle", *words])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run_it


def messy() -> pl.DataFrame:
    """Three good series, one too short, one with readings that are none."""
    frame = frame_of(daily(6, step_s=1_800, target="load", level=20.0, noise=0.3))
    short = frame.filter((pl.col("series") == "s0") & (pl.col("ts") < pl.col("ts").min() + timedelta(days=2)))
    bad = frame.filter(pl.col("series") == "s1").with_columns(
        value=pl.when(pl.int_range(pl.len()) == 200).then(float("inf")).otherwise(pl.col("value"))
    )
    return pl.concat([frame, short.with_columns(series=pl.lit("short")), bad.with_columns(series=pl.lit('<bad> & "odd"'))])


@dataclass(frozen=True)
class Written:
    """What one `coldaisle backtest` of two workers left."""

    report: dict[str, Any]
    page: str


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("backtest")
    table, report, page = folder / "a<b>.csv", folder / "r.json", folder / "r.html"
    messy().write_csv(table)
    given = ("--horizons", "30m,2h", "--models", "ridge", "--origins", "6", "--workers", "2")
    with pytest.MonkeyPatch.context() as patch:
        words = ("backtest", "--series", str(table), *given, "--report", str(report), "--page", str(page))
        patch.setattr("sys.argv", ["coldaisle", *words])
        main()
    return Written(json.loads(report.read_text()), page.read_text())


def test_workers_say_what_one_process_says(written: Written) -> None:
    given = plan(tabled(messy(), "load"), HORIZONS, models=("ridge",), origins_per_day=6)
    report = join(given, [run(task, given.table.batch) for task in given.tasks]).report
    plain = json.loads(msgspec.json.encode(report))
    spent = {"fit_s", "predict_s"}
    assert {k: v for k, v in written.report.items() if k not in spent} == {k: v for k, v in plain.items() if k not in spent}
    assert written.report["left_out"] == [["short", "2.0 days of history; 4 are needed"]]
    assert set(written.report) >= {"scores", "selected", *spent}


def test_the_page_says_what_the_json_says(written: Written) -> None:
    cells = [(unescape(key), value) for key, value in CELL.findall(written.page)]
    assert len(cells) > 100
    for key, value in cells:
        assert value == shown(written.report, key), key


def shown(report: Mapping[str, Any], key: str) -> str:
    """The JSON's figure that a page's cell names, in the page's writing."""
    kind, *path = key.split("/")
    if kind == "overall":
        model, horizon, field = path
        (row,) = [o for o in report["overall"] if (o["model"], o["horizon"]) == (model, horizon)]
    elif kind == "reliability":
        horizon, level = path
        (row,), field = [o for o in report["reliability"] if (o["horizon"], str(o["level"])) == (horizon, level)], "share"
    elif kind == "days":
        horizon, day, field = path
        (row,) = [o for o in report["days"] if (o["horizon"], o["day"]) == (horizon, day)]
    else:
        series, horizon, field = path
        champion = [o for o in report["scores"] if o["model"] == "champion"]
        (row,) = [o for o in champion if (o["series"], o["horizon"]) == (series, horizon)]
    return "" if row[field] is None else repr(row[field])


def test_a_page_loads_nothing_and_takes_names_as_words(written: Written) -> None:
    page = written.page
    assert "<bad>" not in page
    assert "&lt;bad&gt;" in page
    assert "a&lt;b&gt;.csv" in page
    code = page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
    assert not re.search(r"https?:|src=|@import|<script|fetch\(", code)
    drawn = re.findall(r'\bid="([^"]*)"', page)
    assert len(drawn) == len(set(drawn)), "the ids of all pictures together"
    assert page.count("<svg") == 3 + 1 + 2 + 2, "fans, reliability, skill, worst days"
    assert not re.search(r"#[0-9a-f]{6}", page[page.index("<main>") :].replace("#000000", "")), "colours are the page's own"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("backtest",), "give one of: --series FILE, --history"),
        (("backtest", "--series", "none.parquet"), "--series none.parquet: there is no such file"),
        (("backtest", "--series", "t.csv", "--horizons", ","), "write durations like 15m,1h,24h"),
        (("backtest", "--series", "t.csv", "--horizons", "1h", "--cutoff", "soon"), "--cutoff soon: write a time like"),
        (("backtest", "--series", "t.csv", "--horizons", "15m"), "horizon 15m: the series' step is 1800 s"),
        (("backtest", "--series", "t.csv", "--horizons", "1h", "--models", "oracle"), "unknown name 'oracle'"),
        (("backtest", "--series", "t.csv", "--page", "page.pdf"), "--page page.pdf: must end in .html"),
        (("backtest", "--series", "t.csv", "--report", "none/r.json"), "there is no folder none"),
        (("backtest", "--series", "t.parquet", "--horizons", "1h"), "--series t.parquet: no Parquet table"),
        (("backtest", "--series", "empty.csv", "--horizons", "1h"), "--series empty.csv: no CSV table"),
        (("backtest", "--series", "two.csv", "--horizons", "1h"), "series: none of 1 can be judged: a: 0.0 days of history"),
        (("forecast", "power"), "name a target and a series"),
        (("forecast", "weather", "row-1"), "weather: no such target; there are load, prompt_tok"),
        (("forecast", "power", "row-1", "--picture", "p.bmp"), "--picture p.bmp: must end in .svg or .png"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    messy().write_csv("t.csv")
    Path("t.parquet").write_text("no parquet")
    Path("empty.csv").write_text("")
    Path("two.csv").write_text("ts,series,value\n2026-07-15T00:00:00,a,1\n2026-07-15T00:30:00,a,2\n")
    status, out, err = call(*words)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


class Recorded:
    """A history that holds one forecast of row-1, and its load as a series; nothing else."""

    def __init__(self, *_: object) -> None:
        self.load = frame_of(daily(6, step_s=300, target="load", level=20.0))

    def __enter__(self) -> "Recorded":
        return self

    def __exit__(self, *_: object) -> None: ...

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> pl.DataFrame:
        if "run_now" in sql:
            return pl.DataFrame({"ts": [self.load["ts"].max()]})
        if "DISTINCT" in sql:
            return pl.DataFrame({"series": ["row-1", "row-2"]})
        assert params is not None
        rows = pl.concat([self.record("near", range(5, 65, 5), ["stale"]), self.record("path", range(15, 24 * 60, 15), [])])
        own = rows.filter(pl.col("valid_at").list.max() > params["after"])
        return own.head(1 if (params["target"], params["series"]) == ("power", "row-1") else 0)

    def record(self, name: str, minutes: range, notes: list[str]) -> pl.DataFrame:
        at = NOW.replace(tzinfo=None)
        values = [20_000.0 + 100 * i + 50 * np.sqrt(m) * (i - 3) for m in minutes for i in range(7)]
        record: dict[str, list[Any]] = {
            "forecast_id": [name],
            "model": ["ridge"],
            "ts": [at],
            "data_until": [at - timedelta(minutes=1)],
            "unit": ["W"],
            "valid_at": [[at + timedelta(minutes=m) for m in minutes]],
            "levels": [list(LEVELS)],
            "values": [values],
            "degradations": [notes],
        }
        return pl.DataFrame(record, schema_overrides={"degradations": pl.List(pl.String)})

    def series(self, target: str, *, as_of: datetime, since: datetime, step_s: int = 300) -> pl.DataFrame:
        assert since < as_of
        assert step_s == 300
        if target == "power":
            ts = [as_of.replace(tzinfo=None) - timedelta(minutes=m) for m in range(60, 0, -5)]
            return pl.DataFrame({"ts": ts, "series": ["row-1"] * 12, "value": [20_000.0] * 12})
        return self.load if target == "load" else self.load.clear()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.history.client.HttpHistory", Recorded)
    monkeypatch.setattr("ingest.history.client.find_owner", lambda _: ("", ""))


@pytest.mark.usefixtures("recorded")
def test_a_forecast_is_told_and_drawn(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    picture = tmp_path / "row.svg"
    status, out, err = call("forecast", "power", "row-1", "--picture", str(picture))
    assert (status, err) == (0, "")
    assert "near: ridge, issued 2026-07-15 14:00:00 UTC from data until 2026-07-15 13:59:00 UTC" in out
    assert "worse than usual: stale" in out
    assert "path: ridge" in out
    (line,) = [line for line in out.splitlines() if line.startswith("   07-15 15:00")]
    assert [float(word.replace(",", "")) for word in line.split()[4:11]] == pytest.approx(
        [20_000 + 100 * i + 50 * 60**0.5 * (i - 3) for i in range(7)], abs=0.6
    )
    assert re.search(r" -+=+#+\|#+=+-+", line), "bands of the row, drawn"
    assert "- 98 %, = 90 %, # 50 %, | median" in out
    assert "07-16 13:45" in out
    assert picture.read_text().startswith("<?xml")
    status, out, _ = call("forecast", "--target", "power", "--series", "row-1", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 12 + (24 * 60 - 15 - 60) // 15
    assert rows[0]["valid_at"] == "2026-07-15T14:05:00+00:00"
    assert {"p01", "p05", "p25", "p50", "p75", "p95", "p99", "forecast_id", "model", "degradations"} <= set(rows[0])
    assert [rows[i]["forecast_id"] for i in (0, -1)] == ["near", "path"]
    assert call("forecast", "power", "row-9")[::2] == (
        2,
        "coldaisle: no forecast of power for 'row-9': there are forecasts of row-1, row-2\n",
    )


@pytest.mark.usefixtures("recorded")
def test_the_live_history_is_judged_too(call: Call) -> None:
    given = ("--history", "--horizons", "1h", "--models", "seasonal_mean", "--origins", "2", "--workers", "1")
    status, out, err = call("backtest", *given, "--since", "6d", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert (report["target"], report["step_s"], report["series"]) == ("load", 300, 3)
    assert call("backtest", *given, "--target", "inlet")[::2] == (
        2,
        "coldaisle: the history holds no inlet in the 14 days before 2026-06-07 00:00 UTC\n",
    )


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    table = tmp_path / "load.parquet"
    frame_of(daily(40, step_s=300, target="load", series=16)).write_parquet(table)
    words = ("backtest", "--series", str(table), "--horizons", "1h", "--models", "autoreg,ets,ridge", "--workers", "2")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "coldaisle", *words],
        env=os.environ | {"TMPDIR": str(scratch)},
        start_new_session=True,
        stderr=subprocess.PIPE,
    ) as process:
        deadline = time.monotonic() + 60
        while not list(scratch.glob("*/values.npy")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.0)  # workers are starting, or at work
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert list(scratch.iterdir()) == []
    deadline = time.monotonic() + 10  # what only waits for its parent's end may take a moment
    while (left := members(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def members(group: int) -> list[str]:
    """The living processes of a group, by their command lines; those that nobody has waited for yet are dead."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its_group = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append((folder / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
