"""Frames of the columnar topics as bytes and back: Arrow IPC streams (zstd), and JSON rows from other people's producers.

Bytes from the log are not trusted: a message that cannot be read raises Malformed and nothing else. Arrow is read through
pyarrow with full validation before polars sees it, because polars' own reader aborts on corrupt streams.
"""

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contracts.schemas import SCHEMAS, Column, Dtype, Schema
from ingest.records import CONTENT_ARROW, CONTENT_JSON, Malformed, check_version, sample_of

__all__ = ["CONTENT_ARROW", "CONTENT_JSON", "DTYPES", "BadRow", "Malformed", "decode", "decode_rows", "encode", "frame_of"]

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]

TIMESTAMP = pl.Datetime("us")
DTYPES: dict[Dtype, pl.DataType] = {
    "ts": TIMESTAMP,
    "str": pl.String(),
    "f64": pl.Float64(),
    "f32": pl.Float32(),
    "i64": pl.Int64(),
    "i32": pl.Int32(),
    "i16": pl.Int16(),
    "bool": pl.Boolean(),
    "list_ts": pl.List(TIMESTAMP),
    "list_f64": pl.List(pl.Float64),
    "list_str": pl.List(pl.String),
}
_INT_BITS: dict[Dtype, int] = {"i64": 64, "i32": 32, "i16": 16}
_PYTHON: dict[Dtype, Any] = {
    "ts": datetime,
    "str": str,
    "f64": float,
    "f32": float,
    "i64": int,
    "i32": int,
    "i16": int,
    "bool": bool,
    "list_ts": list[datetime],
    "list_f64": list[float],
    "list_str": list[str],
}


class BadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON row that does not fit the schema: why, and its beginning as text."""

    reason: str
    sample: str


def frame_of(topic: str, columns: Columns) -> pl.DataFrame:
    """Return the columns as a frame with all declared columns of `topic`, in their order and dtypes.

    Missing columns become NULL, aware datetimes naive UTC microseconds. Numbers may be of any width: integers beyond the
    declared one are clipped to its ends and floats to infinity, which validation then rejects by row. Raises Malformed for
    an unknown column, a column of another kind, or columns of unequal length.
    """
    schema = _schema(topic)
    _check_names(schema, list(columns))
    lengths = {name: len(values) for name, values in columns.items()}
    height = next(iter(lengths.values()), 0)
    if any(length != height for length in lengths.values()):
        raise Malformed(f"{topic}: columns of unequal length: {', '.join(f'{n} {k}' for n, k in lengths.items())}")
    return _fitted(schema, {name: _series(topic, schema.column(name), values) for name, values in columns.items()}, height)


def encode(topic: str, frame: pl.DataFrame) -> bytes:
    """Return a frame with exactly the declared columns as an Arrow IPC stream, zstd-compressed, readable by any Arrow."""
    declared = {column.name: DTYPES[column.dtype] for column in _schema(topic).columns}
    if dict(frame.schema) != declared:
        different = {k: v for k, v in frame.schema.items() if declared.get(k) != v} or set(declared) - set(frame.columns)
        raise ValueError(f"{topic}: frame is not of the declared schema: {different}; make it by frame_of")
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="zstd", compat_level=pl.CompatLevel.oldest())
    return buffer.getvalue()


def decode(topic: str, value: bytes, headers: Mapping[str, str]) -> pl.DataFrame:
    """Return the rows of a message as a frame with all declared columns; Malformed when any of it cannot be read."""
    frame, bad = decode_rows(topic, value, headers)
    if bad:
        raise Malformed(bad[0].reason)
    return frame


def decode_rows(topic: str, value: bytes, headers: Mapping[str, str]) -> tuple[pl.DataFrame, tuple[BadRow, ...]]:
    """As `decode`, but a JSON row that does not fit costs only itself: it comes back as a BadRow."""
    schema = _schema(topic)
    check_version(headers)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == CONTENT_JSON or (kind != CONTENT_ARROW and value.lstrip()[:1] in (b"[", b"{")):
        return _json_rows(schema, value)
    return _arrow_frame(schema, value), ()


def _schema(topic: str) -> Schema:
    if topic not in SCHEMAS:
        raise Malformed(f"topic {topic} carries no columns; there are {', '.join(SCHEMAS)}")
    return SCHEMAS[topic]


def _check_names(schema: Schema, names: Sequence[str]) -> None:
    known = {column.name for column in schema.columns}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Malformed(f"{schema.topic}: unknown column {unknown[0][:80]!r}; known are {', '.join(sorted(known))}")
    if len(set(names)) < len(names):
        raise Malformed(f"{schema.topic}: a column stands twice: {', '.join(names)}")


def _fitted(schema: Schema, given: Mapping[str, pl.Series], height: int) -> pl.DataFrame:
    return pl.DataFrame(
        [
            _fit(schema.topic, column, given[column.name])
            if column.name in given
            else pl.Series(column.name, [None], dtype=DTYPES[column.dtype]).new_from_index(0, height)
            for column in schema.columns
        ]
    )


def _fit(topic: str, column: Column, series: pl.Series) -> pl.Series:
    """Cast within a kind (numbers to numbers, text to text); another kind is Malformed."""
    wanted, found = DTYPES[column.dtype], series.dtype
    if found == wanted:
        return series
    if found == pl.Null:
        return series.cast(wanted)
    if column.dtype == "ts" and isinstance(found, pl.Datetime):
        instants = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if found.time_zone else series
        return instants.dt.cast_time_unit("us")
    if column.dtype in _INT_BITS and found.is_integer():
        half = 1 << (_INT_BITS[column.dtype] - 1)
        # Only as far as the given type can hold the bound at all.
        low, high = max(-half, series.lower_bound().item()), min(half - 1, series.upper_bound().item())
        return series.clip(low, high).cast(wanted)
    inner = found.inner if isinstance(found, pl.List | pl.Array) else None
    suits = (
        (column.dtype in ("f32", "f64") and found.is_numeric())
        or (column.dtype == "str" and found in (pl.Categorical, pl.Enum))
        or (column.dtype == "list_f64" and inner is not None and (inner == pl.Null or inner.is_numeric()))
        or (column.dtype == "list_ts" and (inner == pl.Null or isinstance(inner, pl.Datetime)))
        or (column.dtype == "list_str" and inner == pl.Null)
    )
    if not suits:
        raise Malformed(f"{topic}: column {column.name} is {found}, wanted is {wanted}")
    return series.cast(wanted)


def _series(topic: str, column: Column, values: Sequence[Any] | NDArray[Any]) -> pl.Series:
    """Turn a Python sequence, numpy or pyarrow array into a series without guessing types from its first value."""
    if isinstance(values, pa.Array):
        return pl.Series(column.name, values)
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "M":
            return pl.Series(column.name, values.astype("datetime64[us]"))
        if values.dtype.kind != "O":
            return pl.Series(column.name, values)
        values = values.tolist()
    if column.dtype == "ts":
        values = [_naive(v) for v in values]
    # Integers of any width first: what is too wide is clipped by _fit instead of costing the batch.
    dtype = pl.Int64() if column.dtype in _INT_BITS else DTYPES[column.dtype]
    try:
        return pl.Series(column.name, values, dtype=dtype)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise Malformed(f"{topic}: column {column.name} holds no {dtype}: {str(error).splitlines()[0]}") from error


def _naive(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) and value.tzinfo else value


def _arrow_frame(schema: Schema, value: bytes) -> pl.DataFrame:
    try:
        with pa.ipc.open_stream(value) as reader:
            _check_names(schema, reader.schema.names)
            ours = reader.schema.equals(_own_schema(schema.topic))
            for field in () if ours else reader.schema:
                if not _readable(field.type):
                    raise Malformed(f"{schema.topic}: column {field.name} has the type {field.type}, which nothing here has")
            table = reader.read_all()
        table.validate(full=True)
        if not ours:
            # A zone is only a name beside the instant; polars would look it up, and a corrupt one ends in a panic.
            table = table.cast(pa.schema([pa.field(f.name, _zoneless(f.type)) for f in table.schema]), safe=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        text = " ".join(str(error).split())[:200]
        raise Malformed(f"{schema.topic}: no readable Arrow stream: {text or type(error).__name__}") from error
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  (from_arrow of a table)
    return _fitted(schema, {s.name: s for s in frame}, table.num_rows)


@cache
def _own_schema(topic: str) -> pa.Schema:
    """The Arrow schema of what `encode` writes."""
    with pa.ipc.open_stream(encode(topic, frame_of(topic, {}))) as reader:
        return reader.schema


def _readable(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return not pa.types.is_nested(kind.value_type) and _readable(kind.value_type)
    if pa.types.is_dictionary(kind):
        return bool(pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_timestamp,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_null,
    )
    return any(test(kind) for test in tests)


def _zoneless(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_zoneless(kind.value_type))
    return kind


@cache
def _row_decoder(topic: str) -> msgspec.json.Decoder[Any]:
    """A typed decoder of one JSON row: every declared column optional, nothing else allowed, numbers in their bounds."""
    fields = []
    for column in SCHEMAS[topic].columns:
        kind = _PYTHON[column.dtype]
        if column.dtype in _INT_BITS:
            half = 1 << (_INT_BITS[column.dtype] - 1)
            kind = _bounded(kind, max(column.low or -half, -half), min(column.high or half - 1, half - 1))
        fields.append((column.name, kind | None, None))
    return msgspec.json.Decoder(msgspec.defstruct(f"{topic}_row", fields, forbid_unknown_fields=True))


def _bounded(kind: Any, low: float, high: float) -> Any:
    return Annotated[kind, msgspec.Meta(ge=int(low), le=int(high))]


def _json_rows(schema: Schema, value: bytes) -> tuple[pl.DataFrame, tuple[BadRow, ...]]:
    try:
        several = value.lstrip()[:1] == b"["
        raw_rows = msgspec.json.decode(value, type=list[msgspec.Raw]) if several else [msgspec.Raw(value)]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Malformed(f"{schema.topic}: no readable JSON: {error}") from error
    rows: list[Any] = []
    bad: list[BadRow] = []
    for raw in raw_rows:
        try:
            rows.append(_row_decoder(schema.topic).decode(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            bad.append(BadRow(reason=f"{schema.topic}: {error}", sample=sample_of(bytes(raw))))
    columns = {c.name: [getattr(row, c.name) for row in rows] for c in schema.columns}
    return frame_of(schema.topic, columns), tuple(bad)
