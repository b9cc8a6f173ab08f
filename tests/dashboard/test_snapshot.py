"""What the page shows is what SQL says, also when something is lost, silent or absent."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.control import Alert, ClockCap, Decision
from contracts.errors import HistoryError
from dashboard.model import Snapshot
from dashboard.moment import QUERIES, Kept, moment
from dashboard.snapshot import build
from ingest.history.frames import micro_batch
from ingest.history.store import History
from tests.dashboard.conftest import Site, StandingClock
from tests.dashboard.site_data import SERVICES, SiteLog, make_log, make_site
from tests.factories import NOW

STALE_S = 10.0


def snapshot(site: Site) -> Snapshot:
    return build(site.reader, site.queries, moment(site.clock, STALE_S))


def ask(site: Site, statement: str) -> list[tuple[Any, ...]]:
    return site.reader.query(statement).rows()


def test_rows_show_the_newest_power_beside_the_limit(site: Site) -> None:
    shown = {row.row: (row.power_w, row.limit_w, row.headroom_w) for row in snapshot(site).rows}
    newest = ask(site, "SELECT row, power_w, limit_w, headroom_w FROM row_power QUALIFY ts = max(ts) OVER (PARTITION BY row)")
    assert shown == {row: (power, limit, headroom) for row, power, limit, headroom in newest}


def test_the_last_hour_of_a_row_is_at_most_200_points_with_the_same_mean(site: Site) -> None:
    row = snapshot(site).rows[0]
    assert 100 < len(row.past_t) <= 200
    assert list(row.past_t) == sorted(row.past_t)
    ((mean, highest),) = ask(site, "SELECT avg(power_w), max(power_max_w) FROM row_power WHERE row = 'row-1'")
    assert sum(row.past_w) / len(row.past_w) == pytest.approx(mean, rel=1e-3)
    assert max(row.past_max_w) == pytest.approx(highest, abs=0.1)


def test_the_forecast_of_a_row_is_the_champions_next_hour(site: Site) -> None:
    for row in snapshot(site).rows:
        assert row.path is not None
        path = f"FROM forecast_path WHERE champion AND target = 'power' AND series = '{row.row}'"
        upper = f"SELECT max(value) {path} AND level = 0.99 AND lead_s <= 3600"
        assert row.ahead_upper_w == pytest.approx(ask(site, upper)[0][0], abs=0.01)
        median = f"SELECT value {path} AND level = 0.5 ORDER BY valid_at"
        assert list(row.path.bands["0.5"]) == pytest.approx([value for (value,) in ask(site, median)], abs=0.01)
        assert row.path.model == "ridge"


def test_what_is_in_force_is_the_newest_unexpired_action_of_each_target(site: Site) -> None:
    found = snapshot(site)
    enforced = {lease.target for lease in found.in_force if lease.mode == "enforce" and lease.kind == "clock_cap"}
    ((count,),) = ask(site, "SELECT count(*) FROM topology WHERE tenant = 'saas'")
    assert len(enforced) == count - 1  # one was lifted again
    assert "clock_cap/n001" not in enforced
    assert found.modes == {"enforce": count - 1 + 2, "advise": 1}
    assert sum(row.capped for row in found.rows) == len(enforced)
    cap = next(lease for lease in found.in_force if lease.target == "clock_cap/n003")
    story = ask(site, "SELECT max_mhz, policy, reason, counterfactual, outcome, after FROM caps WHERE node = 'n003'")
    assert story == [(cap.max_mhz, cap.policy, cap.reason, cap.counterfactual, cap.outcome, cap.evidence)]
    assert cap.since == NOW - timedelta(seconds=560)


def test_leases_end_by_the_walls_clock(site: Site) -> None:
    site.clock.move(60)
    assert snapshot(site).in_force == ()


def test_servers_show_their_hottest_gpu_and_the_ten_nearest_to_slowdown(site: Site) -> None:
    found = snapshot(site)
    hottest = ask(site, "SELECT node, max(temp_c), arg_max(gpu, temp_c) FROM gpu_now GROUP BY node")
    assert {(s.node, s.gpu_max_c, s.hottest_gpu) for s in found.servers if s.gpu_max_c is not None} == set(hottest)
    nearest = ask(site, "SELECT node FROM gpu_now GROUP BY node ORDER BY min(margin_k), node LIMIT 10")
    assert list(found.hottest) == [node for (node,) in nearest]
    slowed = [s.node for s in found.servers if s.slowed_gpus]
    assert slowed == [found.hottest[0]]


def test_a_silent_server_is_shown_as_silent(site: Site) -> None:
    last = snapshot(site).servers[-1]
    assert (last.node, last.seen.state, last.gpu_max_c, last.inlet_c) == ("n080", "silent", None, None)


def test_endpoints_show_the_sum_of_their_instances(site: Site) -> None:
    found = {e.endpoint: e for e in snapshot(site).endpoints}
    assert set(found) == set(SERVICES)
    sums = (
        "SELECT endpoint, sum(requests_rps), sum(running) FROM endpoints WHERE ts = (SELECT max(ts) FROM endpoints) GROUP BY 1"
    )
    for endpoint, rps, running in ask(site, sums):
        assert (found[endpoint].requests_rps, found[endpoint].running) == pytest.approx((rps, running))
        assert len(found[endpoint].past_t) == 60
        assert found[endpoint].path is not None
    assert dict(found["chat"].weights)["n001"] == 0.0


def test_alerts_that_fire_come_first_and_say_how_far_ahead_they_were(site: Site) -> None:
    fires, ended = snapshot(site).alerts
    ((alert_id, probability),) = ask(site, "SELECT alert_id, probability FROM alerts_open")
    assert (fires.alert_id, fires.probability, fires.status) == (alert_id, probability, "firing")
    assert (fires.first_lead_s, fires.lead_s, ended.status) == (540, 780, "resolved")
    assert fires.due_at == fires.at + timedelta(seconds=780)


def test_decisions_of_one_moment_stand_together_with_their_outcomes(site: Site) -> None:
    groups = snapshot(site).decisions
    assert [g.at for g in groups] == sorted((g.at for g in groups), reverse=True)
    emergency = next(g for g in groups if g.policy == "emergency")
    ((count,),) = ask(site, "SELECT count(*) FROM decisions WHERE policy = 'emergency'")
    assert (emergency.n, emergency.outcomes, emergency.mode) == (count, {"applied": count}, "enforce")
    assert (emergency.min_mhz, emergency.max_mhz) == (1005.0, 1110.0)
    assert {o.status: o.n for o in snapshot(site).outcomes} == dict(
        ask(site, "SELECT status, count(*) FROM outcomes GROUP BY status")
    )


def test_a_lost_air_handler_leaves_less_air(site: Site) -> None:
    (aisle,) = snapshot(site).aisles
    assert aisle.lost_ahus == ("ahu-2",)
    assert aisle.limit_cfm == pytest.approx(0.9 * aisle.full_limit_cfm)


def test_old_telemetry_is_stale_and_says_how_old(site: Site) -> None:
    assert {s.seen.state for s in snapshot(site).rows} == {"fresh"}
    site.clock.move(30)
    late = snapshot(site)
    assert {row.seen.state for row in late.rows} == {"stale"}
    assert late.rows[0].seen.age_s == pytest.approx(31, abs=0.1)
    assert late.data.state == "stale"
    assert {s.seen.state for s in late.servers[:-1]} == {"stale"}
    site.clock.move(240)
    assert snapshot(site).servers[0].seen.state == "silent"
    assert snapshot(site).data.state == "silent"


def test_a_kept_answer_does_for_its_period_and_no_longer(site: Site) -> None:
    asked: list[str] = []

    class Counting:
        def query(self, sql: str, params: Any = None) -> Any:
            asked.extend(name for name in QUERIES if site.queries[name] == sql)
            return site.reader.query(sql, params)

        series = site.reader.series

    kept: dict[str, Kept] = {}
    for _ in range(3):
        build(Counting(), site.queries, moment(site.clock, STALE_S), kept)
    assert max(asked.count(name) for name in QUERIES) == 1
    site.clock.move(1)
    build(Counting(), site.queries, moment(site.clock, STALE_S), kept)
    assert asked.count("page_facility") == 2
    assert asked.count("page_alerts") <= 2
    site.clock.move(10)
    build(Counting(), site.queries, moment(site.clock, STALE_S), kept)
    assert min(asked.count(name) for name in set(asked)) >= 2


Fill = Callable[[SiteLog], Site]


@pytest.fixture
def fill(tmp_path: Path, queries: dict[str, str]) -> Any:
    """Make a history of one's own from a log."""
    opened: list[History] = []

    def make(log: SiteLog) -> Site:
        history = History(tmp_path / "own.duckdb", "cluster-a").open()
        opened.append(history)
        if log.records:
            history.append(micro_batch(log.records, lambda at: NOW + (at - log.wall)))
        return Site(reader=history, clock=StandingClock(run=NOW, at_wall=log.wall + timedelta(seconds=1)), queries=queries)

    yield make
    for history in opened:
        history.close()


def test_an_empty_history_gives_an_empty_page(fill: Fill) -> None:
    found = snapshot(fill(SiteLog(now=NOW, wall=datetime.now(UTC))))
    assert (found.site, found.rows, found.servers, found.in_force, found.data.state) == (None, (), (), (), "silent")


def test_a_lost_ups_lowers_the_limit_of_its_rows(fill: Fill) -> None:
    log = SiteLog(now=NOW, wall=datetime.now(UTC))
    log.record("state", make_site(), NOW, key="topology")
    columns: dict[str, list[Any]] = {
        "ts": [NOW, NOW],
        "kind": ["row", "ups"],
        "unit": ["row-1", "ups-1"],
        "power_w": [250_000.0, 0.0],
    }
    log.rows("facility", {**columns, "state": [None, "lost"]}, NOW)
    row = snapshot(fill(log)).rows[0]
    assert (row.lost_upses, row.limit_w, row.headroom_w) == (("ups-1",), 0.75 * 286_000, 0.75 * 286_000 - 250_000)


def test_a_row_without_a_meter_shows_the_sum_of_its_servers(fill: Fill) -> None:
    log = SiteLog(now=NOW, wall=datetime.now(UTC))
    log.record("state", make_site(), NOW, key="topology")
    names = [s.name for s in make_site().servers]
    for second, count in ((-40, 80), (-20, 80), (0, 79)):  # the last time one server of row-2 is missing
        at = NOW + timedelta(seconds=second)
        log.rows("server", {"ts": [at] * count, "node": names[:count], "power_w": [6_000.0] * count}, at)
    first, second_row = snapshot(fill(log)).rows
    assert (first.source, first.power_w, len(first.past_t)) == ("sum", 240_000.0, 3)
    assert (second_row.source, second_row.power_w, len(second_row.past_t)) == ("sum", 240_000.0, 2)


def test_an_endpoint_without_gauges_is_counted_from_its_request_log(fill: Fill) -> None:
    log = SiteLog(now=NOW, wall=datetime.now(UTC))
    at = [NOW - timedelta(seconds=s) for s in range(1, 601)]
    log.rows(
        "requests",
        {"ts": at, "request_id": [str(i) for i in range(600)], "endpoint": ["chat"] * 600, "weight": [3.0] * 600},
        NOW,
    )
    (chat,) = snapshot(fill(log)).endpoints
    assert chat.source == "requests"
    assert chat.requests_rps == pytest.approx(3.0, rel=0.05)
    assert sum(chat.past_rps) * 60 == pytest.approx(1800)


def test_a_faster_run_counts_ages_in_wall_time(fill: Fill) -> None:
    wall = datetime.now(UTC)
    log = make_log(NOW, wall, speed=30.0)
    site = fill(log)
    site.clock.speed = 30.0
    found = snapshot(site)
    assert found.speed == 30.0
    assert found.rows[0].seen.age_s == pytest.approx(1.0, abs=0.1)
    assert found.rows[0].seen.state == "fresh"


def test_a_snapshot_travels_as_json_without_loss(site: Site) -> None:
    found = snapshot(site)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Snapshot) == found


def test_a_history_that_does_not_answer_raises_one_line(queries: dict[str, str], site: Site) -> None:
    class Away:
        series = site.reader.series

        def query(self, sql: str, params: Any = None) -> Any:  # noqa: ARG002
            raise HistoryError("no history at 127.0.0.1:1")

    with pytest.raises(HistoryError, match="no history at"):
        build(Away(), queries, moment(site.clock, STALE_S))


def test_an_alert_that_comes_back_counts_from_its_newest_beginning(fill: Fill) -> None:
    log = SiteLog(now=NOW, wall=datetime.now(UTC))
    story: tuple[tuple[int, Any, float], ...] = (
        (50, "firing", 900),
        (40, "resolved", 0),
        (9, "firing", 300),
        (4, "firing", 60),
    )
    for minutes, status, lead_s in story:
        at = NOW - timedelta(minutes=minutes)
        said = Alert(
            alert_id="a",
            at=at,
            status=status,
            alertname="RowPower",
            severity="warning",
            series="row-1",
            probability=0.5,
            lead_s=lead_s,
        )
        log.record("alerts", said, at)
    (alert,) = snapshot(fill(log)).alerts
    assert (alert.status, alert.began_at, alert.first_lead_s, alert.lead_s) == ("firing", NOW - timedelta(minutes=9), 300, 60)


def test_wishes_that_nobody_acted_upon_are_folded(fill: Fill) -> None:
    log = SiteLog(now=NOW, wall=datetime.now(UTC))
    for i in range(40):
        at = NOW - timedelta(seconds=200 - i)
        wish = Decision(
            decision_id=str(i), at=at, policy="guard", target=f"clock_cap/n{i % 4}", value=ClockCap(max_mhz=1000 + i)
        )
        log.record("decisions", wish, at)
    (group,) = snapshot(fill(log)).decisions
    assert (group.n, group.times, group.mode, group.outcomes) == (4, 40, None, {})
    assert (group.at - group.first_at, group.min_mhz, group.max_mhz) == (timedelta(seconds=39), 1000, 1039)
