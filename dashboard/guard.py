"""What stands before every answer: the token, the Host header, and the headers that keep a browser strict."""

import base64
import hmac
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.assets import inline_styles
from dashboard.settings import LOOPBACK

COOKIE = "coldaisle"
OPEN = ("/health",)
"""tells nothing but whether the page is well"""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def policy() -> str:
    """Return the Content-Security-Policy: nothing but our own files, and the style elements that the chart library makes.

    The library also sets a few style attributes, which no hash can name; scripts are never inline.
    """
    styles = " ".join(f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in inline_styles())
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            f"style-src-elem 'self' {styles}",
            "style-src-attr 'unsafe-inline'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


class Guard:
    """ASGI middleware. With a token: `Authorization: Bearer`, or a cookie that `?token=` sets once."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        """`token` None = everybody on loopback may look; then foreign Host headers are refused (DNS rebinding)."""
        self.app, self.token = app, token
        self._headers = {"Content-Security-Policy": policy(), **HEADERS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        headers = Headers(scope=scope)
        if self.token is None:
            refused = None if _host(headers.get("host", "")) in LOOPBACK else _foreign(headers.get("host", ""))
            await (refused or self.app)(scope, receive, strict)
            return
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["path"] in OPEN or self._known(headers):
            await self.app(scope, receive, strict)
        elif self._is("".join(query.pop("token", ""))):
            answer = RedirectResponse(scope["path"] + ("?" + urlencode(query) if query else ""), status_code=303)
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", secure=scope["scheme"] == "https")
            await answer(scope, receive, strict)
        else:
            said = "a token is needed: open the page once with ?token=..., or send Authorization: Bearer ...\n"
            await PlainTextResponse(said, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, strict)

    def _known(self, headers: Headers) -> bool:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is(bearer.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._is(cookie.value)

    def _is(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


def _host(header: str) -> str:
    """The name in a Host header, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def _foreign(host: str) -> PlainTextResponse:
    return PlainTextResponse(f"host {host[:80]!r} is not this machine: the page is served on loopback only\n", 421)
