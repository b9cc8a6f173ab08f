"""One moment and the windows around it that the page asks for; and how its questions are put to the history."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from contracts.ports import Clock, HistoryReader
from dashboard.model import Seen

if TYPE_CHECKING:
    import polars as pl

PERIODS_S: Mapping[str, float] = {
    "page_facility": 1,
    "page_servers": 2,
    "page_freshness": 2,
    "page_in_force": 3,
    "page_alerts": 3,
    "page_endpoints": 2,
    "page_gpus": 2,
    "page_decisions": 3,
    "page_outcomes": 5,
    "page_cap_marks": 5,
    "page_row_past": 5,
    "page_row_sums": 5,
    "page_load_past": 5,
    "page_load_requests": 5,
    "page_paths": 5,
    "page_temps_ahead": 5,
    "page_site": 10,
    "page_rows": 10,
    "page_aisles": 10,
}
"""The questions that the page asks, and after how many wall seconds an answer is asked for anew: most of their cost is
planning, so what moves slowly is not asked every second."""
QUERIES = tuple(PERIODS_S)
"""The roof hands in their text by name."""

HOUR = timedelta(hours=1)
POWER_BUCKET_S = 20.0
"""180 points in the last hour"""
LOAD_BUCKET_S = 60.0
MARK_BUCKET_S = 120.0
_PARAMETER = re.compile(r"\$(\w+)")
_COMMENT = re.compile(r"--[^\n]*")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Now, in run time and wall time, and the run times that lie some wall time back (a twin's run is faster)."""

    now: datetime
    wall: datetime
    speed: float
    """run seconds per wall second; 0 = the run has not begun"""
    recent: datetime
    """run time 20 s ago, of run or wall time, whichever is longer: GPU samples"""
    slow: datetime
    """run time 3 min ago, likewise: BMCs and gauges answer slowly"""
    leases: datetime
    """run time 6 h of wall time ago: leases are wall time, and renewed well before they end"""
    stale_s: float = 10.0
    """wall seconds after which telemetry is stale"""

    def params(self) -> dict[str, Any]:
        """The values of every `$name` that a page query may use; times naive UTC, as in columns."""
        values: dict[str, Any] = {
            "now": self.now,
            "since": self.now - HOUR,
            "until": self.now + HOUR,
            "day": self.now - 24 * HOUR,
            "issued": self.now - HOUR,
            "recent": self.recent,
            "slow": self.slow,
            "leases": self.leases,
            "wall": self.wall,
            "minute": self.wall - timedelta(minutes=1),
        }
        return {name: value.astimezone(UTC).replace(tzinfo=None) for name, value in values.items()}

    def seen(self, created_wall: datetime | None, ts: datetime | None) -> Seen:
        """Say how old the newest sample is: by its creation (wall) where known, else by its run time."""
        if ts is None:
            return Seen(state="silent")
        if created_wall is not None:
            age_s = (self.wall - aware(created_wall)).total_seconds()
        else:
            age_s = (self.now - aware(ts)).total_seconds() / (self.speed or 1.0)
        age_s = max(age_s, 0.0)
        return Seen(state="stale" if age_s > self.stale_s else "fresh", age_s=age_s)


def moment(clock: Clock, stale_s: float) -> Moment:
    """Read the clock once."""
    wall = clock.wall()
    now = clock.to_run(wall)

    def ago(**span: float) -> datetime:
        back = timedelta(**span)
        return min(clock.to_run(wall - back), now - back)

    return Moment(
        now=now,
        wall=wall,
        speed=(clock.to_run(wall + timedelta(seconds=1)) - now).total_seconds(),
        recent=ago(seconds=20),
        slow=ago(minutes=3),
        leases=ago(hours=6),
        stale_s=stale_s,
    )


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An answer, and when it was asked for."""

    asked: datetime
    """wall time"""
    frame: "pl.DataFrame"


class Asker:
    """Puts the page's questions to the history, each with just the parameters that it names."""

    def __init__(
        self, reader: HistoryReader, queries: Mapping[str, str], at: Moment, kept: dict[str, Kept] | None = None
    ) -> None:
        """`queries`: name -> SQL text, at least all of QUERIES. `kept`: answers that may still do; new ones are put into it."""
        self._reader, self._queries, self._params, self._kept = reader, queries, at.params(), kept
        self.at = at

    def frame(self, name: str, **extra: Any) -> "pl.DataFrame":
        """Return the answer to the query `name`; HistoryError when there is none."""
        old = self._kept.get(name) if self._kept is not None else None
        if old is not None and (self.at.wall - old.asked).total_seconds() < PERIODS_S[name] - 0.1:
            return old.frame
        text = self._queries[name]
        known = {**self._params, **extra}
        wanted = set(_PARAMETER.findall(_COMMENT.sub("", text)))
        frame = self._reader.query(text, {key: known[key] for key in wanted})
        if self._kept is not None:
            self._kept[name] = Kept(asked=self._phase(name) if old is None else self.at.wall, frame=frame)
        return frame

    def _phase(self, name: str) -> datetime:
        """Spread the questions of one period over it: the first answer does not live its whole time."""
        return self.at.wall - timedelta(seconds=QUERIES.index(name) % PERIODS_S[name])

    def rows(self, name: str, **extra: Any) -> list[dict[str, Any]]:
        """Return the answer as dicts."""
        return self.frame(name, **extra).to_dicts()


def aware(naive: datetime) -> datetime:
    """Return a column's naive UTC time as aware."""
    return naive.replace(tzinfo=UTC) if naive.tzinfo is None else naive


def seconds(naive: datetime) -> float:
    """Return a column's naive UTC time as seconds since 1970."""
    return aware(naive).timestamp()
