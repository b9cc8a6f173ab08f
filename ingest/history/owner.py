"""The owner: consumes every topic and writes it into the history, exactly once, while others ask.

Two threads: one reads the log, one decodes and commits. Between them wait two micro-batches at most; when the disk stalls the
reading pauses, and what was not committed is read again after a restart.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from contracts.errors import ColdaisleError, HistoryError
from contracts.ports import Bus, Clock, Record, Start, Subscription
from contracts.topics import TOPICS
from ingest.history import owners
from ingest.history.frames import micro_batch
from ingest.history.metrics import Metrics
from ingest.history.server import HistoryServer
from ingest.history.store import FILE, History, StoreSettings

WAITING = 2
"""micro-batches between the reader and the writer"""
DRAIN_S = 3.0
"""how long a stop may wait for what is in the log already"""

log = logging.getLogger(__name__)


class OwnerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the owner commits and serves."""

    commit_s: float = 0.5
    """wall time between commits"""
    commit_bytes: int = 4 * 2**20
    """or as soon as so much has come: about 50,000 rows of telemetry"""
    port: int = 0
    """of the SQL service on loopback; 0 = a free one"""
    questions: int = 4
    """answered at once; more wait"""
    store: StoreSettings = StoreSettings()


def serve(
    state: Path,
    bus: Bus,
    clock: Clock,
    stop: threading.Event,
    settings: OwnerSettings | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Open the history in the folder `state`, serve it on loopback, and fill it until `stop`.

    `ready` is called once it answers. Raises HistoryError or BusError with one line.
    """
    settings = settings or OwnerSettings()
    metrics = Metrics()
    bus.ensure_topics()
    with (
        History(state / FILE, bus.cluster_id, settings.store, clock.wall) as history,
        HistoryServer(history, metrics, port=settings.port, questions=settings.questions) as server,
        owners.registered(state, server.url, server.token, clock.wall()),
    ):
        log.info("history of cluster %s in %s, SQL at %s", bus.cluster_id, history.path, server.url)
        ready()
        run(bus, history, clock, stop, settings, metrics)


def run(
    bus: Bus,
    history: History,
    clock: Clock,
    stop: threading.Event,
    settings: OwnerSettings | None = None,
    metrics: Metrics | None = None,
) -> None:
    """Fill an open history from where it ended until `stop`; then take what is in the log already, and return.

    Raises BusError for an offset out of range or another cluster, HistoryError when it cannot be written.
    """
    if bus.cluster_id != history.cluster_id:
        raise HistoryError(
            f"this history belongs to Kafka cluster {history.cluster_id}, the broker is {bus.cluster_id}: "
            "start the broker that it was written from, or name another state folder"
        )
    settings, metrics = settings or OwnerSettings(), metrics or Metrics()
    topics = [topic.name for topic in TOPICS]
    subscription = bus.subscribe(topics, Start(where="beginning", offsets=history.offsets()))
    writer = _Writer(history, clock, metrics)
    writer.start()
    try:
        _read(subscription, writer, stop, settings, metrics)
    finally:
        writer.finish()
        subscription.close()
    writer.check()


def _read(
    subscription: Subscription, writer: "_Writer", stop: threading.Event, settings: OwnerSettings, metrics: Metrics
) -> None:
    """Hand over what comes, at least every commit_s; pause while the writer has too much."""
    pending: list[Record] = []
    size, due, last_lag, paused, drain_until = 0, 0.0, 0.0, False, 0.0
    while True:
        writer.check()
        now = time.monotonic()
        if stop.is_set():
            drain_until = drain_until or now + DRAIN_S
        wait_s = min(settings.commit_s, max(0.0, due - now)) if pending else settings.commit_s
        records = subscription.poll(wait_s)
        now = time.monotonic()
        if records and not pending:
            due = now + settings.commit_s
        pending += records
        size += sum(len(r.value) for r in records)
        over = bool(drain_until) and (now > drain_until or (not records and not paused and subscription.lag() == 0))
        if pending and (over or now >= due or size >= settings.commit_bytes):
            if writer.offer(pending):
                pending, size = [], 0
                if paused:
                    subscription.resume()
                    paused = False
            elif not paused:
                log.warning("the history's disk is slow: reading pauses with %d records waiting", len(pending))
                subscription.pause()
                paused = True
        if over and not pending:
            return
        if now - last_lag > 1.0:
            metrics.lag.set(subscription.lag())
            last_lag = now


class _Writer(threading.Thread):
    """Decodes and commits what it is offered, in order. Its error is raised by `check` in the other thread."""

    def __init__(self, history: History, clock: Clock, metrics: Metrics) -> None:
        super().__init__(name="history-writer", daemon=True)
        self._history, self._clock, self._metrics = history, clock, metrics
        self._queue: queue.Queue[Sequence[Record] | None] = queue.Queue(maxsize=WAITING)
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            while (records := self._queue.get()) is not None:
                begun = time.monotonic()
                batch = micro_batch(records, self._clock.to_run)
                self._history.append(batch)
                self._metrics.committed(batch, time.monotonic() - begun, self._clock.wall())
        except BaseException as error:  # noqa: BLE001  (whatever it was, it is raised again where somebody sees it)
            self._error = error

    def offer(self, records: Sequence[Record]) -> bool:
        """Hand over records; False when too much waits already."""
        try:
            self._queue.put(records, timeout=0.05)
        except queue.Full:
            return False
        return True

    def finish(self) -> None:
        """Let it commit what waits, and end it."""
        while self.is_alive():
            try:
                self._queue.put(None, timeout=0.1)
            except queue.Full:
                continue
            break
        self.join()

    def check(self) -> None:
        """Raise what ended the writer."""
        if isinstance(self._error, ColdaisleError):
            raise self._error
        if self._error is not None:
            raise RuntimeError("the history's writer has a bug") from self._error
