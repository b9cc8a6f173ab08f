"""One serving instance, iteration by iteration, in plain Python: the definition that the twin's engine is held against.

It shares no code with the twin and is made to be read, not to be fast. Where a rule can be read in several ways, vLLM's way:

- An iteration begins when the last one ended, or at the next arrival. First those arrived by then join the queue; one is
  rejected if `queue_limit` requests wait at that moment (preempted ones count), or if its prompt and output can never fit.
- Prefill first: admit; what was admitted is prefilled whole. If nothing was, make room (preempt), then decode.
- Chunked: make room (preempt) for the decoding requests' next tokens; then prompts that have begun, in order of admission;
  then admit into what is left beside those next tokens, unless something was preempted in this iteration.
- A preempted request computes prompt + generated anew; the end of that prefill gives its next token.
- The clock of an iteration is the one in force at its beginning; a change at time t is in force at t.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

BLOCK_TOKENS = 16
Clock = Callable[[float], float]
Relative = Callable[[float], tuple[float, float]]


@dataclass(frozen=True)
class Request:
    arrival_s: float
    prompt: int
    output: int
    cached: int = 0  # tokens of the prompt whose keys and values are there already
    priority: int = 0  # 0 high, 1 low

    def __post_init__(self) -> None:
        if not (0 <= self.cached < self.prompt and self.output >= 1 and self.priority in (0, 1)):
            raise ValueError(f"no such request: {self}")


@dataclass(eq=False)
class Record:
    """A request's life. Times in s; None = not by the end of the run."""

    request: Request
    left: int  # tokens to compute before it decodes
    rejected: bool = False
    preemptions: int = 0
    generated: int = 0
    admitted_s: float | None = None  # beginning of the first iteration that it was part of
    first_s: float | None = None
    end_s: float | None = None

    @property
    def context(self) -> int:
        return self.request.prompt + self.generated


class Iteration(NamedTuple):
    start_s: float
    end_s: float
    kind: str  # "prefill", "decode" or "mixed"
    batch: int  # requests that decode
    chunk: int  # prompt tokens computed
    running: int  # requests admitted, decoding or not
    blocks: int  # held by them, with those of the tokens being made


Served = list[tuple[Record, int]]  # prompts of an iteration, and how many tokens of each it computes


@dataclass
class Result:
    """Sums run to `until_s` or, where that is infinite, to the last end; the log has the iterations that ended by then."""

    records: list[Record]
    iterations: list[Iteration] = field(default_factory=list)
    prefill_s: list[float] = field(default_factory=list)  # [second] busy in prefill; a mixed iteration counts as both,
    decode_s: list[float] = field(default_factory=list)  # [second] evenly in the ratio of its two parts
    busy_s: float = 0.0
    running_s: float = 0.0  # integral of the running requests over time
    span_s: float = 0.0

    @property
    def batch_busy(self) -> float:
        """Running requests, averaged over busy time."""
        return self.running_s / self.busy_s if self.busy_s else 0.0

    @property
    def batch_all(self) -> float:
        """Running requests, averaged over all time."""
        return self.running_s / self.span_s if self.span_s else 0.0


def steps(changes: Sequence[tuple[float, float]]) -> Clock:
    """The clock (MHz) at a time, from (s, MHz) in order of time; the first also holds before its time."""
    times = [at for at, _ in changes]
    return lambda t: changes[max(0, bisect_right(times, t) - 1)][1]


def simulate(
    point: Any,
    requests: Sequence[Request],
    until_s: float = math.inf,
    clock: Clock = lambda _: 1.0,
    relative: Relative = lambda _: (1.0, 1.0),
) -> Result:
    """What becomes of `requests` (in order of arrival) until `until_s`.

    `point` has p0 p1 p2 d0 d1 d2 (s), kv_blocks, batch_limit, token_budget, chunked, queue_limit; `clock(s)` is in MHz;
    `relative(MHz)` gives the factors of prefill and decode time.
    """
    if any(b.arrival_s < a.arrival_s for a, b in pairwise(requests)):
        raise ValueError("requests must come in order of arrival")
    result = Result([Record(request, request.prompt - request.cached) for request in requests])
    instance, coming, now = _Instance(point), deque(result.records), 0.0
    while now < until_s:
        instance.arrive(coming, now)
        if not instance.running and not any(instance.waiting):
            if not coming:
                break
            now = coming[0].request.arrival_s
            continue
        served = instance.chunked() if point.chunked else instance.prefill_first()
        decoding = [] if served and not point.chunked else [r for r in instance.running if r.left == 0]
        prefill_s, decode_s = _duration(point, decoding, served, relative(clock(now)))
        end = now + prefill_s + decode_s
        _account(result, now, min(end, until_s), prefill_s / (prefill_s + decode_s), len(instance.running))
        if end > until_s:
            break
        kind = "decode" if not served else "mixed" if decoding else "prefill"
        blocks = instance.needed() if decoding else instance.in_use()
        chunk = sum(part for _, part in served)
        result.iterations.append(Iteration(now, end, kind, len(decoding), chunk, len(instance.running), blocks))
        instance.finish(decoding, served, now, end)
        now = end
    instance.arrive(coming, until_s)
    result.span_s = until_s if until_s < math.inf else now
    return result


class _Instance:
    def __init__(self, point: Any):
        self.point = point
        self.running: list[Record] = []  # in order of admission
        self.waiting: tuple[deque[Record], deque[Record]] = (deque(), deque())  # by priority

    def arrive(self, coming: deque[Record], now: float) -> None:
        while coming and coming[0].request.arrival_s <= now:
            record = coming.popleft()
            never_fits = _blocks(record.request.prompt + record.request.output) > self.point.kv_blocks
            record.rejected = never_fits or sum(map(len, self.waiting)) >= self.point.queue_limit
            if not record.rejected:
                self.waiting[record.request.priority].append(record)

    def prefill_first(self) -> Served:
        """Whole prompts; none = decode."""
        served: Served = []
        budget = self.point.token_budget
        while (head := self.admissible(self.in_use())) and (not served or head.left <= budget):
            served.append(self.admit(head, head.left))
            budget -= head.left
        if not served:
            self.preempt()
        return served

    def chunked(self) -> Served:
        """Parts of prompts, beside the decoding requests' tokens."""
        preempted = self.preempt()
        budget = max(0, self.point.token_budget - sum(r.left == 0 for r in self.running))
        served: Served = []
        for record in [r for r in self.running if r.left > 0]:
            if budget > 0:
                served.append((record, min(record.left, budget)))
                budget -= served[-1][1]
        while budget > 0 and not preempted and (head := self.admissible(self.needed())):
            served.append(self.admit(head, min(head.left, budget)))
            budget -= served[-1][1]
        return served

    def in_use(self) -> int:
        """Blocks held: a prompt has the place of its first token from its admission on."""
        return sum(_blocks(r.context + (r.left > 0)) for r in self.running)

    def needed(self) -> int:
        """Blocks held once each decoding request has its next token."""
        return sum(_blocks(r.context + 1) for r in self.running)

    def admissible(self, used: int) -> Record | None:
        """The head of the queue if there is room for it; nobody overtakes a head that does not fit."""
        head = next((queue[0] for queue in self.waiting if queue), None)
        if head is None or len(self.running) >= self.point.batch_limit:
            return None
        return head if used + _blocks(head.context + 1) <= self.point.kv_blocks else None

    def admit(self, head: Record, part: int) -> tuple[Record, int]:
        self.running.append(self.waiting[head.request.priority].popleft())
        return head, part

    def preempt(self) -> bool:
        """Send requests back until the next tokens fit: low priority before high, then the newest first."""
        before = len(self.running)
        while self.needed() > self.point.kv_blocks:
            victim = max(reversed(self.running), key=lambda r: (r.request.priority, r.request.arrival_s))
            self.running.remove(victim)
            self.waiting[victim.request.priority].appendleft(victim)
            victim.left = victim.context
            victim.preemptions += 1
        return len(self.running) < before

    def finish(self, decoding: list[Record], served: Served, start: float, end: float) -> None:
        """The end of an iteration: tokens are there, and who has all of them leaves."""
        for record, part in served:
            record.admitted_s = start if record.admitted_s is None else record.admitted_s
            record.left -= part
        for record in decoding + [r for r, _ in served if r.left == 0]:
            record.generated += 1
            record.first_s = end if record.first_s is None else record.first_s
            record.end_s = end if record.generated == record.request.output else None
        self.running = [r for r in self.running if r.end_s is None]


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)


def _duration(point: Any, decoding: list[Record], served: Served, factors: tuple[float, float]) -> tuple[float, float]:
    """Seconds of an iteration's prefill part and decode part."""
    prefill_s = decode_s = 0.0
    if decoding:
        decode_s = point.d0 + point.d1 * len(decoding) + point.d2 * sum(r.context for r in decoding)
    if served:
        tokens = sum(part for _, part in served)
        done = [r.context - r.left for r, _ in served]
        spread = sum((d + part) ** 2 - d**2 for d, (_, part) in zip(done, served, strict=True))
        prefill_s = (0.0 if decoding else point.p0) + point.p1 * tokens + point.p2 * (spread if point.chunked else tokens**2)
    return prefill_s * factors[0], decode_s * factors[1]


def _account(result: Result, start: float, end: float, prefill_share: float, running: int) -> None:
    result.busy_s += end - start
    result.running_s += running * (end - start)
    while start < end:
        second, stop = int(start), min(end, int(start) + 1.0)
        for seconds, share in ((result.prefill_s, prefill_share), (result.decode_s, 1.0 - prefill_share)):
            seconds.extend([0.0] * (second + 1 - len(seconds)))
            seconds[second] += share * (stop - start)
        start = stop
