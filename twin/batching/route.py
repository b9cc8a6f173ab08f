"""Which instance gets a request: a low-discrepancy sequence over cumulative weights, so that weights are shares exactly."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.batching.queue import put_coming, taken
from twin.batching.state import NOBODY, Instances
from twin.compiled import bare

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GOLDEN = 0.6180339887498949
"""steps by the golden ratio spread over [0, 1) most evenly: any share is met within about one request"""


class Router(NamedTuple):
    """E endpoints; `members[first[e]:first[e + 1]]` are endpoint e's instances."""

    first: Ints
    """[E + 1]"""
    members: Ints
    """[I]"""
    cumulative: Floats
    """[I] of the members' weights, in their order; the last of an endpoint is 1, or 0 where nobody takes requests"""
    guide: Ints
    """[E, K] position in `members` from which a search begins for each K-th of [0, 1)"""
    at: Floats
    """[E] the sequence"""


def router(endpoint: Ints, endpoints: int) -> Router:
    """Return a router for instances of these endpoints [I]; set its weights before use."""
    members = np.argsort(endpoint, kind="stable").astype(np.int64)
    first = np.concatenate([[0], np.cumsum(np.bincount(endpoint, minlength=endpoints))]).astype(np.int64)
    largest = int(np.diff(first).max(initial=1))
    guide = np.zeros((endpoints, 1 << max(1, (2 * largest - 1).bit_length())), dtype=np.int64)
    return Router(first, members, np.zeros(len(members)), guide, np.full(endpoints, 0.5))


def set_weights(r: Router, weights: Floats) -> None:
    """Put weights [I] >= 0 in force; they are normalised within an endpoint."""
    k = np.arange(r.guide.shape[1]) / r.guide.shape[1]
    for e in range(len(r.first) - 1):
        low, high = r.first[e], r.first[e + 1]
        sums = np.cumsum(weights[r.members[low:high]])
        total = float(sums[-1]) if high > low else 0.0
        r.cumulative[low:high] = sums / total if total > 0 else 0.0
        if total > 0:
            r.cumulative[low + int(np.searchsorted(sums, total)) : high] = 1.0
        r.guide[e] = low + np.searchsorted(r.cumulative[low:high], k, side="right")


@bare
def pick(r: Router, e: int) -> int:
    """The instance of endpoint e that gets the next request; NOBODY where none takes any."""
    last = r.first[e + 1] - 1
    if last < r.first[e] or r.cumulative[last] <= 0.0:
        return NOBODY
    u = r.at[e] + GOLDEN
    u -= int(u)
    r.at[e] = u
    j = r.guide[e, int(u * r.guide.shape[1])]
    while r.cumulative[j] <= u:
        j += 1
    return int(r.members[j])


@bare
def push(s: Instances, i: int, high: bool, at_s: float, prompt: int, output: int, cached: int, number: int) -> None:
    """Give a request to instance i for its time of arrival; requests of one instance come in order of time."""
    k = taken(s)
    r = s.requests[k]
    r.arrival_s, r.first_s = at_s, np.nan
    r.prompt, r.output, r.made, r.number = prompt, output, 0, number
    r.cached = min(cached, prompt - 1)
    r.high = 1 if high else 0
    put_coming(s, i, k)
