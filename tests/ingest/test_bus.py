"""The bus at its limits: a broker that is away, a buffer that is full, a record that is refused."""

import os
import subprocess
import sys
import threading
import time

import pytest
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.partitioner.default import murmur2

from contracts.errors import BusError, ConfigError
from contracts.ports import Start
from ingest.bus import BusSettings, KafkaBus, connect
from ingest.embedded import EmbeddedBroker, free_port
from ingest.kafka_client import make_admin, make_consumer, make_producer
from ingest.outbox import NEVER_DROPPED
from ingest.subscription import partition_of


@pytest.fixture
def small(fresh_broker: EmbeddedBroker) -> BusSettings:
    return BusSettings(bootstrap=fresh_broker.address, fetch_waits=False, buffer_records=10)


def test_no_broker_is_one_line_that_says_what_to_do() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(BusError) as raised:
        connect(BusSettings(bootstrap=address, connect_timeout_s=0.5))
    assert str(raised.value).startswith(f"no Kafka at {address} (")
    assert "make kafka" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_failed_attempts_leave_no_thread_behind() -> None:
    """While a broker is away it is tried for hours; the client's constructor alone would leave a thread each time."""
    settings = BusSettings(bootstrap=f"127.0.0.1:{free_port()}", connect_timeout_s=0.1)
    before = set(threading.enumerate())
    for make in (make_admin, make_consumer, lambda settings: make_producer(settings, "json")):
        with pytest.raises(BusError, match="no Kafka"):
            make(settings)
    assert set(threading.enumerate()) - before == set()


def test_a_closed_bus_leaves_no_thread_behind(fresh_broker: EmbeddedBroker) -> None:
    before = set(threading.enumerate())
    with connect(BusSettings(bootstrap=fresh_broker.address, fetch_waits=False)) as bus:
        bus.ensure_topics()
        bus.publish("gpu", "n", b"", {})
        bus.publish("actions", "n", b"", {})
        bus.subscribe(["gpu"], Start(where="beginning")).poll(0.2)
    assert set(threading.enumerate()) - before == set()


def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="'broker:kafka' is no host:port"):
        connect(BusSettings(bootstrap="127.0.0.1:9092,broker:kafka"))


def test_a_password_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"sasl_username and kafka\.sasl_password_file"):
        connect(BusSettings(security_protocol="SASL_SSL"))


def test_telemetry_is_dropped_oldest_first_and_counted(fresh_broker: EmbeddedBroker, small: BusSettings) -> None:
    with connect(small) as bus:
        bus.ensure_topics()
        bus.append("gpu", "n", b"first", {}, 10)  # the client knows the topic before the broker leaves
        fresh_broker.stop()
        for i in range(100):
            bus.publish("gpu", "n", b"%d" % i, {})
        dropped = bus.dropped()
        assert 80 <= dropped <= 90  # ten may be with the client already, ten wait
        assert bus.dropped_by_topic() == {"gpu": dropped}
        assert not bus.flush(0.2)
        with EmbeddedBroker.start(fresh_broker.folder, fresh_broker.port):
            assert bus.flush(30)
            records = read_all(bus, "gpu", 101 - dropped)
    got = [record for record in records if record != b"first"]
    assert len(got) == 100 - dropped
    assert got[-10:] == [b"%d" % i for i in range(90, 100)]
    assert got == sorted(got, key=int)


def test_commands_are_never_dropped(fresh_broker: EmbeddedBroker, small: BusSettings) -> None:
    with connect(small) as bus:
        bus.ensure_topics()
        fresh_broker.stop()
        topics = sorted(NEVER_DROPPED)
        for i in range(10):
            bus.publish(topics[i % len(topics)], "n", b"%d" % i, {})
        for topic in topics:
            with pytest.raises(BusError, match=f"{topic}: 10 records wait for Kafka at {fresh_broker.address}"):
                bus.publish(topic, "n", b"too many", {})
        bus.publish("gpu", "n", b"telemetry has its own place", {})
        assert bus.dropped() == 0
        with EmbeddedBroker.start(fresh_broker.folder, fresh_broker.port):
            assert bus.flush(30)
            assert sum(len(read_all(bus, topic, 1, wait_s=0.5)) for topic in topics) == 10


def test_a_broker_that_came_back_empty_gets_its_topics_again(
    fresh_broker: EmbeddedBroker, small: BusSettings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with connect(small) as bus:
        bus.ensure_topics()
        fresh_broker.stop()
        bus.publish("outcomes", "n", b"kept", {})
        with EmbeddedBroker.start(tmp_path_factory.mktemp("empty"), fresh_broker.port):
            assert bus.flush(60)
            assert read_all(bus, "outcomes", 1) == [b"kept"]


def test_a_closed_bus_says_so(small: BusSettings) -> None:
    bus = connect(small)
    bus.close()
    bus.close()
    with pytest.raises(BusError, match="closed"):
        bus.publish("gpu", "n", b"", {})


@pytest.mark.real
def test_a_record_that_the_broker_refuses_is_told_and_costs_no_other(apache_kafka: str) -> None:
    with connect(BusSettings(bootstrap=apache_kafka, topic_prefix=f"{time.time_ns()}.")) as bus:
        bus.ensure_topics()
        admin = make_admin(bus.settings)
        name = bus.settings.topic_prefix + "alerts"
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs={"max.message.bytes": "1000"})])
        limit: dict[str, str] = {}
        while limit.get("value") != "1000":  # the controller's answer comes before the broker has heard of it
            time.sleep(0.1)
            described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
            limit = described["topic"][name]["max.message.bytes"]
        admin.close()
        bus.publish("alerts", "n", os.urandom(5000), {})
        assert not bus.flush(30)
        assert bus.dropped_by_topic() == {"alerts": 1}
        with pytest.raises(BusError, match="alerts: the broker refused a record"):
            bus.publish("outcomes", "n", b"", {})
        for i in range(20):
            bus.publish("outcomes", "n", b"%d" % i, {})
        assert bus.flush(30)
        assert read_all(bus, "outcomes", 20) == [b"%d" % i for i in range(20)]


@pytest.mark.parametrize("key", ["", "a", "node-1", "r0s11", "ümläut", "x" * 300])
def test_a_keys_partition_is_that_of_kafkas_clients(key: str) -> None:
    assert partition_of(key, 4) == (murmur2(key.encode()) & 0x7FFFFFFF) % 4


def test_murmur2_is_the_java_clients() -> None:
    """Values of the Java client's own unit test (UtilsTest.testMurmur2)."""
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    for key, expected in known.items():
        assert murmur2(key) == expected % 2**32


def test_an_agent_needs_no_frames() -> None:
    """The bus and the record codec load without polars, pyarrow, duckdb or numba: an agent's memory is a node's memory."""
    code = (
        "import sys, ingest.bus, ingest.records, ingest.headers\n"
        "print([m for m in ('polars', 'pyarrow', 'duckdb', 'pandas', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def read_all(bus: KafkaBus, topic: str, count: int, wait_s: float = 20.0) -> list[bytes]:
    subscription = bus.subscribe([topic], Start(where="beginning"))
    records: list[bytes] = []
    deadline = time.monotonic() + wait_s
    while len(records) < count and time.monotonic() < deadline:
        records += [record.value for record in subscription.poll(0.2)]
    subscription.close()
    return records
