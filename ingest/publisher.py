"""From rows and records to the log: validated, encoded, with CloudEvents headers; what is not accepted goes to `rejected`."""

import threading
from collections import Counter
from collections.abc import Mapping

import msgspec
import polars as pl

from contracts.control import Rejected
from contracts.ports import Bus, Clock, Collected
from ingest.codec import encode, frame_of
from ingest.codec_pack import pack
from ingest.headers import cloud_event
from ingest.records import CONTENT_ARROW, SAMPLE_CHARS, Malformed, encode_record
from ingest.validate import AHEAD, check

ROWS_PER_RECORD = 20_000
"""a longer frame becomes several records, so that none outgrows what a broker takes"""
APPEND_TIMEOUT_S = 10.0


class Publisher:
    """Publishes for one source (it stands in `ce_source`). Thread-safe as the bus is."""

    def __init__(self, bus: Bus, clock: Clock, source: str) -> None:
        self._bus = bus
        self._clock = clock
        self._source = source
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def collected(self, key: str, collected: Collected) -> None:
        """Publish what an exporter read: good rows on its topic, keyed by `key`; problems and bad rows on `rejected`."""
        for problem in collected.problems:
            self._reject(collected.topic, problem.source, problem.reason, 0, problem.sample)
        rows = collected.rows()
        if not rows:
            return
        if rows <= ROWS_PER_RECORD and (packed := pack(collected.topic, collected.columns, self._clock.now() + AHEAD)):
            self._send(collected.topic, key, packed, rows)
            return
        try:
            frame = frame_of(collected.topic, collected.columns)
        except Malformed as error:
            self._reject(collected.topic, self._source, error.reason, collected.rows(), repr(dict(collected.columns)))
            return
        self.frame(collected.topic, key, frame)

    def frame(self, topic: str, key: str, frame: pl.DataFrame) -> None:
        """Validate and publish a frame of the declared schema (see `codec.frame_of`); bad rows go to `rejected`."""
        checked = check(topic, frame, self._clock.now(), self._source)
        for rejected in checked.rejected:
            self._count("rejected_rows", rejected.rows)
            self.record("rejected", self._source, rejected)
        for rows in checked.good.iter_slices(ROWS_PER_RECORD):
            if rows.height:
                self._send(topic, key, encode(topic, rows), rows.height)

    def record(self, topic: str, key: str, record: msgspec.Struct) -> None:
        """Publish one JSON record."""
        self._bus.publish(topic, key, encode_record(record), self._headers(topic))
        self._count("records")

    def append(self, topic: str, key: str, record: msgspec.Struct, timeout_s: float = APPEND_TIMEOUT_S) -> int:
        """Write one JSON record, wait for the acknowledgement and return its offset (leadership)."""
        offset = self._bus.append(topic, key, encode_record(record), self._headers(topic), timeout_s)
        self._count("records")
        return offset

    def counts(self) -> Mapping[str, int]:
        """Since the start: records and rows handed to the bus, rejected_rows, problems."""
        with self._lock:
            return dict(self._counts)

    def _send(self, topic: str, key: str, value: bytes, rows: int) -> None:
        self._bus.publish(topic, key, value, self._headers(topic, CONTENT_ARROW))
        self._count("rows", rows)
        self._count("records")

    def _reject(self, topic: str, source: str, reason: str, rows: int, sample: str) -> None:
        self._count("rejected_rows" if rows else "problems", rows or 1)
        rejected = Rejected(
            at=self._clock.now(), topic=topic, source=source, reason=reason, rows=rows or 1, sample=sample[:SAMPLE_CHARS]
        )
        self.record("rejected", source, rejected)

    def _headers(self, topic: str, content_type: str = "application/json") -> dict[str, str]:
        return cloud_event(topic, self._source, self._clock.wall(), content_type)

    def _count(self, what: str, by: int = 1) -> None:
        with self._lock:
            self._counts[what] += by
