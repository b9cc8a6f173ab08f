"""Questions from strangers: one statement that reads, in a read-only transaction, ended when it takes or brings too much.

The gates that hold for the whole database (no file access, no extensions, locked settings) are set in `store`.
"""

import contextlib
import math
import threading
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from contracts.errors import HistoryError

ALLOWED = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
BATCH_ROWS = 50_000
MAX_SQL_CHARS = 100_000


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one question may take."""

    timeout_s: float = 30.0
    max_rows: int = 5_000_000
    max_bytes: int = 512 * 2**20


def ask(cursor: duckdb.DuckDBPyConnection, sql: str, params: Mapping[str, Any] | None, limits: Limits) -> pa.Table:
    """Run one SELECT (or EXPLAIN, DESCRIBE, SHOW, SUMMARIZE) on a connection of its own and return its rows.

    `params` are the `$name` parameters; aware datetimes become naive UTC. Another thread may interrupt the cursor. Raises
    HistoryError with one line: a statement that is not allowed or wrong, more than `limits` permit, no memory, interrupted.
    """
    values = {name: plain(value) for name, value in (params or {}).items()}
    _check(cursor, sql, values)
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(duckdb.Error):  # it may have ended in between
            cursor.interrupt()

    timer = threading.Timer(limits.timeout_s, end)
    timer.daemon = True
    try:
        timer.start()
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        return _read(cursor, sql, values, limits)
    except (duckdb.Error, pa.ArrowException, OSError, MemoryError) as error:  # a stream's errors come through pyarrow
        if late.is_set():
            raise HistoryError(f"the query took longer than {limits.timeout_s:g} s: ask for less, or a shorter time") from error
        raise HistoryError(f"query: {one_line(error)}") from error
    finally:
        timer.cancel()


def one_line(error: BaseException) -> str:
    """Return DuckDB's message without the picture of the statement under it."""
    text = str(error).split("\n\n", maxsplit=1)[0].strip()
    return " ".join(text.split())[:500] or type(error).__name__


def plain(value: Any) -> Any:
    """Return a parameter as DuckDB takes it; HistoryError for a type that is not data."""
    match value:
        case None | bool() | int() | str() | bytes():
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
        case date():
            return value
        case list() | tuple():
            return [plain(v) for v in value]
    if hasattr(value, "item"):  # a numpy scalar
        return plain(value.item())
    raise HistoryError(f"a parameter is a {type(value).__name__}: give text, numbers, times or lists of them")


def _check(con: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> None:
    if len(sql) > MAX_SQL_CHARS:
        raise HistoryError(f"the query has {len(sql)} characters: at most {MAX_SQL_CHARS} are read")
    try:
        statements = con.extract_statements(sql)
    except (duckdb.Error, UnicodeError) as error:
        raise HistoryError(f"query: {one_line(error)}") from error
    if len(statements) != 1:
        raise HistoryError(f"{len(statements)} statements: exactly one SELECT is answered")
    statement = statements[0]
    if statement.type not in ALLOWED:
        raise HistoryError(f"{statement.type.name} is not answered: only SELECT, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN are")
    if missing := sorted(set(statement.named_parameters) - set(values)):
        raise HistoryError(f"query: parameter ${missing[0]} is not given")
    if unknown := sorted(set(values) - set(statement.named_parameters)):
        raise HistoryError(f"query: it has no parameter ${unknown[0]}")


def _read(cursor: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any], limits: Limits) -> pa.Table:
    relation = cursor.sql(sql, params=dict(values)) if values else cursor.sql(sql)
    reader = relation.to_arrow_reader(BATCH_ROWS)
    batches, rows, size = [], 0, 0
    for batch in reader:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows > limits.max_rows or size > limits.max_bytes:
            cursor.interrupt()
            raise HistoryError(
                f"the answer has over {limits.max_rows} rows or {limits.max_bytes // 2**20} MiB: aggregate, or add a LIMIT"
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, schema=reader.schema)
