"""Replays request traces as if they arrived now, with a city's outside temperature: input for machines without any router.

What a trace does not tell stays NULL: a replayed request has an arrival and lengths, no status and no latency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.ports import Collected, Problem
from contracts.workload import Workload
from ingest.workload import WEEK_MIN, YEAR_MIN, from_folder, generated, read_columns

Trace = Literal["azure2024_week", "azure2023_conv", "mooncake_conv"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ReplaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which trace, how fast, and as whose requests."""

    data: str = ""
    """folder of the traces; empty = a workload generated from published statistics"""
    trace: Trace = "azure2024_week"
    """azure2024_week: arrivals at the hour of week, lengths drawn; the others: one hour as it was, again and again"""
    endpoint: Annotated[str, msgspec.Meta(min_length=1)] = "replay"
    model: str = ""
    site: Annotated[str, msgspec.Meta(min_length=1)] = "site"
    city: str = "US-MIDA-PJM"
    """of the weather file; without a data folder: a hot climate's normals"""
    peak_rps: Annotated[float, msgspec.Meta(gt=0, le=100_000)] = 10.0
    """of azure2024_week, and of the generated workload: requests/s in the week's highest minute"""
    speed: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    """of the traces of one hour: how many times denser than recorded"""
    seed: int = 0
    period_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 1.0
    outside_period_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    max_gap_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """after a longer pause only this much is made up for"""


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """Requests within an interval: seconds after its start, rising, and their lengths."""

    after_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints


class RateReplay:
    """Arrivals at a rate that follows the week: a renewal process with the workload's burstiness in rescaled time.

    Gaps are Gamma with mean 1 and coefficient of variation `burst_cv`, in units of the integrated rate (shape 1 / cv^2).
    """

    def __init__(self, workload: Workload, *, peak_rps: float, rng: np.random.Generator) -> None:
        self._workload = workload
        self._peak_rps = peak_rps
        self._rng = rng
        self._shape = 1.0 / max(workload.burst_cv, 0.05) ** 2
        self._until_next = float(self._gaps(1)[0])
        """integrated rate left until the next arrival"""

    def between(self, start: datetime, end: datetime) -> Arrivals:
        """Draw what arrives in (start, end]; the rate is that of the middle."""
        length_s = (end - start).total_seconds()
        rate_rps = self.rate_rps(start + (end - start) / 2)
        work = rate_rps * length_s
        at: list[float] = []
        position = self._until_next
        while position <= work:
            drawn = position + np.concatenate([[0.0], np.cumsum(self._gaps(max(16, int(work))))])
            inside = drawn[:-1][drawn[:-1] <= work]
            at.extend(inside.tolist())
            position = float(drawn[len(inside)])  # the first beyond, or the last drawn, from which to go on
        self._until_next = position - work
        chosen = self._rng.integers(0, len(self._workload.prompt_tokens), len(at))
        return Arrivals(
            after_s=np.array(at) / rate_rps if at else np.empty(0),
            prompt_tokens=self._workload.prompt_tokens[chosen],
            output_tokens=self._workload.output_tokens[chosen],
        )

    def rate_rps(self, at: datetime) -> float:
        """Expected arrivals per second at that minute of the week; UTC stands for the curve's local time."""
        utc = at.astimezone(UTC)
        minute = utc.weekday() * 1440 + utc.hour * 60 + utc.minute + utc.second / 60
        return self._peak_rps * float(np.interp(minute, self._workload.minute_of_week, self._workload.rate, period=WEEK_MIN))

    def _gaps(self, count: int) -> Floats:
        return self._rng.gamma(self._shape, 1.0 / self._shape, count)


class TraceReplay:
    """The recorded arrivals, each at its time after the first call, again from the start when the trace is over."""

    def __init__(self, at_s: Floats, prompt_tokens: Ints, output_tokens: Ints, *, speed: float) -> None:
        order = np.argsort(at_s, kind="stable")
        self._at_s = (at_s[order] - at_s.min()) / speed
        self._prompt_tokens = prompt_tokens[order]
        self._output_tokens = output_tokens[order]
        # One mean gap after the last request the first comes again.
        self._length_s = float(self._at_s[-1] * len(at_s) / max(len(at_s) - 1, 1)) or 1.0
        self._begun: datetime | None = None

    def between(self, start: datetime, end: datetime) -> Arrivals:
        """Return what the trace has in (start, end]."""
        self._begun = self._begun or start
        first_s, last_s = (start - self._begun).total_seconds(), (end - self._begun).total_seconds()
        after_s, chosen = [np.empty(0)], [np.empty(0, dtype=np.int64)]
        # One cycle more on either side: where an interval ends on a cycle's first request, the division may round either way.
        for cycle in range(max(0, int(first_s // self._length_s) - 1), int(last_s // self._length_s) + 2):
            at_s = self._at_s + cycle * self._length_s
            low, high = np.searchsorted(at_s, [first_s, last_s], side="right")
            if first_s == 0.0:
                low = np.int64(0)  # the very first request arrives with the first call
            after_s.append(at_s[low:high] - first_s)
            chosen.append(np.arange(low, high))
        index = np.concatenate(chosen)
        return Arrivals(
            after_s=np.concatenate(after_s),
            prompt_tokens=self._prompt_tokens[index],
            output_tokens=self._output_tokens[index],
        )


class ReplayExporter:
    """Gives the arrivals since the last `collect` as `requests` rows, and the outside temperature as a `facility` row."""

    Settings = ReplaySettings
    name = "replay"

    def __init__(self, settings: ReplaySettings) -> None:
        self.period_s = settings.period_s
        self._settings = settings
        data = Path(settings.data) if settings.data else None
        self._workload = from_folder(data, city=settings.city) if data else _generated(settings)
        self._source = _source(settings, self._workload, data)
        self._last: datetime | None = None
        self._outside_at: datetime | None = None
        self._count = 0

    def collect(self, now: datetime) -> Sequence[Collected]:
        """Return what arrived in (last call, `now`], ts = received_at = the arrival; the first call gives the weather only."""
        start, self._last = self._last or now, now
        problems: tuple[Problem, ...] = ()
        oldest = now - timedelta(seconds=self._settings.max_gap_s)
        if start < oldest:
            silent_s = (now - start).total_seconds()
            reason = f"not asked for {silent_s:.0f} s; only the last {self._settings.max_gap_s:g} s are replayed"
            problems = (Problem(source=f"replay:{self._settings.trace}", reason=reason),)
            start = oldest
        requests = self._requests(start, self._source.between(start, now), problems) if start < now else None
        return [found for found in (requests, self._outside(now)) if found is not None]

    def close(self) -> None:
        """Hold nothing, release nothing."""

    def _requests(self, start: datetime, arrivals: Arrivals, problems: tuple[Problem, ...]) -> Collected:
        at = [start + timedelta(seconds=float(after_s)) for after_s in arrivals.after_s]
        # The arrival is part of the id: a replay that is started again names no request like an earlier one.
        ids = [f"{self._settings.trace}-{moment.timestamp():.6f}-{self._count + i}" for i, moment in enumerate(at)]
        self._count += len(at)
        columns: dict[str, Sequence[Any]] = {
            "ts": at,
            "request_id": ids,
            "endpoint": [self._settings.endpoint] * len(at),
            "model": [self._settings.model or None] * len(at),
            "received_at": at,
            "prompt_tokens": arrivals.prompt_tokens.tolist(),
            "output_tokens": arrivals.output_tokens.tolist(),
        }
        return Collected(topic="requests", columns=columns, problems=problems)

    def _outside(self, now: datetime) -> Collected | None:
        if self._outside_at and (now - self._outside_at).total_seconds() < self._settings.outside_period_s:
            return None
        self._outside_at = now
        columns: dict[str, Sequence[Any]] = {"ts": [now], "kind": ["site"], "unit": [self._settings.site]}
        return Collected(topic="facility", columns={**columns, "outside_c": [outside_c(self._workload, now)]})


def outside_c(workload: Workload, at: datetime) -> float:
    """Outside temperature of the workload's year at that time of any year, degC, linear between its hours."""
    utc = at.astimezone(UTC)
    minute = (utc - datetime(utc.year, 1, 1, tzinfo=UTC)).total_seconds() / 60
    return float(np.interp(minute, workload.outside_minute, workload.outside_c, period=YEAR_MIN))


def _generated(settings: ReplaySettings) -> Workload:
    return generated(settings.seed, lengths="mooncake" if settings.trace == "mooncake_conv" else "azure2023")


def _source(settings: ReplaySettings, workload: Workload, data: Path | None) -> RateReplay | TraceReplay:
    if data is None or settings.trace == "azure2024_week":
        return RateReplay(workload, peak_rps=settings.peak_rps, rng=np.random.default_rng(settings.seed))
    if settings.trace == "azure2023_conv":
        azure = read_columns(data, "azure_llm_2023_conv.parquet", ("timestamp", "context_tokens", "generated_tokens"))
        at_s, prompt, output = azure["timestamp"].dt.epoch("us").to_numpy() / 1e6, "context_tokens", "generated_tokens"
        return _trace(at_s, azure[prompt].to_numpy(), azure[output].to_numpy(), settings.speed)
    mooncake = read_columns(data, "mooncake_conversation.parquet", ("t_ms", "input_length", "output_length"))
    at_s = mooncake["t_ms"].to_numpy() / 1e3
    return _trace(at_s, mooncake["input_length"].to_numpy(), mooncake["output_length"].to_numpy(), settings.speed)


def _trace(at_s: Floats, prompt_tokens: NDArray[Any], output_tokens: NDArray[Any], speed: float) -> TraceReplay:
    return TraceReplay(at_s, prompt_tokens.astype(np.int64), output_tokens.astype(np.int64), speed=speed)
