"""Requests on their way: the pool that they come from, the two queues of an instance, the line of those that decode.

A line in order beats a heap: who ends next stands at its end and is gone at once, and with a few dozen requests it is
cheaper to move half of them up than to guess a way through a tree."""

import numpy as np

from twin.batching.state import NOBODY, Instances
from twin.compiled import bare

REQUEST_BITS = 32
MASK = (1 << REQUEST_BITS) - 1


@bare
def taken(s: Instances) -> int:
    """Take a request's place from the pool."""
    s.pool[2] += 1
    k = s.pool[0]
    if k == NOBODY:
        k = s.pool[1]
        s.pool[1] = k + 1
    else:
        s.pool[0] = s.requests[k].next
    return int(k)


@bare
def release(s: Instances, k: int) -> None:
    """Give a request's place back."""
    s.requests[k].next = s.pool[0]
    s.pool[0] = k
    s.pool[2] -= 1


@bare
def put_last(s: Instances, i: int, k: int) -> None:
    """Let request k wait behind those of its priority."""
    h = s.inst[i]
    s.requests[k].next = NOBODY
    if s.requests[k].high:
        if h.waiting_high:
            s.requests[h.last_high].next = k
        else:
            h.first_high = k
        h.last_high = k
        h.waiting_high += 1
    else:
        if h.waiting_low:
            s.requests[h.last_low].next = k
        else:
            h.first_low = k
        h.last_low = k
        h.waiting_low += 1


@bare
def put_first(s: Instances, i: int, k: int) -> None:
    """Let request k wait before those of its priority."""
    h = s.inst[i]
    if s.requests[k].high:
        s.requests[k].next = h.first_high if h.waiting_high else NOBODY
        h.last_high = h.last_high if h.waiting_high else k
        h.first_high = k
        h.waiting_high += 1
    else:
        s.requests[k].next = h.first_low if h.waiting_low else NOBODY
        h.last_low = h.last_low if h.waiting_low else k
        h.first_low = k
        h.waiting_low += 1


@bare
def put_coming(s: Instances, i: int, k: int) -> None:
    """Let request k come to the instance at its time; it is not before those that come already."""
    h = s.inst[i]
    s.requests[k].next = NOBODY
    if h.coming:
        s.requests[h.last_coming].next = k
    else:
        h.first_coming = k
        h.soon_s = s.requests[k].arrival_s
    h.last_coming = k
    h.coming += 1


@bare
def come(s: Instances, i: int) -> int:
    """Take the first of those that come; the instance's boundary has reached its time."""
    h = s.inst[i]
    k = int(h.first_coming)
    h.first_coming = s.requests[k].next
    h.coming -= 1
    h.soon_s = s.requests[h.first_coming].arrival_s if h.coming else np.inf
    return k


@bare
def next_in(s: Instances, i: int) -> int:
    """The waiting request that is to be admitted next; NOBODY = none."""
    h = s.inst[i]
    if h.waiting_high > 0:
        return int(h.first_high)
    return int(h.first_low) if h.waiting_low > 0 else NOBODY


@bare
def to_fresh(s: Instances, i: int, k: int) -> None:
    """Move the first of a queue among the fresh."""
    h = s.inst[i]
    r = s.requests[k]
    if r.high:
        h.first_high = r.next
        h.waiting_high -= 1
    else:
        h.first_low = r.next
        h.waiting_low -= 1
    r.next = NOBODY
    if h.fresh:
        s.requests[h.fresh_last].next = k
    else:
        h.fresh_first = k
    h.fresh_last = k
    h.fresh += 1


@bare
def into_line(s: Instances, i: int, k: int, steps: int) -> None:
    """Let request k decode for `steps` more iterations."""
    h, line = s.inst[i], s.due[i]
    value = (h.iteration + steps) << REQUEST_BITS | k
    j = h.decoding
    while j > 0 and line[j - 1] < value:
        line[j] = line[j - 1]
        j -= 1
    line[j] = value
    h.decoding += 1


@bare
def out_of_line(s: Instances, i: int, j: int) -> None:
    """Take position j out of the line; its request keeps its place."""
    h, line = s.inst[i], s.due[i]
    h.decoding -= 1
    while j < h.decoding:
        line[j] = line[j + 1]
        j += 1
