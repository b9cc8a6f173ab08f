"""Histories with something in them."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from ingest.history.frames import micro_batch
from ingest.history.store import History
from tests.ingest.history.logs import CLUSTER, Log, story


def same(wall: datetime) -> datetime:
    """Run time is wall time."""
    return wall


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """An empty history."""
    with History(tmp_path / "history.duckdb", CLUSTER) as opened:
        yield opened


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """A history that holds `logs.story`; only for reading."""
    with History(tmp_path_factory.mktemp("told") / "history.duckdb", CLUSTER) as opened:
        opened.append(micro_batch(story().records, same))
        yield opened


def fill(history: History, log: Log) -> None:
    """Append a log's records in one batch."""
    history.append(micro_batch(log.records, same))
