"""The exporters' loops over GPUs and servers."""

import numpy as np
from numpy.typing import NDArray

from twin.batching.state import Records
from twin.compiled import bare, kernel

Floats = NDArray[np.float64]
Narrow = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

REASON_IDLE, REASON_CAP, REASON_POWER, REASON_SLOWDOWN, REASON_HEAT, REASON_BRAKE = 0x1, 0x2, 0x4, 0x8, 0x40, 0x80
"""NVML's clock event reasons: idle, clocks set by somebody, power limit, hardware slowdown, by heat, by power brake"""


@kernel
def narrowed(first: Floats, second: Floats, third: Floats) -> Narrow:
    """[3, S G] three arrays [S, G] as columns."""
    out = np.empty((3, first.size), dtype=np.float32)
    for j, values in enumerate((first.ravel(), second.ravel(), third.ravel())):
        for k in range(len(values)):
            out[j, k] = values[k]
    return out


@kernel
def utilised(instance: Ints, h: Records, before_s: Floats, level: Floats, elapsed_s: float) -> Narrow:
    """[S G] percent of `elapsed_s` in which a GPU was busy: as its `instance` [S, G], elsewhere as its server's `level` [S].

    `before_s` [I] = busy seconds of the instances `h` (INSTANCE) the last time, which become now's.
    """
    pct = np.empty(len(h), dtype=np.float32)
    for i in range(len(h)):
        pct[i] = 100.0 * min(max((h[i].busy_s - before_s[i]) / elapsed_s, 0.0), 1.0)
        before_s[i] = h[i].busy_s
    servers, gpus = instance.shape
    out = np.empty(servers * gpus, dtype=np.float32)
    for i in range(servers):
        own = np.float32(100.0 * min(max(level[i], 0.0), 1.0))
        value, last = own, -1
        for g in range(gpus):
            if instance[i, g] != last:  # neighbours mostly serve the same
                last = instance[i, g]
                value = pct[last] if last >= 0 else own
            out[i * gpus + g] = value
    return out


@kernel
def reasons(level: Floats, gpu_w: Floats, slow: Bools, tdp_w: Floats, mhz: Floats, max_mhz: Floats, brake_mhz: Floats) -> Ints:
    """[S G] why clocks are what they are; `mhz` [S, G] = caps in force, `level`, `tdp_w`, `max_mhz`, `brake_mhz` by server."""
    servers, gpus = slow.shape
    out = np.empty(servers * gpus, dtype=np.int64)
    for i in range(servers):
        idle = REASON_IDLE if level[i] <= 0.0 else 0
        any_other = False
        for g in range(gpus):
            any_other |= (gpu_w[i, g] >= tdp_w[i]) | slow[i, g] | (mhz[i, g] < max_mhz[i]) | (mhz[i, g] <= brake_mhz[i])
        for g in range(gpus):
            other = _reasons(gpu_w[i, g] >= tdp_w[i], slow[i, g], mhz[i, g], max_mhz[i], brake_mhz[i]) if any_other else 0
            out[i * gpus + g] = idle | other
    return out


@bare
def _reasons(at_limit: bool, slow: bool, mhz: float, max_mhz: float, brake_mhz: float) -> int:
    """Why a GPU's clock is what it is, under a cap of `mhz`."""
    found = REASON_POWER if at_limit else 0
    if slow:
        found |= REASON_SLOWDOWN | REASON_HEAT
    if mhz <= brake_mhz:
        found |= REASON_SLOWDOWN | REASON_BRAKE
    elif mhz < max_mhz:
        found |= REASON_CAP
    return found


@kernel
def server_columns(inlet_c: Floats, wall_w: Floats, fan_pct: Floats, power_w: Floats, temp_c: Floats, down: Bools) -> Narrow:
    """Return [5, S] what servers' sensors show [S], their GPUs' power together, and the hottest one's temperature.

    `power_w` and `temp_c` [S, G] are what the GPUs' sensors show, NaN = nothing; one that is shut down draws nothing.
    """
    out = np.empty((5, len(inlet_c)), dtype=np.float32)
    for i in range(len(inlet_c)):
        gpu_w, hottest_c = 0.0, np.nan
        for g in range(down.shape[1]):
            gpu_w += 0.0 if down[i, g] else power_w[i, g]
            if temp_c[i, g] == temp_c[i, g] and not temp_c[i, g] <= hottest_c:
                hottest_c = temp_c[i, g]
        out[0, i], out[1, i], out[2, i], out[3, i], out[4, i] = inlet_c[i], wall_w[i], fan_pct[i], gpu_w, hottest_c
    return out
