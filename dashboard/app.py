"""The web application: the page, its one cached snapshot, and what a monitor asks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dashboard import assets
from dashboard.guard import Guard
from dashboard.settings import DashboardSettings
from dashboard.snapshots import Snapshots

# RFC 1952: magic, deflate, no flags, no time, unknown system. The blocks follow; a stream that ends has no trailer.
GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def create_app(snapshots: Snapshots, settings: DashboardSettings) -> Starlette:
    """Return the application. The caller starts and closes `snapshots`. ConfigError for a token that is missing or bad."""
    page = _Page(snapshots, settings)
    routes = [
        Route("/", page.index),
        Route("/static/{name}", page.static),
        Route("/api/snapshot", page.snapshot),
        Route("/api/stream", page.stream),
        Route("/health", page.health),
        Route("/metrics", page.metrics),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=settings.token())])


class _Page:
    """The endpoints. None of them ever asks the history."""

    def __init__(self, snapshots: Snapshots, settings: DashboardSettings) -> None:
        self._snapshots, self._settings = snapshots, settings
        self._registry = CollectorRegistry()
        self._viewers = Gauge("coldaisle_page_viewers", "Open streams", registry=self._registry)
        self._registry.register(_Counts(snapshots))

    async def index(self, request: Request) -> Response:
        """The page."""
        return assets.respond("index.html", request)

    async def static(self, request: Request) -> Response:
        """A file of the page, or the chart library."""
        return await asyncio.to_thread(assets.respond, request.path_params["name"], request)

    async def snapshot(self, request: Request) -> Response:
        """The cached snapshot as JSON: {"status", "data"}; data is null until the history has answered once."""
        frame = self._snapshots.frame()
        headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
        if _takes_gzip(request):
            return Response(frame.json_gz, headers={**headers, "Content-Encoding": "gzip"}, media_type="application/json")
        return Response(frame.json, headers=headers, media_type="application/json")

    async def stream(self, request: Request) -> Response:
        """The cached snapshot as server-sent events: one at once, then one per refresh."""
        packed = _takes_gzip(request)
        headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding", "X-Accel-Buffering": "no"}
        if packed:
            headers["Content-Encoding"] = "gzip"
        return StreamingResponse(self._events(packed), headers=headers, media_type="text/event-stream")

    async def _events(self, packed: bool) -> AsyncIterator[bytes]:
        loop, fresh = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the server's loop has ended; so has this stream
                loop.call_soon_threadsafe(fresh.set)

        leave = self._snapshots.listen(wake)
        self._viewers.inc()
        try:
            if packed:
                yield GZIP_HEAD
            sent = 0
            while not self._snapshots.closed:
                fresh.clear()
                frame = self._snapshots.frame()
                if frame.number != sent:
                    sent = frame.number
                    yield frame.event_deflated if packed else frame.event
                # While the history hangs no refresh ends: look at the clock anyway, the status must age.
                try:
                    await asyncio.wait_for(fresh.wait(), self._settings.refresh_s * 1.5)
                except TimeoutError:
                    continue
        finally:
            leave()
            self._viewers.dec()

    async def health(self, _request: Request) -> Response:
        """200 while the history answers, else 503 with since when and why not."""
        status = self._snapshots.status()
        said = {"state": status.state, "age_s": status.age_s, "why": status.why}
        return JSONResponse(said, 200 if status.state == "live" else 503, {"Cache-Control": "no-store"})

    async def metrics(self, _request: Request) -> Response:
        """Prometheus text format."""
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4; charset=utf-8")


class _Counts(Collector):
    """The snapshot's own numbers, read when asked."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        """One value each."""
        shots, status = self._snapshots, self._snapshots.status()
        age_s = status.age_s if status.age_s is not None else float("inf")
        return [
            CounterMetricFamily("coldaisle_page_refreshes", "Snapshots made", value=shots.refreshes),
            CounterMetricFamily("coldaisle_page_failures", "Times the history did not answer", value=shots.failures),
            GaugeMetricFamily("coldaisle_page_refresh_seconds", "Duration of the newest refresh", value=shots.refresh_s),
            GaugeMetricFamily("coldaisle_page_snapshot_age_seconds", "Age of what viewers get", value=age_s),
        ]


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")
