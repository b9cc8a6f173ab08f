"""The forecaster against a real log and history: killed again and again it issues nothing twice and knows what it knew."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coldaisle import demo, forecast_memory, settings
from coldaisle.clock import RunClock
from coldaisle.forecast_memory import Memory
from coldaisle.supervisor import Supervisor
from ingest.embedded import EmbeddedBroker
from ingest.history.client import HttpHistory, find_owner

KILLS = 3
PARTS = ("history", "twin-host", "forecaster")


class Running:
    """A history, a twin and a forecaster."""

    def __init__(self, state: Path, bootstrap: str, *, fetch_waits: bool) -> None:
        file = demo.write_config(demo.Options(speed=30.0), state, bootstrap, fetch_waits)
        clock = settings.clock_of(settings.read(file))
        assert isinstance(clock, RunClock)
        self.state, self.clock, self.supervisor = state, clock, Supervisor(file, state)
        self.supervisor.start(*PARTS)
        self.supervisor.wait_ready(*PARTS)
        clock.start()
        self.history = HttpHistory(*find_owner(state))

    def count(self, query: str) -> int:
        return int(self.history.query(query).item())

    def wait(self, query: str, above: int, timeout_s: float = 90.0) -> int:
        deadline = time.monotonic() + timeout_s
        while (found := self.count(query)) <= above:
            assert time.monotonic() < deadline, f"still {found}: {self.supervisor.last_line('forecaster')}"
            time.sleep(0.2)
        return found

    def kill_forecaster(self) -> None:
        process = self.supervisor.children["forecaster"].process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(self.supervisor.check()) == 1
        self.supervisor.wait_ready("forecaster")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("forecaster")
    with EmbeddedBroker.start(state / "broker") as broker:
        made = Running(state, broker.address, fetch_waits=broker.fetch_waits)
        try:
            yield made
        finally:
            made.supervisor.stop()
            made.history.close()


JOBS = "SELECT count(*) FROM forecast_jobs WHERE job = '{job}' AND status = 'ok'"
TICKS = "SELECT count(DISTINCT ts) FROM forecasts"
AGAIN = """
SELECT count(*) FROM (
    SELECT 1 FROM forecasts WHERE champion GROUP BY target, series, epoch(ts)::BIGINT // 60 HAVING count(*) > 1
)
"""
TWICE = "SELECT count(*) FROM (SELECT 1 FROM forecasts GROUP BY forecast_id HAVING count(*) > 1)"


@pytest.mark.timeout(420)
def test_killed_again_and_again_it_issues_nothing_twice_and_goes_on(running: Running) -> None:
    running.wait(JOBS.format(job="refit"), 0)
    learnt = running.count(JOBS.format(job="plant"))
    for _ in range(KILLS):
        running.wait(TICKS, running.count(TICKS) + 2)
        running.kill_forecaster()
    running.wait(TICKS, running.count(TICKS) + 2)
    assert running.count(TWICE) == 0
    slots = "SELECT count(DISTINCT epoch(ts)::BIGINT // 60) FROM forecasts WHERE champion AND target = 'power'"
    assert running.count(slots) == running.count("SELECT count(*) FROM forecasts WHERE champion AND target = 'power'") // 2
    assert running.count(AGAIN) == 0
    # What was learnt was kept: the plant is due in a week, not after each start.
    assert running.count(JOBS.format(job="plant")) == learnt == 1
    wrong = "SELECT job, status, took_s, detail FROM forecast_jobs WHERE status NOT IN ('ok', 'stopped')"
    assert running.history.query(wrong).rows() == []


@pytest.mark.timeout(240)
def test_what_ran_who_speaks_and_the_highest_power_stand_in_sql(running: Running) -> None:
    running.wait("SELECT count(*) FROM forecasts WHERE target = 'row_max'", 0)
    row = running.history.query(
        "SELECT f.levels, f.valid_at, f.ts, f.\"values\" FROM forecasts AS f WHERE target = 'row_max' ORDER BY ts DESC LIMIT 1"
    ).row(0, named=True)
    assert [round((at - row["ts"]).total_seconds()) for at in row["valid_at"]] == [2, 10, 45, 300]
    assert row["values"] == sorted(row["values"][: len(row["levels"])]) + row["values"][len(row["levels"]) :]
    chosen = running.history.query("SELECT DISTINCT target, band FROM forecast_choices ORDER BY ALL").rows()
    assert {("power", "short"), ("power", "hour"), ("load", "short")} <= set(chosen)
    known = running.history.query("SELECT DISTINCT target FROM forecasts WHERE champion").to_series().to_list()
    assert {"load", "inlet", "power", "headroom", "gpu_temp"} <= set(known)


def test_memory_survives_only_whole_and_of_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert forecast_memory.recall(tmp_path) == (None, "nothing was kept")
    kept = Memory(done={"refit": datetime(2026, 7, 15, tzinfo=UTC)})
    forecast_memory.save(tmp_path, kept)
    file = tmp_path / forecast_memory.FILE
    assert file.stat().st_mode & 0o077 == 0
    assert forecast_memory.recall(tmp_path) == (kept, "")
    whole = file.read_bytes()
    for part in (whole[:-3], whole[: whole.index(b"\n") + 1], whole.replace(b"Memory", b"Memoir")):
        file.write_bytes(part)
        memory, why_not = forecast_memory.recall(tmp_path)
        assert memory is None
        assert "learning anew" in why_not
    file.write_bytes(whole)
    monkeypatch.setattr(forecast_memory, "code_version", lambda: "another")
    assert forecast_memory.recall(tmp_path)[1].endswith("was learnt by other code: learning anew")
