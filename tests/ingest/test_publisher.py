"""The publisher on a real (embedded) broker: what is collected comes out of the log again, and what is not accepted too."""

import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from contracts.control import Claim, Rejected
from contracts.ports import Collected, Problem, Record, Start
from ingest.bus import BusSettings, KafkaBus, connect
from ingest.codec import decode, frame_of
from ingest.publisher import ROWS_PER_RECORD, Publisher
from ingest.records import decode_record
from tests.factories import NOW

WALL = datetime(2026, 11, 21, 9, 30, 0, 250_000, tzinfo=UTC)


class FrozenClock:
    """Run time and wall time apart, both standing still."""

    def now(self) -> datetime:
        return NOW

    def wall(self) -> datetime:
        return WALL

    def to_run(self, wall: datetime) -> datetime:
        return NOW + (wall - WALL)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.fixture
def bus(embedded_broker: str) -> Iterator[KafkaBus]:
    with connect(BusSettings(bootstrap=embedded_broker, fetch_waits=False, topic_prefix=f"{uuid.uuid4().hex}.")) as bus:
        bus.ensure_topics()
        yield bus


@pytest.fixture
def publisher(bus: KafkaBus) -> Publisher:
    return Publisher(bus, FrozenClock(), "exporter/n1/nvml")


def read(bus: KafkaBus, topic: str) -> list[Record]:
    assert bus.flush(20)
    subscription = bus.subscribe([topic], Start(where="beginning"))
    records: list[Record] = []
    while subscription.lag():
        records += subscription.poll(0.5)
    return records


def test_what_is_collected_is_on_its_topic_with_its_headers(bus: KafkaBus, publisher: Publisher) -> None:
    publisher.collected("n1", Collected(topic="server", columns={"ts": [NOW], "node": ["n1"], "inlet_c": [24.5]}))
    (record,) = read(bus, "server")
    assert record.key == "n1"
    assert decode("server", record.value, record.headers)["inlet_c"].to_list() == [24.5]
    identity = record.headers["ce_id"]
    assert uuid.UUID(identity)
    assert record.headers == {
        "ce_specversion": "1.0",
        "ce_id": identity,
        "ce_source": "exporter/n1/nvml",
        "ce_type": "coldaisle.server.v1",
        "ce_time": WALL.isoformat(),
        "schema_version": "1",
        "content-type": "application/vnd.apache.arrow.stream",
    }
    assert publisher.counts() == {"rows": 1, "records": 1}


def test_problems_and_bad_rows_are_kept_with_their_reason(bus: KafkaBus, publisher: Publisher) -> None:
    collected = Collected(
        topic="gpu",
        columns={"ts": [NOW] * 3, "node": ["n1"] * 3, "gpu": [0, 1, 2], "power_w": [500.0, float("nan"), 510.0]},
        problems=(Problem(source="nvml/GPU-3", reason="GPU is lost", sample="NVML_ERROR_GPU_IS_LOST"),),
    )
    publisher.collected("n1", collected)
    (record,) = read(bus, "gpu")
    assert decode("gpu", record.value, record.headers)["gpu"].to_list() == [0, 2]
    kept = [decode_record(r.topic, r.value, r.headers) for r in read(bus, "rejected")]
    assert all(isinstance(r, Rejected) and r.at == NOW and r.topic == "gpu" for r in kept)
    assert [(r.source, r.reason) for r in kept if isinstance(r, Rejected)] == [
        ("nvml/GPU-3", "GPU is lost"),
        ("exporter/n1/nvml", "power_w is NaN"),
    ]
    assert publisher.counts() == {"rows": 2, "records": 3, "rejected_rows": 1, "problems": 1}


def test_columns_that_no_schema_has_are_rejected_whole(bus: KafkaBus, publisher: Publisher) -> None:
    publisher.collected("n1", Collected(topic="gpu", columns={"ts": [NOW] * 2, "watts": [1.0, 2.0]}))
    (kept,) = [decode_record(r.topic, r.value) for r in read(bus, "rejected")]
    assert isinstance(kept, Rejected)
    assert "unknown column 'watts'" in kept.reason
    assert kept.rows == 2
    assert read(bus, "gpu") == []


def test_nothing_collected_is_nothing_published(bus: KafkaBus, publisher: Publisher) -> None:
    publisher.collected("n1", Collected(topic="gpu", columns={"ts": [], "node": [], "gpu": []}))
    assert read(bus, "gpu") == []
    assert publisher.counts() == {}


def test_a_long_frame_becomes_several_records(bus: KafkaBus, publisher: Publisher) -> None:
    rows = ROWS_PER_RECORD + 5
    times = [NOW - timedelta(seconds=1)] * rows
    publisher.frame("server", "past", frame_of("server", {"ts": times, "node": [f"n{i}" for i in range(rows)]}))
    frames = [decode(r.topic, r.value, r.headers) for r in read(bus, "server")]
    assert [frame.height for frame in frames] == [ROWS_PER_RECORD, 5]
    assert frames[1]["node"][-1] == f"n{rows - 1}"


def test_records_and_claims_are_json(bus: KafkaBus, publisher: Publisher) -> None:
    claim = Claim(controller="host/1", at=NOW)
    assert [publisher.append("leadership", "controller", claim) for _ in range(2)] == [0, 1]
    publisher.record("leadership", "controller", claim)
    records = read(bus, "leadership")
    assert [decode_record(r.topic, r.value, r.headers) for r in records] == [claim] * 3
    assert {r.headers["ce_type"] for r in records} == {"coldaisle.leadership.v1"}
    assert {r.headers["content-type"] for r in records} == {"application/json"}
    assert len({r.headers["ce_id"] for r in records}) == 3


def test_counts_hold_under_threads(bus: KafkaBus, publisher: Publisher) -> None:
    collected = Collected(topic="server", columns={"ts": [NOW], "node": ["n1"], "inlet_c": [24.5]})

    def collect() -> None:
        for _ in range(25):
            publisher.collected("n", collected)

    threads = [threading.Thread(target=collect) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert publisher.counts() == {"rows": 100, "records": 100}
    assert len(read(bus, "server")) == 100
