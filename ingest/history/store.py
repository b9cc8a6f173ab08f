"""The history: one DuckDB file, one writer, many readers. Rows and offsets commit together."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl

from contracts.errors import HistoryError
from ingest.history import series, tables, topology
from ingest.history.frames import MicroBatch
from ingest.history.readonly import Limits, ask, one_line

FILE = "history.duckdb"
OUT_OF_MEMORY_TRIES = 5


OFFSETS: dict[str, pl.DataType | type[pl.DataType]] = {
    "cluster_id": pl.String,
    "topic": pl.String,
    "k_partition": pl.Int32,
    "next_offset": pl.Int64,
}
COMMITS: dict[str, pl.DataType | type[pl.DataType]] = {
    "committed_at": pl.Datetime("us"),
    "topic": pl.String,
    "records": pl.Int64,
    "rows": pl.Int64,
    "backfilled_rows": pl.Int64,
    "oldest_created": pl.Datetime("us"),
    "freshness_s": pl.Float64,
    "commit_s": pl.Float64,
}


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the database may take of the machine."""

    memory: str = "2GB"
    spill: str = "4GB"
    """disk that large questions may use beside the file"""
    threads: int = 0
    """0 = one less than the cores"""
    checkpoint: str = "8MB"
    """log beside the file before it is folded in: commits wait meanwhile, about 1 s for 64MB"""
    limits: Limits = Limits()


class History:
    """An open history. `append` belongs to one thread; `query` and `series` may be called by any."""

    def __init__(
        self, path: Path, cluster_id: str, settings: StoreSettings | None = None, wall: Callable[[], datetime] | None = None
    ) -> None:
        """Name the file `path` of the Kafka cluster `cluster_id`. Opens nothing.

        `wall` tells the wall time (aware UTC) at which commits end.
        """
        self.path = path
        self.cluster_id = cluster_id
        self.settings = settings or StoreSettings()
        self._wall = wall or (lambda: datetime.now(UTC))
        self._con: duckdb.DuckDBPyConnection | None = None
        self._desk: duckdb.DuckDBPyConnection | None = None
        """only makes cursors for questions: the writer's own connection is busy"""
        self._offsets: dict[tuple[str, int], int] = {}
        self._sources: set[tuple[str, str]] = set()
        self._finished: list[tuple[Any, ...]] = []
        self._asking: set[duckdb.DuckDBPyConnection] = set()
        self._lock = threading.Lock()

    def open(self) -> "History":
        """Open or make the file; return self.

        HistoryError with one line when another process has it, when it is no DuckDB file or of a newer version, when the
        folder cannot be written, or when it holds another cluster's records.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._con = duckdb.connect(str(self.path), config=self._config())
            self._con.execute("SET GLOBAL TimeZone = 'UTC'")
            tables.create(self._con, self.cluster_id)
            # From here on nobody changes a setting, the owner included.
            self._con.execute("SET lock_configuration = true")
            self._desk = self._con.cursor()
            self._recall()
        except HistoryError:
            self.close()
            raise
        except (duckdb.Error, OSError) as error:
            self.close()
            raise HistoryError(f"history {str(self.path)!r}: {_why_not_open(error)}") from error
        return self

    def close(self) -> None:
        """Write what is known of the last commit and leave. Safe to call twice."""
        if self._con is None:
            return
        with contextlib.suppress(duckdb.Error):  # a full disk must not keep us from leaving; bookkeeping only
            self._write_commits(self._con)
        self.interrupt()
        with self._lock:
            if self._desk is not None:
                self._desk.close()
            self._desk = None
        self._con.close()
        self._con = None

    def __enter__(self) -> "History":
        return self if self._con is not None else self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def offsets(self) -> dict[tuple[str, int], int]:
        """Return (topic, partition) -> the first offset that is not yet in the history."""
        return dict(self._offsets)

    def append(self, batch: MicroBatch) -> None:
        """Commit a micro-batch and its offsets in one transaction: all of it or nothing.

        Raises ValueError when it repeats records that are in the history, HistoryError when it cannot be written (a full
        disk, for instance); then nothing of it is there, and the same batch may be tried again.
        """
        repeated = {place: span for place, span in batch.spans.items() if span[0] < self._offsets.get(place, 0)}
        if repeated:
            (topic, partition), (first, _) = next(iter(repeated.items()))
            known = self._offsets[topic, partition]
            raise ValueError(f"{topic} {partition}: offset {first} is in the history already, next is {known}")
        for attempt in range(1, OUT_OF_MEMORY_TRIES + 1):
            try:
                self._append(batch)
                return
            except duckdb.OutOfMemoryException as error:
                # Readers share the limit: the log must not wait for a greedy question.
                if attempt == OUT_OF_MEMORY_TRIES or not self.interrupt():
                    raise HistoryError(f"history {str(self.path)!r}: {one_line(error)}: raise history.memory") from error
                time.sleep(0.1 * attempt)
            except (duckdb.Error, OSError) as error:
                raise HistoryError(f"history {str(self.path)!r}: cannot write: {one_line(error)}") from error

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """Run one SELECT with `$name` parameters. Raises HistoryError with one line."""
        frame = pl.from_arrow(self.arrow(sql, params))
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  (from_arrow of a table)
        return frame

    def arrow(self, sql: str, params: Mapping[str, Any] | None = None, limits: Limits | None = None) -> Any:
        """As `query`, as a pyarrow Table and with limits of its own."""
        with self._lock:  # a connection refuses a second call while one runs, making a cursor included
            if self._desk is None:
                raise HistoryError(f"history {str(self.path)!r} is not open")
            cursor = self._desk.cursor()
            self._asking.add(cursor)
        try:
            return ask(cursor, sql, params, limits or self.settings.limits)
        finally:
            with self._lock:
                self._asking.discard(cursor)
            cursor.close()  # with its transaction

    def series(
        self, target: str, *, as_of: datetime, since: datetime, until: datetime | None = None, step_s: int = 300
    ) -> pl.DataFrame:
        """Long frame (ts, series, value), see `contracts.ports.HistoryReader`."""
        return series.read(self.query, target, as_of=as_of, since=since, until=until, step_s=step_s)

    def interrupt(self) -> int:
        """Interrupt every question under way; return how many there were."""
        with self._lock:
            asking = list(self._asking)
            for cursor in asking:
                with contextlib.suppress(duckdb.Error):  # it may have ended in between
                    cursor.interrupt()
        return len(asking)

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._con is None:
            raise HistoryError(f"history {str(self.path)!r} is not open")
        return self._con

    def _config(self) -> dict[str, str | bool | int | float | list[str]]:
        threads = self.settings.threads or max(1, (os.cpu_count() or 2) - 1)
        return {
            "enable_external_access": "false",
            "python_enable_replacements": "false",  # else SQL could name the process's own variables
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": self.settings.memory,
            "max_temp_directory_size": self.settings.spill,
            "threads": str(threads),
            "checkpoint_threshold": self.settings.checkpoint,
        }

    def _recall(self) -> None:
        con = self._open()
        rows = con.execute("SELECT topic, k_partition, next_offset FROM offsets WHERE cluster_id = $c", {"c": self.cluster_id})
        self._offsets = {(topic, partition): offset for topic, partition, offset in rows.fetchall()}
        self._sources = {(topic, name) for topic, name in con.execute("SELECT topic, name FROM sources").fetchall()}

    def _append(self, batch: MicroBatch) -> None:
        con, begun = self._open(), time.monotonic()
        con.execute("BEGIN")
        try:
            for table, frame in batch.frames.items():
                if table in topology.TABLES:
                    con.execute(f"DELETE FROM {table}")  # noqa: S608  (a table of our own)
                _insert(con, table, frame)
            new = self._new_sources(batch)
            _insert(con, "sources", pl.DataFrame(new, schema={"topic": pl.String, "name": pl.String}, orient="row"))
            self._advance(con, batch)
            self._write_commits(con)
            con.execute("COMMIT")
        except BaseException:  # whatever it was: nothing of the batch may stay
            with contextlib.suppress(duckdb.Error):
                con.execute("ROLLBACK")
            raise
        self._sources.update(new)
        self._offsets.update({place: after for place, (_, after) in batch.spans.items()})
        self._finished = _told(batch, self._wall().astimezone(UTC).replace(tzinfo=None), time.monotonic() - begun)

    def _advance(self, con: duckdb.DuckDBPyConnection, batch: MicroBatch) -> None:
        """Move all offsets in one statement: each statement costs milliseconds, however small."""
        rows = [(self.cluster_id, topic, partition, after) for (topic, partition), (_, after) in batch.spans.items()]
        known = [row for row in rows if row[1:3] in self._offsets]
        _insert(con, "offsets", pl.DataFrame([row for row in rows if row not in known], schema=OFFSETS, orient="row"))
        if known:
            con.register("_incoming", pl.DataFrame(known, schema=OFFSETS, orient="row"))
            try:
                con.execute(
                    "UPDATE offsets SET next_offset = new.next_offset FROM _incoming AS new "
                    "WHERE offsets.cluster_id = new.cluster_id AND offsets.topic = new.topic "
                    "AND offsets.k_partition = new.k_partition"
                )
            finally:
                con.unregister("_incoming")

    def _new_sources(self, batch: MicroBatch) -> list[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for topic, column in (("gpu", "node"), ("requests", "endpoint")):
            if topic in batch.frames:
                found |= {(topic, name) for name in batch.frames[topic][column].unique().to_list()}
        return sorted(found - self._sources)

    def _write_commits(self, con: duckdb.DuckDBPyConnection) -> None:
        """Bookkeeping of the commit before this one: only now it is known when it ended."""
        _insert(con, "commits", pl.DataFrame(self._finished, schema=COMMITS, orient="row"))
        self._finished = []


def _insert(con: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
    if frame.is_empty():
        return
    con.register("_incoming", frame)
    try:
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM _incoming")  # noqa: S608  (a table of our own)
    finally:
        con.unregister("_incoming")


def _told(batch: MicroBatch, at: datetime, commit_s: float) -> list[tuple[Any, ...]]:
    return [
        (at, topic, told.records, told.rows, told.backfilled_rows, oldest, _age_s(at, oldest), commit_s)
        for topic, told in sorted(batch.told.items())
        for oldest in [min(told.created, default=None)]
    ]


def _age_s(at: datetime, created: datetime | None) -> float | None:
    return None if created is None else max(0.0, (at - created).total_seconds())


def _why_not_open(error: Exception) -> str:
    text = one_line(error)
    if "Conflicting lock" in text or "Could not set lock" in text:
        return "another process has it: it is the owner, ask it (coldaisle sql), or stop it first"
    if "not a valid DuckDB" in text:
        return "this is no DuckDB file: name another state folder"
    if "storage version" in text or "newer version" in text:
        return f"made by a newer DuckDB: {text}"
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return "permission denied: name a state folder that can be written to"
    return f"cannot open: {text}"
