"""What the page shows, as values. Serialised to JSON as they stand; times are aware UTC, series times seconds since 1970.

`age_s` counts in wall seconds from the creation of the newest sample: it means the same where a run is faster than the wall.
"""

from datetime import datetime
from typing import Literal

import msgspec

Freshness = Literal["fresh", "stale", "silent"]
"""stale = older than the page's limit; silent = nothing within the window that was asked for"""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How old a value is."""

    state: Freshness
    age_s: float | None = None
    """wall seconds; None = silent"""


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast, cut to the next hour. `bands[level]` are the values of one quantile level, in the order of `t`."""

    model: str
    issued_at: datetime
    age_s: float
    """run seconds from the newest observation that it used"""
    t: tuple[float, ...]
    """s since 1970, run time"""
    bands: dict[str, tuple[float, ...]]
    """level as text ("0.5") -> values"""
    degradations: tuple[str, ...] = ()


class CapMark(msgspec.Struct, frozen=True, kw_only=True):
    """Caps that were issued or lifted within one interval of the row's chart."""

    t: float
    capped: int
    lifted: int
    advised: int
    """of both: only advised, not enforced"""
    min_mhz: float | None
    policies: str


class RowPower(msgspec.Struct, frozen=True, kw_only=True):
    """One row: its power beside its limit, in the last hour and the next."""

    row: str
    aisle: str
    servers: int
    seen: Seen
    source: str
    """meter | sum (of its servers)"""
    power_w: float | None
    limit_w: float
    """what holds now: `full_limit_w`, or less while a UPS is lost"""
    full_limit_w: float
    lost_upses: tuple[str, ...]
    headroom_w: float | None
    ahead_median_w: float | None
    """highest median of power within the next hour"""
    ahead_upper_w: float | None
    """highest 99 % quantile of power within the next hour"""
    ahead_upper_at: datetime | None
    capped: int
    """servers with a cap in force (enforced)"""
    past_t: tuple[float, ...]
    past_w: tuple[float, ...]
    past_max_w: tuple[float, ...]
    path: Path | None
    marks: tuple[CapMark, ...]


class Aisle(msgspec.Struct, frozen=True, kw_only=True):
    """A cold aisle: the air that its servers draw beside the air that there is."""

    aisle: str
    seen: Seen
    airflow_cfm: float | None
    limit_cfm: float
    full_limit_cfm: float
    lost_ahus: tuple[str, ...]
    ahus: int


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A UPS or an air handler."""

    kind: str
    unit: str
    state: str
    seen: Seen
    power_w: float | None


class ServerNow(msgspec.Struct, frozen=True, kw_only=True):
    """One server: temperatures now and the worst of the next hour."""

    node: str
    row: str
    rack: str
    slot: int
    tenant: str
    endpoint: str | None
    priority: str
    seen: Seen
    inlet_c: float | None
    gpu_max_c: float | None
    slowdown_c: float
    margin_k: float | None
    """slowdown less hottest GPU"""
    hottest_gpu: int | None
    power_w: float | None
    gpu_median_c: float | None
    gpu_upper_c: float | None
    inlet_upper_c: float | None
    max_mhz: float | None
    """the cap in force (enforced)"""
    slowed_gpus: int
    """GPUs that their hardware slows now, by temperature or power brake"""
    lost_gpus: int


class EndpointLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One inference service: what it is asked now, in the last hour and the next."""

    endpoint: str
    model: str | None
    priority: str | None
    seen: Seen
    source: Literal["gauges", "requests", "none"]
    instances: int
    requests_rps: float | None
    running: float | None
    waiting: float | None
    ttft_p99_s: float | None
    ttft_slo_s: float | None
    slo_ok_pct: float | None
    weights: tuple[tuple[str, float], ...]
    """node, share: where weights are in force (enforced)"""
    past_t: tuple[float, ...]
    past_rps: tuple[float, ...]
    path: Path | None


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """A leased action that holds (mode enforce) or would hold (advise) now: what, who, why, until when, with what evidence."""

    target: str
    node: str
    kind: str
    row: str | None
    tenant: str | None
    endpoint: str | None
    max_mhz: float | None
    shares: dict[str, float]
    policy: str
    reason: str
    mode: str
    since: datetime | None
    until_wall: datetime
    outcome: str | None
    """None = the agent has not answered yet"""
    evidence: str
    latency_s: float | None
    counterfactual: str
    constraint: str
    probability: float | None


class DecisionGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions of one policy at one moment and of one kind: an emergency caps many servers at once."""

    at: datetime
    """the newest of them"""
    first_at: datetime
    policy: str
    kind: str
    """clock_cap | weights | alert | revert | place | no_change"""
    n: int
    """targets"""
    times: int
    """decisions"""
    targets: tuple[str, ...]
    """at most 6 of them"""
    min_mhz: float | None
    max_mhz: float | None
    reason: str
    counterfactual: str
    probability: float | None
    mode: str | None
    """of the actions that followed; None = none did"""
    outcomes: dict[str, int]


class OutcomeCount(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes of one status in the last hour."""

    status: str
    n: int
    latency_p50_s: float | None
    latency_p99_s: float | None
    newest_target: str
    newest_reason: str
    newest_at: datetime


class AlertNow(msgspec.Struct, frozen=True, kw_only=True):
    """A predicted violation that is open, or ended within the last hour."""

    alert_id: str
    alertname: str
    severity: str
    series: str
    probability: float
    status: str
    summary: str
    began_at: datetime
    at: datetime
    lead_s: float | None
    """run seconds to the violation as last said, at `at`"""
    first_lead_s: float | None
    due_at: datetime | None
    """when the violation is expected: at + lead_s"""


class TopicFresh(msgspec.Struct, frozen=True, kw_only=True):
    """What arrived on one topic within the last minute of wall time."""

    topic: str
    age_s: float
    rows_per_s: float
    p99_s: float | None
    """creation to commit"""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page, at one moment."""

    site: str | None
    """None = nobody has published a topology yet"""
    now: datetime
    wall: datetime
    speed: float
    """run seconds per wall second"""
    modes: dict[str, int]
    """mode -> leases in force in it"""
    declared_modes: dict[str, str]
    """policy -> mode as changed at run time"""
    controller: str | None
    epoch: int | None
    data: Seen
    """the newest telemetry of any kind"""
    topics: tuple[TopicFresh, ...]
    freshness_p99_s: float | None
    outside_c: float | None
    rows: tuple[RowPower, ...]
    aisles: tuple[Aisle, ...]
    units: tuple[Unit, ...]
    servers: tuple[ServerNow, ...]
    hottest: tuple[str, ...]
    """the ten servers with the least margin to slowdown, worst first"""
    endpoints: tuple[EndpointLoad, ...]
    in_force: tuple[InForce, ...]
    decisions: tuple[DecisionGroup, ...]
    outcomes: tuple[OutcomeCount, ...]
    alerts: tuple[AlertNow, ...]
