"""A real HTTP(S) server on loopback whose pages a test may change while it runs."""

import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Pages:
    """`pages`: path -> body; `asked`: the paths of all GETs so far."""

    pages: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    wanted_authorization: str = ""
    asked: list[str] = field(default_factory=list)
    url: str = ""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about clients that gave up."""


class PageServer:
    """Serves `pages` until closed; over TLS where a context is given."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        pages = self.pages = Pages()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pages.asked.append(self.path)
                time.sleep(pages.delay_s)
                status = 200 if self.path in pages.pages else 404
                if pages.wanted_authorization not in ("", self.headers.get("Authorization")):
                    status = 401
                body = pages.pages.get(self.path, "").encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        pages.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
