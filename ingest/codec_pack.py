"""The fast way from columns to a message: for those that are of the declared types already, and clean.

An instrument with thousands of rows spends more on the way through a data frame than on measuring. Here each column goes
straight into a buffer of an Arrow IPC stream: the same rows as by `frame_of`, `check` and `encode`, for numpy arrays of the
declared dtype and pyarrow arrays (NULLs, text). Whatever else comes takes the long way.

Three things save the time. A pyarrow array that is the same object as in the frames before is not looked at again: names of
things do not change, and would cost most. A column of one and the same number is compressed again only when that changes. And
what hardly shrinks is left as it is, which is tried again from time to time: measurements of thousands of things cost ten times
as much to compress as to measure.
"""

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.codec_batch import AS_IT_WAS, CODEC, NONE, Buffer, Packed, Plan, packed, plans, write
from ingest.validate import OLDEST

_THOROUGH = pa.Codec("zstd", 9)
"""for what stays the same from frame to frame"""
_SMALL = 4096
"""shorter buffers stay as they are: a thousand measurements take longer to compress than to send"""
_WORTH = 8
"""so many times smaller a buffer must become"""
_TRIED_AGAIN = 256
"""frames after which it is tried again"""
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_OLDEST = (OLDEST - _EPOCH) // _MICROSECOND
_STAMP = np.dtype("datetime64[us]")

Key = tuple[str, str, int]
"""topic, column, number of the buffer"""

_kept: dict[tuple[str, str], tuple[Any, Packed, bool]] = {}
"""(topic, column) -> the newest pyarrow array, what it became, and whether it has come more than once"""
_same: dict[tuple[str, str], tuple[tuple[int, Any], Packed]] = {}
"""(topic, column) -> rows and number of the newest column that held but one number, and what it became"""
_left: dict[Key, int] = {}
"""frames for which a buffer is left as it is"""


def pack(topic: str, columns: Mapping[str, Sequence[Any] | NDArray[Any]], latest: datetime) -> bytes | None:
    """Return the message of columns that are clean and of the declared types; None where the long way must decide.

    `latest` (aware) = the newest `ts` allowed.
    """
    declared = plans(topic)
    rows = len(next(iter(columns.values()), ()))
    if rows == 0 or not columns.keys() <= declared.keys():
        return None
    newest = (latest - _EPOCH) // _MICROSECOND
    found = []
    for name, plan in declared.items():
        values = columns.get(name)
        if values is None:
            one = None if plan.column.required else _nothing(plan.width, rows)
        elif isinstance(values, np.ndarray):
            one = _array(topic, plan, values, newest) if values.shape == (rows,) else None
        else:
            one = _again(topic, plan, values, rows)
        if one is None:
            return None
        found.append(one)
    return write(topic, rows, found)


def _array(topic: str, plan: Plan, values: NDArray[Any], newest: int) -> Packed | None:
    """Pack an array without NULLs; None for another dtype, NaN, a value out of bounds, or gaps in its memory.

    `newest` = of `ts` the latest allowed, in microseconds.
    """
    low, high, name = plan.low, plan.high, plan.column.name
    if type(values) is not np.ndarray or not values.flags.c_contiguous:
        return None
    if plan.column.dtype == "ts":
        if values.dtype != _STAMP:
            return None
        values = values.view(np.int64)
        low, high = _OLDEST, newest  # NaT lies before all
    if values.dtype != plan.dtype:
        return None
    bits = values.view(plan.bits)
    most = np.maximum.reduce(bits)
    same = most == bits[0] and most == np.minimum.reduce(bits)
    if not (low <= values[0] <= high if same else most <= plan.most_bits or _within(low, high, values)):
        return None
    if not same:
        return packed(0, NONE, _buffer(values, (topic, name, 1)))
    seen, before = _same.get((topic, name), (None, None))
    if before is None or seen != (len(values), most):
        before = packed(0, NONE, _compressed(values, CODEC) if values.nbytes > _SMALL else _as_it_was(values), kept=True)
        _same[topic, name] = ((len(values), most), before)
    return before


def _again(topic: str, plan: Plan, array: Any, rows: int) -> Packed | None:
    """Pack a pyarrow array, or take what it became the last time if it is the same: they never change."""
    key = (topic, plan.column.name)
    last = _kept.get(key)
    again = last is not None and last[0] is array and len(array) == rows
    if last is not None and again and last[2]:
        return last[1]
    if not isinstance(array, pa.Array) or len(array) != rows or array.offset != 0:
        return None
    one = _text(topic, plan, array, again) if plan.width == 0 else _nullable(topic, plan, array, again)
    if one is not None:
        _kept[key] = (array, one, again)
    return one


def _nullable(topic: str, plan: Plan, array: Any, again: bool) -> Packed | None:
    """Pack numbers with NULLs; None as for `_array`, and for NULL where it may not be. `again` = take your time."""
    nulls = array.null_count
    if plan.dtype is None or array.type != plan.arrow or (nulls and plan.column.required):
        return None
    valid, data = array.buffers()
    values = np.frombuffer(data, dtype=plan.dtype, count=len(array))
    if not _within(plan.low, plan.high, values):  # most writers put 0 where there is NULL
        there = values[array.is_valid().to_numpy(zero_copy_only=False)] if nulls else values
        if nulls == 0 or (nulls < len(array) and not _within(plan.low, plan.high, there)):
            return None
    key = (topic, plan.column.name)
    return packed(nulls, _validity(valid, len(array), nulls, key, again), _buffer(values, (*key, 1), again), kept=again)


def _within(low: float, high: float, values: NDArray[Any]) -> bool:
    """Whether no value is NaN, infinite or out of bounds."""
    return bool(low <= np.minimum.reduce(values) and np.maximum.reduce(values) <= high)


def _text(topic: str, plan: Plan, array: Any, again: bool) -> Packed | None:
    """Pack text; None as for `_nullable`."""
    nulls = array.null_count
    if array.type != plan.arrow or (nulls and plan.column.required):
        return None
    valid, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64, count=len(array) + 1)
    key = (topic, plan.column.name)
    return packed(
        nulls,
        _validity(valid, len(array), nulls, key, again),
        _buffer(ends, (*key, 1), again),
        _buffer(data.slice(0, int(ends[-1])), (*key, 2), again) if ends[-1] else NONE,
        kept=again,
    )


def _validity(valid: Any, rows: int, nulls: int, key: tuple[str, str], again: bool) -> Buffer:
    return _buffer(valid.slice(0, -(-rows // 8)), (*key, 0), again) if nulls else NONE


@lru_cache(maxsize=64)
def _nothing(width: int, rows: int) -> Packed | None:
    """A column of NULLs."""
    if width < 0:
        return None
    sizes = [-(-rows // 8), 8 * (rows + 1)] if width == 0 else [-(-rows // 8), -(-rows * width // 8)]
    buffers = [_compressed(bytes(size), CODEC) for size in sizes]
    return packed(rows, *buffers, *([NONE] if width == 0 else []), kept=True)


def _buffer(buffer: Any, key: Key, again: bool = False) -> Buffer:
    """A buffer of the body, compressed where it is worth it; `again` = it stays: as small as can be."""
    size = buffer.nbytes if isinstance(buffer, np.ndarray) else buffer.size
    if again:
        small = _compressed(buffer, _THOROUGH)
        return small if small[0] < 8 + size else _as_it_was(buffer)
    if size <= _SMALL:
        return _as_it_was(buffer)
    if left := _left.get(key):
        _left[key] = left - 1
        return _as_it_was(buffer)
    small = _compressed(buffer, CODEC)
    if _WORTH * small[0] <= size:
        return small
    _left[key] = _TRIED_AGAIN
    return _as_it_was(buffer)


def _as_it_was(buffer: Any) -> Buffer:
    return 8 + (buffer.nbytes if isinstance(buffer, np.ndarray) else len(buffer)), AS_IT_WAS, buffer


def _compressed(buffer: Any, codec: Any) -> Buffer:
    """A buffer's length, then itself compressed."""
    size = buffer.nbytes if isinstance(buffer, np.ndarray) else len(buffer)
    small = codec.compress(buffer, asbytes=True)
    return 8 + len(small), struct.pack("<q", size), small
