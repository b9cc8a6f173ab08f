"""The owner asked over HTTP, and found on this machine."""

import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import pytest

from contracts.errors import HistoryError
from ingest.history import owners
from ingest.history.client import HttpHistory, find_owner
from ingest.history.metrics import Metrics
from ingest.history.server import MAX_BODY_BYTES, HistoryServer
from ingest.history.store import History
from tests.factories import NOW
from tests.ingest.history.logs import ago, naive
from tests.ingest.history.test_readonly import HOSTILE


@pytest.fixture(scope="module")
def server(told: History) -> Iterator[HistoryServer]:
    with HistoryServer(told, Metrics()) as running:
        yield running


@pytest.fixture
def reader(server: HistoryServer) -> Iterator[HttpHistory]:
    with HttpHistory(server.url, server.token) as client:
        yield client


@pytest.fixture
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run" / "coldaisle" / "owners"


def test_the_same_answers_as_in_process(told: History, reader: HttpHistory) -> None:
    for sql in ("FROM server ORDER BY ts, node", "FROM forecasts", "FROM actions ORDER BY action_id", "FROM caps ORDER BY ts"):
        assert reader.query(sql).equals(told.query(sql)), sql
    question = "SELECT count(*) AS n FROM server WHERE ts <= $until AND node IN (SELECT unnest($nodes))"
    params = {"until": NOW, "nodes": ["r0s0", "r0s1"]}
    assert reader.query(question, params).item() == told.query(question, params).item() == 122
    for target in ("inlet", "power", "load"):
        given = {"as_of": NOW, "since": ago(600)}
        assert reader.series(target, **given, step_s=60).equals(told.series(target, **given, step_s=60))


@pytest.mark.parametrize("sql", HOSTILE[:20], ids=lambda s: s[:40])
def test_hostile_statements_are_refused(reader: HttpHistory, sql: str) -> None:
    with pytest.raises(HistoryError):
        reader.query(sql)


def test_errors_come_through_in_one_line(reader: HttpHistory) -> None:
    with pytest.raises(HistoryError, match="unknown target"):
        reader.series("luck", as_of=NOW, since=ago(60))
    with pytest.raises(HistoryError, match="nothing") as told:
        reader.query("SELECT nothing FROM server")
    assert "\n" not in str(told.value)


def test_json_for_a_shell(server: HistoryServer) -> None:
    body = {"sql": "SELECT ts, node, forecast_ids, 0.5 AS half, NULL AS none FROM caps WHERE node = $node", "format": "json"}
    answer = httpx.post(
        f"{server.url}/query",
        json=body | {"params": {"node": "r1s1"}},
        headers={"Authorization": f"Bearer {server.token}"},
        trust_env=False,
    )
    assert answer.json() == {
        "columns": ["ts", "node", "forecast_ids", "half", "none"],
        "rows": [["2026-07-15 13:59:40", "r1s1", ["f-1"], "0.5", None]],
    }


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer wrong", "Basic x"])
def test_without_the_token_there_is_nothing(server: HistoryServer, token: str) -> None:
    headers = {"Authorization": token} if token else {}
    asked = {"as_of": NOW.isoformat(), "since": ago(60).isoformat(), "target": "inlet"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as client:
        assert client.post("/query", json={"sql": "SELECT 1"}).status_code == 401
        assert client.get("/series", params=asked).status_code == 401
        assert client.get("/health").status_code == 200
    with HttpHistory(server.url, "wrong") as wrong, pytest.raises(HistoryError, match="token is missing or wrong"):
        wrong.query("SELECT 1")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no json", 400),
        (b"[]", 400),
        (b'{"sql": 3}', 400),
        (b'{"sql": "SELECT 1", "more": 1}', 400),
        (b'{"sql": "SELECT $a", "params": {"a": {"b": 1}}}', 400),
        (b'{"sql": "SELECT $a", "params": {"a": {"timestamp": "noon"}}}', 400),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
)
def test_bodies_that_are_no_question(server: HistoryServer, body: bytes, status: int) -> None:
    answer = httpx.post(
        f"{server.url}/query", content=body, headers={"Authorization": f"Bearer {server.token}"}, trust_env=False
    )
    assert answer.status_code == status
    assert answer.json()["error"]


def test_metrics_are_prometheus_text(server: HistoryServer, reader: HttpHistory) -> None:
    reader.query("SELECT 1")
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    assert 'coldaisle_history_questions_total{result="ok"}' in text
    assert "# TYPE coldaisle_history_freshness_seconds histogram" in text


def test_a_busy_port_is_named(told: History) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(HistoryError, match=f"history.port = {port}: Address already in use"):
            HistoryServer(told, Metrics(), port=port).__enter__()


def test_nobody_answers() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with HttpHistory(url, "x") as reader, pytest.raises(HistoryError, match="is coldaisle history running"):
        reader.query("SELECT 1")


def test_an_owner_is_found_by_folder_or_as_the_newest(server: HistoryServer, tmp_path: Path, own_registry: Path) -> None:
    with pytest.raises(HistoryError, match="no history runs on this machine: start one"):
        find_owner(None)
    with owners.registered(tmp_path / "a", server.url, server.token, datetime.now(UTC)):
        assert find_owner(None) == find_owner(tmp_path / "a") == (server.url, server.token)
        token_file = tmp_path / "a" / owners.TOKEN_FILE
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        with HttpHistory(*find_owner(None)) as reader:
            assert reader.query("SELECT max(ts) AS ts FROM server").item() == naive(NOW).replace(minute=5)
        with pytest.raises(HistoryError, match="no history runs in"):
            find_owner(tmp_path / "b")
    assert list(own_registry.iterdir()) == []
    with pytest.raises(HistoryError, match="no history runs in"):
        find_owner(tmp_path / "a")


def test_a_dead_owner_is_named_and_passed_over(server: HistoryServer, tmp_path: Path, own_registry: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    gone = owners.Owner(url=nobody, pid=1, started=NOW, token_file="/nowhere", state=str(tmp_path / "gone"))
    for file in (tmp_path / "gone" / owners.FILE, own_registry / "1-dead.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(gone))
    with pytest.raises(HistoryError, match=r"the last one, in .*gone.* \(process 1\), ended without saying so"):
        find_owner(None)
    with pytest.raises(HistoryError, match=r"process 1\) does not answer: start it again"):
        find_owner(tmp_path / "gone")
    with owners.registered(tmp_path / "a", server.url, server.token, ago(3600)):  # older, but alive
        assert find_owner(None)[0] == server.url
