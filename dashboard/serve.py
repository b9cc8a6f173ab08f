"""Serving the page: one uvicorn server on the address that the settings name, until told to stop."""

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import closing

import uvicorn

from contracts.errors import ColdaisleError, ConfigError
from contracts.ports import Clock, HistoryReader
from dashboard.app import create_app
from dashboard.settings import LOOPBACK, DashboardSettings
from dashboard.snapshots import Snapshots


def serve(
    reader: HistoryReader,
    queries: Mapping[str, str],
    clock: Clock,
    settings: DashboardSettings,
    stop: threading.Event,
    ready: Callable[[str], None],
) -> None:
    """Serve until `stop` is set; `ready` is called with the page's address once it answers.

    Raises ConfigError for an address that cannot be had, ColdaisleError when the snapshots' thread or the server dies.
    """
    snapshots = Snapshots(reader, queries, clock, settings)
    app = create_app(snapshots, settings)
    with closing(listen(settings)) as bound:
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="page", daemon=True)
        snapshots.start()
        thread.start()
        try:
            told = False
            while not stop.wait(0.1):
                for part in (thread, snapshots.thread):
                    if not part.is_alive():
                        raise ColdaisleError(f"dashboard: thread {part.name} died; see the log")
                if server.started and not told:
                    ready(url(settings, bound))
                    told = True
        finally:
            snapshots.close()
            server.should_exit = True
            thread.join(timeout=5.0)


def listen(settings: DashboardSettings) -> socket.socket:
    """Return a bound socket; ConfigError names the address when it is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"dashboard {settings.host}:{settings.port}: {error.strerror}; set dashboard.port (0 = any) or dashboard.host"
        ) from None
    return bound


def url(settings: DashboardSettings, bound: socket.socket) -> str:
    """Return the page's address as a browser on this machine takes it."""
    host = settings.host if settings.host in LOOPBACK else bound.getsockname()[0]
    return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}/"
