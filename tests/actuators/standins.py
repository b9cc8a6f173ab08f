"""Small stand-ins of HAProxy's runtime API and of Alertmanager's, for machines without them.

The same contract runs against the real programs behind the marker `real`, so that the stand-ins cannot drift from them unseen.
"""

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

COLUMNS = "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight"


class RuntimeApi(socketserver.ThreadingTCPServer):
    """`set weight` and `show servers state` of one backend `chat`, declared at 100 each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Line)
        self.weights = {"r0s0": 100, "r0s2": 100, "r1s0": 100}
        self.stubborn: set[str] = set()
        """servers that refuse a weight, as those of a backend with a static algorithm do"""
        self.writes = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def answer(self, command: str) -> str:
        if match := re.fullmatch(r"set weight chat/(\S+) (\d+)(%?)", command):
            name, number, percent = match[1], int(match[2]), match[3]
            if name not in self.weights:
                return "No such server.\n\n"
            if name in self.stubborn:
                return "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.\n\n"
            if not percent and not 0 <= number <= 256:
                return "Absolute weight can only be between 0 and 256 inclusive.\n\n"
            self.weights[name] = number
            self.writes += 1
            return "\n"
        if command == "show servers state chat":
            rows = [f"3 chat {i} {n} 127.0.0.1 2 0 {w} 100" for i, (n, w) in enumerate(self.weights.items(), start=1)]
            return "\n".join(["1", f"# {COLUMNS}", *rows, "", ""])
        return "Can't find backend.\n\n" if command.startswith("show servers state") else "Unknown command.\n\n"


class _Line(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, RuntimeApi)
        for command in self.rfile.readline().decode().strip().split(";"):
            self.wfile.write(self.server.answer(command).encode())


class Alerts(ThreadingHTTPServer):
    """POST and GET of /api/v2/alerts: an alert is there until its endsAt."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.kept: dict[str, dict[str, Any]] = {}
        self.writes = 0
        self.broken = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def firing(self) -> list[dict[str, Any]]:
        now = datetime.now(UTC)
        return [alert for alert in self.kept.values() if datetime.fromisoformat(alert["endsAt"]) > now]

    def post(self, alerts: list[dict[str, Any]]) -> None:
        self.writes += 1
        for alert in alerts:
            key = json.dumps(alert["labels"], sort_keys=True)
            known, now = self.kept.get(key), datetime.now(UTC)
            if known is not None and datetime.fromisoformat(alert["endsAt"]) > now:  # only a resolved one can end it sooner
                alert["endsAt"] = max(alert["endsAt"], known["endsAt"])
            self.kept[key] = alert


class _Api(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Alerts)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.broken:
            return self._reply(500, {"error": "out of order"})
        self.server.post(body)
        return self._reply(200, None)

    def do_GET(self) -> None:
        assert isinstance(self.server, Alerts)
        given = parse_qs(urlparse(self.path).query)["filter"][0]
        match = re.fullmatch(r'target="(.*)"', given)
        assert match is not None
        target = match[1].replace('\\"', '"').replace("\\\\", "\\")
        self._reply(200, [alert for alert in self.server.firing() if alert["labels"].get("target") == target])

    def _reply(self, status: int, content: Any) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(server: RuntimeApi | Alerts) -> Iterator[None]:
    """Answer in the background."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
