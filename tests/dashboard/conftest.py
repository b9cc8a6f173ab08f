"""A history with a bad quarter of an hour in it, the questions of the page, and a clock that stands still."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import sql
from contracts.ports import HistoryReader
from dashboard.moment import QUERIES
from ingest.history.frames import micro_batch
from ingest.history.store import History
from tests.dashboard.site_data import make_log
from tests.factories import NOW


@dataclass
class StandingClock:
    """Run time and wall time both stand still until a test moves them; `speed` only tells how they are related."""

    run: datetime
    at_wall: datetime
    speed: float = 1.0

    def now(self) -> datetime:
        return self.run

    def wall(self) -> datetime:
        return self.at_wall

    def to_run(self, wall: datetime) -> datetime:
        return self.run + (wall - self.at_wall) * self.speed

    def sleep(self, seconds: float) -> None:
        self.move(seconds / self.speed)

    def move(self, wall_s: float) -> None:
        """Let `wall_s` seconds of wall time pass."""
        self.at_wall += timedelta(seconds=wall_s)
        self.run += timedelta(seconds=wall_s * self.speed)


@dataclass
class Site:
    """What a test of the page needs."""

    reader: HistoryReader
    clock: StandingClock
    queries: dict[str, str]


@pytest.fixture(scope="session")
def queries() -> dict[str, str]:
    return {name: sql.query(name).text for name in QUERIES}


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[History, datetime]]:
    """The history, and the wall time at which it was filled (bookkeeping of commits is in real wall time)."""
    folder: Path = tmp_path_factory.mktemp("history")
    wall = datetime.now(UTC)
    log = make_log(NOW, wall)
    with History(folder / "history.duckdb", "cluster-a") as history:
        half = len(log.records) - 1
        for part in (log.records[:half], log.records[half:]):  # a commit is written down with the next one
            history.append(micro_batch(part, lambda at: NOW + (at - wall)))
        yield history, wall


@pytest.fixture
def site(filled: tuple[History, datetime], queries: dict[str, str]) -> Site:
    history, wall = filled
    return Site(reader=history, clock=StandingClock(run=NOW, at_wall=wall + timedelta(seconds=1)), queries=queries)
