"""What `contracts.ports.Bus` promises, on every broker that we use. The test's id names the broker."""

import os
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from contracts.errors import BusError
from contracts.ports import Record, Start
from contracts.topics import BY_NAME, TOPICS
from ingest.bus import BusSettings, KafkaBus, connect
from ingest.kafka_client import make_admin
from ingest.subscription import KafkaSubscription, partition_of
from tests.ingest.conftest import BusMaker, OwnApache, OwnEmbedded, Where

BEGINNING = Start(where="beginning")


def collect(subscription: KafkaSubscription, count: int, timeout_s: float = 20.0) -> list[Record]:
    """Poll until `count` records have come (or time is up: then the test's comparison fails)."""
    records: list[Record] = []
    deadline = time.monotonic() + timeout_s
    while len(records) < count and time.monotonic() < deadline:
        records += subscription.poll(0.5)
    return records


def values(records: Sequence[Record]) -> list[bytes]:
    return [record.value for record in records]


def test_a_record_comes_back_as_it_was_sent(bus: KafkaBus) -> None:
    subscription = bus.subscribe(["outcomes"], BEGINNING)
    bus.publish("outcomes", "node-ü", b"\x00\xffbytes", {"ce_id": "1", "content-type": "application/json; ä"})
    (record,) = collect(subscription, 1)
    assert (record.topic, record.partition, record.offset) == ("outcomes", 0, 0)
    assert (record.key, record.value) == ("node-ü", b"\x00\xffbytes")
    assert record.headers == {"ce_id": "1", "content-type": "application/json; ä"}
    assert abs(record.appended_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_records_of_a_key_stay_in_order(bus: KafkaBus) -> None:
    subscription = bus.subscribe(["gpu"], BEGINNING)
    for i in range(300):
        bus.publish("gpu", f"node-{i % 7}", b"%d" % i, {})
    assert bus.flush(20)
    records = collect(subscription, 300)
    assert len(records) == 300
    for key in {record.key for record in records}:
        mine = [int(record.value) for record in records if record.key == key]
        assert mine == sorted(mine)
        assert len({record.partition for record in records if record.key == key}) == 1
    assert bus.dropped() == 0


def test_topics_are_made_as_declared_and_only_once(bus: KafkaBus) -> None:
    bus.ensure_topics()
    admin = make_admin(bus.settings)
    names = [bus.settings.topic_prefix + topic.name for topic in TOPICS]
    try:
        described = {topic["name"]: topic for topic in admin.describe_topics(names)}
        configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])["topic"]
    finally:
        admin.close()
    for topic in TOPICS:
        name = bus.settings.topic_prefix + topic.name
        found: dict[str, Any] = {key: entry["value"] for key, entry in configs[name].items()}
        assert len(described[name]["partitions"]) == topic.partitions
        assert found["message.timestamp.type"] == "LogAppendTime"
        if topic.retention_h is None:
            assert found["cleanup.policy"] == "compact"
        else:
            assert int(found["retention.ms"]) == topic.retention_h * 3_600_000


def test_the_append_time_is_the_brokers(bus: KafkaBus) -> None:
    """A record that says it is from 2001 gets the time at which the broker wrote it."""
    producer = bus._outbox.producer("json")
    name = bus.settings.topic_prefix + "alerts"
    producer.send(name, key=b"k", value=b"{}", timestamp_ms=978_307_200_000).get(10)
    (record,) = collect(bus.subscribe(["alerts"], BEGINNING), 1)
    assert record.appended_at > datetime.now(UTC) - timedelta(hours=1)


def test_a_subscription_starts_where_its_caller_says(bus: KafkaBus) -> None:
    for i in range(5):
        bus.append("outcomes", "n", b"%d" % i, {}, 10)
    at_end = bus.subscribe(["outcomes"], Start(where="end"))
    resumed = bus.subscribe(["outcomes"], Start(where="beginning", offsets={("outcomes", 0): 3}))
    bus.append("outcomes", "n", b"new", {}, 10)
    assert values(collect(at_end, 1)) == [b"new"]
    assert values(collect(resumed, 3)) == [b"3", b"4", b"new"]
    assert values(collect(bus.subscribe(["outcomes"], BEGINNING), 6)) == [b"0", b"1", b"2", b"3", b"4", b"new"]


def test_end_means_the_end_when_subscribing(bus: KafkaBus) -> None:
    """What is written between subscribing and the first poll is not skipped."""
    subscription = bus.subscribe(["actions"], Start(where="end"))
    bus.append("actions", "n", b"at once", {}, 10)
    assert values(collect(subscription, 1)) == [b"at once"]


@pytest.mark.parametrize("offset", [7, 10_000])
def test_an_offset_out_of_range_is_named(bus: KafkaBus, offset: int) -> None:
    for _ in range(3):
        bus.append("decisions", "k", b"{}", {}, 10)
    subscription = bus.subscribe(["decisions"], Start(offsets={("decisions", 0): offset}))
    with pytest.raises(BusError, match=rf"decisions, partition 0: offset {offset} is not in the log's 0 to 3"):
        collect(subscription, 1)


def test_keys_read_only_their_partitions(bus: KafkaBus) -> None:
    nodes = [f"node-{i}" for i in range(40)]
    partitions = BY_NAME["actions"].partitions
    mine = nodes[0]
    held = partition_of(mine, partitions)
    subscription = bus.subscribe(["actions"], BEGINNING, keys=[mine])
    for node in nodes:
        bus.publish("actions", node, node.encode(), {})
    assert bus.flush(20)
    expected = [node.encode() for node in nodes if partition_of(node, partitions) == held]
    assert 0 < len(expected) < len(nodes)
    records = collect(subscription, len(expected))
    assert values(records) == expected
    assert {record.partition for record in records} == {held}
    assert subscription.poll(0.3) == []


def test_lag_counts_what_is_not_read(bus: KafkaBus) -> None:
    for i in range(10):
        bus.append("outcomes", "n", b"%d" % i, {}, 10)
    subscription = bus.subscribe(["outcomes"], BEGINNING)
    assert subscription.lag() == 10
    collect(subscription, 10)
    assert subscription.lag() == 0


def test_pause_holds_and_resume_goes_on(bus: KafkaBus) -> None:
    subscription = bus.subscribe(["outcomes"], BEGINNING)
    bus.append("outcomes", "n", b"1", {}, 10)
    assert values(collect(subscription, 1)) == [b"1"]
    subscription.pause()
    bus.append("outcomes", "n", b"2", {}, 10)
    assert subscription.poll(0.5) == []
    subscription.resume()
    assert values(collect(subscription, 1)) == [b"2"]


def test_append_returns_the_offset_that_others_read(bus: KafkaBus) -> None:
    offsets = [bus.append("leadership", "controller", b"%d" % i, {}, 10) for i in range(3)]
    assert offsets == [0, 1, 2]
    records = collect(bus.subscribe(["leadership"], BEGINNING), 3)
    assert [(r.offset, r.value) for r in records] == [(0, b"0"), (1, b"1"), (2, b"2")]


def test_a_record_of_several_megabytes_passes(bus: KafkaBus) -> None:
    large = os.urandom(6_000_000)
    bus.publish("gpu", "n", large, {})
    assert bus.flush(20)
    assert values(collect(bus.subscribe(["gpu"], BEGINNING), 1)) == [large]


def test_what_cannot_be_sent_is_refused_at_once(bus: KafkaBus) -> None:
    with pytest.raises(BusError, match="unknown topic 'gpus'"):
        bus.publish("gpus", "n", b"", {})
    with pytest.raises(BusError, match="too large"):
        bus.publish("gpu", "n", bytes(9_000_000), {})
    with pytest.raises(BusError, match="'middle'"):
        bus.subscribe(["gpu"], Start(where="middle"))


def test_several_threads_publish_at_once(bus: KafkaBus) -> None:
    def write(who: int) -> None:
        for i in range(100):
            bus.publish("requests", f"endpoint-{who}", b"%d" % i, {})

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bus.flush(20)
    records = collect(bus.subscribe(["requests"], BEGINNING), 400)
    for who in range(4):
        assert [int(r.value) for r in records if r.key == f"endpoint-{who}"] == list(range(100))


def test_an_idle_reader_does_not_spin(bus: KafkaBus, where: Where) -> None:
    """However often its caller polls, the broker is not asked more than about twenty times a second."""
    subscription = bus.subscribe(["actions", "brake"], Start(where="end"))
    assert subscription.poll(0.5) == []
    asked = 0
    poll = subscription._consumer.poll

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        asked += 1
        return poll(*args, **kwargs)

    subscription._consumer.poll = counting
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        assert subscription.poll(0.01 if where.fetch_waits else 0.001) == []
    assert asked <= (110 if where.fetch_waits else 22)


def test_readers_see_a_topic_of_each_site_apart(make_bus: BusMaker, where: Where) -> None:
    """Two sites on one cluster: the prefix parts them and shows in no record."""
    ours = make_bus()
    theirs = connect(BusSettings(bootstrap=where.address, fetch_waits=where.fetch_waits, topic_prefix=f"{time.time_ns()}."))
    try:
        theirs.ensure_topics()
        theirs.append("brake", "n", b"theirs", {}, 10)
        ours.append("brake", "n", b"ours", {}, 10)
        (record,) = collect(ours.subscribe(["brake"], BEGINNING), 1)
        assert (record.topic, record.value) == ("brake", b"ours")
    finally:
        theirs.close()


def test_both_survive_a_broker_that_restarts(own_broker: OwnEmbedded | OwnApache) -> None:
    settings = BusSettings(
        bootstrap=own_broker.address,
        fetch_waits=own_broker.fetch_waits,
        topic_prefix=f"{time.time_ns()}.",
        connect_timeout_s=20,
    )
    with connect(settings) as bus:
        bus.ensure_topics()
        subscription = bus.subscribe(["outcomes", "gpu"], BEGINNING)
        bus.publish("outcomes", "n", b"before", {})
        assert bus.flush(20)
        own_broker.stop()
        for i in range(50):
            bus.publish("outcomes", "n", b"%d" % i, {})
            bus.publish("gpu", "n", b"%d" % i, {})
        assert not bus.flush(0.5)
        assert subscription.poll(0.2) is not None  # away is no error
        own_broker.start()
        assert bus.flush(60)
        records = collect(subscription, 101, timeout_s=60)
        assert values([r for r in records if r.topic == "outcomes"]) == [b"before", *(b"%d" % i for i in range(50))]
        assert values([r for r in records if r.topic == "gpu"]) == [b"%d" % i for i in range(50)]
        assert bus.dropped() == 0
        subscription.close()


def test_acknowledged_records_survive_sigkill(own_broker: OwnEmbedded | OwnApache, request: pytest.FixtureRequest) -> None:
    if isinstance(own_broker, OwnEmbedded):
        why = "noida-db keeps its log in memory and writes it once a second: SIGKILL loses what it acknowledged last"
        request.applymarker(pytest.mark.xfail(reason=why, strict=False))
    prefix = f"{time.time_ns()}."
    settings = BusSettings(bootstrap=own_broker.address, fetch_waits=own_broker.fetch_waits, topic_prefix=prefix)
    with connect(settings) as bus:
        bus.ensure_topics()
        for i in range(5000):
            bus.publish("outcomes", "n", b"%d" % i, {})
        assert bus.flush(60)
        own_broker.kill()
    own_broker.start()
    with connect(settings) as bus:
        bus.ensure_topics()
        subscription = bus.subscribe(["outcomes"], BEGINNING)
        timeout_s = 60 if own_broker.fetch_waits else 2
        assert values(collect(subscription, 5000, timeout_s)) == [b"%d" % i for i in range(5000)]
        subscription.close()


def test_another_cluster_at_the_address_is_noticed(where: Where, request: pytest.FixtureRequest) -> None:
    """Offsets are kept by cluster id, so each cluster must have its own."""
    if where.name == "embedded":
        why = "noida-db: every instance has the same cluster id, so that a reader cannot tell a fresh log from the old one"
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))
        other = request.getfixturevalue("fresh_broker").address
    else:
        other = request.getfixturevalue("apache_to_kill").address
    ids = set()
    for address in (where.address, other):
        with connect(BusSettings(bootstrap=address, fetch_waits=where.fetch_waits)) as bus:
            ids.add(bus.cluster_id)
    assert len(ids) == 2
