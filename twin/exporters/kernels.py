"""The exporters' loops over instances and requests.

Quantiles are exact: of the few requests of a node only the greatest are kept, and these in order."""

import numpy as np
from numpy.typing import NDArray

from twin.batching.admit import BLOCK
from twin.batching.state import Records
from twin.compiled import bare, kernel

Floats = NDArray[np.float64]
Narrow = NDArray[np.float32]
Ints = NDArray[np.int64]
Whole = NDArray[np.int32]
Bytes = NDArray[np.uint8]

SHARE = 0.99
RUNNING, WAITING, KV_PCT, ARRIVED, PROMPT, OUTPUT = range(6)


@kernel
def gauges(h: Records, points: Records, node: Ints, nodes: int, before: Ints) -> Floats:
    """[6, nodes] of the instances `h` (INSTANCE) together: running, waiting, KV blocks in use in percent, and since `before`
    [3, I], which becomes now: requests that arrived, prompt tokens of finished ones, output tokens.

    `node` [I] is each instance's, -1 = of no interest. A decoding request's last block is half full on average. What has come
    to an instance is counted there as arrived at its next boundary.
    """
    out = np.zeros((6, nodes))
    room = np.zeros(nodes)
    for i in range(len(h)):
        r, n = h[i], node[i]
        if n >= 0:
            out[RUNNING, n] += r.decoding + r.fresh
            out[WAITING, n] += r.waiting_low + r.waiting_high + r.coming
            out[KV_PCT, n] += (r.context + r.decoding * (0.5 * (BLOCK - 1))) / BLOCK + r.prompt_blocks
            room[n] += points[r.point].kv_blocks
            out[ARRIVED, n] += r.arrived + r.coming - before[0, i]
            out[PROMPT, n] += r.prompt_tokens - before[1, i]
            out[OUTPUT, n] += r.made_tokens - before[2, i]
        before[0, i], before[1, i], before[2, i] = r.arrived + r.coming, r.prompt_tokens, r.made_tokens
    for n in range(nodes):
        out[KV_PCT, n] = min(100.0, 100.0 * out[KV_PCT, n] / max(1.0, room[n]))
    return out


@kernel
def spelt(positions: Ints, starts: Ints, letters: Bytes) -> tuple[Ints, Bytes]:
    """Return the chosen names as Arrow has them: where each begins (and the last ends), and all letters."""
    ends = np.empty(len(positions) + 1, dtype=np.int64)
    ends[0] = 0
    for k in range(len(positions)):
        ends[k + 1] = ends[k] + starts[positions[k] + 1] - starts[positions[k]]
    out = np.empty(ends[-1], dtype=np.uint8)
    for k in range(len(positions)):
        low = starts[positions[k]]
        for j in range(ends[k + 1] - ends[k]):
            out[ends[k] + j] = letters[low + j]
    return ends, out


@kernel
def numbered(prefix: Bytes, first: int, step: int, count: int, digits: int) -> tuple[Ints, Bytes]:
    """Return the names prefix + number, `digits` digits, of `count` numbers from `first` on, as `spelt` does."""
    width = len(prefix) + digits
    ends = np.arange(count + 1) * width
    out = np.empty(count * width, dtype=np.uint8)
    for k in range(count):
        for j in range(len(prefix)):
            out[k * width + j] = prefix[j]
        rest = first + k * step
        for j in range(digits):
            out[(k + 1) * width - 1 - j] = ord("0") + rest % 10
            rest //= 10
    return ends, out


@kernel
def note_ended(rows: Records, node: Ints, count: Ints, top: Floats) -> None:
    """Note requests that ended by node: how many ended, were within objectives, had a TTFT, a TBT (`count` [nodes, 4]), and the
    greatest TTFT and TBT (`top` [nodes, 2, most]).

    `rows` are ENDED, `node` [I] is each instance's (-1 = of no interest). A rejected request has no latency and misses its
    objectives; one of a single token has no TBT.
    """
    for k in range(len(rows)):
        r = rows[k]
        n = node[r.instance]
        if n >= 0:
            count[n, 0] += 1
            count[n, 1] += r.ok
            if r.first_s == r.first_s:
                _keep(top[n, 0], count[n, 2], r.first_s - r.arrival_s)
                count[n, 2] += 1
                if r.output > 1:
                    _keep(top[n, 1], count[n, 3], (r.end_s - r.first_s) / (r.output - 1))
                    count[n, 3] += 1


@kernel
def latencies(count: Ints, top: Floats) -> Floats:
    """[3, nodes] P99 of TTFT and of TBT in s, percent within both objectives; NaN where nothing tells.

    Quantiles are linear between requests, as numpy's.
    """
    out = np.full((3, len(count)), np.nan)
    for n in range(len(count)):
        out[0, n] = _quantile(top[n, 0], count[n, 2])
        out[1, n] = _quantile(top[n, 1], count[n, 3])
        if count[n, 0] > 0:
            out[2, n] = 100.0 * count[n, 1] / count[n, 0]
    return out


@kernel
def request_columns(f: Records, server: Ints, start_us: int) -> tuple[Ints, Whole, Narrow]:
    """Return of requests `f` (ENDED): [5, n] times of end and arrival in microseconds, endpoint, server, whether it was served;
    [3, n] tokens of prompt, output and cache; [3, n] TTFT, TBT and the whole in s, NaN where there is none.

    `server` [I] is each instance's.
    """
    ints, tokens = np.empty((5, len(f)), dtype=np.int64), np.empty((3, len(f)), dtype=np.int32)
    seconds = np.full((3, len(f)), np.nan, dtype=np.float32)
    for k in range(len(f)):
        r = f[k]
        served = r.first_s == r.first_s
        ints[0, k], ints[1, k] = start_us + int(r.end_s * 1e6), start_us + int(r.arrival_s * 1e6)
        ints[2, k], ints[3, k], ints[4, k] = r.endpoint, server[r.instance], served
        tokens[0, k], tokens[1, k], tokens[2, k] = r.prompt, r.output if served else 0, r.cached if served else 0
        if served:
            seconds[0, k], seconds[2, k] = r.first_s - r.arrival_s, r.end_s - r.arrival_s
            if r.output > 1:
                seconds[1, k] = (r.end_s - r.first_s) / (r.output - 1)
    return ints, tokens, seconds


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
