"""What became of requests: exact histograms of latency by endpoint and class, counts, and a log of single requests."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.batching.state import Instances, Log
from twin.compiled import bare

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLASSES = 9
"""SS, SM, SL, MS .. LL: three lengths of prompt by three of output"""
TTFT, TBT = 0, 1
ENDED, OK, REJECTED = 0, 1, 2
PARTS = 32
"""bins per octave of a histogram: 1.6 to 3.1 % wide"""
LOWEST_EXPONENT, OCTAVES = -14, 24
BINS = PARTS * OCTAVES
SUB_BITS = 52 - 5
LOWEST = (1023 + LOWEST_EXPONENT) * PARTS
"""a float's exponent and its first five binary places are the number of its bin"""
"""from 61 microseconds to 1,024 s; what lies outside counts in the first or last bin"""


class Book(NamedTuple):
    """Counts up for ever; E endpoints."""

    histogram: Ints
    """[E, CLASSES, 2, BINS] requests by TTFT and by TBT (requests of one token have no TBT)"""
    total_s: Floats
    """[E, CLASSES, 2] sums of TTFT and TBT"""
    counts: Ints
    """[E, CLASSES, 3] ended (rejected included), ended within both objectives, rejected"""
    slo_s: Floats
    """[E, 2] objectives of TTFT and TBT"""
    limits: Ints
    """[2, 2] longest short and longest medium prompt; the same of output"""


def book(slo_s: Floats, prompt_limits: tuple[int, int], output_limits: tuple[int, int]) -> Book:
    """Return an empty book for endpoints with the objectives [E, 2] and these bounds between classes (inclusive)."""
    endpoints = len(slo_s)
    return Book(
        histogram=np.zeros((endpoints, CLASSES, 2, BINS), dtype=np.int64),
        total_s=np.zeros((endpoints, CLASSES, 2)),
        counts=np.zeros((endpoints, CLASSES, 3), dtype=np.int64),
        slo_s=np.ascontiguousarray(slo_s, dtype=np.float64),
        limits=np.array([prompt_limits, output_limits], dtype=np.int64),
    )


def edges_s() -> Floats:
    """[BINS + 1] bounds of the bins."""
    k = np.arange(BINS + 1)
    edges: Floats = np.ldexp(1.0 + (k % PARTS) / PARTS, LOWEST_EXPONENT + k // PARTS)
    return edges


def quantile(histogram: Ints, share: float) -> float:
    """Return the quantile of one histogram [BINS], linear within the bin; NaN without a request."""
    total = int(histogram.sum())
    if total == 0:
        return float("nan")
    at = share * total
    sums = np.cumsum(histogram)
    k = min(int(np.searchsorted(sums, at)), BINS - 1)
    before = float(sums[k] - histogram[k])
    inside = (at - before) / float(histogram[k]) if histogram[k] else 0.0
    edges = edges_s()
    return float(edges[k] + inside * (edges[k + 1] - edges[k]))


@bare
def bin_of(seconds: float) -> int:
    """Position of a latency among the bins."""
    if not seconds > 0.0:
        return 0
    k = (np.float64(seconds).view(np.int64) >> SUB_BITS) - LOWEST
    last: int = BINS - 1
    return int(0 if k < 0 else min(int(k), last))


@bare
def class_of(limits: Ints, prompt: int, output: int) -> int:
    """0 (SS) to 8 (LL) by prompt and output tokens."""
    of_prompt = (prompt > limits[0, 0]) + (prompt > limits[0, 1])
    of_output = (output > limits[1, 0]) + (output > limits[1, 1])
    return int(3 * of_prompt + of_output)


@bare
def enter(s: Instances, b: Book, log: Log, i: int, k: int, end_s: float) -> None:
    """Take request k, which ended at instance i; without a first token it was rejected."""
    r = s.requests[k]
    e = s.inst[i].endpoint
    c = class_of(b.limits, r.prompt, r.output)
    b.counts[e, c, ENDED] += 1
    ok = 0
    if r.first_s == r.first_s:
        ttft_s = r.first_s - r.arrival_s
        tbt_s = (end_s - r.first_s) / max(1, r.output - 1)
        b.histogram[e, c, TTFT, bin_of(ttft_s)] += 1
        b.total_s[e, c, TTFT] += ttft_s
        if r.output > 1:
            b.histogram[e, c, TBT, bin_of(tbt_s)] += 1
            b.total_s[e, c, TBT] += tbt_s
        ok = 1 if ttft_s <= b.slo_s[e, TTFT] and tbt_s <= b.slo_s[e, TBT] else 0
        b.counts[e, c, OK] += ok
    else:
        b.counts[e, c, REJECTED] += 1
    n = log.total[0]
    log.total[0] = n + 1
    if n < len(log.rows):
        row = log.rows[n]
        row.arrival_s, row.first_s, row.end_s = r.arrival_s, r.first_s, end_s
        row.instance, row.endpoint, row.ok = i, e, ok
        row.prompt, row.output, row.cached, row.number = r.prompt, r.output, r.cached, r.number
