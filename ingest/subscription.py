"""Reading the log: partitions assigned by hand, offsets kept by the caller."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError
from kafka.partitioner.default import murmur2

from contracts.errors import BusError
from contracts.ports import Record, Start
from ingest.kafka_client import BusSettings, cluster_id_of, make_consumer, one_line

NAPS_S = (0.002, 0.01, 0.05)
"""least time between fetches from a broker that does not wait, by how many in a row were empty: short at first, since
an answer may be on its way; it holds across calls of `poll`, so that no caller can make it spin"""

NEW_TOPIC_S = 2.0


class KafkaSubscription:
    """A reader of topics. `poll`, `pause`, `resume` and `close` belong to one thread; `lag` may be asked by any."""

    def __init__(
        self, settings: BusSettings, cluster_id: str, topics: Sequence[str], start: Start, keys: Sequence[str] = ()
    ) -> None:
        if start.where not in ("beginning", "end"):
            raise BusError(f"a subscription starts at 'beginning' or 'end', not at {start.where!r}")
        self._settings = settings
        self._cluster_id = cluster_id
        self._prefix = len(settings.topic_prefix)
        self.closed = False
        self._empty = 0
        self._fetched_at = 0.0
        self._consumer = make_consumer(settings)
        try:
            self._partitions = self._assigned(topics, keys)
            self._ends = self._seek(start)
        except KafkaError as error:
            self.close()
            raise BusError(f"cannot subscribe to {', '.join(topics)} at {settings.bootstrap}: {one_line(error)}") from error
        except BusError:
            self.close()
            raise

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """Return records in partition order, empty after `timeout_s`.

        Raises BusError when an offset is out of range (retention passed it, or the log is another), or when another
        cluster answers at the address. A broker that is away is no error: it is looked for while nothing comes.
        """
        try:
            found = self._fetch(timeout_s)
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            raise BusError(self._out_of_range()) from error
        except KafkaError as error:
            raise BusError(f"cannot read from Kafka at {self._settings.bootstrap}: {one_line(error)}") from error
        heard = cluster_id_of(self._consumer)
        if heard not in ("", self._cluster_id):
            raise BusError(
                f"Kafka at {self._settings.bootstrap} is another cluster now ({heard}, was {self._cluster_id}): offsets of one "
                "mean nothing to the other; restart with the old one, or with a new history"
            )
        return [self._record(raw) for partition in sorted(found) for raw in found[partition]]

    def lag(self) -> int:
        """Records between the positions and the log's end, as last known."""
        behind = 0
        for partition in self._partitions:
            end = max(self._consumer.highwater(partition) or 0, self._ends[partition])
            behind += max(0, end - self._positions()[partition])
        return behind

    def pause(self) -> None:
        """Stop fetching; `poll` then waits and returns nothing."""
        self._consumer.pause(*self._partitions)

    def resume(self) -> None:
        """Fetch again from where it stopped."""
        self._consumer.resume(*self._partitions)

    def close(self) -> None:
        """Leave. Safe to call twice."""
        self.closed = True
        self._consumer.close(timeout_ms=1000)

    def _assigned(self, topics: Sequence[str], keys: Sequence[str]) -> list[TopicPartition]:
        partitions = []
        for topic in topics:
            name = self._settings.topic_prefix + topic
            found = self._partitions_of(name)
            if not found:
                raise BusError(f"topic {name} is not at {self._settings.bootstrap}: make it first (ensure_topics)")
            held = {partition_of(key, len(found)) for key in keys} if keys else found
            partitions += [TopicPartition(name, number) for number in sorted(held)]
        self._consumer.assign(partitions)
        return partitions

    def _partitions_of(self, name: str) -> set[int]:
        """The topic's partitions; a broker of a larger cluster may hear of a new topic a moment late."""
        deadline = time.monotonic() + NEW_TOPIC_S
        while True:
            found: set[int] | None = self._consumer.partitions_for_topic(name)
            if found or time.monotonic() > deadline:
                return found or set()
            time.sleep(0.1)

    def _seek(self, start: Start) -> dict[TopicPartition, int]:
        """Go to where the caller wants; explicit, so that "end" means the end at this moment. Returns the log's ends."""
        ends: dict[TopicPartition, int] = self._consumer.end_offsets(self._partitions)
        default = ends if start.where == "end" else self._consumer.beginning_offsets(self._partitions)
        for partition in self._partitions:
            wanted = start.offsets.get((partition.topic[self._prefix :], partition.partition))
            self._consumer.seek(partition, default[partition] if wanted is None else wanted)
        return ends

    def _fetch(self, timeout_s: float) -> Mapping[TopicPartition, Sequence[Any]]:
        if self._settings.fetch_waits:
            waited: Mapping[TopicPartition, Sequence[Any]] = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
            return waited
        deadline = time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            due = self._fetched_at + NAPS_S[min(self._empty, len(NAPS_S) - 1)]
            if due > deadline and due > now:  # too soon to ask again within this call
                time.sleep(max(0.0, deadline - now))
                return {}
            time.sleep(max(0.0, due - now))
            found: Mapping[TopicPartition, Sequence[Any]] = self._consumer.poll(timeout_ms=0)
            self._fetched_at = time.monotonic()
            self._empty = 0 if found else self._empty + 1
            if found or self._fetched_at >= deadline:
                return found

    def _record(self, raw: Any) -> Record:
        return Record(
            topic=raw.topic[self._prefix :],
            partition=raw.partition,
            offset=raw.offset,
            key=(raw.key or b"").decode(errors="replace"),
            value=raw.value or b"",
            headers={name: (text or b"").decode(errors="replace") for name, text in raw.headers},
            appended_at=datetime.fromtimestamp(raw.timestamp / 1000, UTC),
        )

    def _positions(self) -> dict[TopicPartition, int]:
        assignment = self._consumer._subscription.assignment  # position() would ask the broker
        known = {p: assignment[p].position for p in self._partitions}
        return {p: 0 if position is None else position.offset for p, position in known.items()}

    def _out_of_range(self) -> str:
        positions = self._positions()
        first = self._consumer.beginning_offsets(self._partitions)
        end = self._consumer.end_offsets(self._partitions)
        outside = [p for p in self._partitions if not first[p] <= positions[p] <= end[p]]
        named = "; ".join(
            f"topic {p.topic}, partition {p.partition}: offset {positions[p]} is not in the log's {first[p]} to {end[p]}"
            for p in outside or self._partitions
        )
        return (
            f"{named}: records were deleted before they were read, or this is another log; "
            "start from the beginning or the end, or with a new history"
        )


def partition_of(key: str, partitions: int) -> int:
    """Return the partition that Kafka's clients give a key by default: positive murmur2 modulo the count."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)
