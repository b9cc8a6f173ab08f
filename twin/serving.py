"""Instances that serve requests: continuous batching, every iteration and every request simulated.

Like vLLM's first scheduler: waiting prompts go first, as many as fit the token budget and the batch limit, and decoding waits
meanwhile; otherwise one decode step gives every running request a token."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin import calibration as c
from twin.compiled import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

IDLE, PREFILL, DECODE = 0, 1, 2
DONE_LIMIT = 65_536
_LAT = c.H100_TP8_2023


class Instances(NamedTuple):
    """State of I instances with B slots and a queue of Q each. Times are seconds from the run's start."""

    at_s: Floats
    """[I] simulated so far"""
    kind: Ints
    """[I] the iteration in progress"""
    end_s: Floats
    """[I] and when it ends"""
    running: Ints
    """[I] slots in use: 0 .. running - 1; the last `fresh` are in prefill"""
    fresh: Ints
    context: Ints
    """[I] tokens held by running requests"""
    slot_left: Ints
    """[I, B] output tokens to come"""
    slot_context: Ints
    slot_arrival_s: Floats
    slot_first_s: Floats
    slot_prompt: Ints
    slot_output: Ints
    head: Ints
    """[I] first of the queue"""
    waiting: Ints
    """[I] length of the queue"""
    queue_arrival_s: Floats
    """[I, Q]"""
    queue_prompt: Ints
    queue_output: Ints
    credit: Floats
    """[I] of the weighted round robin"""


class Work(NamedTuple):
    """What each instance did since the counters were cleared; tokens and requests count up for ever."""

    prefill_s: Floats
    """[I] seconds in prefill"""
    decode_s: Floats
    """[I] seconds in decode"""
    decode_load_s: Floats
    """[I] integral of b / (b + 137) over decode"""
    arrived: Ints
    rejected: Ints
    finished: Ints
    prompt_tokens: Ints
    output_tokens: Ints


class Done(NamedTuple):
    """Requests that ended, in order of instance and time; `total[0]` of them."""

    total: Ints
    instance: Ints
    arrival_s: Floats
    first_s: Floats
    """NaN = rejected"""
    end_s: Floats
    prompt: Ints
    output: Ints


def instances(count: int, batch: int, queue: int, at_s: float) -> Instances:
    """Return `count` empty instances that stand at `at_s`."""

    def ints(*shape: int) -> Ints:
        return np.zeros(shape, dtype=np.int64)

    def floats(*shape: int) -> Floats:
        return np.zeros(shape)

    return Instances(
        at_s=np.full(count, at_s),
        kind=ints(count),
        end_s=floats(count),
        running=ints(count),
        fresh=ints(count),
        context=ints(count),
        slot_left=ints(count, batch),
        slot_context=ints(count, batch),
        slot_arrival_s=floats(count, batch),
        slot_first_s=floats(count, batch),
        slot_prompt=ints(count, batch),
        slot_output=ints(count, batch),
        head=ints(count),
        waiting=ints(count),
        queue_arrival_s=floats(count, queue),
        queue_prompt=ints(count, queue),
        queue_output=ints(count, queue),
        credit=floats(count),
    )


def work(count: int) -> Work:
    """Return cleared counters."""

    def ints() -> Ints:
        return np.zeros(count, dtype=np.int64)

    return Work(
        prefill_s=np.zeros(count),
        decode_s=np.zeros(count),
        decode_load_s=np.zeros(count),
        arrived=ints(),
        rejected=ints(),
        finished=ints(),
        prompt_tokens=ints(),
        output_tokens=ints(),
    )


def done() -> Done:
    """Return room for the requests that end within one step."""
    n = DONE_LIMIT
    return Done(
        np.zeros(1, dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n, dtype=np.int64),
        np.zeros(n, dtype=np.int64),
    )


@kernel
def relative_time(mhz: float, table: Floats, beta: float) -> float:
    """Time of an iteration at `mhz` relative to the highest clock: the table down to 800 MHz, below it the beta rule."""
    if mhz < c.CLOCK_MHZ[0]:
        return (1.0 - beta) + beta * c.MAX_MHZ / mhz
    return float(np.interp(mhz, c.CLOCK_MHZ, table))


@kernel
def route(s: Instances, w: Work, d: Done, at_s: Floats, endpoint: Ints, prompt: Ints, output: Ints, weights: Floats,
          first: Ints, members: Ints) -> None:  # fmt: skip
    """Give each arrival to an instance of its endpoint by smooth weighted round robin: the weights decide the shares.

    `members[first[e] : first[e + 1]]` are endpoint e's instances; weights [I] sum to 1 within an endpoint. Without any
    weight, or where the queue is full, the request is rejected.
    """
    room = s.queue_arrival_s.shape[1]
    for k in range(len(at_s)):
        e = endpoint[k]
        best = -1
        for j in range(first[e], first[e + 1]):
            i = members[j]
            if weights[i] > 0.0:
                s.credit[i] += weights[i]
                if best < 0 or s.credit[i] > s.credit[best]:
                    best = i
        if best >= 0:
            s.credit[best] -= 1.0
            w.arrived[best] += 1
        if best < 0 or s.waiting[best] >= room:
            i = best if best >= 0 else members[first[e]]
            w.rejected[i] += 1
            _end(d, i, at_s[k], np.nan, at_s[k], prompt[k], output[k])
            continue
        tail = (s.head[best] + s.waiting[best]) % room
        s.queue_arrival_s[best, tail] = at_s[k]
        s.queue_prompt[best, tail] = prompt[k]
        s.queue_output[best, tail] = output[k]
        s.waiting[best] += 1


@kernel
def serve(s: Instances, w: Work, d: Done, until_s: float, clock_mhz: Floats, prefill_tokens: int) -> None:
    """Bring all instances to `until_s` at their clocks [I] (0 = halted). An iteration keeps the clock it began with."""
    for i in range(len(s.at_s)):
        if clock_mhz[i] <= 0.0:
            s.at_s[i] = until_s
            if s.kind[i] != IDLE:
                s.end_s[i] = max(s.end_s[i], until_s)
            continue
        prefill_slow = relative_time(clock_mhz[i], c.PREFILL_TIME, c.PREFILL_BETA)
        decode_slow = relative_time(clock_mhz[i], c.DECODE_TIME, c.DECODE_BETA)
        while s.at_s[i] < until_s:
            if s.kind[i] != IDLE:
                _progress(s, w, i, until_s)
                if s.end_s[i] <= s.at_s[i]:
                    _finish(s, w, d, i)
            elif not _admit(s, i, prefill_tokens, prefill_slow):
                if s.running[i] > 0:
                    s.kind[i] = DECODE
                    s.end_s[i] = s.at_s[i] + decode_slow * (_LAT.d0 + _LAT.d1 * s.running[i] + _LAT.d2 * s.context[i])
                elif s.waiting[i] > 0 and s.queue_arrival_s[i, s.head[i]] < until_s:
                    s.at_s[i] = s.queue_arrival_s[i, s.head[i]]
                else:
                    s.at_s[i] = until_s


@kernel
def _progress(s: Instances, w: Work, i: int, until_s: float) -> None:
    stop_s = min(s.end_s[i], until_s)
    seconds = stop_s - s.at_s[i]
    if s.kind[i] == PREFILL:
        w.prefill_s[i] += seconds
    else:
        w.decode_s[i] += seconds
        w.decode_load_s[i] += seconds * s.running[i] / (s.running[i] + c.DECODE_HALF_BATCH)
    s.at_s[i] = stop_s


@kernel
def _admit(s: Instances, i: int, prefill_tokens: int, slow: float) -> bool:
    """Begin a prefill with what has arrived and fits; False when there is nothing."""
    room, slots = s.queue_arrival_s.shape[1], s.slot_left.shape[1]
    tokens = 0
    fresh = 0
    while s.waiting[i] > 0 and s.running[i] < slots:
        h = s.head[i]
        n = s.queue_prompt[i, h]
        if s.queue_arrival_s[i, h] > s.at_s[i] or (fresh > 0 and tokens + n > prefill_tokens):
            break
        k = s.running[i]
        s.slot_arrival_s[i, k] = s.queue_arrival_s[i, h]
        s.slot_prompt[i, k] = n
        s.slot_output[i, k] = s.queue_output[i, h]
        s.slot_left[i, k] = s.queue_output[i, h]
        s.slot_context[i, k] = n
        tokens += n
        fresh += 1
        s.running[i] += 1
        s.waiting[i] -= 1
        s.head[i] = (h + 1) % room
    if fresh == 0:
        return False
    s.fresh[i] = fresh
    s.context[i] += tokens
    s.kind[i] = PREFILL
    s.end_s[i] = s.at_s[i] + slow * (_LAT.p0 + _LAT.p1 * tokens + _LAT.p2 * tokens * tokens)
    return True


@kernel
def _finish(s: Instances, w: Work, d: Done, i: int) -> None:
    """The iteration has ended: tokens appear, requests that have all theirs leave."""
    first = s.running[i] - s.fresh[i] if s.kind[i] == PREFILL else 0
    prefill = s.kind[i] == PREFILL
    for k in range(s.running[i] - 1, first - 1, -1):
        s.slot_left[i, k] -= 1
        s.slot_context[i, k] += 1
        s.context[i] += 1
        w.output_tokens[i] += 1
        if prefill:
            s.slot_first_s[i, k] = s.end_s[i]
            w.prompt_tokens[i] += s.slot_prompt[i, k]
        if s.slot_left[i, k] <= 0:
            _leave(s, w, d, i, k)
    s.fresh[i] = 0
    s.kind[i] = IDLE


@kernel
def _leave(s: Instances, w: Work, d: Done, i: int, k: int) -> None:
    w.finished[i] += 1
    _end(d, i, s.slot_arrival_s[i, k], s.slot_first_s[i, k], s.end_s[i], s.slot_prompt[i, k], s.slot_output[i, k])
    s.context[i] -= s.slot_context[i, k]
    last = s.running[i] - 1
    s.slot_left[i, k] = s.slot_left[i, last]
    s.slot_context[i, k] = s.slot_context[i, last]
    s.slot_arrival_s[i, k] = s.slot_arrival_s[i, last]
    s.slot_first_s[i, k] = s.slot_first_s[i, last]
    s.slot_prompt[i, k] = s.slot_prompt[i, last]
    s.slot_output[i, k] = s.slot_output[i, last]
    s.running[i] = last


@kernel
def _end(d: Done, i: int, arrival_s: float, first_s: float, end_s: float, prompt: int, output: int) -> None:
    n = d.total[0]
    d.total[0] = n + 1
    if n < len(d.instance):  # the caller raises when the total exceeds the room
        d.instance[n] = i
        d.arrival_s[n] = arrival_s
        d.first_s[n] = first_s
        d.end_s[n] = end_s
        d.prompt[n] = prompt
        d.output[n] = output
