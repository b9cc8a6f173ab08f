"""Strangers' SQL: nothing they send may write, read a file, change a setting, or keep the machine."""

import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import HistoryError
from ingest.history.readonly import Limits
from ingest.history.store import History
from tests.factories import NOW
from tests.ingest.history.conftest import fill
from tests.ingest.history.logs import CLUSTER, gpu_batches, naive, story

HOSTILE = [
    "DELETE FROM server",
    "DROP TABLE server",
    "INSERT INTO server SELECT * FROM server",
    "UPDATE server SET power_w = 0",
    "TRUNCATE server",
    "WITH gone AS (DELETE FROM server RETURNING *) SELECT * FROM gone",
    "WITH made AS (INSERT INTO sources VALUES ('x', 'y') RETURNING *) SELECT * FROM made",
    "WITH changed AS (UPDATE server SET power_w = 0 RETURNING *) SELECT count(*) FROM changed",
    "EXPLAIN ANALYZE DELETE FROM server",
    "CREATE TABLE mine AS SELECT 1",
    "CREATE TEMP TABLE mine AS SELECT 1",
    "CREATE MACRO mine() AS 1",
    "ALTER TABLE server DROP COLUMN power_w",
    "SELECT 1; DELETE FROM server",
    "SELECT 1; SELECT 2",
    "COPY server TO '/tmp/stolen.csv'",
    "COPY server FROM '/etc/passwd'",
    "EXPORT DATABASE '/tmp/stolen'",
    "ATTACH '/tmp/other.duckdb'",
    "DETACH history",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
    "SELECT * FROM duckdb_secrets()",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '64GB'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA threads = 64",
    "SELECT * FROM enable_logging()",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "SELECT * FROM force_checkpoint()",
    "VACUUM",
    "CALL pragma_database_size()",
    "PREPARE later AS DELETE FROM server",
    "EXECUTE later",
    "USE memory",
    "SET VARIABLE x = 1",
    "SELECT * FROM self",
    "SELECT * FROM batches",
    "SELECT * FROM query('DELETE FROM server')",
    "",
    "-- nothing",
    "SELEC 1",
    "SELECT '" + "x" * 200_000 + "'",
    "SELECT \x00",
]


@pytest.mark.parametrize("sql", HOSTILE, ids=lambda s: s[:40] or "empty")
def test_hostile_statements_are_refused_in_one_line(told: History, sql: str) -> None:
    before = told.query("SELECT count(*), sum(power_w) FROM server").row(0)
    with pytest.raises(HistoryError) as refused:
        told.query(sql)
    assert "\n" not in str(refused.value)
    assert told.query("SELECT count(*), sum(power_w) FROM server").row(0) == before
    assert told.query("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'mine'").item() == 0


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS x",
        "FROM server LIMIT 1",
        "TABLE server",
        "VALUES (1), (2)",
        "SHOW TABLES",
        "DESCRIBE server",
        "SUMMARIZE server",
        "EXPLAIN SELECT * FROM server",
        "WITH x AS (SELECT 1 AS y) SELECT * FROM x;",
        "-- a remark\nSELECT 1 /* another */ -- and one more",
    ],
)
def test_reading_is_answered(told: History, sql: str) -> None:
    assert told.query(sql).height >= 1


def test_parameters_carry_what_data_is(told: History) -> None:
    berlin = timezone(timedelta(hours=2))
    row = told.query(
        "SELECT $at AS at, $also AS also, $n AS n, $x AS x, $t AS t, $none AS none, $many AS many",
        {
            "at": NOW,
            "also": NOW.astimezone(berlin),
            "n": np.int64(3),
            "x": np.float32(0.5),
            "t": "it's",
            "none": None,
            "many": ["a", "b"],
        },
    ).row(0)
    assert row == (naive(NOW), naive(NOW), 3, 0.5, "it's", None, ["a", "b"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        pytest.param({}, r"parameter \$a is not given", id="missing"),
        pytest.param({"a": 1, "b": 2}, r"no parameter \$b", id="unknown"),
        pytest.param({"a": object()}, "a parameter is a object", id="no-data"),
    ],
)
def test_wrong_parameters_are_named(told: History, params: dict[str, object], message: str) -> None:
    with pytest.raises(HistoryError, match=message):
        told.query("SELECT $a", params)


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT nothing FROM server", "SELECT * FROM no_such_table", "SELECT 1/0 + 'x'"])
def test_mistakes_are_told_in_one_line(told: History, sql: str) -> None:
    with pytest.raises(HistoryError, match="query: ") as refused:
        told.query(sql)
    assert "\n" not in str(refused.value)


def test_a_runaway_is_ended(tmp_path: Path) -> None:
    with History(tmp_path / "h.duckdb", CLUSTER) as history:
        with pytest.raises(HistoryError, match=r"took longer than 0\.2 s"):
            history.arrow("SELECT count(*) FROM range(1000000) a, range(1000000) b", limits=Limits(timeout_s=0.2))
        with pytest.raises(HistoryError, match="has over 1000 rows"):
            history.arrow("FROM range(1000000000)", limits=Limits(max_rows=1000))
        with pytest.raises(HistoryError, match="or 1 MiB"):
            history.arrow("SELECT repeat('x', 1000) FROM range(100000)", limits=Limits(max_bytes=2**20))
        assert history.query("SELECT 1 AS x").item() == 1


def test_interrupt_ends_what_is_under_way(tmp_path: Path) -> None:
    with History(tmp_path / "h.duckdb", CLUSTER) as history:
        refused: list[str] = []

        def ask() -> None:
            try:
                history.query("SELECT count(*) FROM range(1000000) a, range(1000000) b")
            except HistoryError as error:
                refused.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        while not history.interrupt():
            time.sleep(0.01)
        while thread.is_alive():  # it may not have started to run when it was first interrupted
            history.interrupt()
            thread.join(0.05)
        assert "Interrupted" in refused[0]


def test_times_are_utc_whatever_the_machine_says(told: History) -> None:
    now = told.query("SELECT now() AS now, current_setting('TimeZone') AS zone").row(0)
    assert now[1] == "UTC"
    assert abs(now[0] - datetime.now(UTC)) < timedelta(minutes=1)


def test_readers_see_whole_commits_while_the_writer_works(tmp_path: Path) -> None:
    with History(tmp_path / "h.duckdb", CLUSTER) as history:
        fill(history, story())
        wrong: list[str] = []
        asked = 0
        stop = threading.Event()

        def ask() -> None:
            nonlocal asked
            while not stop.is_set():
                rows, records = history.query("SELECT count(*), count(DISTINCT k_offset) FROM gpu WHERE k_partition = 0").row(0)
                if rows != records * 1000:
                    wrong.append(f"{rows} rows of {records} records")
                asked += 1

        readers = [threading.Thread(target=ask) for _ in range(2)]
        for reader in readers:
            reader.start()
        for batch in gpu_batches(60, 1000):
            history.append(batch)
        stop.set()
        for reader in readers:
            reader.join()
        assert wrong == []
        assert asked > 0
        assert history.query("SELECT count(*) FROM gpu WHERE k_partition = 0").item() == 60_000
