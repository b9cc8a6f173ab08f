"""The exporters' loops over GPUs, instances and requests.

Quantiles are exact: of the few requests of a node only the greatest are kept, and these in order."""

import numpy as np
from numpy.typing import NDArray

from twin.batching.admit import BLOCK
from twin.batching.state import Records
from twin.compiled import bare, kernel

Floats = NDArray[np.float64]
Narrow = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

SHARE = 0.99
REASON_IDLE, REASON_CAP, REASON_POWER, REASON_SLOWDOWN, REASON_HEAT, REASON_BRAKE = 0x1, 0x2, 0x4, 0x8, 0x40, 0x80
"""NVML's clock event reasons: idle, clocks set by somebody, power limit, hardware slowdown, by heat, by power brake"""
RUNNING, WAITING, KV_PCT, ARRIVED, PROMPT, OUTPUT = range(6)


@kernel
def utilised(instance: Ints, busy_s: Floats, level: Floats, elapsed_s: float) -> Narrow:
    """[S, G] percent of the time in which a GPU was busy: as its instance's [I], elsewhere at its server's level [S]."""
    out = np.empty(instance.shape, dtype=np.float32)
    for i in range(instance.shape[0]):
        for g in range(instance.shape[1]):
            k = instance[i, g]
            share = busy_s[k] / elapsed_s if k >= 0 else level[i]
            out[i, g] = 100.0 * min(max(share, 0.0), 1.0)
    return out


@kernel
def reasons(gpu_w: Floats, slow: Bools, idle: Bools, tdp_w: Floats, mhz: Floats, max_mhz: Floats, brake_mhz: Floats) -> Ints:
    """[S, G] why clocks are what they are; `mhz` = caps in force, `idle`, `tdp_w`, `max_mhz`, `brake_mhz` by server."""
    out = np.empty(slow.shape, dtype=np.int64)
    for i in range(slow.shape[0]):
        for g in range(slow.shape[1]):
            found = REASON_IDLE if idle[i] else 0
            if gpu_w[i, g] >= tdp_w[i]:
                found |= REASON_POWER
            if slow[i, g]:
                found |= REASON_SLOWDOWN | REASON_HEAT
            if mhz[i, g] <= brake_mhz[i]:
                found |= REASON_SLOWDOWN | REASON_BRAKE
            elif mhz[i, g] < max_mhz[i]:
                found |= REASON_CAP
            out[i, g] = found
    return out


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
