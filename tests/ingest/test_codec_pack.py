"""The fast way gives the very rows of the long way, or leaves the decision to it."""

import io
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import decode, encode, frame_of
from ingest.codec_pack import pack
from ingest.validate import AHEAD, check
from tests.factories import NOW

LATEST = NOW + AHEAD
ROWS = 5


def stamps(rows: int = ROWS) -> Any:
    return np.full(rows, np.datetime64(NOW.replace(tzinfo=None), "us"))


def gpu(rows: int = ROWS, **changes: Any) -> dict[str, Any]:
    return {
        "ts": stamps(rows),
        "node": pa.array([f"n{k}" for k in range(rows)], pa.large_string()),
        "gpu": np.arange(rows, dtype=np.int16),
        "power_w": np.linspace(0, 700, rows, dtype=np.float32),
        "temp_c": pa.array([None if k % 3 == 1 else 60.5 + k % 50 for k in range(rows)], pa.float32()),
        "energy_j": np.linspace(0, 1e9, rows),
        "clock_event_reasons": pa.array([None] * rows, pa.int64()),
        **changes,
    }


@pytest.mark.parametrize("rows", [1, 5, 8, 9, 1000])
def test_the_same_rows_as_by_the_long_way(rows: int) -> None:
    packed = pack("gpu", gpu(rows), LATEST)
    assert packed is not None
    frame = frame_of("gpu", gpu(rows))
    assert decode("gpu", packed, {}).equals(frame)
    assert pl.read_ipc_stream(io.BytesIO(packed)).equals(frame)
    own, theirs = (pa.ipc.open_stream(value).read_all() for value in (packed, encode("gpu", frame)))
    own.validate(full=True)
    assert own.schema == theirs.schema
    assert own == theirs


def test_kept_text_is_taken_again_and_other_text_is_not() -> None:
    names, others = (pa.array([f"{letter}{k}" for k in range(ROWS)], pa.large_string()) for letter in "ab")
    for node in (names, names, others, names):
        packed = pack("gpu", gpu(node=node), LATEST)
        assert packed is not None
        assert decode("gpu", packed, {})["node"].to_list() == node.to_pylist()


@pytest.mark.parametrize(
    "change",
    [
        {"power_w": np.array([1, 2, np.nan, 4, 5], dtype=np.float32)},
        {"power_w": np.array([1, 2, np.inf, 4, 5], dtype=np.float32)},
        {"power_w": np.array([1, 2, 5001, 4, 5], dtype=np.float32)},
        {"power_w": np.array([1, 2, -1, 4, 5], dtype=np.float32)},
        {"temp_c": pa.array([1, None, np.nan, 4, 5], pa.float32())},
        {"temp_c": pa.array([1, None, 201, 4, 5], pa.float32())},
        {"gpu": pa.array([1, None, 3, 4, 5], pa.int16())},
        {"node": pa.array(["a", None, "c", "d", "e"], pa.large_string())},
        {"clock_event_reasons": np.array([0, 0, -1, 0, 0])},
        {"ts": stamps() + np.timedelta64(25, "h")},
        {"ts": stamps() - np.timedelta64(20_000, "D")},
        {"ts": np.array(["NaT"] * ROWS, dtype="datetime64[us]")},
    ],
)
def test_what_is_not_allowed_is_left_to_the_check(change: dict[str, Any]) -> None:
    assert pack("gpu", gpu(**change), LATEST) is None
    assert check("gpu", frame_of("gpu", gpu(**change)), NOW, "test").rejected


@pytest.mark.parametrize(
    "change",
    [
        {"power_w": np.linspace(0, 700, ROWS)},
        {"power_w": [1.0] * ROWS},
        {"power_w": np.linspace(0, 700, 2 * ROWS, dtype=np.float32)[::2]},
        {"temp_c": pa.array([1.0] * ROWS)},
        {"temp_c": pa.array([1.0] * (ROWS + 1), pa.float32())[1:]},
        {"node": pa.array(["n"] * ROWS)},
        {"node": ["n"] * ROWS},
        {"backfilled": np.ones(ROWS, dtype=np.bool_)},
        {"ts": stamps().astype("datetime64[s]")},
    ],
)
def test_other_types_take_the_long_way(change: dict[str, Any]) -> None:
    assert pack("gpu", gpu(**change), LATEST) is None
    assert not check("gpu", frame_of("gpu", gpu(**change)), NOW, "test").rejected


def test_what_is_no_frame_takes_the_long_way() -> None:
    assert pack("gpu", {}, LATEST) is None
    assert pack("gpu", gpu(0), LATEST) is None
    assert pack("gpu", gpu(watts=np.zeros(ROWS)), LATEST) is None
    assert pack("gpu", gpu(power_w=np.zeros(ROWS + 1, dtype=np.float32)), LATEST) is None
    assert pack("actions", gpu(), LATEST) is None
    without = {name: column for name, column in gpu().items() if name != "node"}
    assert pack("gpu", without, LATEST) is None


@given(
    values=st.lists(st.none() | st.floats(-50, 5100, width=32), min_size=1, max_size=40),
    text=st.lists(st.none() | st.text(max_size=20), min_size=1, max_size=40),
    hours=st.integers(-1, 30),
)
def test_whatever_comes_both_ways_agree(values: list[float | None], text: list[str | None], hours: int) -> None:
    rows = min(len(values), len(text))
    latest: datetime = NOW + timedelta(hours=24)
    columns = gpu(
        rows,
        ts=stamps(rows) + np.timedelta64(hours, "h"),
        power_w=pa.array(values[:rows], pa.float32()),
        uuid=pa.array(text[:rows], pa.large_string()),
    )
    frame = frame_of("gpu", columns)
    packed = pack("gpu", columns, latest)
    assert (packed is None) == bool(check("gpu", frame, NOW, "test").rejected)
    assert packed is None or decode("gpu", packed, {}).equals(frame)
