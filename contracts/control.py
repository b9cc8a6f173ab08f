"""Decision -> Action -> Outcome, and the alert: the JSON records of the command path. Times are aware UTC in the run's clock,
except `created_wall` and every lease, which are wall time: safety never runs faster than the world."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

Mode = Literal["observe", "advise", "enforce"]
Priority = Literal["high", "low"]
Clock = Annotated[float, msgspec.Meta(gt=0, le=10_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ClockCap(msgspec.Struct, frozen=True, kw_only=True, tag="clock_cap"):
    """The SM clock of the named GPUs of a node may not exceed `max_mhz`."""

    max_mhz: Clock
    gpus: tuple[int, ...] = ()
    """indices on the node; empty = all"""


class Weights(msgspec.Struct, frozen=True, kw_only=True, tag="weights"):
    """Routing shares of an endpoint's instances: node -> share; sums to 1; an instance left out gets 0."""

    endpoint: str
    shares: dict[str, Share]


class Raise(msgspec.Struct, frozen=True, kw_only=True, tag="alert"):
    """An alert that fires while its lease lives."""

    alertname: str
    severity: Literal["warning", "critical"]
    labels: dict[str, str]
    annotations: dict[str, str]


class Revert(msgspec.Struct, frozen=True, kw_only=True, tag="revert"):
    """Back to the declared state (clocks reset, weights equal, alert resolved)."""


Value = ClockCap | Weights | Raise | Revert


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What the value may be; the node's own file may be narrower."""

    low: float
    high: float


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a policy wants and why: a record for people; nobody obeys it."""

    decision_id: str
    at: datetime
    policy: str
    target: str
    """`clock_cap/NODE`, `weights/ENDPOINT`, `alert/NAME/SERIES`, `place/VM`"""
    value: Value | None = None
    """None = no change, for `no_change`"""
    no_change: str = ""
    reason: str = ""
    """one sentence for people"""
    constraint: str = ""
    """the binding constraint, e.g. `row-1 power`"""
    counterfactual: str = ""
    """what is expected without it, e.g. `P(row-1 > 286 kW within 5 min) = 0.31`"""
    probability: float | None = None
    """of the violation that it averts, where known"""
    bounds: Bounds | None = None
    priority: int = 0
    """higher wins in the arbiter: 0 energy, 10 routing, 20 forecast, 30 measured, 40 emergency, 50 brake"""
    expires_at: datetime | None = None
    forecast_ids: tuple[str, ...] = ()
    mode: Mode = "advise"


class Action(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that an agent obeys. Signed over its canonical JSON without `signature`."""

    action_id: str
    at: datetime
    """run time of issue"""
    created_wall: datetime
    """wall time of issue; valid until created_wall + lease_s"""
    node: str
    """the agent that obeys: a server, or `router`, `alerting`"""
    target: str
    """what is leased, one lease per target; as Decision.target"""
    value: Value
    lease_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)]
    epoch: int
    decision_ids: tuple[str, ...] = ()
    policy: str = ""
    reason: str = ""
    bounds: Bounds | None = None
    mode: Mode = "advise"
    """advise = the agent reports what it would do"""
    renews: str = ""
    """the action_id of the first issue, when this one only renews its lease unchanged"""
    signature: str = ""


Status = Literal["applied", "applied_unverified", "would_apply", "partly", "refused", "failed", "expired", "reverted"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of an action. `at` in run time; `latency_s` wall seconds from created_wall to evidence."""

    action_id: str
    at: datetime
    node: str
    target: str
    status: Status
    before: str = ""
    """state read before, as text"""
    after: str = ""
    """state read back, as text: the evidence"""
    reason: str = ""
    latency_s: float = 0.0
    epoch: int = 0
    agent: str = ""


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A predicted violation, as recorded in the history (one row when it starts, when it changes, when it ends)."""

    alert_id: str
    at: datetime
    status: Literal["firing", "resolved"]
    alertname: str
    severity: Literal["warning", "critical"]
    series: str
    probability: float
    lead_s: float | None = None
    """expected time to the violation"""
    summary: str = ""
    labels: dict[str, str] = {}
    forecast_ids: tuple[str, ...] = ()


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim to leadership; the offset at which it stands is its epoch."""

    controller: str
    at: datetime


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """Input that was not accepted, kept with its reason. `sample` is at most 2,000 characters of it."""

    at: datetime
    topic: str
    source: str
    reason: str
    rows: int = 1
    sample: str = ""
