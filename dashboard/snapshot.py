"""The snapshot: everything that the page shows at one moment, from the history's answers. Pure apart from the reader."""

from collections.abc import Mapping
from datetime import timedelta

import msgspec

from contracts.ports import HistoryReader
from dashboard import actions, load, power, temperatures
from dashboard.model import Seen, Snapshot, TopicFresh
from dashboard.moment import Asker, Kept, Moment, aware
from dashboard.paths import paths

TELEMETRY = ("gpu", "server", "facility", "endpoints", "requests")


def build(reader: HistoryReader, queries: Mapping[str, str], at: Moment, kept: dict[str, Kept] | None = None) -> Snapshot:
    """Ask the history and return what the page shows at `at`.

    `queries`: name -> SQL text of every name in `dashboard.moment.QUERIES`. Raises HistoryError when the history does not
    answer. With `kept` (the same dict at every call) slow-moving answers are asked for anew only every few seconds.
    """
    ask = Asker(reader, queries, at, kept)
    site = ask.rows("page_site")[0]
    facility = power.facility(ask, site)
    topics = _topics(ask)
    leased = actions.in_force(ask)
    ahead = paths(ask)
    servers = temperatures.servers(ask, leased)
    modes: dict[str, int] = {}
    for action in leased:
        modes[action.mode] = modes.get(action.mode, 0) + 1
    return Snapshot(
        site=site["site"],
        now=at.now,
        wall=at.wall,
        speed=at.speed,
        modes=modes,
        declared_modes=msgspec.json.decode(site["modes"], type=dict[str, str]) if site["modes"] else {},
        controller=site["controller"],
        epoch=site["epoch"],
        data=_newest(topics, at),
        topics=topics,
        freshness_p99_s=max((t.p99_s for t in topics if t.topic in TELEMETRY and t.p99_s is not None), default=None),
        outside_c=power.outside_c(facility),
        rows=power.rows(ask, facility, ahead, leased),
        aisles=power.aisles(ask, facility),
        units=power.units(facility, at),
        servers=servers,
        hottest=temperatures.hottest(servers),
        endpoints=load.endpoints(ask, ahead, leased),
        in_force=leased,
        decisions=actions.decisions(ask),
        outcomes=actions.outcomes(ask),
        alerts=actions.alerts(ask),
    )


def _topics(ask: Asker) -> tuple[TopicFresh, ...]:
    return tuple(
        TopicFresh(
            topic=row["topic"],
            age_s=max((ask.at.wall - aware(row["committed_at"])).total_seconds(), 0.0),
            rows_per_s=row["rows"] / timedelta(minutes=1).total_seconds(),
            p99_s=row["p99_s"],
        )
        for row in ask.rows("page_freshness")
    )


def _newest(topics: tuple[TopicFresh, ...], at: Moment) -> Seen:
    """The age of the newest telemetry: of its commit, since that is when a reader could first have seen it."""
    ages: list[float] = [t.age_s for t in topics if t.topic in TELEMETRY]
    if not ages:
        return Seen(state="silent")
    return Seen(state="stale" if min(ages) > at.stale_s else "fresh", age_s=min(ages))
