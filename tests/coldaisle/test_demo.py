"""The main job, whole: every process, log, history, forecasts, decisions, actions, outcomes, alerts, SQL and the page."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest

from ingest.history.client import HttpHistory, find_owner

WALL_S = 45
CAP_STORY = """
SELECT node, max_mhz, policy, forecast_id, forecast_series, level, predicted, before_w, after_w, limit_w
FROM cap_story WHERE forecast_id IS NOT NULL AND after_w IS NOT NULL ORDER BY ts LIMIT 5
"""


class Demo:
    """A demo that runs: its state folder, and its report once it has ended."""

    def __init__(self, folder: Path, *options: str, kafka: str | None = None) -> None:
        self.state, self.file = folder / "state", folder / "report.json"
        env = {k: v for k, v in os.environ.items() if not k.startswith("COLDAISLE_")}
        command = [sys.executable, "-m", "coldaisle", "demo", "--headless", "--for", f"{WALL_S}s", "--state", str(self.state)]
        kafka_options = () if kafka is None else ("--kafka", kafka)
        self.process = subprocess.Popen(
            [*command, "--report", str(self.file), *kafka_options, *options],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_started(self) -> None:
        deadline = time.monotonic() + 90
        while not (self.state / "run" / "clock.json").exists():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, "the demo did not start"
            time.sleep(0.2)

    def report(self) -> dict[str, object]:
        out, _ = self.process.communicate(timeout=110)
        assert self.process.returncode == 0, out
        found: dict[str, object] = json.loads(self.file.read_text())
        return found

    def history(self) -> HttpHistory:
        return HttpHistory(*find_owner(self.state))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo"))
    demo.wait_started()
    yield demo
    if demo.process.poll() is None:
        demo.process.terminate()
        demo.process.wait(30)


def awaited(demo: Demo, sql: str) -> pl.DataFrame:
    """Ask until there is a row."""
    with demo.history() as history:
        deadline = time.monotonic() + WALL_S - 10
        while (frame := history.query(sql)).is_empty() and time.monotonic() < deadline:
            time.sleep(0.5)
        return frame


@pytest.mark.timeout(240)
def test_sql_joins_a_cap_with_the_forecast_that_caused_it_and_the_power_that_followed(demo: Demo) -> None:
    story = awaited(demo, CAP_STORY)
    assert not story.is_empty()
    assert (story["after_w"] > 0).all()


def test_the_command_line_answers_while_ingest_runs(demo: Demo) -> None:
    command = [sys.executable, "-m", "coldaisle", "sql", "SELECT count(*) AS n FROM gpu", "--json", "--state", str(demo.state)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(answer.stdout)["n"] > 0


def test_the_page_answers(demo: Demo) -> None:
    url = (demo.state / "run" / "dashboard.url").read_text().strip()
    assert "coldaisle" in httpx.get(url).text
    assert httpx.get(f"{url}api/snapshot").json()


@pytest.mark.timeout(240)
def test_everything_happened_and_was_recorded(demo: Demo) -> None:
    report = demo.report()
    for key in ("telemetry_rows", "request_rows", "forecasts", "alerts"):
        assert report[key] > 0, key  # type: ignore[operator]
    decisions, outcomes = report["decisions"], report["outcomes"]
    assert isinstance(decisions, dict)
    assert isinstance(outcomes, dict)
    assert sum(decisions.values()) > 0
    assert outcomes["applied"] > 0
    assert report["rejected"] == 0
    assert not list((demo.state / "run").glob("*.ready")), "a process was left behind"


@pytest.mark.real
@pytest.mark.timeout(300)
def test_the_demo_on_an_apache_kafka(apache_kafka: str, tmp_path: Path) -> None:
    report = Demo(tmp_path, kafka=apache_kafka).report()
    assert report["forecasts"] > 0  # type: ignore[operator]
    assert report["outcomes"]["applied"] > 0  # type: ignore[index]
    print(f"ran on Apache Kafka at {apache_kafka}")
