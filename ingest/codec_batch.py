"""The messages that `codec_pack` writes and `codec_unpack` reads: an Arrow IPC stream of a schema, one record batch, its end.

A record batch's header is a FlatBuffer of fixed shape, so it is packed as such (Arrow columnar format 1.x: Message.fbs,
Schema.fbs). Each column has a node (rows, NULLs) and buffers: validity, then values, or where texts end and their letters.
"""

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from contracts.schemas import SCHEMAS, Column
from ingest.codec import encode, frame_of

CODEC = pa.Codec("zstd", -1)
"""measurements get hardly smaller at a higher level, which takes several times as long; names would not at lz4"""
AS_IT_WAS = struct.pack("<q", -1)
"""stands before a buffer that is not compressed, in the place of its length"""
END = struct.pack("<Ii", 0xFFFFFFFF, 0)
_LEAD = struct.Struct("<Ii")
_DTYPE = {"ts": "int64", "f64": "float64", "f32": "float32", "i64": "int64", "i32": "int32", "i16": "int16"}
_ARROW = {"f64": pa.float64(), "f32": pa.float32(), "i64": pa.int64(), "i32": pa.int32(), "i16": pa.int16(), "bool": pa.bool_()}

Buffer = tuple[int, Any, Any]
"""length, and the two pieces (bytes, numpy array or Arrow buffer) that a buffer of the body consists of"""
NONE: Buffer = (0, b"", b"")


class Packed(NamedTuple):
    """A column of a message."""

    nulls: int
    lengths: Sequence[int]
    """of its buffers"""
    pieces: Sequence[Any]
    """what the buffers consist of, each filled up to a multiple of 8 bytes"""


def packed(nulls: int, *buffers: Buffer, kept: bool = False) -> Packed:
    """Return a column of these buffers; `kept` = it will be written more than once."""
    pieces = []
    for length, *own in buffers:
        pieces += own
        if length % 8:
            pieces.append(bytes(-length % 8))
    return Packed(nulls, [buffer[0] for buffer in buffers], [b"".join(pieces)] if kept else pieces)


class Plan(NamedTuple):
    """A declared column, as it is looked at for each frame."""

    column: Column
    dtype: Any
    """of numpy, timestamps as integers; None = text or what cannot come this way"""
    arrow: Any
    """large_string for text"""
    width: int
    """bits of a value; 0 = text, -1 = lists, which do not come this way"""
    low: float
    high: float
    """finite bounds: what is NaN or infinite lies outside"""
    bits: Any
    """unsigned integers as wide as a value"""
    most_bits: int
    """where `low` is 0: the bits of `high`, taken as an unsigned integer; what is below 0 or not finite has higher ones"""


class Batch(NamedTuple):
    """Where everything stands in a message."""

    rows: int
    nulls: Sequence[int]
    """by column"""
    places: Sequence[tuple[int, int]]
    """offset in the message and length of each buffer"""
    header: bytes
    length: int
    """of the message"""


@cache
def plans(topic: str) -> dict[str, Plan]:
    """Return how each declared column is looked at; nothing for a topic without columns."""
    return {c.name: _plan(c) for c in SCHEMAS[topic].columns} if topic in SCHEMAS else {}


def _plan(column: Column) -> Plan:
    name, most = _DTYPE.get(column.dtype), float(np.finfo(np.float64).max)
    dtype = np.dtype(name) if name else None
    width = {"str": 0, "bool": 1}.get(column.dtype, 8 * dtype.itemsize if dtype else -1)
    arrow = pa.large_string() if width == 0 else _ARROW.get(column.dtype)
    low = -most if column.low is None else column.low
    high = most if column.high is None else column.high
    bits = np.dtype(f"u{dtype.itemsize}") if dtype else None
    return Plan(column, dtype, arrow, width, low, high, bits, _bits(dtype, high) if dtype and low == 0 else -1)


def _bits(dtype: Any, high: float) -> int:
    """The bits of the greatest number that is not above `high`."""
    if dtype.kind == "i":
        return int(min(high, np.iinfo(dtype).max))
    greatest = dtype.type(min(high, float(np.finfo(dtype).max)))
    if greatest > high:
        greatest = np.nextafter(greatest, dtype.type(0))
    return int(greatest.view(f"u{dtype.itemsize}"))


@cache
def schema(topic: str) -> bytes:
    """The schema message, as `encode` writes it."""
    with pa.ipc.open_stream(encode(topic, frame_of(topic, {}))) as reader:
        return bytes(reader.schema.serialize())


_headers: dict[str, tuple[list[int], list[int], bytes]] = {}
"""topic -> nodes and places of the newest message, and how it began"""


def write(topic: str, rows: int, columns: Sequence[Packed]) -> bytes:
    """Return the message: each buffer begins at a multiple of 8 bytes."""
    nodes: list[int] = []
    places: list[int] = []
    body: list[Any] = []
    at = 0
    for nulls, lengths, pieces in columns:
        nodes += (rows, nulls)
        for length in lengths:
            places += (at, length)
            at += length + 7 & ~7
        body += pieces
    last = _headers.get(topic)
    if last is None or last[:2] != (nodes, places):
        header = _header(rows, nodes, places, at)
        last = _headers[topic] = (nodes, places, schema(topic) + _LEAD.pack(0xFFFFFFFF, len(header)) + header)
    return b"".join([last[2], *body, END])


def read(topic: str, value: bytes, last: Batch | None = None) -> Batch | None:
    """Return where everything stands in a message of `write`; None for any other. `last` = another of the topic's.

    Every number of the header is known from its vectors: it must be the very header that `write` makes of them.
    """
    head = schema(topic)
    start = len(head) + _LEAD.size
    if not value.startswith(head) or not value.endswith(END) or len(value) < start + _VECTORS + 4:
        return None
    if last is not None and len(value) == last.length and value.startswith(last.header, start):
        return last
    _, size = _LEAD.unpack_from(value, start - _LEAD.size)
    (columns,) = struct.unpack_from("<I", value, start + _VECTORS)
    kinds = plans(topic).values()
    buffers = sum(3 if plan.width == 0 else 2 for plan in kinds)
    after = _VECTORS + 4 + 16 * len(kinds) + 4
    if columns != len(kinds) or size != after + 4 + 16 * buffers or len(value) < start + size:
        return None
    nodes = struct.unpack_from(f"<{2 * columns}q", value, start + _VECTORS + 4)
    places = struct.unpack_from(f"<{2 * buffers}q", value, start + after + 4)
    begin, body = start + size, len(value) - start - size - len(END)
    rows = nodes[0]
    if body < 0 or value[start : start + size] != _header(rows, nodes, places, body):
        return None
    found, at = [], 0
    for offset, length in zip(places[::2], places[1::2], strict=True):  # one stands after the other
        if offset != at or length < 0:
            return None
        found.append((begin + at, length))
        at += length + -length % 8
    header = value[start : start + size]
    return Batch(rows, nodes[1::2], found, header, len(value)) if at == body and all(n == rows for n in nodes[::2]) else None


_HEADER = struct.Struct("<I 6H I hBx I4x q 6H I q III 3H2x I b3x")
"""root | vtable, table of Message | vtable, table of RecordBatch | vtable, table of BodyCompression; the vectors follow"""
_MESSAGE, _RECORD_BATCH, _COMPRESSION, _VECTORS = 16, 52, 84, 92
"""where the tables and the first vector begin"""
_VERSION_5, _IS_RECORD_BATCH, _ZSTD = 4, 3, 1
"""values of the format's enumerations"""


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
