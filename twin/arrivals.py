"""Requests of one minute, endpoint by endpoint: drawn by a kernel, one generator per minute."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.batching.state import Records
from twin.compiled import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ints32 = NDArray[np.int32]
ASKED = np.dtype(
    [
        ("at_s", np.float64),
        ("prompt", np.int32),
        ("output", np.int32),
        ("cached", np.int32),  # prompt tokens that a prefix cache holds
    ],
    align=True,
)
"""a request, in one place of memory: they are served in another order than they are drawn"""


class Arrivals(NamedTuple):
    """Requests by time. Times are seconds from the run's start."""

    at_s: Floats
    endpoint: Ints
    prompt: Ints
    output: Ints


class Block(NamedTuple):
    """The requests of one minute: those of endpoint e are `first[e]` to `first[e + 1]`, by time."""

    first: Ints
    """[E + 1]"""
    rows: Records
    """ASKED"""


class Lengths(NamedTuple):
    """Samples of token lengths: endpoint e draws rows `first[e]` to `first[e] + size[e]`."""

    first: Ints
    size: Ints
    prompt: Ints32
    output: Ints32
    cached_share: Floats
    """[E] mean share of the prompt that a prefix cache holds; a request's own share is uniform up to twice that"""


def empty(endpoints: int, room: int) -> Block:
    """Return a block with room for so many requests."""
    return Block(np.zeros(endpoints + 1, dtype=np.int64), np.empty(room, dtype=ASKED))


def by_endpoint(arrivals: Arrivals, endpoints: int) -> Block:
    """Return given arrivals (by time) as a block; nothing is cached."""
    order = np.argsort(arrivals.endpoint, kind="stable")
    rows = np.zeros(len(order), dtype=ASKED)
    for name in ("at_s", "prompt", "output"):
        rows[name] = getattr(arrivals, name)[order]
    return Block(np.searchsorted(arrivals.endpoint[order], np.arange(endpoints + 1)).astype(np.int64), rows)


def draw(rng: np.random.Generator, start_s: float, rates: Floats, excess: float, lengths: Lengths) -> Block:
    """Draw the requests of T seconds from `start_s` on at `rates` [T, E]: a Cox process.

    Each second's rate bears gamma noise of mean 1 that gives counts the index of dispersion 1 + excess.
    """
    expected = float(rates.sum())
    state = rng.bit_generator.state
    room = int(1.2 * expected + 20.0 * np.sqrt((1.0 + excess) * expected)) + 1000
    while True:
        block = empty(rates.shape[1], room)
        count = _draw(rng, start_s, rates, excess, lengths, block)
        if count <= room:
            return Block(block.first, block.rows[:count])
        rng.bit_generator.state = state  # the same draws again, with room for all
        room = count


@kernel
def _draw(rng: np.random.Generator, start_s: float, rates: Floats, excess: float, lengths: Lengths, out: Block) -> int:
    """Fill `out`; return how many there are, which may be more than it has room for."""
    n = 0
    room = len(out.rows)
    for e in range(rates.shape[1]):
        out.first[e] = n
        wait = rng.standard_exponential()  # in units of the expected number
        for t in range(rates.shape[0]):
            rate = rates[t, e]
            if excess > 0.0 and rate > 0.0:
                rate *= rng.standard_gamma(rate / excess) * excess / rate
            at = 0.0
            while at + wait < rate:
                at += wait
                wait = rng.standard_exponential()
                k = lengths.first[e] + int(rng.random() * lengths.size[e])
                hit = rng.random() * 2.0 * lengths.cached_share[e] if lengths.cached_share[e] > 0.0 else 0.0
                if n < room:
                    r = out.rows[n]
                    r.at_s = start_s + t + at / rate
                    r.prompt = lengths.prompt[k]
                    r.output = lengths.output[k]
                    r.cached = min(int(hit * r.prompt) // 16 * 16, r.prompt - 1)  # whole blocks
                n += 1
            wait -= rate - at
    out.first[rates.shape[1]] = n
    return n
