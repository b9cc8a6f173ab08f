"""Request logs posted over HTTP: POST /v1/requests with JSON lines, as in docs/request-logs.md, into a bounded queue."""

import asyncio
import contextlib
import hmac
import ipaddress
import socket
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.errors import ConfigError
from contracts.ports import Collected, Problem
from ingest.exporters.http_targets import read_secret
from ingest.exporters.request_log import read_lines
from ingest.exporters.request_rows import RequestParser, RequestRow, columns_of

STOP_S = 5.0
TOLD_REASONS = 10
MAX_QUEUED_PROBLEMS = 1000


class RequestHttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to listen, and how much to take."""

    host: str = "127.0.0.1"
    """beyond loopback only with a token_file"""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8471
    """0 = any free port"""
    token_file: str = ""
    """its first line is the bearer token that senders must show; empty = none"""
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1000)] = 4 << 20
    max_queued: Annotated[int, msgspec.Meta(ge=1)] = 200_000
    """requests that wait for `collect`"""
    endpoint: str = ""
    """service of lines that name none"""
    nodes: Mapping[str, str] = {}
    """server.address (or ai-dynamo's decode_worker_id) -> server in the topology"""
    period_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 1.0


class RequestHttpExporter:
    """Listens from its construction on; `collect` hands out what came since the last one. What is taken is answered by 202.

    A body above max_body_bytes is answered by 413, a full queue by 429 with Retry-After (nothing of that body is taken),
    a wrong token by 401. A malformed line is a Problem and named in the answer; the other lines of its body are taken.
    """

    Settings = RequestHttpSettings
    name = "request_http"

    def __init__(self, settings: RequestHttpSettings) -> None:
        self.period_s = settings.period_s
        self._settings = settings
        self._token = read_secret("token_file", settings.token_file)
        if not self._token and not _is_loopback(settings.host):
            raise ConfigError(f"request_http: host {settings.host!r} is not loopback; set token_file, or host to 127.0.0.1")
        self._parser = RequestParser(endpoint=settings.endpoint, nodes=settings.nodes)
        self._lock = threading.Lock()
        self._rows: list[RequestRow] = []
        self._problems: list[Problem] = []
        self._untold = 0
        self._socket = _listen(settings.host, settings.port)
        self.port: int = self._socket.getsockname()[1]
        app = Starlette(routes=[Route("/v1/requests", self._take, methods=["POST"])])
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="request_http", daemon=True)
        self._thread.start()

    def collect(self, now: datetime) -> Sequence[Collected]:  # noqa: ARG002  (a line bears its own times)
        """Return the finished requests posted since the last call, ts = the end of each."""
        with self._lock:
            rows, problems, untold = self._rows, self._problems, self._untold
            self._rows, self._problems, self._untold = [], [], 0
        if untold:
            problems.append(Problem(source="request_http", reason=f"{untold} more problems since the last collect"))
        return [Collected(topic="requests", columns=columns_of(rows), problems=tuple(problems))]

    def close(self) -> None:
        """Stop listening; safe to call twice. What was taken can still be collected."""
        self._server.should_exit = True
        self._thread.join(STOP_S)
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # raised by uvicorn when it had to cut a connection at its end
            self._server.run(sockets=[self._socket])

    async def _take(self, request: Request) -> Response:
        if self._token and not hmac.compare_digest(request.headers.get("authorization", "").encode(), self._bearer):
            return _refusal(401, "wrong or no bearer token: send Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._settings.max_body_bytes:
                    return _refusal(413, f"body above {self._settings.max_body_bytes} bytes: send fewer lines at once")
        except ClientDisconnect:
            return Response(status_code=400)
        rows, problems, bad = read_lines(
            self._parser, "request_http", [line for line in bytes(body).split(b"\n") if line.strip()]
        )
        with self._lock:
            if len(self._rows) + len(rows) > self._settings.max_queued:
                return _refusal(429, f"{len(self._rows)} requests are queued already: send again later", {"Retry-After": "1"})
            self._rows.extend(rows)
            room = max(0, MAX_QUEUED_PROBLEMS - len(self._problems))
            self._problems.extend(problems[:room])
            self._untold += len(problems[room:])
        reasons = [problem.reason for problem in problems[:TOLD_REASONS]]
        return JSONResponse({"accepted": len(rows), "rejected": bad, "reasons": reasons}, status_code=202)

    @property
    def _bearer(self) -> bytes:
        return f"Bearer {self._token}".encode()


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": reason}, status_code=status, headers=headers)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConfigError(f"request_http: cannot listen on {host}:{port} ({error}); set another host or port") from error
    return listening
