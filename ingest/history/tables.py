"""The tables: columnar topics made from their declared columns, the rest and the views from `sql`."""

from collections.abc import Iterable

import duckdb

import sql
from contracts.errors import HistoryError
from contracts.schemas import SCHEMAS, Dtype, Schema

HISTORY_VERSION = 1
"""of the tables; columns that a schema gains are added without a new version"""

SQL_TYPES: dict[Dtype, str] = {
    "ts": "TIMESTAMP",
    "str": "VARCHAR",
    "f64": "DOUBLE",
    "f32": "FLOAT",
    "i64": "BIGINT",
    "i32": "INTEGER",
    "i16": "SMALLINT",
    "bool": "BOOLEAN",
    "list_ts": "TIMESTAMP[]",
    "list_f64": "DOUBLE[]",
    "list_str": "VARCHAR[]",
}
BOOKKEEPING: dict[str, tuple[str, str]] = {
    "arrived_at": ("TIMESTAMP", "when the broker appended it, run time, UTC; back-filled rows: ts + 60 s"),
    "k_partition": ("INTEGER", "partition of the log"),
    "k_offset": ("BIGINT", "offset of the record in its partition"),
    "created_wall": ("TIMESTAMP", "creation, wall time, UTC (header ce_time)"),
}
VIEWS = (
    "run_now",
    "row_power",
    "server_now",
    "gpu_now",
    "forecast_path",
    "caps",
    "cap_story",
    "load_5m",
    "alerts_open",
    "freshness",
)
"""in the order in which they build on one another"""


def create(con: duckdb.DuckDBPyConnection, cluster_id: str) -> None:
    """Make or complete the tables, comments and views. HistoryError when the file is newer, or another cluster's."""
    con.execute("BEGIN")
    for name in sql.names("schema"):
        con.execute(sql.text("schema", name))
    _check_version(con)
    for schema in SCHEMAS.values():
        _columnar(con, schema)
    for name in VIEWS:
        con.execute(sql.text("views", name))
    con.execute("COMMIT")
    others = [row[0] for row in con.execute("SELECT DISTINCT cluster_id FROM offsets").fetchall() if row[0] != cluster_id]
    if others:
        raise HistoryError(
            f"this history belongs to Kafka cluster {others[0]}, the broker is {cluster_id}: "
            "start the broker that it was written from, or name another state folder"
        )


def _check_version(con: duckdb.DuckDBPyConnection) -> None:
    rows = con.execute("SELECT value FROM meta WHERE key = 'history_version'").fetchall()
    if not rows:
        con.execute("INSERT INTO meta VALUES ('history_version', $version)", {"version": str(HISTORY_VERSION)})
    elif int(rows[0][0]) != HISTORY_VERSION:
        raise HistoryError(
            f"the history has version {rows[0][0]}, this program writes {HISTORY_VERSION}: "
            "use the coldaisle that made it, or name another state folder"
        )


def _columnar(con: duckdb.DuckDBPyConnection, schema: Schema) -> None:
    wanted = {c.name: (SQL_TYPES[c.dtype], c.required, _meaning(c.unit, c.doc)) for c in schema.columns}
    wanted |= {name: (kind, name != "created_wall", doc) for name, (kind, doc) in BOOKKEEPING.items()}
    columns = ", ".join(f'"{name}" {kind}{" NOT NULL" if required else ""}' for name, (kind, required, _) in wanted.items())
    con.execute(f"CREATE TABLE IF NOT EXISTS {schema.topic} ({columns})")
    there = dict(
        con.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $topic", {"topic": schema.topic}
        ).fetchall()
    )
    for name, (kind, _, _) in wanted.items():
        if name not in there:  # a schema that has grown: older rows do not have it
            con.execute(f'ALTER TABLE {schema.topic} ADD COLUMN "{name}" {kind}')
        elif there[name] != kind:
            raise HistoryError(
                f"column {schema.topic}.{name} is {there[name]} in this history, this program writes {kind}: "
                "use the coldaisle that made it, or name another state folder"
            )
    con.execute(
        f"COMMENT ON TABLE {schema.topic} IS {_literal(f'topic {schema.topic}; one row per {_all(schema.keys)} and ts')}"
    )
    for name, (_, _, doc) in wanted.items():
        con.execute(f'COMMENT ON COLUMN {schema.topic}."{name}" IS {_literal(doc)}')


def _meaning(unit: str, doc: str) -> str:
    return f"{unit}, {doc}" if unit else doc


def _all(names: Iterable[str]) -> str:
    return ", ".join(names)


def _literal(text: str) -> str:
    # A comment takes no parameter; the texts are our own.
    return "'" + text.replace("'", "''") + "'"
