"""Reading only what is wanted gives the very columns of `decode`, or leaves the decision to it."""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.schemas import SCHEMAS
from ingest import codec_unpack
from ingest.codec import decode, encode, frame_of
from ingest.codec_pack import pack
from ingest.codec_unpack import Unpacker
from ingest.records import CONTENT_JSON, Malformed
from ingest.validate import AHEAD
from tests.factories import NOW

ALL = tuple(column.name for column in SCHEMAS["gpu"].columns)
STAMP = np.datetime64(NOW.replace(tzinfo=None), "us")


def columns(rows: int, seed: int = 0, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "ts": np.full(rows, STAMP),
        "node": pa.array([f"n{k // 8}" for k in range(rows)], pa.large_string()),
        "gpu": (np.arange(rows) % 8).astype(np.int16),
        "state": pa.array([None if k % 5 == 1 else "ok" for k in range(rows)], pa.large_string()),
        "power_w": rng.uniform(0, 700, rows).astype(np.float32),
        "temp_c": pa.array([None if k % 3 == 1 else 60.0 + k % 50 for k in range(rows)], pa.float32()),
        "util_pct": np.full(rows, 100.0, dtype=np.float32),
        "energy_j": rng.uniform(0, 1e9, rows),
        "clock_event_reasons": pa.array([None if k % 7 == 2 else 4 for k in range(rows)], pa.int64()),
        **changes,
    }


def packed(given: dict[str, Any]) -> bytes:
    message = pack("gpu", given, NOW + AHEAD)
    assert message is not None
    return message


def assert_same(found: Any, frame: pl.DataFrame, wanted: tuple[str, ...] = ALL) -> None:
    """Columns as `decode` has them; those of NULLs only are left out."""
    assert set(found) == {name for name in wanted if frame[name].null_count() < frame.height}
    for name, column in found.items():
        if isinstance(column, np.ndarray):
            theirs = frame[name].to_physical()
            theirs = theirs.cast(pl.Float64) if theirs.null_count() else theirs
            assert np.array_equal(column, theirs.to_numpy(), equal_nan=column.dtype.kind == "f"), name
        else:
            assert column.to_pylist() == frame[name].to_list(), name


@pytest.mark.parametrize("rows", [1, 5, 8, 9, 1000, 8000])
def test_the_same_columns_as_by_the_long_way(rows: int) -> None:
    reader = Unpacker()
    for seed in range(3):
        message = packed(columns(rows, seed))
        assert_same(reader.columns("gpu", message, ALL), decode("gpu", message, {}))


def test_only_what_is_wanted_is_looked_into() -> None:
    message = packed(columns(100))
    found = Unpacker().columns("gpu", message, ("node", "power_w", "backfilled"))
    assert found is not None
    assert set(found) == {"node", "power_w"}


def test_names_that_were_there_before_are_the_same_object() -> None:
    reader = Unpacker()
    names = [pa.array([f"{letter}{k}" for k in range(20)], pa.large_string()) for letter in "ab"]
    seen = [reader.columns("gpu", packed(columns(20, k, node=names[k % 2])), ALL) for k in range(4)]
    first, second, third, fourth = [found["node"] for found in seen if found is not None]
    assert first is third
    assert second is fourth
    assert first.to_pylist() != second.to_pylist()


def test_names_are_forgotten_when_they_become_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_unpack, "MAX_KEPT", 2000)
    reader = Unpacker()
    for k in range(50):
        message = packed(columns(16, node=pa.array([f"{k}-{i}" for i in range(16)], pa.large_string())))
        assert_same(reader.columns("gpu", message, ALL), decode("gpu", message, {}))
        assert len(reader._names) < 20


def test_other_messages_take_the_long_way() -> None:
    frame = frame_of("gpu", columns(10))
    reader = Unpacker()
    assert reader.columns("gpu", encode("gpu", frame), ALL) is None
    assert reader.columns("server", packed(columns(10)), ("node",)) is None
    assert reader.columns("actions", packed(columns(10)), ("node",)) is None
    assert reader.columns("gpu", b"", ALL) is None
    theirs = reader.read("gpu", encode("gpu", frame), {}, ALL)
    assert isinstance(theirs, pl.DataFrame)
    assert theirs.equals(frame)


def test_headers_are_obeyed() -> None:
    message = packed(columns(10))
    with pytest.raises(Malformed, match="schema version"):
        Unpacker().read("gpu", message, {"schema_version": "2"}, ALL)
    with pytest.raises(Malformed, match="JSON"):
        Unpacker().read("gpu", message, {"content-type": CONTENT_JSON}, ALL)


@given(at=st.integers(0), bits=st.integers(1, 255), cut=st.integers(0, 40), rows=st.sampled_from([3, 2000]))
@settings(max_examples=300)
def test_whatever_is_damaged_is_read_as_by_the_long_way_or_left_to_it(at: int, bits: int, cut: int, rows: int) -> None:
    whole = packed(columns(rows))
    message = bytearray(whole)
    message[at % len(message)] ^= bits
    damaged = bytes(message[: len(message) - (cut if at % 7 == 0 else 0)])
    reader = Unpacker()
    reader.columns("gpu", packed(columns(rows, 1)), ALL)
    found = reader.columns("gpu", damaged, ALL)
    if found is not None:
        try:
            frame = decode("gpu", damaged, {})
        except Malformed:
            frame = decode("gpu", whole, {})  # the damage is in the values of a column of NULLs only: nobody looks at them
        assert_same(found, frame)


@given(
    values=st.lists(st.none() | st.floats(0, 5000, width=32), min_size=1, max_size=40),
    text=st.lists(st.none() | st.text(max_size=20), min_size=1, max_size=40),
)
def test_whatever_is_packed_is_unpacked(values: list[float | None], text: list[str | None]) -> None:
    rows = min(len(values), len(text))
    message = packed(
        columns(rows, power_w=pa.array(values[:rows], pa.float32()), uuid=pa.array(text[:rows], pa.large_string()))
    )
    assert_same(Unpacker().columns("gpu", message, ALL), decode("gpu", message, {}))
