"""What the owner tells Prometheus about itself."""

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ingest.history.frames import MicroBatch

COMMIT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
FRESHNESS_BUCKETS_S = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300)


class Metrics:
    """Counters of one owner, in a registry of its own."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = CollectorRegistry()
        self.rows = Counter("coldaisle_history_rows_total", "rows committed", ["topic"], registry=self.registry)
        self.records = Counter("coldaisle_history_records_total", "records of the log", ["topic"], registry=self.registry)
        self.rejected = Counter("coldaisle_history_rejected_total", "rows of the table rejected", registry=self.registry)
        self.lag = Gauge("coldaisle_history_lag_records", "records not yet read", registry=self.registry)
        self.last_commit = Gauge("coldaisle_history_last_commit_timestamp_seconds", "wall time", registry=self.registry)
        self.commit_s = Histogram(
            "coldaisle_history_commit_seconds", "decode and commit", buckets=COMMIT_BUCKETS_S, registry=self.registry
        )
        self.freshness_s = Histogram(
            "coldaisle_history_freshness_seconds",
            "creation of a live record to its commit",
            buckets=FRESHNESS_BUCKETS_S,
            registry=self.registry,
        )
        self.questions = Counter("coldaisle_history_questions_total", "answered", ["result"], registry=self.registry)

    def committed(self, batch: MicroBatch, took_s: float, wall: datetime) -> None:
        """Count a batch whose commit ended at `wall` (aware UTC)."""
        at = wall.astimezone(UTC).replace(tzinfo=None)
        for topic, told in batch.told.items():
            self.rows.labels(topic).inc(told.rows)
            self.records.labels(topic).inc(told.records)
            for created in told.created:
                self.freshness_s.observe(max(0.0, (at - created).total_seconds()))
        if "rejected" in batch.frames:
            self.rejected.inc(batch.frames["rejected"].height)
        self.commit_s.observe(took_s)
        self.last_commit.set(wall.timestamp())

    def text(self) -> bytes:
        """Return the text format 0.0.4."""
        return generate_latest(self.registry)
