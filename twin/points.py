"""A configuration that an instance can run: how long its iterations take and what they draw; and the kernels that read it.

`table` packs points for the kernels, which take a record of it: `relative_time(points[k], mhz, DECODE)`.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin.compiled import kernel

BLOCK_TOKENS = 16
"""tokens of a KV-cache block (vLLM's default)"""
CLOCKS = 16
"""longest table of clocks"""
PREFILL, DECODE = 0, 1
POWER_FLOOR, POWER_EXPONENT = 0.25, 1.05  # [F] P(f)/P(fmax) of a busy H100; used below a table's lowest clock only

Positive = Annotated[float, msgspec.Meta(gt=0)]
AtLeastZero = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration that an instance can run. Times in s at the highest clock, power in W per GPU."""

    model: str
    gpu: str
    """"h100", "a100", ... as in the server profiles"""
    tp: Count
    quantisation: str = "fp16"
    p0: AtLeastZero
    """prefill = p0 + p1 n + p2 n^2, n = computed prompt tokens"""
    p1: AtLeastZero
    p2: AtLeastZero
    d0: Positive
    """decode step = d0 + d1 b + d2 ctx, b = running requests, ctx = their summed context"""
    d1: AtLeastZero
    d2: AtLeastZero
    prefill_w: Positive
    decode_base_w: Positive
    """decode = base + span b / (b + half)"""
    decode_span_w: AtLeastZero
    decode_half_batch: Positive
    loaded_w: Positive
    """a loaded model that waits"""
    kv_blocks: Count
    """KV-cache blocks of 16 tokens that fit"""
    batch_limit: Count
    token_budget: Count
    """prompt tokens of one prefill iteration; with chunked prefill all tokens of an iteration"""
    chunked: bool
    """chunked prefill; else waiting prompts go first, whole"""
    clock_mhz: tuple[Positive, ...]
    """rising; the last is the clock to which times and powers belong"""
    decode_time: tuple[Positive, ...]
    prefill_time: tuple[Positive, ...]
    power: tuple[Positive, ...]
    quality: Annotated[float, msgspec.Meta(gt=0, le=1)]
    """share of the best model's accuracy"""

    @property
    def label(self) -> str:
        """Return the name of the configuration for people."""
        return f"{self.model} {self.gpu} TP{self.tp} {self.quantisation}"

    def prefill_s(self, tokens: float) -> float:
        """Return the seconds of a prefill of `tokens` at the highest clock."""
        return self.p0 + self.p1 * tokens + self.p2 * tokens * tokens

    def decode_s(self, batch: float, context: float) -> float:
        """Return the seconds of a decode step at the highest clock; `context` is summed over the batch."""
        return self.d0 + self.d1 * batch + self.d2 * context

    def decode_w(self, batch: float) -> float:
        """Return W per GPU while decoding at the highest clock."""
        return self.decode_base_w + self.decode_span_w * batch / (batch + self.decode_half_batch)


# What kernels read.

_FLOATS = ("p0", "p1", "p2", "d0", "d1", "d2", "prefill_w", "decode_base_w", "decode_span_w", "decode_half_batch", "loaded_w")
_INTS = ("tp", "kv_blocks", "batch_limit", "token_budget")
_TABLES = ("clock_mhz", "decode_time", "prefill_time", "power")
POINT = np.dtype(
    [(name, np.float64) for name in _FLOATS]
    + [(name, np.int64) for name in _INTS]
    + [("chunked", np.int64), ("clocks", np.int64), ("quality", np.float64)]
    + [(name, np.float64, (CLOCKS,)) for name in _TABLES]
)
"""one record per point; clock tables are filled up to 16 with their last value, `clocks` says how many are true"""


def table(points: Sequence[Point]) -> NDArray[np.void]:
    """Return the points as one structured array, in their order."""
    records = np.zeros(len(points), POINT)
    for record, point in zip(records, points, strict=True):
        for name in (*_FLOATS, *_INTS, "chunked", "quality"):
            record[name] = getattr(point, name)
        record["clocks"] = len(point.clock_mhz)
        for name in _TABLES:
            values = getattr(point, name)
            record[name][:] = values[-1]
            record[name][: len(values)] = values
    return records


@kernel
def _between(mhz: float, clocks: Any, values: Any) -> float:
    """Linear between the table's clocks; `mhz` lies inside the table."""
    k = 1
    while clocks[k] < mhz:
        k += 1
    return float(values[k - 1] + (values[k] - values[k - 1]) * (mhz - clocks[k - 1]) / (clocks[k] - clocks[k - 1]))


@kernel
def relative_time(point: Any, mhz: float, phase: int) -> float:
    """Return an iteration's time at a clock over that at the highest; `phase` is PREFILL or DECODE, `point` a record.

    Linear between the table's clocks. Below it, time = (1 - beta) + beta fmax/f with the beta that meets the table.
    """
    times = point.prefill_time if phase == PREFILL else point.decode_time
    highest = point.clock_mhz[point.clocks - 1]
    if mhz >= highest:
        return 1.0
    lowest = point.clock_mhz[0]
    if mhz < lowest:
        beta = (times[0] - 1.0) / (highest / lowest - 1.0)
        return float(1.0 - beta + beta * highest / mhz)
    return _between(mhz, point.clock_mhz, times)


@kernel
def relative_power(point: Any, mhz: float) -> float:
    """Return a busy GPU's power at a clock over that at the highest; below the table's lowest clock by .25 + .75 r^1.05."""
    highest = point.clock_mhz[point.clocks - 1]
    if mhz >= highest:
        return 1.0
    lowest = point.clock_mhz[0]
    if mhz < lowest:
        share = POWER_FLOOR + (1.0 - POWER_FLOOR) * (mhz / highest) ** POWER_EXPONENT
        return float(point.power[0] * share / (POWER_FLOOR + (1.0 - POWER_FLOOR) * (lowest / highest) ** POWER_EXPONENT))
    return _between(mhz, point.clock_mhz, point.power)
