import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

import sql
from contracts.errors import HistoryError
from contracts.schemas import SCHEMAS
from contracts.topics import TOPICS
from ingest.history import tables
from ingest.history.frames import RECORD_TABLES, micro_batch
from ingest.history.readonly import Limits
from ingest.history.store import History, StoreSettings
from tests.factories import NOW
from tests.ingest.history.conftest import fill, same
from tests.ingest.history.logs import CLUSTER, Log, ago, naive, story


def test_every_topic_has_a_table_with_its_place_in_the_log(history: History) -> None:
    columns = history.query("SELECT table_name, list(column_name) AS names FROM duckdb_columns() GROUP BY ALL")
    there = dict(columns.iter_rows())
    for topic in TOPICS:
        assert {"arrived_at", "k_partition", "k_offset", "created_wall"} <= set(there[topic.name]), topic.name
    for schema in SCHEMAS.values():
        assert {c.name for c in schema.columns} <= set(there[schema.topic])


def test_every_table_and_view_says_what_it_is(history: History) -> None:
    silent = history.query("SELECT table_name AS name FROM duckdb_tables() WHERE comment IS NULL")["name"].to_list()
    silent += history.query("SELECT view_name AS name FROM duckdb_views() WHERE comment IS NULL AND NOT internal")[
        "name"
    ].to_list()
    assert silent == []
    assert set(sql.names("views")) == set(tables.VIEWS)


def test_rows_stand_as_they_came(history: History) -> None:
    log = Log()
    log.rows("server", {"ts": [NOW, NOW], "node": ["a", "b"], "power_w": [1.5, None]}, NOW + timedelta(seconds=2), partition=3)
    fill(history, log)
    assert history.query("SELECT ts, node, power_w, arrived_at, k_partition, k_offset FROM server ORDER BY node").rows() == [
        (naive(NOW), "a", 1.5, naive(NOW + timedelta(seconds=2)), 3, 0),
        (naive(NOW), "b", None, naive(NOW + timedelta(seconds=2)), 3, 0),
    ]


def test_backfilled_rows_arrive_a_minute_after_their_time(history: History) -> None:
    log = Log()
    log.rows("server", {"ts": [ago(3600), NOW], "node": ["a", "b"], "backfilled": [True, None]}, NOW)
    fill(history, log)
    arrived = dict(history.query("SELECT node, arrived_at FROM server").iter_rows())
    assert arrived == {"a": naive(ago(3540)), "b": naive(NOW)}


def test_arrival_is_told_in_the_runs_time(history: History) -> None:
    log = Log()
    log.rows("server", {"ts": [NOW], "node": ["a"]}, NOW)
    history.append(micro_batch(log.records, lambda wall: wall + timedelta(days=1)))
    assert history.query("SELECT arrived_at FROM server").item() == naive(NOW + timedelta(days=1))


def test_offsets_say_where_to_go_on_and_survive(tmp_path: Path) -> None:
    with History(tmp_path / "h.duckdb", CLUSTER) as history:
        fill(history, story())
        known = history.offsets()
    assert known["gpu", 1] == 1
    assert known["server", 0] == 91
    with History(tmp_path / "h.duckdb", CLUSTER) as again:
        assert again.offsets() == known


def test_a_repeated_record_is_refused(history: History) -> None:
    log = story()
    fill(history, log)
    with pytest.raises(ValueError, match="is in the history already"):
        fill(history, log)


def test_a_batch_that_fails_leaves_nothing(history: History) -> None:
    log = Log()
    log.rows("server", {"ts": [NOW], "node": ["a"]}, NOW)
    batch = micro_batch(log.records, same)
    broken = {**batch.frames, "gpu": pl.DataFrame({"no_such_column": [1]})}
    with pytest.raises(HistoryError, match="cannot write"):
        history.append(type(batch)(frames=broken, spans=batch.spans, told=batch.told))
    assert history.query("SELECT count(*) FROM server").item() == 0
    assert history.offsets() == {}
    history.append(batch)
    assert history.query("SELECT count(*) FROM server").item() == 1


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    # A file-size limit is what a full disk looks like to the process that has it.
    program = """
import resource, signal, sys
from pathlib import Path
from contracts.errors import HistoryError
from ingest.history.frames import micro_batch
from ingest.history.store import History
from tests.factories import NOW
from tests.ingest.history.conftest import same
from tests.ingest.history.logs import CLUSTER, Log

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
history = History(Path(sys.argv[1]), CLUSTER).open()
log = Log()
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
done = 0
try:
    for i in range(2_000):
        names = [f"node-{i}-{k}-{(i * 7919 + k) ** 3}" for k in range(500)]
        record = log.rows("server", {"ts": [NOW] * 500, "node": names}, NOW)
        history.append(micro_batch([record], same))
        done += 1
except HistoryError as error:
    assert "\\n" not in str(error), error
    print("told:", error)
print(done)
"""
    file = tmp_path / "h.duckdb"
    ended = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, cwd=Path.cwd(), timeout=100
    )
    assert "told: history" in ended.stdout, ended.stderr
    done = int(ended.stdout.split()[-1])
    with History(file, CLUSTER) as history:
        assert history.query("SELECT count(*), count(DISTINCT k_offset) FROM server").row(0) == (500 * done, done)
        assert history.offsets() == {("server", 0): done}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param("locked", "another process has it", id="locked"),
        pytest.param("newer", "has version 2, this program writes 1", id="newer"),
        pytest.param("text", "no DuckDB file", id="not-a-database"),
        pytest.param("cluster", "belongs to Kafka cluster cluster-a, the broker is cluster-b", id="other-cluster"),
        pytest.param("folder", "cannot open|is a directory", id="folder"),
        pytest.param("type", "column server.power_w is VARCHAR in this history", id="other-type"),
    ],
)
def test_what_cannot_be_opened_is_told_in_one_line(tmp_path: Path, prepare: str, message: str) -> None:
    file = tmp_path / "h.duckdb"
    cluster = CLUSTER
    holder: subprocess.Popen[str] | None = None
    if prepare in ("locked", "newer", "cluster", "type"):
        with History(file, CLUSTER) as history:
            fill(history, story())
    match prepare:
        case "locked":
            hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
            holder = subprocess.Popen(
                [sys.executable, "-c", hold, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert holder.stdout is not None
            holder.stdout.readline()
        case "newer":
            with duckdb.connect(str(file)) as con:
                con.execute("UPDATE meta SET value = '2' WHERE key = 'history_version'")
        case "type":
            with duckdb.connect(str(file)) as con:
                con.execute("DROP VIEW row_power; DROP VIEW server_now; ALTER TABLE server ALTER power_w TYPE VARCHAR")
        case "text":
            file.write_text("not a database " * 1000)
        case "cluster":
            cluster = "cluster-b"
        case "folder":
            file.mkdir()
    try:
        with pytest.raises(HistoryError, match=message) as told:
            History(file, cluster).open()
    finally:
        if holder is not None:
            holder.communicate("")
    assert "\n" not in str(told.value)


def test_a_schema_that_grew_gets_its_column(tmp_path: Path) -> None:
    file = tmp_path / "h.duckdb"
    with History(file, CLUSTER) as history:
        fill(history, story())
    with duckdb.connect(str(file)) as con:
        con.execute("DROP VIEW server_now; ALTER TABLE server DROP COLUMN fan_pct")
    with History(file, CLUSTER) as again:
        assert again.query("SELECT count(fan_pct), count(*) > 0 FROM server").row(0) == (0, True)


def test_commits_tell_freshness_without_what_was_backfilled(tmp_path: Path) -> None:
    with History(tmp_path / "h.duckdb", CLUSTER, wall=lambda: NOW) as history:
        log = Log()
        log.rows("server", {"ts": [ago(7)], "node": ["a"]}, ago(7))
        log.rows("server", {"ts": [ago(2)], "node": ["a"]}, ago(2))
        log.rows("server", {"ts": [ago(900)] * 2, "node": ["a", "b"], "backfilled": [True, True]}, ago(900))
        fill(history, log)
        more = log.rows("gpu", {"ts": [NOW], "node": ["a"], "gpu": [0]}, NOW)
        history.append(micro_batch([more], same))
        row = history.query("SELECT topic, records, rows, backfilled_rows, freshness_s FROM commits").row(0)
        assert row == ("server", 3, 4, 2, 7.0)
    shutil.copy(tmp_path / "h.duckdb", tmp_path / "copy.duckdb")
    with duckdb.connect(str(tmp_path / "copy.duckdb")) as con:  # the last commit is told on leaving
        assert con.execute("SELECT topic, p99_s FROM freshness ORDER BY topic").fetchall() == [("gpu", 0.0), ("server", 7.0)]


def test_a_new_topology_replaces_the_old(history: History) -> None:
    from tests.factories import make_topology

    log = Log()
    log.record("state", make_topology(servers_per_row=4), ago(10), key="topology")
    log.record("state", make_topology(servers_per_row=2), ago(5), key="topology")
    fill(history, log)
    assert history.query("SELECT count(*) FROM topology").item() == 4
    assert history.query("SELECT row, servers FROM topology_rows ORDER BY row").rows() == [("row-0", 2), ("row-1", 2)]
    assert history.query("SELECT count(*) FROM state").item() == 2
    log.record("state", make_topology(servers_per_row=3), ago(1), key="topology")
    history.append(micro_batch(log.records[-1:], same))
    assert history.query("SELECT count(*) FROM topology").item() == 6


def test_what_is_not_accepted_is_kept_with_its_reason(history: History) -> None:
    log = Log()
    log.add("server", "x", b"no arrow at all", {"content-type": "application/vnd.apache.arrow.stream"}, NOW)
    log.add("actions", "x", b'{"action_id": 3}', {}, NOW)
    log.add("state", "topology", b'{"site": "x"}', {}, NOW)
    log.add("brake", "x", b"{", {}, NOW)
    log.rows("server", {"ts": [NOW, NOW], "node": ["a", "b"], "inlet_c": [250.0, 20.0]}, NOW)
    log.add("decisions", "x", b"{}", {"schema_version": "9"}, NOW)
    fill(history, log)
    rows = history.query("SELECT topic, reason, rows, rejected_by, k_offset FROM rejected ORDER BY topic, k_offset").rows()
    assert [(r[0], r[2], r[3], r[4]) for r in rows] == [
        ("actions", 1, "history", 0),
        ("brake", 1, "history", 0),
        ("decisions", 1, "history", 0),
        ("server", 1, "history", 0),
        ("server", 1, "history", 1),
        ("state", 1, "history", 0),
    ]
    assert "above 100 degC" in rows[4][1]
    assert history.query("SELECT node FROM server").rows() == [("b",)]  # the rest of its batch lives
    assert set(history.offsets()) == {(t, 0) for t in ("server", "actions", "state", "brake", "decisions")}


def test_record_tables_hold_the_record_itself(told: History) -> None:
    columns = dict(
        told.query("SELECT table_name, list(column_name) FROM duckdb_columns() WHERE NOT internal GROUP BY ALL").iter_rows()
    )
    for topic, declared in RECORD_TABLES.items():
        assert set(columns[topic]) == set(declared), topic
    body = told.query("SELECT body FROM actions WHERE action_id = 'a-1'").item()
    assert body.startswith('{"action_id":"a-1"')
    assert told.query("SELECT body->>'$.node' AS n FROM actions WHERE action_id = 'a-1'").item() == "r1s1"


def test_a_greedy_question_does_not_stop_the_log(tmp_path: Path) -> None:
    settings = StoreSettings(memory="300MB", spill="1MB", limits=Limits(timeout_s=20))
    with History(tmp_path / "h.duckdb", CLUSTER, settings) as history:
        with pytest.raises(HistoryError, match=r"(?i)memory|temp_directory"):
            history.query("SELECT len(list(range::VARCHAR || repeat('x', 50))) FROM range(20000000)")
        fill(history, story())
        assert history.query("SELECT count(*) FROM actions").item() == 4
