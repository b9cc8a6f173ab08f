"""The history over HTTP on loopback: SQL for people and programs, series for forecasters, metrics for Prometheus."""

import json
import os
import secrets
import socket
import threading
import time
from datetime import datetime
from types import TracebackType
from typing import Any

import msgspec
import pyarrow as pa
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.errors import HistoryError
from ingest.history.metrics import Metrics
from ingest.history.store import History
from ingest.history.wire import ARROW, Question, from_json

HOST = "127.0.0.1"
MAX_BODY_BYTES = 2**20
START_TIMEOUT_S = 10.0


class HistoryServer:
    """A context manager: answers from an open history in threads of its own. `url` and `token` are for those who ask."""

    def __init__(self, history: History, metrics: Metrics, *, port: int = 0, questions: int = 4) -> None:
        """`questions` are answered at once; more wait. Port 0 takes a free one."""
        self._history, self._metrics, self._port = history, metrics, port
        self._places = threading.BoundedSemaphore(questions)
        self.token = secrets.token_urlsafe(32)
        self.url = ""

    def app(self) -> Starlette:
        """Return the routes."""
        return Starlette(
            routes=[
                Route("/query", self._query, methods=["POST"]),
                Route("/series", self._series),
                Route("/health", self._health),
                Route("/metrics", self._text),
            ]
        )

    def __enter__(self) -> "HistoryServer":
        """Listen; HistoryError when the port is busy."""
        listener = socket.socket()
        try:
            listener.bind((HOST, self._port))
        except OSError as error:
            listener.close()
            raise HistoryError(f"history.port = {self._port}: {error.strerror}: choose another, or 0 for a free one") from error
        self.url = f"http://{HOST}:{listener.getsockname()[1]}"
        config = uvicorn.Config(self.app(), log_config=None, access_log=False, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="history-server", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise HistoryError(f"the SQL service at {self.url} did not start")
            time.sleep(0.005)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop; questions under way are interrupted."""
        self._server.should_exit = True
        self._history.interrupt()
        self._thread.join(5.0)

    async def _query(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        body = await _body(request)
        if body is None:
            return _no(413, f"a question has at most {MAX_BODY_BYTES} bytes")
        try:
            question = msgspec.json.decode(body, type=Question)
            params = from_json(question.params)
        except (msgspec.MsgspecError, ValueError) as error:
            return _no(400, f'the body is no question ({error}): send {{"sql": "SELECT ...", "params": {{}}}}')
        return await run_in_threadpool(self._answer, lambda: self._history.arrow(question.sql, params), question.format)

    async def _series(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        given = request.query_params
        try:
            target = given["target"]
            as_of, since = datetime.fromisoformat(given["as_of"]), datetime.fromisoformat(given["since"])
            until = datetime.fromisoformat(given["until"]) if "until" in given else None
            step_s = int(given.get("step_s", "300"))
        except (KeyError, ValueError) as error:
            return _no(400, f"series needs target, as_of, since (times with a zone) and perhaps step_s: {error}")
        return await run_in_threadpool(
            self._answer,
            lambda: self._history.series(target, as_of=as_of, since=since, until=until, step_s=step_s).to_arrow(),
            given.get("format", "arrow"),
        )

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"pid": os.getpid(), "cluster_id": self._history.cluster_id})

    async def _text(self, _: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _refused(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "")
        if secrets.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            return None
        return _no(401, "the token is missing or wrong: it stands in history.token in the owner's state folder")

    def _answer(self, ask: Any, form: str) -> Response:
        with self._places:
            try:
                table = ask()
            except HistoryError as error:
                self._metrics.questions.labels("error").inc()
                return _no(400, str(error))
        self._metrics.questions.labels("ok").inc()
        return _as_json(table) if form == "json" else Response(_as_arrow(table), media_type=ARROW)


async def _body(request: Request) -> bytes | None:
    """The body, or None when it is too long."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


def _no(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status_code=status)


def _as_arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _as_json(table: pa.Table) -> Response:
    """Columns and rows; times as text, NaN and infinity as null."""
    columns = [_plain_json(column) for column in table.columns]
    answer = {"columns": table.column_names, "rows": [list(row) for row in zip(*columns, strict=True)]}
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _plain_json(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind):
        return list(column.to_pylist())
    return [json.loads(json.dumps(value, default=str)) for value in column.to_pylist()]
