"""A small site with a bad quarter of an hour, as records of the log: two rows, an air handler lost, caps in force."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from contracts.control import Action, Alert, Claim, ClockCap, Decision, Outcome, Raise, Revert, Value, Weights
from contracts.ports import Record
from contracts.topology import Aisle, Endpoint, Row, Server, Topology, Ups
from ingest.codec import encode, frame_of
from ingest.headers import cloud_event
from ingest.records import CONTENT_ARROW, encode_record
from tests.factories import H100

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
Z = (-2.326, -1.645, -0.674, 0.0, 0.674, 1.645, 2.326)
LEADS_MIN = (1, 2, 5, 10, 15, 30, 60)
SERVICES = ("chat", "code", "search", "agents")
LOST_S = 600
"""how long ago the air handler was lost"""


def make_site(per_row: int = 40) -> Topology:
    """Two rows of H100 servers in one aisle; every other server serves one of four endpoints."""
    servers = tuple(
        Server(
            name=f"n{r * per_row + i + 1:03d}",
            row=f"row-{r + 1}",
            rack=f"r{r + 1}k{i // 4 + 1:02d}",
            slot=i % 4,
            hardware="dgx-h100",
            tenant="saas" if i % 2 == 0 else "iaas",
            endpoint=SERVICES[i // 2 % 4] if i % 2 == 0 else None,
            customer="acme",
            priority="high" if i % 4 == 0 else "low",
        )
        for r in range(2)
        for i in range(per_row)
    )
    upses = tuple(f"ups-{u + 1}" for u in range(4))
    return Topology(
        site="made-up site",
        hardware=(H100,),
        servers=servers,
        rows=tuple(Row(name=f"row-{r + 1}", aisle="aisle-1", upses=upses, power_limit_w=286_000.0) for r in range(2)),
        aisles=(Aisle(name="aisle-1", ahus=("ahu-1", "ahu-2"), airflow_limit_cfm=78_000.0),),
        upses=tuple(Ups(name=u, power_limit_w=190_000.0) for u in upses),
        endpoints=tuple(
            Endpoint(name=e, model="llama2-70b", ttft_slo_s=2.0, tbt_slo_s=0.2, priority="high" if e == "chat" else "low")
            for e in SERVICES
        ),
    )


@dataclass
class SiteLog:
    """Appends records as a broker would hold them. `now` is run time, `wall` the wall's; one run second a wall second back."""

    now: datetime
    wall: datetime
    speed: float = 1.0
    records: list[Record] = field(default_factory=list)
    _next: dict[str, int] = field(default_factory=dict)

    def wall_at(self, at: datetime) -> datetime:
        return self.wall + (at - self.now) / self.speed

    def rows(self, topic: str, columns: Mapping[str, Sequence[Any]], at: datetime) -> None:
        headers = cloud_event(topic, "test", self.wall_at(at), CONTENT_ARROW)
        self._add(topic, "k", encode(topic, frame_of(topic, columns)), headers, at)

    def record(self, topic: str, value: msgspec.Struct, at: datetime, key: str = "k") -> None:
        self._add(topic, key, encode_record(value), cloud_event(topic, "test", self.wall_at(at)), at)

    def _add(self, topic: str, key: str, value: bytes, headers: Mapping[str, str], at: datetime) -> None:
        offset = self._next.get(topic, 0)
        self._next[topic] = offset + 1
        when = self.wall_at(at)
        made = Record(topic=topic, partition=0, offset=offset, key=key, value=value, headers=headers, appended_at=when)
        self.records.append(made)


def make_log(now: datetime, wall: datetime, speed: float = 1.0, topology: Topology | None = None) -> SiteLog:
    """The last hour of a site whose air handler ahu-2 was lost ten minutes ago."""
    log, site, rng = SiteLog(now=now, wall=wall, speed=speed), topology or make_site(), np.random.default_rng(7)
    log.record("state", site, now - timedelta(hours=1), key="topology")
    log.record("leadership", Claim(controller="control-1", at=now - timedelta(hours=1)), now - timedelta(hours=1))
    add_facility(log, site, rng)
    add_servers(log, site, rng)
    add_endpoints(log, site, rng)
    add_forecasts(log, site)
    add_control(log, site)
    return log


def row_power_w(second: int, row: int, rng: np.random.Generator) -> float:
    """Power `second` s from now (negative): a slow rise, and a fall when the caps came."""
    base = 226_000 + 9_000 * row + 30_000 * (1 + second / 3600) + 6_000 * np.sin(second / 260 + row)
    relief = 21_000 * min(1.0, max(0.0, (second + LOST_S - 60) / 90))
    return float(base - relief + rng.normal(0, 1_300))


def add_facility(log: SiteLog, site: Topology, rng: np.random.Generator) -> None:
    for second in range(-3590, 1, 10):
        at = log.now + timedelta(seconds=second)
        power = [row_power_w(second, r, rng) for r in range(len(site.rows))]
        kinds = ["row"] * len(site.rows) + ["ups"] * 4 + ["ahu"] * 2 + ["aisle", "site"]
        units = [r.name for r in site.rows] + [u.name for u in site.upses] + ["ahu-1", "ahu-2", "aisle-1", "site"]
        blank = [None] * 4
        log.rows(
            "facility",
            {
                "ts": [at] * len(kinds),
                "kind": kinds,
                "unit": units,
                "state": [None] * len(site.rows) + ["ok"] * 5 + ["lost" if second >= -LOST_S else "ok", None, None],
                "power_w": [*power, *([sum(power) / 4] * 4), *blank],
                "power_max_w": [*(p + 3_000 for p in power), *blank, *blank],
                "airflow_cfm": [*([None] * (len(kinds) - 2)), 62_000.0 + sum(power) / 80, None],
                "outside_c": [*([None] * (len(kinds) - 1)), 35.0],
                "source": [*(["meter"] * len(site.rows)), *blank, *blank],
            },
            at,
        )


def add_servers(log: SiteLog, site: Topology, rng: np.random.Generator) -> None:
    count = len(site.servers)
    place = np.arange(count)
    inlet = 25.5 + 2.5 * np.sin(place / 6) + rng.normal(0, 0.4, count) + 3.0
    hottest = inlet + 46 + 5 * np.cos(place / 9) + rng.normal(0, 1.6, count)
    for second in (-20, -10, 0):
        at = log.now + timedelta(seconds=second)
        names = [s.name for s in site.servers]
        columns = {
            "ts": [at] * count,
            "node": names,
            "inlet_c": inlet.tolist(),
            "power_w": (6_100 + 40 * (place % 7)).tolist(),
            "gpu_max_c": hottest.tolist(),
            "fan_pct": [72.0] * count,
        }
        log.rows("server", {name: values[:-1] for name, values in columns.items()}, at)  # the last server is silent
    temps = [float(t - (0.0 if g == 3 else 2.0 + g * 0.3)) for t in hottest[:-1] for g in range(8)]
    slowed = int(np.argmax(hottest[:-1]))
    log.rows(
        "gpu",
        {
            "ts": [log.now] * len(temps),
            "node": [name for name in names[:-1] for _ in range(8)],
            "gpu": list(range(8)) * (count - 1),
            "state": ["ok"] * len(temps),
            "temp_c": temps,
            "power_w": [520.0] * len(temps),
            "sm_clock_mhz": [1980.0] * len(temps),
            "clock_event_reasons": [0x40 if i == slowed * 8 + 3 else 0 for i in range(len(temps))],
        },
        log.now,
    )


def load_rps(minute: int, service: int) -> float:
    return float((18 - 3 * service) * (1 + 0.25 * np.sin(minute / 17 + service) + 0.05 * np.sin(minute * 1.7)))


def add_endpoints(log: SiteLog, site: Topology, rng: np.random.Generator) -> None:
    serving = [s for s in site.servers if s.endpoint]
    for minute in range(-59, 1):
        at = log.now + timedelta(minutes=minute)
        rps = [load_rps(minute, SERVICES.index(s.endpoint or "")) / 10 for s in serving]
        log.rows(
            "endpoints",
            {
                "ts": [at] * len(serving),
                "endpoint": [s.endpoint for s in serving],
                "node": [s.name for s in serving],
                "running": [r * 9 for r in rps],
                "waiting": [float(x) for x in rng.poisson(0.4, len(serving))],
                "requests_rps": rps,
                "ttft_p99_s": [float(x) for x in rng.uniform(0.5, 1.4, len(serving))],
                "slo_ok_pct": [float(x) for x in rng.uniform(98.2, 100, len(serving))],
            },
            at,
        )


def add_forecasts(log: SiteLog, site: Topology) -> None:
    issued = log.now - timedelta(seconds=30)
    rows: list[tuple[str, str, float, float, float]] = []
    rows += [("power", r.name, 238_000 + 9_000 * i, 17_000.0 + 6_000 * i, 4_500.0) for i, r in enumerate(site.rows)]
    rows += [("load", e, load_rps(0, i), 2.0 + i, 0.9) for i, e in enumerate(SERVICES)]
    rows += [("gpu_temp", s.name, 75.0 + i % 9, 3.0, 1.6) for i, s in enumerate(site.servers)]
    rows += [("inlet", s.name, 28.0 + i % 4, 1.2, 0.5) for i, s in enumerate(site.servers)]
    valid = [issued + timedelta(minutes=m) for m in LEADS_MIN]
    columns: dict[str, list[Any]] = {
        "ts": [issued] * len(rows),
        "forecast_id": [f"{target}-{series}" for target, series, *_ in rows],
        "target": [r[0] for r in rows],
        "series": [r[1] for r in rows],
        "model": ["ridge"] * len(rows),
        "champion": [True] * len(rows),
        "data_until": [issued - timedelta(seconds=20)] * len(rows),
        "unit": ["W" if r[0] == "power" else "1/s" if r[0] == "load" else "degC" for r in rows],
        "valid_at": [valid] * len(rows),
        "levels": [list(LEVELS)] * len(rows),
        "values": [
            [base + rise * (m / 60) ** 0.5 + z * spread * (0.4 + m / 30) for m in LEADS_MIN for z in Z]
            for _, _, base, rise, spread in rows
        ],
        "degradations": [["ahu-2 lost: airflow outside the training range"] if r[1] == "row-2" else [] for r in rows],
    }
    log.rows("forecasts", columns, issued)
    challenger = {**columns, "model": ["persistence"] * len(rows), "champion": [False] * len(rows)}
    log.rows("forecasts", {**challenger, "forecast_id": [f"p-{i}" for i in columns["forecast_id"]]}, issued)


def add_control(log: SiteLog, site: Topology) -> None:
    """An emergency's caps, enforced and renewed; one revert; routing weights; an advised cap; an alert and one that ended."""
    at = log.now - timedelta(seconds=LOST_S - 40)
    saas = [s for s in site.servers if s.tenant == "saas"]
    for i, server in enumerate(saas):
        mhz = 1005.0 if i % 3 else 1110.0
        counter = f"P(GPU temperature of {server.name} > slowdown within 15 min) = {0.93 - 0.01 * (i % 9):.2f}"
        cap = ClockCap(max_mhz=mhz)
        why = "ahu-2 lost: 90 % of the air is left"
        lease(log, at, server.name, f"clock_cap/{server.name}", cap, "emergency", why, counter, renewed=i > 0)
    first = saas[0].name
    revert = Revert()
    lease(
        log, at + timedelta(minutes=4), first, f"clock_cap/{first}", revert, "caps", "headroom is back", "", answer="reverted"
    )
    advised = site.servers[1].name
    reason = "row-1 power: 99 % quantile over the limit in 20 min"
    cap = ClockCap(max_mhz=1410)
    target = f"clock_cap/{advised}"
    at2 = log.now - timedelta(minutes=2)
    lease(
        log,
        at2,
        advised,
        target,
        cap,
        "caps",
        reason,
        "P(row-1 > 286 kW within 60 min) = 0.06",
        mode="advise",
        answer="would_apply",
    )
    for e, service in enumerate(SERVICES[:2]):
        nodes = [s.name for s in saas if s.endpoint == service]
        shares = {n: (0.0 if k == 0 else 1 / (len(nodes) - 1)) for k, n in enumerate(nodes)}
        weights = Weights(endpoint=service, shares=shares)
        why = f"{nodes[0]} at risk: its GPUs near slowdown"
        lease(log, at + timedelta(seconds=5 + e), "router", f"weights/{service}", weights, "routing", why, "")
    log.record(
        "decisions",
        Decision(
            decision_id="quiet", at=log.now - timedelta(minutes=40), policy="caps", target="caps", no_change="headroom is ample"
        ),
        log.now - timedelta(minutes=40),
    )
    add_alerts(log, at)


def add_alerts(log: SiteLog, at: datetime) -> None:
    hot = Alert(
        alert_id="a1",
        at=at,
        status="firing",
        alertname="GpuTemperature",
        severity="critical",
        series="aisle-1",
        probability=0.93,
        lead_s=540,
        summary="P(GPU temperature of 31 servers > slowdown within 15 min) = 0.93, lead 9 min, because ahu-2 is lost",
    )
    log.record("alerts", hot, at)
    later = msgspec.structs.replace(hot, at=at + timedelta(minutes=3), probability=0.41, lead_s=780)
    log.record("alerts", later, later.at)
    power = msgspec.structs.replace(
        hot,
        alert_id="a2",
        at=log.now - timedelta(minutes=50),
        alertname="RowPower",
        series="row-2",
        severity="warning",
        summary="P(row-2 > 286 kW within 30 min) = 0.12, lead 22 min",
    )
    log.record("alerts", power, power.at)
    log.record("alerts", msgspec.structs.replace(power, at=log.now - timedelta(minutes=44), status="resolved"), log.now)


def lease(
    log: SiteLog,
    at: datetime,
    node: str,
    target: str,
    value: Value,
    policy: str,
    reason: str,
    counterfactual: str,
    *,
    mode: Any = "enforce",
    answer: Any = "applied",
    renewed: bool = True,
) -> None:
    """One decision, its action, the outcome, and a renewal ten seconds ago."""
    name = f"{policy}-{target}-{at:%H%M%S}"
    log.record(
        "decisions",
        Decision(
            decision_id=f"d-{name}",
            at=at,
            policy=policy,
            target=target,
            value=value,
            reason=reason,
            constraint="aisle-1 airflow",
            counterfactual=counterfactual,
            probability=float(counterfactual[-4:]) if counterfactual else None,
            forecast_ids=(f"gpu_temp-{node}",),
            mode=mode,
        ),
        at,
    )
    action = Action(
        action_id=f"a-{name}",
        at=at,
        created_wall=log.wall_at(at),
        node=node,
        target=target,
        value=value,
        lease_s=60,
        epoch=0,
        decision_ids=(f"d-{name}",),
        policy=policy,
        reason=reason,
        mode=mode,
    )
    log.record("actions", action, at, key=node)
    after = f"SM clock <= {value.max_mhz:g} MHz" if isinstance(value, ClockCap) else "read back"
    answered = at + timedelta(seconds=1)
    log.record(
        "outcomes",
        Outcome(action_id=action.action_id, at=answered, node=node, target=target, status=answer, after=after, latency_s=0.4),
        answered,
    )
    if renewed and not isinstance(value, Revert | Raise):
        last = log.now - timedelta(seconds=10)
        renewal = msgspec.structs.replace(
            action, action_id=f"r-{name}", at=last, created_wall=log.wall_at(last), renews=action.action_id
        )
        log.record("actions", renewal, last, key=node)
