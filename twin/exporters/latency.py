"""Exact quantiles of a few requests on each of many nodes: only the greatest of them are kept, and these in order."""

import numpy as np
from numpy.typing import NDArray

from twin.batching.state import Records
from twin.compiled import bare, kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHARE = 0.99


@kernel
def by_node(rows: Records, node: Ints, nodes: int) -> Floats:
    """[3, nodes] P99 of TTFT and of TBT in s, percent within both objectives; NaN where nothing tells.

    `rows` are ENDED, `node` [I] is each instance's (-1 = of no interest). Quantiles are linear between requests, as numpy's.
    A rejected request has no latency and misses its objectives; one of a single token has no TBT.
    """
    count = np.zeros((4, nodes), dtype=np.int64)  # ended, within objectives, with a TTFT, with a TBT
    for k in range(len(rows)):
        if node[rows[k].instance] >= 0:
            count[0, node[rows[k].instance]] += 1
    most = 2
    for n in range(nodes):
        most = max(most, 2 + count[0, n] // 100)  # no more lie above the 99th percentile, and one below it
    top = np.empty((2, nodes, most))
    for k in range(len(rows)):
        r = rows[k]
        n = node[r.instance]
        if n >= 0:
            count[1, n] += r.ok
            if r.first_s == r.first_s:
                _keep(top[0, n], count[2, n], r.first_s - r.arrival_s)
                count[2, n] += 1
                if r.output > 1:
                    _keep(top[1, n], count[3, n], (r.end_s - r.first_s) / (r.output - 1))
                    count[3, n] += 1
    out = np.full((3, nodes), np.nan)
    for n in range(nodes):
        out[0, n] = _quantile(top[0, n], count[2, n])
        out[1, n] = _quantile(top[1, n], count[3, n])
        if count[0, n] > 0:
            out[2, n] = 100.0 * count[1, n] / count[0, n]
    return out


@bare
def _keep(top: Floats, n: int, value: float) -> None:
    """Put a value among the greatest of n others, which fall."""
    k = n
    if n >= len(top):
        if value <= top[-1]:
            return
        k = len(top) - 1
    while k > 0 and top[k - 1] < value:
        top[k] = top[k - 1]
        k -= 1
    top[k] = value


@bare
def _quantile(top: Floats, n: int) -> float:
    """The quantile of n values, of which the greatest stand in `top`."""
    if n == 0:
        return np.nan
    at = SHARE * (n - 1)
    low = int(at)
    below, above = top[n - 1 - low], top[max(0, n - 2 - low)]
    return float(below + (at - low) * (above - below))
