"""The owner on a running broker."""

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldaisle.clock import WallClock
from contracts.errors import BusError, HistoryError
from ingest.bus import BusSettings, KafkaBus, connect
from ingest.history import owner
from ingest.history.client import HttpHistory, find_owner
from ingest.history.frames import MicroBatch, micro_batch
from ingest.history.owner import OwnerSettings
from ingest.history.store import FILE, History
from tests.factories import NOW, make_topology
from tests.ingest.history.conftest import same
from tests.ingest.history.logs import Log, story

SOON = OwnerSettings(commit_s=0.02)


@pytest.fixture
def bus(embedded_broker: str) -> Iterator[KafkaBus]:
    with connect(
        BusSettings(bootstrap=embedded_broker, fetch_waits=False, topic_prefix=f"t{uuid.uuid4().hex[:8]}.")
    ) as connected:
        connected.ensure_topics()
        yield connected


def publish(bus: KafkaBus, log: Log) -> None:
    for record in log.records:
        bus.publish(record.topic, record.key, record.value, record.headers)
    assert bus.flush(20)


def run(bus: KafkaBus, history: History) -> None:
    """Run an owner that is told to stop at once: it takes what is in the log."""
    stop = threading.Event()
    stop.set()
    owner.run(bus, history, WallClock(), stop, SOON)


def test_everything_on_the_log_ends_in_the_history(bus: KafkaBus, tmp_path: Path, told: History) -> None:
    publish(bus, story())
    with History(tmp_path / "h.duckdb", bus.cluster_id) as history:
        run(bus, history)
        for table in ("server", "facility", "gpu", "endpoints", "requests", "forecasts", "actions", "outcomes", "topology"):
            count = f"SELECT count(*) AS n FROM {table}"  # noqa: S608  (our own names)
            assert history.query(count).item() == told.query(count).item(), table
        run(bus, history)  # nothing twice
        assert history.query("SELECT count(*) AS n FROM actions").item() == 4


def test_one_answers_while_it_fills(bus: KafkaBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=owner.serve, args=(tmp_path / "state", bus, WallClock(), stop, SOON, ready.set))
    thread.start()
    try:
        assert ready.wait(20)
        with HttpHistory(*find_owner(tmp_path / "state")) as reader:
            log = Log()
            log.record("state", make_topology(), NOW, key="topology")
            log.add("server", "x", b"garbage", {}, NOW)
            publish(bus, log)
            deadline = time.monotonic() + 20
            while not reader.query("SELECT 1 FROM topology, rejected").height:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert reader.query("SELECT topic, rejected_by FROM rejected").rows() == [("server", "history")]
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    assert not (tmp_path / "state" / "owner.json").exists()


def test_another_clusters_history_is_refused(bus: KafkaBus, tmp_path: Path) -> None:
    with (
        History(tmp_path / "h.duckdb", "elsewhere") as history,
        pytest.raises(HistoryError, match="belongs to Kafka cluster elsewhere, the broker is"),
    ):
        owner.run(bus, history, WallClock(), threading.Event(), SOON)


def test_an_offset_beyond_the_log_stops_it(bus: KafkaBus, tmp_path: Path) -> None:
    log = Log()
    for _ in range(5):
        log.rows("facility", {"ts": [NOW], "kind": ["site"], "unit": ["site"], "outside_c": [30.0]}, NOW)
    publish(bus, log)
    with History(tmp_path / "h.duckdb", bus.cluster_id) as history:
        # the history knows more than this log has: a broker that lost its end
        for _ in range(50):
            log.rows("facility", {"ts": [NOW], "kind": ["site"], "unit": ["site"], "outside_c": [30.0]}, NOW)
        history.append(micro_batch(log.records, same))
        with pytest.raises(BusError, match="facility"):
            owner.run(bus, history, WallClock(), threading.Event(), SOON)


def test_a_slow_disk_pauses_reading_and_loses_nothing(bus: KafkaBus, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Slow(History):
        def append(self, batch: MicroBatch) -> None:
            time.sleep(0.3)
            super().append(batch)

    settings = OwnerSettings(commit_s=0.01)
    with Slow(tmp_path / FILE, bus.cluster_id) as history:
        stop = threading.Event()
        thread = threading.Thread(target=owner.run, args=(bus, history, WallClock(), stop, settings))
        thread.start()
        log = Log()
        deadline = time.monotonic() + 60
        while "reading pauses" not in caplog.text:  # one record after the other, each to be committed at once
            assert time.monotonic() < deadline
            sent = log.rows("server", {"ts": [NOW] * 50, "node": [f"{len(log.records)}-{k}" for k in range(50)]}, NOW)
            bus.publish(sent.topic, sent.key, sent.value, sent.headers)
            time.sleep(0.02)
        while sum(history.offsets().values()) < len(log.records):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        stop.set()
        thread.join(30)
        rows = 50 * len(log.records)
        assert history.query("SELECT count(*), count(DISTINCT node) FROM server").row(0) == (rows, rows)


def test_a_writer_that_fails_stops_the_owner_with_its_reason(bus: KafkaBus, tmp_path: Path) -> None:
    publish(bus, story())
    history = History(tmp_path / "h.duckdb", bus.cluster_id).open()
    history.close()
    with pytest.raises(HistoryError, match="is not open"):
        owner.run(bus, history, WallClock(), threading.Event(), SOON)
