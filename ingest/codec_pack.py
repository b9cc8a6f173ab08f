"""The fast way from columns to a message: for those that are of the declared types already, and clean.

An instrument with thousands of rows spends more on the way through a data frame than on measuring. Here each column goes
straight into a compressed buffer of an Arrow IPC stream: the same rows as by `frame_of`, `check` and `encode`, for numpy
arrays of the declared dtype and pyarrow arrays (NULLs, text). A pyarrow array that is the same object as in the frame before
is not looked at again: names of things do not change, and would cost most. Whatever else comes takes the long way.

The stream: a schema message, one record batch, its end. A record batch's header is a FlatBuffer of fixed shape, so it is
packed as such (Arrow columnar format 1.x: Message.fbs, Schema.fbs).
"""

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.schemas import SCHEMAS, Column
from ingest.codec import encode, frame_of
from ingest.validate import OLDEST

_CODEC = pa.Codec("zstd", -1)
"""measurements get hardly smaller at a higher level, which takes several times as long; names would not at lz4"""
_SMALL, _AS_IT_WAS = 4096, struct.pack("<q", -1)
"""shorter buffers stay as they are: a thousand measurements take longer to compress than to send"""
_NUMPY = {"ts": "datetime64[us]", "f64": "float64", "f32": "float32", "i64": "int64", "i32": "int32", "i16": "int16"}
_ARROW = {"f64": pa.float64(), "f32": pa.float32(), "i64": pa.int64(), "i32": pa.int32(), "i16": pa.int16()}
_TEXT = pa.large_string()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Packed = tuple[int, list[bytes]]
"""number of NULLs, and the compressed buffers (b"" = none) of a column"""


class _Plan(NamedTuple):
    """A declared column, as it is looked at for each frame."""

    column: Column
    dtype: Any
    """of numpy; None = text or what cannot come this way"""
    arrow: Any
    width: int
    """bits of a value; 0 = text"""


_kept: dict[tuple[str, str], tuple[Any, Packed]] = {}
"""(topic, column) -> the newest pyarrow array and what it became"""


def pack(topic: str, columns: Mapping[str, Sequence[Any] | NDArray[Any]], latest: datetime) -> bytes | None:
    """Return the message of columns that are clean and of the declared types; None where the long way must decide.

    `latest` (aware) = the newest `ts` allowed.
    """
    plans = _plans(topic)
    rows = len(next(iter(columns.values()), ()))
    if rows == 0 or any(not _fits(values, rows) for values in columns.values()) or not columns.keys() <= plans.keys():
        return None
    packed = []
    for name, plan in plans.items():
        values = columns.get(name)
        if values is None:
            one = None if plan.column.required else _nothing(plan.width, rows)
        elif isinstance(values, np.ndarray):
            one = _array(plan, values, latest)
        else:
            one = _again(topic, plan, values)
        if one is None:
            return None
        packed.append(one)
    return _schema(topic) + _batch(rows, packed) + struct.pack("<Ii", 0xFFFFFFFF, 0)


@cache
def _plans(topic: str) -> dict[str, _Plan]:
    if topic not in SCHEMAS:
        return {}
    return {c.name: _plan(c) for c in SCHEMAS[topic].columns}


def _plan(column: Column) -> _Plan:
    name = _NUMPY.get(column.dtype)
    dtype = np.dtype(name) if name else None
    width = {"str": 0, "bool": 1}.get(column.dtype, 8 * dtype.itemsize if dtype else -1)  # -1: lists do not come this way
    return _Plan(column, dtype, _ARROW.get(column.dtype), width)


def _fits(values: Any, rows: int) -> bool:
    """Whether something is an array of so many rows that begins where its memory does."""
    if isinstance(values, np.ndarray):
        return type(values) is np.ndarray and values.shape == (rows,) and bool(values.flags.c_contiguous)
    return isinstance(values, pa.Array) and len(values) == rows and values.offset == 0


def _array(plan: _Plan, values: NDArray[Any], latest: datetime) -> Packed | None:
    """Pack an array without NULLs; None for another dtype, NaN, or a value out of bounds."""
    if values.dtype != plan.dtype:
        return None
    if values.dtype.kind == "M":
        values = values.view(np.int64)
        clean = np.minimum.reduce(values) >= _micros(OLDEST) and np.maximum.reduce(values) <= _micros(
            latest
        )  # NaT lies before all
    else:
        clean = _within(plan.column, values)
    return (0, [b"", _compressed(values)]) if clean else None


def _nullable(plan: _Plan, array: Any) -> Packed | None:
    """Pack numbers with NULLs; None as for `_array`, and for NULL where it may not be."""
    nulls = array.null_count
    if array.type != plan.arrow or (nulls and plan.column.required):
        return None
    valid, data = array.buffers()
    values = np.frombuffer(data, dtype=plan.dtype, count=len(array))
    if nulls < len(array):
        there = values if nulls == 0 else values[array.is_valid().to_numpy(zero_copy_only=False)]
        if not _within(plan.column, there):
            return None
    return nulls, [_compressed(valid.slice(0, -(-len(array) // 8))) if nulls else b"", _compressed(values)]


def _within(column: Column, values: NDArray[Any]) -> bool:
    """Whether no value is NaN, infinite or out of bounds."""
    least, most = np.minimum.reduce(values), np.maximum.reduce(values)  # NaN if there is one
    low = -np.inf if column.low is None else column.low
    high = np.inf if column.high is None else column.high
    return bool(low <= least and most <= high and abs(least) < np.inf and abs(most) < np.inf)


def _again(topic: str, plan: _Plan, array: Any) -> Packed | None:
    """Pack a pyarrow array, or take what it became the last time if it is the same: they never change."""
    key = (topic, plan.column.name)
    last = _kept.get(key)
    if last is not None and last[0] is array:
        return last[1]
    packed = _text(plan, array) if plan.width == 0 else _nullable(plan, array)
    if packed is not None:
        _kept[key] = (array, packed)
    return packed


def _text(plan: _Plan, array: Any) -> Packed | None:
    """Pack text; None as for `_nullable`."""
    nulls = array.null_count
    if array.type != _TEXT or (nulls and plan.column.required):
        return None
    valid, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64, count=len(array) + 1)
    return nulls, [
        _compressed(valid.slice(0, -(-len(array) // 8))) if nulls else b"",
        _compressed(ends),
        _compressed(data.slice(0, int(ends[-1]))) if ends[-1] else b"",
    ]


@lru_cache(maxsize=64)
def _nothing(width: int, rows: int) -> Packed | None:
    """A column of NULLs."""
    if width < 0:
        return None
    valid = _compressed(bytes(-(-rows // 8)))
    return rows, [valid, _compressed(bytes(8 * (rows + 1))), b""] if width == 0 else [
        valid,
        _compressed(bytes(-(-rows * width // 8))),
    ]


def _compressed(buffer: Any) -> bytes:
    """A buffer of the body: its length, then itself compressed; -1 before one that is as it was."""
    size = buffer.nbytes if isinstance(buffer, np.ndarray) else len(buffer) if isinstance(buffer, bytes) else buffer.size
    if size <= _SMALL:
        return _AS_IT_WAS + (buffer.tobytes() if isinstance(buffer, np.ndarray) else bytes(buffer))
    return struct.pack("<q", size) + bytes(_CODEC.compress(buffer, asbytes=True))


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


@cache
def _schema(topic: str) -> bytes:
    """The schema message, as `encode` writes it."""
    with pa.ipc.open_stream(encode(topic, frame_of(topic, {}))) as reader:
        return bytes(reader.schema.serialize())


_HEADER = struct.Struct("<I 6H I hBx I4x q 6H I q III 3H2x I b3x")
"""root | vtable, table of Message | vtable, table of RecordBatch | vtable, table of BodyCompression; the vectors follow"""
_MESSAGE, _RECORD_BATCH, _COMPRESSION, _VECTORS = 16, 52, 84, 92
"""where the tables and the first vector begin"""
_VERSION_5, _IS_RECORD_BATCH, _ZSTD = 4, 3, 1
"""values of the format's enumerations"""


def _batch(rows: int, columns: Sequence[Packed]) -> bytes:
    """A record batch message: lead, header, and the buffers, each from a multiple of 8 bytes on."""
    nodes = [number for nulls, _ in columns for number in (rows, nulls)]
    places, body, at = [], [], 0
    for buffer in (buffer for _, own in columns for buffer in own):
        padding = -len(buffer) % 8
        places += [at, len(buffer)]
        body += [buffer, bytes(padding)]
        at += len(buffer) + padding
    header = _header(rows, nodes, places, at)
    return b"".join([struct.pack("<Ii", 0xFFFFFFFF, len(header)), header, *body])


def _header(rows: int, nodes: Sequence[int], places: Sequence[int], body: int) -> bytes:
    """A Message with a RecordBatch: `nodes` (length, NULLs) of each column, `places` (offset, length) of each buffer.

    A table begins with the distance back to its vtable, which has its own length, the table's, and where each field stands;
    a field that is a table or a vector is the distance from itself to that.
    """
    second = _VECTORS + 4 + 8 * len(nodes) + 4
    tables = _HEADER.pack(
        *(_MESSAGE, 12, 24, 4, 6, 8, 16, 12, _VERSION_5, _IS_RECORD_BATCH, _RECORD_BATCH - 24, body),
        *(12, 24, 4, 12, 16, 20, 12, rows, _VECTORS - 64, second - 68, _COMPRESSION - 72),
        *(6, 5, 4, 8, _ZSTD),
    )
    first = struct.pack(f"<I{len(nodes)}qI", len(nodes) // 2, *nodes, 0)
    return tables + first + struct.pack(f"<I{len(places)}q", len(places) // 2, *places)
