"""One snapshot a second for all viewers: a thread asks the history, viewers only ever get bytes that are ready.

A snapshot travels as {"status": ..., "data": ...}. The status is made when it is served, so that it tells the truth even while
the history hangs in a question: since when there is no answer, and why.
"""

import gzip
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from contracts.errors import HistoryError
from contracts.ports import Clock, HistoryReader
from dashboard.moment import Kept, moment
from dashboard.settings import DashboardSettings
from dashboard.snapshot import build

WATCHED_S = 30.0
"""somebody watches while the last viewer came by less than this ago"""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the data is as fresh as it should be; if not, since when and why."""

    state: Literal["starting", "live", "away"]
    """away = the history does not answer; data, if there is any, is old"""
    served_wall: datetime
    age_s: float | None
    """wall seconds since the data was asked for"""
    since: datetime | None = None
    """wall time of the last answer, or of the first question when there never was one"""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One answer for everybody: JSON, the same compressed, and the same as a server-sent event."""

    number: int
    status: Status
    json: bytes
    json_gz: bytes
    event: bytes
    event_deflated: bytes
    """a block of raw deflate, flushed: any sequence of such blocks is one valid stream"""


class Snapshots:
    """The one cached snapshot. `start` begins the thread; `frame` never waits for the history."""

    def __init__(self, reader: HistoryReader, queries: Mapping[str, str], clock: Clock, settings: DashboardSettings) -> None:
        """`queries`: name -> SQL text of every name in `dashboard.moment.QUERIES`."""
        self._reader, self._queries, self._clock, self._settings = reader, queries, clock, settings
        self._kept: dict[str, Kept] = {}
        self._lock = threading.Lock()
        self._stop, self._wanted = threading.Event(), threading.Event()
        self._listeners: set[Callable[[], None]] = set()
        self._data = b"null"
        self._answered: datetime | None = None
        self._asked: datetime = clock.wall()
        self._why = ""
        self._frame: Frame | None = None
        self._stale_frame = True
        self._watched = -WATCHED_S
        self.refreshes = self.failures = 0
        self.refresh_s = 0.0
        """duration of the newest refresh"""
        self.thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Begin to ask the history."""
        self.thread.start()

    def close(self) -> None:
        """Stop asking and let every stream end. Safe to call twice."""
        self._stop.set()
        self._wanted.set()
        self._tell()
        if self.thread.is_alive():
            self.thread.join(timeout=5.0)

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._stop.is_set()

    def refresh(self) -> None:
        """Ask the history once, now. A history that does not answer becomes part of the status; a bug raises."""
        began = time.monotonic()
        at = moment(self._clock, self._settings.stale_s)
        try:
            data = msgspec.json.encode(build(self._reader, self._queries, at, self._kept))
        except HistoryError as error:
            self._kept.clear()
            with self._lock:
                self.failures += 1
                self._why, self._stale_frame = str(error), True
        else:
            with self._lock:
                self.refreshes += 1
                self._data, self._answered, self._why, self._stale_frame = data, at.wall, "", True
        self.refresh_s = time.monotonic() - began
        self._tell()

    def frame(self) -> Frame:
        """Return what every viewer gets now; made at most once per refresh and once per `refresh_s`."""
        self._watch()
        with self._lock:
            wall = self._clock.wall()
            old = self._frame
            due = old is None or (wall - old.status.served_wall).total_seconds() >= self._settings.refresh_s
            if old is None or due or self._stale_frame:
                self._frame = old = _frame((old.number if old else 0) + 1, self._status(wall), self._data)
                self._stale_frame = False
            return old

    def status(self) -> Status:
        """Return the status as of now."""
        with self._lock:
            return self._status(self._clock.wall())

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` (from another thread) after every refresh; return what ends that."""
        with self._lock:
            self._listeners.add(callback)

        def leave() -> None:
            with self._lock:
                self._listeners.discard(callback)

        return leave

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._wanted.clear()
            self.refresh()
            watched = time.monotonic() - self._watched < WATCHED_S
            left_s = (self._settings.refresh_s if watched else self._settings.idle_s) - (time.monotonic() - began)
            if watched:
                self._stop.wait(max(left_s, 0.0))
            else:
                self._wanted.wait(max(left_s, 0.0))

    def _watch(self) -> None:
        """Somebody looks: after a pause, ask at once."""
        idle = time.monotonic() - self._watched >= WATCHED_S
        self._watched = time.monotonic()
        if idle:
            self._wanted.set()

    def _status(self, wall: datetime) -> Status:
        if self._answered is None:
            state: Literal["starting", "away"] = "away" if self._why else "starting"
            return Status(state=state, served_wall=wall, age_s=None, since=self._asked, why=self._why)
        age_s = max((wall - self._answered).total_seconds(), 0.0)
        allowed_s = self._settings.stale_s + (0.0 if self._attended() else self._settings.idle_s)
        if self._why or age_s > allowed_s:
            why = self._why or f"no answer for {age_s:.0f} s: the question is still running"
            return Status(state="away", served_wall=wall, age_s=age_s, since=self._answered, why=why)
        return Status(state="live", served_wall=wall, age_s=age_s)

    def _attended(self) -> bool:
        return time.monotonic() - self._watched < WATCHED_S

    def _tell(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for callback in listeners:
            callback()


def _frame(number: int, status: Status, data: bytes) -> Frame:
    body = b'{"status":' + msgspec.json.encode(status) + b',"data":' + data + b"}"
    event = b"id: %d\ndata: %s\n\n" % (number, body)
    deflate = zlib.compressobj(level=3, wbits=-15)
    return Frame(
        number=number,
        status=status,
        json=body,
        json_gz=gzip.compress(body, compresslevel=3, mtime=0),
        event=event,
        event_deflated=deflate.compress(event) + deflate.flush(zlib.Z_SYNC_FLUSH),
    )
