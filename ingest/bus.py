"""The bus: Kafka behind `contracts.ports.Bus`. Carries bytes and headers only; neither polars, pyarrow nor duckdb is needed."""

import logging
import time
from collections.abc import Mapping, Sequence

from kafka.errors import KafkaError, KafkaTimeoutError

from contracts.errors import BusError
from contracts.ports import Start
from contracts.topics import BY_NAME
from ingest.kafka_client import MAX_RECORD_BYTES, BusSettings, cluster_id_of, make_admin, make_topics, one_line
from ingest.outbox import Outbox
from ingest.subscription import KafkaSubscription

__all__ = ["BusSettings", "KafkaBus", "connect"]

HEAL_TIMEOUT_S = 2.0
KEY_AND_HEADERS_BYTES = 10_000

log = logging.getLogger(__name__)


def connect(settings: BusSettings) -> "KafkaBus":
    """Connect to Kafka; BusError with one line when it is not there within `settings.connect_timeout_s`."""
    admin = make_admin(settings)
    try:
        return KafkaBus(settings, cluster_id_of(admin))
    finally:
        admin.close()


class KafkaBus:
    """A connection. `publish`, `append`, `flush` and `dropped` may be called from any thread."""

    def __init__(self, settings: BusSettings, cluster_id: str) -> None:
        self.settings = settings
        self.cluster_id = cluster_id
        self._outbox = Outbox(settings, self._heal)
        self._subscriptions: list[KafkaSubscription] = []

    def ensure_topics(self) -> None:
        """Make every topic of `contracts.topics` that does not exist; those that exist stay as they are."""
        self._make_topics(self.settings.connect_timeout_s)

    def publish(self, topic: str, key: str, value: bytes, headers: Mapping[str, str]) -> None:
        """Queue one record and return at once.

        While the broker is away up to `buffer_records` wait; beyond that the oldest telemetry is dropped and counted, and a
        command raises BusError, as does a record that is too large or for a topic that is none.
        """
        _check(topic, key, value)
        self._outbox.put(topic, key, value, headers)

    def append(self, topic: str, key: str, value: bytes, headers: Mapping[str, str], timeout_s: float) -> int:
        """Write one record, wait for the acknowledgement, return its offset.

        BusError when none comes in time; the record may then still be written once the broker is back.
        """
        _check(topic, key, value)
        deadline = time.monotonic() + timeout_s
        pairs = [(name, text.encode()) for name, text in headers.items()]
        try:
            producer = self._outbox.producer(BY_NAME[topic].form)
            name = self.settings.topic_prefix + topic
            future = producer.send(name, value=value, key=key.encode(), headers=pairs)
            return int(future.get(max(0.0, deadline - time.monotonic())).offset)
        except KafkaTimeoutError as error:
            raise BusError(f"{topic}: Kafka at {self.settings.bootstrap} did not acknowledge within {timeout_s:g} s") from error
        except KafkaError as error:
            raise BusError(f"{topic}: Kafka at {self.settings.bootstrap} refused a record: {one_line(error)}") from error

    def flush(self, timeout_s: float) -> bool:
        """True when all that was published before is acknowledged; False when time ran out or some was dropped."""
        return self._outbox.flush(timeout_s)

    def subscribe(self, topics: Sequence[str], start: Start, keys: Sequence[str] = ()) -> KafkaSubscription:
        """Read `topics` from `start`. With `keys`, only the partitions that hold those keys (other keys may share them)."""
        subscription = KafkaSubscription(self.settings, self.cluster_id, topics, start, keys)
        self._subscriptions = [*(open_ for open_ in self._subscriptions if not open_.closed), subscription]
        return subscription

    def dropped(self) -> int:
        """Records dropped since the start."""
        return sum(self._outbox.dropped().values())

    def dropped_by_topic(self) -> dict[str, int]:
        """Records dropped since the start, by topic."""
        return self._outbox.dropped()

    def close(self) -> None:
        """Flush (for 3 s at most) and leave, with all subscriptions; their threads must have ended. Safe to call twice."""
        for subscription in list(self._subscriptions):
            subscription.close()
        self._outbox.close()

    def __enter__(self) -> "KafkaBus":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_topics(self, timeout_s: float) -> None:
        admin = make_admin(self.settings, timeout_s)
        try:
            make_topics(admin, self.settings)
        finally:
            admin.close()

    def _heal(self) -> None:
        """Make the topics again: a broker that came back without them would leave the outbox waiting for ever."""
        try:
            self._make_topics(HEAL_TIMEOUT_S)
        except BusError as error:
            log.warning("%s", error)


def _check(topic: str, key: str, value: bytes) -> None:
    if topic not in BY_NAME:
        raise BusError(f"unknown topic {topic!r}: there are {', '.join(BY_NAME)}")
    if len(value) + len(key) + KEY_AND_HEADERS_BYTES > MAX_RECORD_BYTES:
        raise BusError(f"{topic}: a record of {len(value)} bytes is too large (limit {MAX_RECORD_BYTES}): split it")
