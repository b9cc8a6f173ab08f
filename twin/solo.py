"""One instance alone, every iteration exact: for profiles and tables of configurations, not for fleets.

The semantics are the engine's (`twin.batching`) with one priority, an endless queue, nothing cached and a clock that stays.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.compiled import kernel
from twin.points import BLOCK_TOKENS, DECODE, PREFILL, Point, relative_power, relative_time, table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Arrivals(NamedTuple):
    """Requests of one instance in order of arrival; [n] each."""

    at_s: Floats
    prompt: Ints
    output: Ints


class Served(NamedTuple):
    """What became of them. A request that can never fit has infinite times."""

    first_s: Floats
    """the first token's time [n]"""
    end_s: Floats
    energy_j: float
    """of one GPU, from the first arrival to the last end"""
    prefill_s: float
    """busy in prefill"""
    decode_s: float
    batch: float
    """mean of decoding requests over decode time"""
    span_s: float
    """from the first arrival to the last end"""


class _Lane(NamedTuple):
    at_s: Floats
    prompt: Ints
    output: Ints
    left: Ints  # tokens to compute before it decodes
    made: Ints  # tokens generated
    running: Ints  # requests in order of admission
    parts: Ints  # tokens computed in this iteration, beside `running`
    again: Ints  # preempted requests, the last comes first
    n: Ints  # running, next arrival, preempted


_RUNNING, _NEXT, _AGAIN = 0, 1, 2
_ENERGY, _PREFILL_S, _DECODE_S, _BATCH, _SPAN = range(5)


def serve(point: Point, arrivals: Arrivals, mhz: float) -> Served:
    """Serve all arrivals to the end. ValueError when they are out of order."""
    if np.any(np.diff(arrivals.at_s) < 0):
        raise ValueError("arrivals are out of order")
    count, limit = len(arrivals.at_s), point.batch_limit
    shapes = (count, count, limit, limit, count, 3)
    lane = _Lane(*arrivals, *(np.zeros(size, np.int64) for size in shapes))
    first_s, end_s, sums = np.full(count, np.inf), np.full(count, np.inf), np.zeros(5)
    _serve(lane, table([point])[0], mhz, first_s, end_s, sums)
    decode_s = float(sums[_DECODE_S])
    batch = float(sums[_BATCH]) / decode_s if decode_s else 0.0
    return Served(first_s, end_s, float(sums[_ENERGY]), float(sums[_PREFILL_S]), decode_s, batch, float(sums[_SPAN]))


@kernel
def _serve(lane: _Lane, p: Any, mhz: float, first_s: Floats, end_s: Floats, sums: Floats) -> None:
    begin = lane.at_s[0] if len(lane.at_s) else 0.0
    now = begin
    while True:
        if lane.n[_RUNNING] == 0 and _head(lane, p, now) < 0:
            if lane.n[_NEXT] == len(lane.at_s):
                break
            sums[_ENERGY] += (lane.at_s[lane.n[_NEXT]] - now) * p.loaded_w
            now = lane.at_s[lane.n[_NEXT]]
        tokens = _chunked(lane, p, now) if p.chunked else _prefill_first(lane, p, now)
        if tokens > 0:
            now += _run(lane, p, mhz, tokens, sums)
            _finish(lane, now, 1 if p.chunked else 0, first_s, end_s)
        else:
            steps, now = _decode(lane, p, mhz, now, _most(lane, p, now), sums)
            _finish(lane, now, steps, first_s, end_s)
    sums[_SPAN] = now - begin


@kernel
def _blocks(tokens: int) -> int:
    return (tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS


@kernel
def _used(lane: _Lane, more: int) -> int:
    """Blocks held, with `more` tokens for each request that decodes; a prompt has the place of its first token at once."""
    total = 0
    for j in range(lane.n[_RUNNING]):
        r = lane.running[j]
        total += _blocks(lane.prompt[r] + lane.made[r] + (1 if lane.left[r] > 0 else more))
    return total


@kernel
def _head(lane: _Lane, p: Any, now: float) -> int:
    """The request next in line at a time, or -1; who can never fit is passed over."""
    if lane.n[_AGAIN] > 0:
        return int(lane.again[lane.n[_AGAIN] - 1])
    while lane.n[_NEXT] < len(lane.at_s) and _blocks(lane.prompt[lane.n[_NEXT]] + lane.output[lane.n[_NEXT]]) > p.kv_blocks:
        lane.n[_NEXT] += 1
    r = lane.n[_NEXT]
    return int(r) if r < len(lane.at_s) and lane.at_s[r] <= now else -1


@kernel
def _admit(lane: _Lane, r: int, part: int) -> None:
    lane.n[_AGAIN if lane.n[_AGAIN] > 0 else _NEXT] += -1 if lane.n[_AGAIN] > 0 else 1
    lane.left[r] = lane.prompt[r] + lane.made[r]
    lane.running[lane.n[_RUNNING]] = r
    lane.parts[lane.n[_RUNNING]] = part
    lane.n[_RUNNING] += 1


@kernel
def _prefill_first(lane: _Lane, p: Any, now: float) -> int:
    """Admit whole prompts; 0 = none, so that this iteration decodes."""
    r = _head(lane, p, now)
    used, tokens = _used(lane, 0) if r >= 0 else 0, 0
    while r >= 0 and lane.n[_RUNNING] < p.batch_limit:
        whole = lane.prompt[r] + lane.made[r]
        used += _blocks(whole + 1)
        if used > p.kv_blocks or (tokens > 0 and tokens + whole > p.token_budget):
            break
        _admit(lane, r, whole)
        tokens += whole
        r = _head(lane, p, now)
    if tokens == 0:
        _make_room(lane, p)
    return tokens


@kernel
def _chunked(lane: _Lane, p: Any, now: float) -> int:
    """Give what the decoding requests leave of the budget to prompts in order; return the tokens given."""
    preempted = _make_room(lane, p)
    budget = p.token_budget
    for j in range(lane.n[_RUNNING]):
        budget -= 1 if lane.left[lane.running[j]] == 0 else 0
    given = 0
    for j in range(lane.n[_RUNNING]):
        lane.parts[j] = max(0, min(lane.left[lane.running[j]], budget - given))
        given += lane.parts[j]
    r = -1 if preempted or given >= budget else _head(lane, p, now)
    used = _used(lane, 1) if r >= 0 else 0
    while r >= 0 and lane.n[_RUNNING] < p.batch_limit and given < budget:
        whole = lane.prompt[r] + lane.made[r]
        used += _blocks(whole + 1)
        if used > p.kv_blocks:
            break
        part = min(whole, budget - given)
        _admit(lane, r, part)
        given += part
        r = _head(lane, p, now)
    return given


@kernel
def _make_room(lane: _Lane, p: Any) -> bool:
    """Send the newest requests back to the queue until the next tokens fit."""
    preempted = False
    while lane.n[_RUNNING] > 1 and _used(lane, 1) > p.kv_blocks:
        newest = 0
        for j in range(lane.n[_RUNNING]):
            if lane.running[j] > lane.running[newest]:
                newest = j
        lane.again[lane.n[_AGAIN]] = lane.running[newest]
        lane.n[_AGAIN] += 1
        lane.n[_RUNNING] -= 1
        for j in range(newest, lane.n[_RUNNING]):
            lane.running[j] = lane.running[j + 1]
        preempted = True
    return preempted


@kernel
def _most(lane: _Lane, p: Any, now: float) -> int:
    """Decode steps until something else can happen, but for an arrival: the first end, or the KV cache full."""
    if lane.n[_RUNNING] < p.batch_limit and _head(lane, p, now) >= 0:
        return 1
    steps = np.int64(1 << 62)
    for j in range(lane.n[_RUNNING]):
        r = lane.running[j]
        if lane.left[r] > 0:
            return 1
        steps = min(steps, lane.output[r] - lane.made[r])
    room = (p.kv_blocks - _used(lane, 1)) // lane.n[_RUNNING] * BLOCK_TOKENS
    return int(max(1, min(steps, room)))


@kernel
def _decode(lane: _Lane, p: Any, mhz: float, now: float, most: int, sums: Floats) -> tuple[int, float]:
    """Account for up to `most` decode steps, ended by an arrival that could be admitted; return the steps and their end."""
    batch, context = 0, 0
    for j in range(lane.n[_RUNNING]):
        r = lane.running[j]
        if lane.left[r] == 0:
            batch += 1
            context += lane.prompt[r] + lane.made[r]
    arrival = np.inf
    if lane.n[_RUNNING] < p.batch_limit and lane.n[_NEXT] < len(lane.at_s):
        arrival = lane.at_s[lane.n[_NEXT]]
    slow, begin, steps = relative_time(p, mhz, DECODE), now, 0
    while steps < most and (steps == 0 or now < arrival):
        now += (p.d0 + p.d1 * batch + p.d2 * context) * slow
        context += batch
        steps += 1
    decode_w = p.decode_base_w + p.decode_span_w * batch / (batch + p.decode_half_batch)
    sums[_ENERGY] += (now - begin) * decode_w * relative_power(p, mhz)
    sums[_DECODE_S] += now - begin
    sums[_BATCH] += (now - begin) * batch
    return steps, now


@kernel
def _run(lane: _Lane, p: Any, mhz: float, tokens: int, sums: Floats) -> float:
    """Account for an iteration with prompts (chunked: decoding requests beside them); return its s."""
    batch, context, squares = 0, 0, 0.0
    for j in range(lane.n[_RUNNING]):
        r = lane.running[j]
        length = lane.prompt[r] + lane.made[r]
        if lane.left[r] == 0:
            batch += 1
            context += length
        else:
            done = float(length - lane.left[r])
            squares += (done + lane.parts[j]) ** 2 - done**2
    if not p.chunked:
        batch, squares = 0, float(tokens) ** 2
    decode_s = (p.d0 + p.d1 * batch + p.d2 * context) * relative_time(p, mhz, DECODE) if batch > 0 else 0.0
    prefill_s = ((0.0 if batch > 0 else p.p0) + p.p1 * tokens + p.p2 * squares) * relative_time(p, mhz, PREFILL)
    decode_w = p.decode_base_w + p.decode_span_w * batch / (batch + p.decode_half_batch)
    sums[_ENERGY] += (prefill_s * p.prefill_w + decode_s * decode_w) * relative_power(p, mhz)
    sums[_PREFILL_S] += prefill_s
    sums[_DECODE_S] += decode_s
    sums[_BATCH] += decode_s * batch
    return float(prefill_s + decode_s)


@kernel
def _finish(lane: _Lane, now: float, steps: int, first_s: Floats, end_s: Floats) -> None:
    """The end of one iteration, or of `steps` decode steps: tokens are there, and who has all of them leaves."""
    kept = 0
    for j in range(lane.n[_RUNNING]):
        r = lane.running[j]
        if lane.left[r] == 0:
            lane.made[r] += steps
        else:
            lane.left[r] -= lane.parts[j]
            lane.made[r] += 1 if lane.left[r] == 0 else 0
            if lane.made[r] == 1 and lane.left[r] == 0:
                first_s[r] = now
        lane.parts[j] = 0
        if lane.made[r] == lane.output[r]:
            end_s[r] = now
        else:
            lane.running[kept] = r
            kept += 1
    lane.n[_RUNNING] = kept
