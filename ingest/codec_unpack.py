"""The fast way from a message to columns: for what `codec_pack` wrote, and only the columns that a reader wants.

Numbers come as numpy arrays, NaN where there is NULL, times as microseconds since 1970; text as pyarrow arrays. Names of
things that were in a message before come as the same object, so that a reader can know what it made of them. Nothing may be
written to.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contracts.schemas import SCHEMAS
from ingest.codec import decode
from ingest.codec_batch import AS_IT_WAS, CODEC, Batch, Plan, plans, read
from ingest.records import CONTENT_JSON, check_version

MAX_ROWS, MAX_LETTERS = 20_000, 1 << 24
"""what claims to be more takes the long way, whose memory is bounded by what it finds"""
MAX_KEPT = 16 << 20
"""bytes of names that are remembered"""
Columns = Mapping[str, Any]
Place = tuple[int, int]


class _Want(NamedTuple):
    """A column to read."""

    plan: Plan
    number: int
    """of the column"""
    first: int
    end: int
    """its buffers"""
    names: bool
    """it tells which things the rows are about, or holds text"""


class _Last(NamedTuple):
    """What a column was made of."""

    rows: int
    lengths: tuple[int, ...]
    """of its buffers"""
    content: bytes
    """these, with what stands between them"""
    column: Any


class OddError(ValueError):
    """A message is not what it should be: the long way says why."""


class Unpacker:
    """Reads messages one after the other. Not thread-safe."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._batches: dict[str, Batch] = {}
        self._last: dict[tuple[str, str], _Last] = {}
        self._names: dict[tuple[Any, ...], Any] = {}
        self._names_bytes = 0
        self._validity: dict[tuple[str, str], tuple[bytes, int, NDArray[np.bool_]]] = {}

    def read(self, topic: str, value: bytes, headers: Mapping[str, str], wanted: tuple[str, ...]) -> Columns | pl.DataFrame:
        """Return the `wanted` columns of a message without those of NULLs only, or as `decode` all of them.

        Raises Malformed as `decode` does, but what is not wanted is not looked into.
        """
        if headers.get("content-type", "").partition(";")[0].strip().lower() != CONTENT_JSON:
            check_version(headers)
            columns = self.columns(topic, value, wanted)
            if columns is not None:
                return columns
        return decode(topic, value, headers)

    def columns(self, topic: str, value: bytes, wanted: tuple[str, ...]) -> Columns | None:
        """Return the wanted columns of a message of `codec_pack.pack`; None where the long way must decide."""
        batch = read(topic, value, self._batches.get(topic)) if wanted and topic in SCHEMAS else None
        if batch is None or not 0 < batch.rows <= MAX_ROWS:
            return None
        self._batches[topic] = batch
        found = {}
        try:
            for want in _wants(topic, wanted):
                nulls = batch.nulls[want.number]
                if nulls != batch.rows:
                    places = batch.places[want.first : want.end]
                    found[want.plan.column.name] = self._column(topic, want, value, places, batch.rows, nulls)
        except (pa.ArrowException, OSError, ValueError, struct.error):
            return None
        return found

    def _column(self, topic: str, want: _Want, value: bytes, places: Sequence[Place], rows: int, nulls: int) -> Any:
        """A column; what is measured anew with each message is not remembered."""
        key, plan = (topic, want.plan.column.name), want.plan
        if not want.names and (nulls or value.startswith(AS_IT_WAS, places[1][0])):
            return self._numbers(key, plan, value, places, rows, nulls)
        last, start, lengths = self._last.get(key), places[0][0], tuple([length for _, length in places])
        if last is not None and last.rows == rows and last.lengths == lengths and value.startswith(last.content, start):
            return last.column
        content = value[start : places[-1][0] + lengths[-1]]
        if want.names:
            column = self._named(key, plan, value, places, (rows, nulls, lengths, content))
        else:
            column = self._numbers(key, plan, value, places, rows, nulls)
        self._last[key] = _Last(rows, lengths, content, column)
        return column

    def _named(self, key: tuple[str, str], plan: Plan, value: bytes, places: Sequence[Place], like: tuple[Any, ...]) -> Any:
        """Names: several producers may take turns."""
        rows, nulls, _, content = like
        column = self._names.get((*key, *like))
        if column is None:
            text = plan.width == 0
            column = _text(value, places, rows, nulls) if text else self._numbers(key, plan, value, places, rows, nulls)
            self._names_bytes += len(content) + column.nbytes
            if self._names_bytes > MAX_KEPT:
                self._names, self._names_bytes = {}, len(content) + column.nbytes
            self._names[(*key, *like)] = column
        return column

    def _numbers(self, key: tuple[str, str], plan: Plan, value: bytes, places: Sequence[Place], rows: int, nulls: int) -> Any:
        if plan.dtype is None:
            raise OddError("no numbers")
        start, length = places[1]
        if length == 8 + rows * plan.dtype.itemsize and value.startswith(AS_IT_WAS, start):
            data = np.frombuffer(value, dtype=plan.dtype, count=rows, offset=start + 8)
        else:
            data = np.frombuffer(_buffer(value, places[1], rows * plan.dtype.itemsize), dtype=plan.dtype)
        return data if nulls == 0 else np.where(self._there(key, value, places[0], rows, nulls), data, np.nan)

    def _there(self, key: tuple[str, str], value: bytes, place: Place, rows: int, nulls: int) -> NDArray[np.bool_]:
        """Where there are values: mostly where they were in the message before."""
        own, last = value[place[0] : sum(place)], self._validity.get(key)
        if last is not None and last[:2] == (own, nulls) and len(last[2]) == rows:
            return last[2]
        bits = np.frombuffer(_buffer(value, place, -(-rows // 8)), dtype=np.uint8)
        there = np.unpackbits(bits, count=rows, bitorder="little").astype(np.bool_)
        if rows - np.count_nonzero(there) != nulls:
            raise OddError("another number of NULLs")
        self._validity[key] = (own, nulls, there)
        return there


@cache
def _wants(topic: str, wanted: tuple[str, ...]) -> list[_Want]:
    found, at = [], 0
    for number, (name, plan) in enumerate(plans(topic).items()):
        end = at + (3 if plan.width == 0 else 2)
        if name in wanted:
            found.append(_Want(plan, number, at, end, plan.width == 0 or name in SCHEMAS[topic].keys))
        at = end
    return found


def _text(value: bytes, places: Sequence[Place], rows: int, nulls: int) -> Any:
    """Text that is UTF-8 and stands where it is said to stand."""
    ends = _buffer(value, places[1], 8 * (rows + 1))
    letters = int(np.frombuffer(ends, dtype=np.int64)[-1])
    if not 0 <= letters <= MAX_LETTERS:
        raise OddError("more than is read this way")
    valid = pa.py_buffer(_buffer(value, places[0], -(-rows // 8))) if nulls else None
    data = _buffer(value, places[2], letters) if letters else b""
    array = pa.Array.from_buffers(pa.large_string(), rows, [valid, pa.py_buffer(ends), pa.py_buffer(data)])
    array.validate(full=True)
    if array.null_count != nulls:
        raise OddError("another number of NULLs")
    return array


def _buffer(value: bytes, place: Place, size: int) -> Any:
    """The bytes of a buffer, of which there must be `size`."""
    start, length = place
    if length < len(AS_IT_WAS):
        raise OddError("a buffer is missing")
    (stated,) = struct.unpack_from("<q", value, start)
    raw = memoryview(value)[start + 8 : start + length]
    if stated == -1 and len(raw) == size:
        return raw
    if stated != size:
        raise OddError("another length")
    return CODEC.decompress(raw, decompressed_size=size, asbytes=True)
