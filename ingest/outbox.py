"""What is published and not yet acknowledged: bounded, in order within each topic, drained by a thread of its own.

Telemetry that does not fit pushes out the oldest telemetry and is counted. Commands and the records of what was decided and
done are never pushed out: their writer gets a BusError instead, and can say so.
"""

import bisect
import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Literal

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from contracts.errors import BusError
from contracts.topics import BY_NAME
from ingest.kafka_client import BusSettings, make_producer, one_line

NEVER_DROPPED = frozenset({"actions", "brake", "leadership", "decisions", "outcomes", "alerts", "state"})
IN_FLIGHT = 1000
"""telemetry records handed to the client at a time (or buffer_records, if fewer): the rest can still be dropped"""
STALL_S = 5.0
"""no acknowledgement for so long while something is in flight: look whether the topics still exist"""
RETRY_S = 0.5
ATTEMPTS = 3

log = logging.getLogger(__name__)
Form = Literal["arrow", "json"]


class _Entry:
    """One record on its way."""

    __slots__ = ("attempts", "headers", "kept", "key", "number", "topic", "value")

    def __init__(self, number: int, topic: str, key: str, value: bytes, headers: Mapping[str, str]) -> None:
        self.number = number
        self.topic = topic
        self.key = key.encode()
        self.value = value
        self.headers = [(name, text.encode()) for name, text in headers.items()]
        self.kept = topic in NEVER_DROPPED
        self.attempts = 0


class Outbox:
    """Queues records and sends them. `heal` is called when nothing moves: it makes topics that a broker lost."""

    def __init__(self, settings: BusSettings, heal: Callable[[], None]) -> None:
        self._settings = settings
        self._heal = heal
        self._changed = threading.Condition()
        self._telemetry: deque[_Entry] = deque()
        self._commands: deque[_Entry] = deque()
        self._outstanding: dict[int, _Entry] = {}
        self._commands_outstanding = 0
        self._number = 0
        self._dropped: Counter[str] = Counter()
        self._refused = ""
        self._broken = ""
        self._closing = False
        self._moved_at = time.monotonic()
        self._producers: dict[Form, KafkaProducer] = {}
        self._producers_lock = threading.Lock()
        self._stale: set[KafkaProducer] = set()
        self._thread = threading.Thread(target=self._run, name="kafka outbox", daemon=True)
        self._thread.start()

    def put(self, topic: str, key: str, value: bytes, headers: Mapping[str, str]) -> None:
        """Queue one record and return at once. BusError when it is a command and cannot be kept."""
        with self._changed:
            self._check_usable(topic)
            entry = _Entry(self._number, topic, key, value, headers)
            self._number += 1
            if entry.kept:
                if self._commands_outstanding >= self._settings.buffer_records:
                    raise BusError(
                        f"{topic}: {self._settings.buffer_records} records wait for Kafka at {self._settings.bootstrap} and "
                        "none may be dropped: bring the broker back, or raise kafka.buffer_records"
                    )
                self._commands_outstanding += 1
                self._commands.append(entry)
            else:
                if len(self._telemetry) >= self._settings.buffer_records:
                    self._drop(self._telemetry.popleft())
                self._telemetry.append(entry)
            self._outstanding[entry.number] = entry
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put before is acknowledged; False when time runs out or some of it was dropped."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            last, dropped = self._number, self._dropped.total()
            while any(number < last for number in self._outstanding):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self._changed.wait(min(remaining, 0.2))
            return self._dropped.total() == dropped

    def dropped(self) -> dict[str, int]:
        """Records lost since the start, by topic."""
        with self._changed:
            return dict(self._dropped)

    def producer(self, form: Form) -> KafkaProducer:
        """Return the connected producer for a form of topics, made when first needed. BusError when Kafka is away."""
        with self._producers_lock:
            found = self._producers.get(form)
            if found is not None and found in self._stale:
                self._stale.discard(found)
                _close(found, 0)
                found = None
            if found is None:
                found = self._producers[form] = make_producer(self._settings, form)
            return found

    def close(self, timeout_s: float = 3.0) -> None:
        """Send what is left within the time, then leave. Safe to call twice."""
        if self._closing:
            return
        self.flush(timeout_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(self._settings.connect_timeout_s + 5)
        with self._producers_lock:
            for producer in self._producers.values():
                _close(producer, 1)
            self._producers.clear()

    def _check_usable(self, topic: str) -> None:
        if self._closing:
            raise BusError(f"{topic}: the connection to Kafka is closed; connect again")
        if self._broken:
            raise BusError(f"{topic}: sending has ended by a fault of ours: {self._broken}; restart this process")
        if self._refused and topic in NEVER_DROPPED:
            refused, self._refused = self._refused, ""
            raise BusError(refused)

    def _run(self) -> None:
        try:
            while True:
                entry = self._next()
                if entry is None:
                    return
                self._send(entry)
        except BaseException as error:
            self._broken = one_line(error)  # put() tells it to the writers; the thread's own end tells the trace
            raise

    def _next(self) -> _Entry | None:
        """The next record to send, commands first; None when closing."""
        while True:
            with self._changed:
                if self._closing:
                    return None
                if self._commands:
                    return self._commands.popleft()
                in_flight = len(self._outstanding) - self._commands_outstanding - len(self._telemetry)
                if self._telemetry and in_flight < min(IN_FLIGHT, self._settings.buffer_records):
                    return self._telemetry.popleft()
                self._changed.wait(1.0)
                stalled = bool(self._outstanding) and time.monotonic() - self._moved_at > STALL_S
                if not self._outstanding:
                    self._moved_at = time.monotonic()
            if stalled:
                self._moved_at = time.monotonic()
                self._heal()

    def _send(self, entry: _Entry) -> None:
        try:
            producer = self.producer(BY_NAME[entry.topic].form)
            topic = self._settings.topic_prefix + entry.topic
            future = producer.send(topic, value=entry.value, key=entry.key, headers=entry.headers)
        except KafkaTimeoutError:  # the broker is away, or does not have the topic
            self._again(entry)
            self._heal()
        except (BusError, KafkaError) as error:
            log.warning("kafka: %s; will try again", one_line(error))
            self._again(entry)
            time.sleep(RETRY_S)
        else:
            future.add_callback(self._acknowledged, entry)
            future.add_errback(self._failed, entry, producer)

    def _again(self, entry: _Entry) -> None:
        with self._changed:
            if not entry.kept and len(self._telemetry) >= self._settings.buffer_records:
                self._drop(entry)
            else:
                queue = self._commands if entry.kept else self._telemetry
                bisect.insort(queue, entry, key=lambda queued: queued.number)

    def _drop(self, entry: _Entry) -> None:
        del self._outstanding[entry.number]
        self._dropped[entry.topic] += 1

    def _acknowledged(self, entry: _Entry, _metadata: object) -> None:
        with self._changed:
            self._done(entry)

    def _failed(self, entry: _Entry, producer: KafkaProducer, error: BaseException) -> None:
        """Called by the client when it gives a record up: the broker refused it, or lost the producer's state.

        After such an error an idempotent producer may refuse everything, so that a new one takes its place; and since it then
        gives up all that it holds, a record counts as refused only when that has happened to it several times.
        """
        self._stale.add(producer)
        if self._closing:
            return
        entry.attempts += not getattr(error, "retriable", False)
        if entry.attempts < ATTEMPTS:
            self._again(entry)
            return
        text = f"{entry.topic}: the broker refused a record: {one_line(error)}"
        log.error("%s", text)
        with self._changed:
            self._dropped[entry.topic] += 1
            self._refused = text
            self._done(entry)

    def _done(self, entry: _Entry) -> None:
        self._outstanding.pop(entry.number, None)
        self._commands_outstanding -= entry.kept
        self._moved_at = time.monotonic()
        self._changed.notify_all()


def _close(producer: KafkaProducer, timeout_s: float) -> None:
    # The client waits for records that cannot be sent; they are counted here, and a second close ends its thread.
    with contextlib.suppress(KafkaTimeoutError):
        producer.close(timeout_s)
    if not producer._closed:
        producer._sender.initiate_close()
        producer._sender.force_close()
        producer._sender.join(5)
        producer._closed = True
