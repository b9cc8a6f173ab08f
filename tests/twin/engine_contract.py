"""What an engine of the twin must agree on with the reference: small random workloads exactly, steady loads in statistics.

@given(cases())
def test_engine(case):
    expected = case.run()
    assume(case.margin_s(expected) > MARGIN_S)
    compare(expected, my_engine(case.point, case.requests, case.clock_steps))
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from tests.twin.reference import BLOCK_TOKENS, Request, Result, simulate, steps

TOLERANCE_S = 1e-6
MARGIN_S = 1e-8
"""Closer to the end of an iteration than this, rounding may decide whether an arrival or a clock change came before it"""

# Clock in MHz -> relative time of prefill and decode [F], medians of DynamoLLM's profile.
RELATIVE = {
    800.0: (1.94, 1.72),
    1000.0: (1.54, 1.39),
    1200.0: (1.29, 1.19),
    1400.0: (1.11, 1.09),
    1600.0: (1.04, 1.04),
    1800.0: (1.00, 1.01),
    1980.0: (1.00, 1.00),
}

# Medians of Azure's 2023 conversation trace; log-normal spreads that give its means, 1,155 and 211 tokens [F].
PROMPT_MEDIAN, PROMPT_SIGMA, OUTPUT_MEDIAN, OUTPUT_SIGMA = 1020.0, 0.50, 129.0, 0.99
LOADS = (0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Point:
    """A calibration's part that decides when tokens come, under the names of the definition."""

    p0: float
    p1: float
    p2: float
    d0: float
    d1: float
    d2: float
    kv_blocks: int
    batch_limit: int
    token_budget: int
    chunked: bool
    queue_limit: int


class EngineResult(Protocol):
    """Times in s in the order of the requests; NaN = rejected."""

    @property
    def arrival_s(self) -> npt.NDArray[np.float64]: ...
    @property
    def first_s(self) -> npt.NDArray[np.float64]: ...
    @property
    def end_s(self) -> npt.NDArray[np.float64]: ...


class Times(NamedTuple):
    """An EngineResult to build by hand."""

    arrival_s: npt.NDArray[np.float64]
    first_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    point: Point
    requests: tuple[Request, ...]
    clock_steps: tuple[tuple[float, float], ...]  # (s, MHz), whole seconds, the first at 0

    def run(self) -> Result:
        """The reference's answer, until the last request has ended."""
        return simulate(self.point, self.requests, clock=steps(self.clock_steps), relative=RELATIVE.__getitem__)

    def margin_s(self, result: Result) -> float:
        """Least distance between an iteration's end and an arrival or a change of clock."""
        marks = sorted([r.arrival_s for r in self.requests] + [at for at, _ in self.clock_steps])
        return min((_distance(marks, i.end_s) for i in result.iterations), default=math.inf)


def _distance(marks: list[float], at: float) -> float:
    place = bisect_left(marks, at)
    return min(abs(at - mark) for mark in marks[max(0, place - 1) : place + 1])


@st.composite
def points(draw: st.DrawFn, chunked: bool | None = None) -> Point:
    """Points with crooked coefficients; `kv_blocks` is set once the requests are known."""
    return Point(
        p0=draw(st.sampled_from((0.0269, 0.00313))),
        p1=draw(st.sampled_from((5.83e-5, 1.117e-3))),
        p2=draw(st.sampled_from((0.0, 1.51e-9, 2.37e-6))),
        d0=draw(st.sampled_from((0.02981, 0.01307))),
        d1=draw(st.sampled_from((2.03e-4, 1.913e-3))),
        d2=draw(st.sampled_from((0.0, 1.83e-7, 1.319e-5))),
        kv_blocks=1,
        batch_limit=draw(st.integers(1, 16)),
        token_budget=draw(st.one_of(st.integers(16, 64), st.integers(16, 700), st.sampled_from((64, 128)))),
        chunked=draw(st.booleans()) if chunked is None else chunked,
        queue_limit=draw(st.one_of(st.just(1000), st.integers(1, 8))),
    )


@st.composite
def workloads(draw: st.DrawFn) -> tuple[Request, ...]:
    """1 to 60 requests in order of arrival, some at the same moment, in bursts and with pauses."""
    count = draw(st.integers(1, 60))
    longest = draw(st.sampled_from((5, 60)))  # ms between arrivals, mostly: hardly loaded, or all at once
    gap_ms = st.one_of(st.just(0), st.integers(0, longest), st.integers(0, longest), st.integers(0, 30 * longest))
    prompt = st.one_of(st.integers(1, 60), st.integers(1, 500), st.sampled_from((16, 32, 48, 64)))  # also full blocks
    output = st.one_of(st.integers(1, 4), st.integers(1, 90))
    cached = st.one_of(st.just(0.0), st.floats(0.0, 1.0, exclude_max=True))
    requests = []
    elapsed_ms = 0
    for gap, tokens, made, share, low in draw(
        st.lists(st.tuples(gap_ms, prompt, output, cached, st.booleans()), min_size=count, max_size=count)
    ):
        elapsed_ms += gap
        hit = min(int(share * tokens), tokens - 1)
        requests.append(Request(elapsed_ms * 1.000731e-3, tokens, made, hit, int(low)))
    return tuple(requests)


@st.composite
def cases(draw: st.DrawFn, chunked: bool | None = None, oversized: bool = False) -> Case:
    """Workload, point with tight KV blocks, and clock changes at whole seconds.

    With `oversized`, some requests may need more blocks than there are: they are rejected when they arrive.
    """
    point = draw(points(chunked))
    requests = draw(workloads())
    largest = max(-(-(r.prompt + r.output) // BLOCK_TOKENS) for r in requests)
    least = max(1, largest // 2) if oversized else largest
    point = replace(point, kv_blocks=draw(st.integers(least, 3 * largest)))
    times = sorted(draw(st.sets(st.integers(1, 15), max_size=5)))
    clocks = draw(st.lists(st.sampled_from(sorted(RELATIVE)), min_size=len(times) + 1, max_size=len(times) + 1))
    return Case(point, requests, tuple(zip([0.0, *map(float, times)], clocks, strict=True)))


def compare(reference: Result, engine: EngineResult, tolerance_s: float = TOLERANCE_S) -> None:
    """Same requests rejected, same times of first token and end.

    Raises AssertionError naming the first request (by time) that differs, and ValueError if the reference was cut short.
    """
    records = reference.records
    if any(r.end_s is None and not r.rejected for r in records):
        raise ValueError("the reference has unfinished requests: let it run to the end")
    sizes = (len(records), len(engine.arrival_s), len(engine.first_s), len(engine.end_s))
    assert len(set(sizes)) == 1, f"{sizes[0]} requests, but the engine's arrays have {sizes[1:]}"
    wrong = []
    for number, record in enumerate(records):
        expected = tuple(math.nan if x is None else x for x in (record.request.arrival_s, record.first_s, record.end_s))
        got = tuple(float(column[number]) for column in (engine.arrival_s, engine.first_s, engine.end_s))
        if not all(_same(a, b, tolerance_s) for a, b in zip(expected, got, strict=True)):
            at = min(x for pair in zip(expected[1:], got[1:], strict=True) for x in (*pair, math.inf) if not math.isnan(x))
            wrong.append((at, number, expected, got))
    if wrong:
        _, number, expected, got = min(wrong)
        raise AssertionError(
            f"{len(wrong)} of {len(records)} requests differ, first request {number}: (arrival, first, end) should be"
            f" {expected}, is {got}; {records[number]}"
        )


def _same(a: float, b: float, tolerance_s: float) -> bool:
    return abs(a - b) <= tolerance_s or (math.isnan(a) and math.isnan(b))


class Statistics(NamedTuple):
    """s, over requests that ended; batch = running requests averaged over busy time."""

    ttft_mean: float
    ttft_p99: float
    tbt_mean: float
    tbt_p99: float
    batch: float


BOUNDS = Statistics(0.02, 0.05, 0.02, 0.05, 0.05)
"""Issue: means within 2 %, p99 within 5 %, batch within 5 %"""


def times(result: Result) -> Times:
    """The reference's answer in the engine's form (requests that have not ended look like rejected ones)."""
    rows = [(r.request.arrival_s, r.first_s, r.end_s) for r in result.records]
    return Times(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)


def statistics(engine: EngineResult, requests: tuple[Request, ...], batch: float, warm_s: float = 0.0) -> Statistics:
    """TTFT = first - arrival and TBT = (end - first) / (output - 1) of the requests that came from `warm_s` on and ended."""
    output = np.array([r.output for r in requests])
    counted = ~np.isnan(engine.end_s) & (engine.arrival_s >= warm_s)
    ttft = (engine.first_s - engine.arrival_s)[counted]
    spoke = counted & (output > 1)
    tbt = (engine.end_s - engine.first_s)[spoke] / (output[spoke] - 1)
    return Statistics(
        float(ttft.mean()), float(np.percentile(ttft, 99)), float(tbt.mean()), float(np.percentile(tbt, 99)), batch
    )


def check_steady(expected: Statistics, got: Statistics) -> None:
    """AssertionError with every figure that is out of its bound."""
    error = [g / e - 1.0 for e, g in zip(expected, got, strict=True)]
    out = [f"{n} {x:+.2%}" for n, x, b in zip(Statistics._fields, error, BOUNDS, strict=True) if not abs(x) <= b]
    assert not out, f"off by {', '.join(out)}: {got}, should be {expected}"


def rate_per_s(point: Any, load: float) -> float:
    """Requests per s that keep the instance at about `load` of what it can do.

    Capacity: batches as full as limit and KV blocks allow, and a whole prefill (chunked: its tokens alone) for each request.
    """
    prompt = PROMPT_MEDIAN * math.exp(PROMPT_SIGMA**2 / 2)
    output = OUTPUT_MEDIAN * math.exp(OUTPUT_SIGMA**2 / 2)
    # Whoever is seen running is more likely a long answer: half of E[o^2]/E[o] tokens made so far.
    context = prompt + output / 2 * math.exp(OUTPUT_SIGMA**2)
    batch = min(float(point.batch_limit), point.kv_blocks * BLOCK_TOKENS / context)
    prefill_s = (0.0 if point.chunked else point.p0) + point.p1 * prompt
    return float(load / (prefill_s + output * (point.d0 / batch + point.d1 + point.d2 * context)))


def steady(point: Any, load: float, seconds: float, seed: int, low_share: float = 0.0) -> tuple[Request, ...]:
    """Poisson arrivals over `seconds` at `load` (share of capacity) with log-normal lengths of medians 1,020 in, 129 out."""
    random, rate = Random(seed), rate_per_s(point, load)
    requests: list[Request] = []
    at = random.expovariate(rate)
    while at < seconds:
        prompt = min(8192, max(1, round(random.lognormvariate(math.log(PROMPT_MEDIAN), PROMPT_SIGMA))))
        output = min(4096, max(1, round(random.lognormvariate(math.log(OUTPUT_MEDIAN), OUTPUT_SIGMA))))
        requests.append(Request(at, prompt, output, priority=int(random.random() < low_share)))
        at += random.expovariate(rate)
    return tuple(requests)
