"""The page's files and the chart library, compressed once, with cache headers. Nothing comes from elsewhere."""

import ast
import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PLOTLY = "plotly.js"
"""served from the installed package `plotly`, which brings its own minified bundle"""


_STYLE = re.compile(r"""createElement\("style"\);\w+\.id="[^"]*",\w+\.textContent='((?:[^'\\]|\\.)*)'""")


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file, ready to serve."""

    kind: str
    body: bytes
    packed: bytes
    etag: str


@cache
def asset(name: str) -> Asset | None:
    """Return a file of `static/` (or the chart library) by its plain name; None when there is none."""
    suffix = name[name.rfind(".") :]
    if suffix not in TYPES or "/" in name or name.startswith("."):
        return None
    if name == PLOTLY:
        body = files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    else:
        file = files("dashboard").joinpath("static", name)
        if not file.is_file():
            return None
        body = file.read_bytes()
    etag = '"' + hashlib.sha256(body).hexdigest()[:20] + '"'
    return Asset(kind=TYPES[suffix], body=body, packed=gzip.compress(body, compresslevel=6, mtime=0), etag=etag)


@cache
def inline_styles() -> tuple[str, ...]:
    """Return the texts of the <style> elements that the chart library makes: an empty one, and a bundled style sheet."""
    library = asset(PLOTLY)
    found = _STYLE.findall(library.body.decode()) if library else []
    return ("", *(ast.literal_eval(f"'{text}'") for text in found))


def respond(name: str, request: Request) -> Response:
    """Answer with a file: compressed where the browser takes it, 304 where it has it already, 404 when there is none."""
    found = asset(name)
    if found is None:
        return Response(f"no file {name[:80]!r}\n", 404, media_type="text/plain")
    # The library changes only with its package; our own files are asked about every time (a 304 is cheap).
    cached = "private, max-age=86400" if name == PLOTLY else "no-cache"
    headers = {"ETag": found.etag, "Cache-Control": cached, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, headers={**headers, "Content-Encoding": "gzip", "Content-Type": found.kind})
    return Response(found.body, headers={**headers, "Content-Type": found.kind})
