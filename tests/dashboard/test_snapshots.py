"""One snapshot for all viewers; what is old says so, since when and why."""

import gzip
import threading
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl
import pytest

from contracts.errors import HistoryError
from dashboard.settings import DashboardSettings
from dashboard.snapshots import Snapshots
from tests.dashboard.conftest import Site

SETTINGS = DashboardSettings()


class Reader:
    """The real history behind a door that a test can shut or hold."""

    def __init__(self, site: Site) -> None:
        self._reader = site.reader
        self.series = site.reader.series
        self.shut = ""
        self.asked = 0
        self.door = threading.Event()
        self.door.set()

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> pl.DataFrame:
        self.asked += 1
        self.door.wait(30)
        if self.shut:
            raise HistoryError(self.shut)
        return self._reader.query(sql, params)


@pytest.fixture
def reader(site: Site) -> Reader:
    return Reader(site)


@pytest.fixture
def snapshots(site: Site, reader: Reader) -> Snapshots:
    return Snapshots(reader, site.queries, site.clock, SETTINGS)


def body(snapshots: Snapshots) -> Any:
    return msgspec.json.decode(snapshots.frame().json)


def test_before_the_first_answer_there_is_no_data(snapshots: Snapshots) -> None:
    assert body(snapshots)["status"]["state"] == "starting"
    assert body(snapshots)["data"] is None


def test_all_viewers_get_the_same_bytes_and_ask_nothing(snapshots: Snapshots, reader: Reader) -> None:
    snapshots.refresh()
    asked = reader.asked
    frames = {id(snapshots.frame()) for _ in range(1000)}
    assert len(frames) == 1
    assert reader.asked == asked
    assert body(snapshots)["status"]["state"] == "live"


def test_every_form_of_a_frame_says_the_same(snapshots: Snapshots) -> None:
    snapshots.refresh()
    first = snapshots.frame()
    snapshots.refresh()
    second = snapshots.frame()
    assert gzip.decompress(first.json_gz) == first.json
    assert first.event == b"id: %d\ndata: %s\n\n" % (first.number, first.json)
    stream = zlib.decompressobj(wbits=-15)
    assert stream.decompress(first.event_deflated + second.event_deflated) == first.event + second.event


def test_a_history_that_went_away_is_named_with_since_and_why(snapshots: Snapshots, reader: Reader, site: Site) -> None:
    snapshots.refresh()
    since = body(snapshots)["status"]["served_wall"]
    reader.shut = "no owner answers at 127.0.0.1:1: start coldaisle history"
    site.clock.move(1)
    snapshots.refresh()
    site.clock.move(3)
    said = body(snapshots)
    assert said["status"]["state"] == "away"
    assert (said["status"]["since"], said["status"]["why"]) == (since, reader.shut)
    assert said["status"]["age_s"] == pytest.approx(4)
    assert said["data"]["site"] == "made-up site"
    reader.shut = ""
    snapshots.refresh()
    assert body(snapshots)["status"] == {**body(snapshots)["status"], "state": "live", "age_s": 0.0, "since": None, "why": ""}
    assert (snapshots.refreshes, snapshots.failures) == (2, 1)


def test_a_history_that_never_answered_is_away_without_data(snapshots: Snapshots, reader: Reader) -> None:
    reader.shut = "no owner"
    snapshots.refresh()
    assert (body(snapshots)["status"]["state"], body(snapshots)["status"]["age_s"], body(snapshots)["data"]) == (
        "away",
        None,
        None,
    )


def test_a_question_that_hangs_does_not_keep_old_data_looking_fresh(snapshots: Snapshots, reader: Reader, site: Site) -> None:
    snapshots.refresh()
    snapshots.frame()
    reader.door.clear()
    hangs = threading.Thread(target=snapshots.refresh)
    site.clock.move(1)
    hangs.start()
    try:
        site.clock.move(SETTINGS.stale_s + 1)
        status = body(snapshots)["status"]
        assert status["state"] == "away"
        assert "still running" in status["why"]
    finally:
        reader.door.set()
        hangs.join()
    assert body(snapshots)["status"]["state"] == "away"  # what it asked for is old by now
    snapshots.refresh()
    assert body(snapshots)["status"]["state"] == "live"


def test_the_thread_refreshes_and_ends(snapshots: Snapshots) -> None:
    told = threading.Event()
    leave = snapshots.listen(told.set)
    snapshots.start()
    assert told.wait(30)
    leave()
    snapshots.close()
    snapshots.close()
    assert not snapshots.thread.is_alive()
    assert snapshots.closed
