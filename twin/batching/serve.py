"""Iterations: what begins at a boundary, many decode steps at once in closed form, and what ends.

Between an arrival, a completion and the end of a slice the batch b does not change, and k decode steps from a context of ctx
tokens take k tau + d2 b k (k - 1) / 2 with tau = d0 + d1 b + d2 ctx."""

from math import sqrt

import numpy as np

from twin.batching.admit import blocks, blocks_bound, join, make_room, prompt_blocks, prompts
from twin.batching.book import Book, enter
from twin.batching.queue import MASK, REQUEST_BITS, into_line, next_in, release
from twin.batching.state import NOBODY, Instances, Log, Record, Records
from twin.compiled import bare, seldom


@seldom
def serve(s: Instances, points: Records, b: Book, log: Log, i: int, from_s: float, until_s: float, w: Records) -> None:
    """Bring instance i from `from_s` to `until_s` and add what it does to `w` [slices] WORK.

    All its arrivals before `until_s` must wait at it. An iteration keeps the clock it began with; what is in progress at
    `until_s` goes on in the next call.
    """
    h = s.inst[i]
    if h.decode_slow == np.inf:
        _halt(s, i, until_s)
        return
    while True:
        if h.busy:
            if h.end_s > until_s:
                _account(s, points, i, from_s, until_s, w)
                return
            _account(s, points, i, from_s, h.end_s, w)
            _finish(s, b, log, i)
        full = h.decoding == points[h.point].batch_limit  # nobody can be admitted before somebody leaves
        if h.decoding > 0 and h.fresh == 0 and (full or (h.blocked == 0 and h.soon_s > h.at_s)) and _roomy(s, points, i):
            _decode(s, points, b, log, i, from_s, until_s, np.inf if full else h.soon_s, w)
        elif h.decoding + h.fresh + h.blocked == 0 and min(h.soon_s, until_s) > h.at_s:
            h.at_s = min(h.soon_s, until_s)
        elif h.decoding + h.fresh == 0 and h.at_s >= until_s:
            return
        else:
            _begin(s, points, b, log, i, from_s, until_s, w)


@bare
def _roomy(s: Instances, points: Records, i: int) -> bool:
    """Whether the next token of every decoding request fits for certain."""
    return bool(blocks_bound(s, i, 1) + s.inst[i].prompt_blocks <= points[s.inst[i].point].kv_blocks)


@bare
def _halt(s: Instances, i: int, until_s: float) -> None:
    """No clock: what is in progress waits."""
    h = s.inst[i]
    if h.busy:
        h.end_s += until_s - h.seen_s
        h.seen_s = until_s
    else:
        h.at_s = until_s


@bare
def _account(s: Instances, points: Records, i: int, from_s: float, to_s: float, w: Records) -> None:
    """Count the iteration in progress up to `to_s`."""
    h = s.inst[i]
    seconds = to_s - h.seen_s
    share = 1.0 if h.prefill_part_s == 0.0 else h.decode_part_s / (h.decode_part_s + h.prefill_part_s)
    load = share * h.decoding / (h.decoding + points[h.point].decode_half_batch)
    _spread(w, h.seen_s - from_s, seconds, share, load)
    h.batch_s += seconds * (h.decoding + h.fresh)
    h.busy_s += seconds
    h.seen_s = to_s


@bare
def _spread(w: Records, at_s: float, seconds: float, share: float, load: float) -> None:
    """Add `seconds` of work from `at_s` after the slices' beginning to the slices in which they lie."""
    k = int(at_s)
    while at_s + seconds > k + 1.0 and k + 1 < len(w):
        part_s = k + 1.0 - at_s
        _add(w[k], part_s, share, load)
        seconds -= part_s
        at_s = k + 1.0
        k += 1
    _add(w[k], seconds, share, load)


@bare
def _add(here: Record, seconds: float, share: float, load: float) -> None:
    here.decode_s += seconds * share
    here.prefill_s += seconds * (1.0 - share)
    here.load_s += seconds * load


@bare
def _finish(s: Instances, b: Book, log: Log, i: int) -> None:
    """End the iteration in progress."""
    h = s.inst[i]
    h.at_s = h.end_s
    h.busy = 0
    if h.steps:
        h.iteration += 1
        h.context += h.decoding
        h.made_tokens += h.decoding
        _complete(s, b, log, i)
    if h.fresh > 0:
        _first_tokens(s, b, log, i)


@bare
def _complete(s: Instances, b: Book, log: Log, i: int) -> None:
    """Let go the requests whose last token is there."""
    h = s.inst[i]
    while h.decoding > 0 and s.due[i, h.decoding - 1] >> REQUEST_BITS == h.iteration:
        h.decoding -= 1
        k = s.due[i, h.decoding] & MASK
        h.context -= s.requests[k].prompt + s.requests[k].output
        _leave(s, b, log, i, k)


@bare
def _leave(s: Instances, b: Book, log: Log, i: int, k: int) -> None:
    h, r = s.inst[i], s.requests[k]
    h.finished += 1
    h.prompt_tokens += r.prompt
    h.output_tokens += r.output
    enter(s, b, log, i, k, h.at_s)
    release(s, k)


@bare
def _first_tokens(s: Instances, b: Book, log: Log, i: int) -> None:
    """Whole prompts have a token more, and decode from now on."""
    h = s.inst[i]
    k = int(h.fresh_first)
    for _ in range(h.fresh - h.partial):
        r = s.requests[k]
        following = int(r.next)
        if r.first_s != r.first_s:
            r.first_s = h.at_s
        made = r.made + 1
        h.made_tokens += 1
        if made == r.output:
            _leave(s, b, log, i, k)
        else:
            into_line(s, i, k, r.output - made)
            h.context += r.prompt + made
        k = following
    h.fresh = h.partial
    h.fresh_first = k
    h.prompt_blocks = prompt_blocks(s.requests[k]) if h.partial else 0
    h.partial = 0


@bare
def _begin(s: Instances, points: Records, b: Book, log: Log, i: int, from_s: float, until_s: float, w: Records) -> None:
    """Begin what follows the boundary: a prefill, a mixed iteration, decode steps up to the next event, or a sleep."""
    h = s.inst[i]
    p = points[h.point]
    join(s, points, b, log, i)
    preempted = p.chunked and not _roomy(s, points, i) and make_room(s, points, i)
    tokens, work = prompts(s, points, i, preempted)
    if tokens == 0 and not p.chunked and not _roomy(s, points, i):
        preempted = make_room(s, points, i)
    h.blocked = 1 if next_in(s, i) != NOBODY else 0
    if tokens > 0:
        with_decode = p.chunked and h.decoding > 0
        h.steps = 1 if with_decode else 0
        h.decode_part_s = h.decode_slow * (p.d0 + p.d1 * h.decoding + p.d2 * h.context) if with_decode else 0.0
        h.prefill_part_s = h.prefill_slow * ((0.0 if with_decode else p.p0) + p.p1 * tokens + p.p2 * work)
        h.computed_tokens += tokens
        _start(s, i)
    elif h.decoding > 0:
        _decode(s, points, b, log, i, from_s, until_s, h.at_s if preempted else h.soon_s, w)  # the next may admit again


@bare
def _start(s: Instances, i: int) -> None:
    h = s.inst[i]
    h.busy = 1
    h.seen_s = h.at_s
    h.end_s = h.at_s + h.decode_part_s + h.prefill_part_s


@seldom
def _steps_that_fit(s: Instances, points: Records, i: int) -> int:
    """Decode steps for which the KV cache is sure to have room: the next one, and what its free blocks allow."""
    h = s.inst[i]
    return int(1 + (points[h.point].kv_blocks - h.prompt_blocks - blocks(s, i, 1)) // h.decoding)


@bare
def steps_within(tau_s: float, growth_s: float, seconds: float) -> int:
    """The most decode steps k >= 0 with k tau + growth k (k - 1) / 2 <= seconds."""
    linear = tau_s - 0.5 * growth_s
    if growth_s == 0.0:
        k = int(seconds / tau_s)
    else:
        k = int(2.0 * seconds / (linear + sqrt(linear * linear + 2.0 * growth_s * seconds)))
    while k > 0 and k * tau_s + growth_s * (0.5 * k * (k - 1)) > seconds:
        k -= 1
    while (k + 1) * tau_s + growth_s * (0.5 * (k + 1) * k) <= seconds:
        k += 1
    return k


@bare
def _decode(
    s: Instances, points: Records, b: Book, log: Log, i: int, from_s: float, until_s: float, soon_s: float, w: Records
) -> None:
    """Take decode steps up to the next completion, arrival or shortage of blocks, the last of them perhaps in progress."""
    h = s.inst[i]
    p = points[h.point]
    n = h.decoding
    tau_s = h.decode_slow * (p.d0 + p.d1 * n + p.d2 * h.context)
    growth_s = h.decode_slow * p.d2 * n
    k = (s.due[i, n - 1] >> REQUEST_BITS) - h.iteration
    if blocks_bound(s, i, k) + h.prompt_blocks > p.kv_blocks:
        k = min(k, _steps_that_fit(s, points, i))
    left_s = until_s - h.at_s
    whole_s = k * tau_s + growth_s * (0.5 * k * (k - 1))
    if soon_s < until_s and whole_s > soon_s - h.at_s:
        k = min(k, 1 + steps_within(tau_s, growth_s, soon_s - h.at_s))
        whole_s = k * tau_s + growth_s * (0.5 * k * (k - 1))
    whole = k
    if whole_s > left_s:
        whole = min(k - 1, steps_within(tau_s, growth_s, left_s))
        whole_s = whole * tau_s + growth_s * (0.5 * whole * (whole - 1))
    if whole > 0:
        _spread(w, h.at_s - from_s, whole_s, 1.0, n / (n + p.decode_half_batch))
        h.at_s += whole_s
        h.iteration += whole
        h.context += whole * n
        h.made_tokens += whole * n
        h.batch_s += whole_s * (n + h.fresh)
        h.busy_s += whole_s
        _complete(s, b, log, i)
    if whole < k:
        h.steps = 1
        h.decode_part_s = tau_s + growth_s * whole
        h.prefill_part_s = 0.0
        _start(s, i)
