import json
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.errors import ConfigError
from ingest.codec import frame_of
from ingest.exporters.request_http import RequestHttpExporter, RequestHttpSettings
from tests.factories import NOW

Start = Callable[..., RequestHttpExporter]


@pytest.fixture
def start() -> Iterator[Start]:
    exporters: list[RequestHttpExporter] = []

    def make(**changes: Any) -> RequestHttpExporter:
        exporters.append(RequestHttpExporter(RequestHttpSettings(**{"port": 0, **changes})))
        return exporters[-1]

    yield make
    for exporter in exporters:
        exporter.close()
        exporter.close()


def lines(*request_ids: str) -> str:
    end = (NOW + timedelta(seconds=2)).isoformat()
    return "".join(json.dumps({"request_id": name, "endpoint": "chat", "end_time": end}) + "\n" for name in request_ids)


def post(exporter: RequestHttpExporter, content: str, **headers: str) -> httpx.Response:
    return httpx.post(
        f"http://127.0.0.1:{exporter.port}/v1/requests", content=content, headers=headers, timeout=30, trust_env=False
    )


def ids(exporter: RequestHttpExporter) -> list[str]:
    (found,) = exporter.collect(NOW)
    frame_of("requests", found.columns)
    return list(found.columns["request_id"])


def test_takes_posted_lines_and_hands_each_out_once(start: Start) -> None:
    exporter = start()
    answer = post(exporter, lines("a", "b"))
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2, "rejected": 0, "reasons": []})
    post(exporter, lines("c"))
    assert ids(exporter) == ["a", "b", "c"]
    assert ids(exporter) == []


def test_names_bad_lines_in_the_answer_and_as_problems_and_takes_the_rest(start: Start) -> None:
    exporter = start()
    answer = post(exporter, lines("a") + "{broken\n\n" + lines("b").replace("chat", ""))
    assert answer.status_code == 202
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, 2)
    assert answer.json()["reasons"][1] == "no endpoint or service.name"
    (found,) = exporter.collect(NOW)
    assert found.columns["request_id"] == ["a"]
    assert [p.sample[:7] for p in found.problems] == ["{broken", '{"reque']


def test_refuses_a_body_that_is_too_large(start: Start) -> None:
    exporter = start(max_body_bytes=1000)
    answer = post(exporter, lines(*(str(i) for i in range(1000))))
    assert (answer.status_code, answer.json()) == (413, {"error": "body above 1000 bytes: send fewer lines at once"})
    assert ids(exporter) == []


def test_refuses_what_the_queue_cannot_hold_and_takes_it_later(start: Start) -> None:
    exporter = start(max_queued=3)
    assert post(exporter, lines("a", "b")).status_code == 202
    answer = post(exporter, lines("c", "d"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json() == {"error": "2 requests are queued already: send again later"}
    assert ids(exporter) == ["a", "b"]
    assert post(exporter, lines("c", "d")).status_code == 202
    assert ids(exporter) == ["c", "d"]


def test_wants_the_token(start: Start, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    exporter = start(token_file=str(secret))
    assert post(exporter, lines("a")).status_code == 401
    assert post(exporter, lines("a"), authorization="Bearer wrong").status_code == 401
    assert post(exporter, lines("a"), authorization="Bearer s3cret").status_code == 202
    assert ids(exporter) == ["a"]


def test_other_paths_and_methods_are_not_there(start: Start) -> None:
    url = f"http://127.0.0.1:{start().port}"
    assert httpx.get(f"{url}/v1/requests", trust_env=False).status_code == 405
    assert httpx.post(f"{url}/v1/other", trust_env=False).status_code == 404


def test_listens_beyond_loopback_only_with_a_token(start: Start) -> None:
    with pytest.raises(ConfigError, match=r"host '0.0.0.0' is not loopback; set token_file"):
        start(host="0.0.0.0")  # noqa: S104  (it must refuse)


def test_a_busy_port_gives_one_line(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(
            ConfigError, match=f"cannot listen on 127.0.0.1:{taken.getsockname()[1]} .*set another host or port"
        ):
            start(port=taken.getsockname()[1])


def test_what_was_taken_can_be_collected_after_closing(start: Start) -> None:
    exporter = start()
    post(exporter, lines("a"))
    exporter.close()
    assert ids(exporter) == ["a"]
    with pytest.raises(httpx.ConnectError):
        post(exporter, lines("b"))
