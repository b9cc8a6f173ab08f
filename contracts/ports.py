"""The ports: what a stage offers and what it is given. Implementations register by name in `contracts.registry`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.control import Action, Decision, Outcome

if TYPE_CHECKING:  # an agent imports this file and must not need polars
    import polars as pl

    from contracts.view import View


class Clock(Protocol):
    """The run's time. Live it is the wall's; a twin's runs faster."""

    def now(self) -> datetime:
        """Aware UTC, run time."""
        ...

    def wall(self) -> datetime:
        """Aware UTC, wall time (leases, freshness)."""
        ...

    def to_run(self, wall: datetime) -> datetime:
        """The run time at a wall time: maps a broker's append time."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait `seconds` of run time."""
        ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something an exporter could not read: a lost GPU, a refused connection. Published to `rejected`; the rest goes on."""

    source: str
    reason: str
    sample: str = ""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Rows of one topic as columns: every column of the schema that the source knows, all of one length."""

    topic: str
    columns: Mapping[str, Sequence[Any] | NDArray[Any]]
    problems: tuple[Problem, ...] = ()

    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), ()))


class Exporter(Protocol):
    """One source of observations. `collect` may block up to its own time-out; what it cannot read becomes a Problem."""

    name: str
    period_s: float
    """how often to call it, run time"""

    def collect(self, now: datetime) -> Sequence[Collected]:
        """Read the source once; rows carry `ts` = the end of their interval."""
        ...

    def close(self) -> None:
        """Release what it holds; safe to call twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record of the log. `appended_at`: the broker's append time (aware UTC, wall)."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: Mapping[str, str]
    appended_at: datetime


class Subscription(Protocol):
    """A reader of whole topics, assigned by hand (no group): every partition, from positions that the caller keeps."""

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """Records in partition order; empty after `timeout_s`. Never spins. Raises BusError when an offset is out of range."""
        ...

    def lag(self) -> int:
        """Records between the positions and the log's end, as last known."""
        ...

    def pause(self) -> None:
        """Stop fetching (backpressure)."""
        ...

    def resume(self) -> None:
        """Fetch again."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class Bus(Protocol):
    """Kafka, real or embedded. Thread-safe for `publish`."""

    cluster_id: str

    def ensure_topics(self) -> None:
        """Make every topic of `contracts.topics` that does not exist."""
        ...

    def publish(self, topic: str, key: str, value: bytes, headers: Mapping[str, str]) -> None:
        """Queue one record and return at once; while the broker is away the buffer is bounded, the oldest telemetry is dropped
        and counted, command topics are never dropped (BusError instead)."""
        ...

    def append(self, topic: str, key: str, value: bytes, headers: Mapping[str, str], timeout_s: float) -> int:
        """Write one record, wait until the broker acknowledged it, return its offset (leadership)."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """True when all that was published before is acknowledged."""
        ...

    def subscribe(self, topics: Sequence[str], start: "Start", keys: Sequence[str] = ()) -> Subscription:
        """Read `topics`. With `keys`, only the partitions that hold those keys."""
        ...

    def dropped(self) -> int:
        """Records dropped since start."""
        ...

    def close(self) -> None:
        """Flush and leave."""
        ...


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a subscription begins: `offsets[(topic, partition)]` where given, else the beginning or the end."""

    where: str = "end"
    """beginning | end"""
    offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)


class HistoryReader(Protocol):
    """SQL over the history, and the one way in which a forecaster reads."""

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> "pl.DataFrame":
        """Run one SELECT with `$name` parameters. Raises HistoryError with one line."""
        ...

    def series(
        self, target: str, *, as_of: datetime, since: datetime, until: datetime | None = None, step_s: int = 300
    ) -> "pl.DataFrame":
        """Long frame (ts, series, value): means over step_s, ts = END of the interval, sorted by series, ts; complete intervals
        only, up to `until` (absent: `as_of`), and only rows that had arrived by `as_of` (run time).

        Targets: load, prompt_tok, output_tok (of an endpoint, and of its request classes as endpoint/MS), inlet, power (row),
        ups_power, server_power, gpu_power (sum of a server's GPUs), gpu_temp (its hottest), gpu_temp_each (server/index),
        airflow, outside."""
        ...


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Many series on one regular grid, as a forecaster gets them. Times are int64 seconds UTC, END of the interval."""

    target: str
    step_s: int
    ts: NDArray[np.int64]
    """[T] rising by step_s"""
    names: tuple[str, ...]
    """[S]"""
    values: NDArray[np.float64]
    """[S, T]; NaN = gap"""
    upper: float | NDArray[np.float64] = float("inf")
    """capacity: nothing above it can be; one number, or [S]"""
    lower: float | NDArray[np.float64] = 0.0
    """nothing below it can be; one number, or [S]"""
    covariates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """name -> [T + H], or [S, T + H]: known past and assumed future (e.g. outside_c)"""
    covariate_errors: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """name -> [H]: one sigma of the assumed future, by lead; a covariate without an entry is taken as sure"""
    notes: tuple[tuple[str, ...], ...] = ()
    """[S] what was found wrong with each series where the batch was made; () = nothing"""
    groups: tuple[str, ...] = ()
    """[S] series with one group share what moves them (the aisle of a server's inlet); () = all are one group"""


class Fitted(Protocol):
    """A fitted model: predicts from a batch with the same series (newer data allowed)."""

    def predict(self, batch: Batch, steps: int) -> NDArray[np.float64]:
        """[S, steps] medians for the steps after batch.ts[-1]; NaN where it has no opinion."""
        ...


class Forecaster(Protocol):
    """One model family. Bands come from calibration, not from the model."""

    name: str
    min_points: int
    """fewest observed points per series"""

    def fit(self, batch: Batch) -> Fitted:
        """Learn from the batch; reads nothing later than batch.ts[-1]."""
        ...


class Policy(Protocol):
    """Pure: a decision is a function of the View and the policy's own settings."""

    name: str

    def decide(self, view: "View") -> Sequence[Decision]:
        """What it wants at view.now. Never raises on stale or absent data: it says so in `no_change`."""
        ...


class Actuator(Protocol):
    """One kind of target. Called by the agent only; blocking; raises ActuationError with one line."""

    kind: str
    """the tag of the values that it takes: clock_cap | weights | alert"""

    def read(self, action: Action) -> str:
        """The target's present state, as text (evidence)."""
        ...

    def apply(self, action: Action) -> Outcome:
        """Bring the target to the value and verify it; idempotent; refuses what is out of bounds."""
        ...

    def revert(self, action: Action) -> Outcome:
        """Back to the declared state; idempotent."""
        ...


JobBody = Callable[[], None]
