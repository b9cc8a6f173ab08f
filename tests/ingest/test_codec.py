"""Frames and records as bytes. The log is not trusted: whatever stands in it, reading raises Malformed or returns rows."""

import io
import json
from datetime import timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.control import Action, Alert, Claim, ClockCap, Decision, Outcome, Raise, Rejected, Revert, Weights
from contracts.schemas import SCHEMAS
from ingest.codec import DTYPES, Malformed, decode, decode_rows, encode, frame_of
from ingest.records import decode_record, encode_record, sample_of
from tests.factories import NOW

JSON = {"content-type": "application/json; charset=utf-8"}


def gpu_columns(rows: int = 3) -> dict[str, Any]:
    return {
        "ts": [NOW] * rows,
        "node": ["n1"] * rows,
        "gpu": list(range(rows)),
        "power_w": [500.5] * rows,
        "temp_c": [60, None, 61.5][:rows],
    }


@pytest.mark.parametrize("topic", SCHEMAS)
def test_a_frame_has_every_declared_column(topic: str) -> None:
    frame = frame_of(topic, {})
    assert frame.schema == {column.name: DTYPES[column.dtype] for column in SCHEMAS[topic].columns}
    assert decode(topic, encode(topic, frame), {}).equals(frame)


def test_missing_columns_are_null_and_times_naive_utc() -> None:
    east = timezone(timedelta(hours=2))
    frame = frame_of("gpu", gpu_columns() | {"ts": [NOW.astimezone(east), NOW, NOW.replace(tzinfo=None)]})
    assert frame["ts"].to_list() == [NOW.replace(tzinfo=None)] * 3
    assert frame["temp_c"].to_list() == [60.0, None, 61.5]
    assert frame["uuid"].to_list() == [None] * 3
    assert decode("gpu", encode("gpu", frame), {}).equals(frame)


def test_arrays_of_any_width_are_taken() -> None:
    columns = {
        "ts": np.array(["2026-07-15T14:00:00"] * 2, dtype="datetime64[s]"),
        "node": np.array(["a", "b"]),
        "gpu": np.array([0, 1], dtype=np.uint8),
        "power_w": np.array([1, 2], dtype=np.int64),
    }
    frame = frame_of("gpu", columns)
    assert frame["gpu"].to_list() == [0, 1]
    assert frame["power_w"].to_list() == [1.0, 2.0]
    assert frame["ts"][0] == NOW.replace(tzinfo=None)


def test_a_number_that_is_too_wide_is_clipped_for_validation_to_reject() -> None:
    frame = frame_of("gpu", gpu_columns() | {"gpu": [0, 99_999, -99_999], "power_w": [1e300, 1.0, 1.0]})
    assert frame["gpu"].to_list() == [0, 32_767, -32_768]
    assert frame["power_w"][0] == float("inf")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"watts": [1.0] * 3}, "unknown column 'watts'"),
        ({"power_w": ["high"] * 3}, "column power_w holds no Float32"),
        ({"node": [1, 2, 3]}, "column node holds no String"),
        ({"gpu": np.array([0.5, 1.5, 2.5])}, "column gpu is Float64, wanted is Int16"),
        ({"power_w": [1.0]}, "columns of unequal length"),
    ],
)
def test_columns_that_do_not_fit_are_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Malformed, match=f"gpu: .*{reason}|gpu: {reason}"):
        frame_of("gpu", gpu_columns() | change)


def test_forecasts_keep_their_lists() -> None:
    frame = frame_of(
        "forecasts",
        {
            "ts": [NOW],
            "forecast_id": ["f"],
            "target": ["power"],
            "series": ["row-1"],
            "model": ["ridge"],
            "champion": [True],
            "data_until": [NOW],
            "unit": ["W"],
            "valid_at": [(NOW, NOW + timedelta(minutes=5))],
            "levels": [(0.5, 0.99)],
            "values": [[1.0, 2.0, 3.0, 4.0]],
            "degradations": [()],
        },
    )
    again = decode("forecasts", encode("forecasts", frame), {})
    assert again.equals(frame)
    assert again["valid_at"][0].to_list() == [NOW.replace(tzinfo=None), NOW.replace(tzinfo=None) + timedelta(minutes=5)]
    assert again["degradations"][0].to_list() == []


def test_rows_of_other_peoples_producers_are_json() -> None:
    rows = [{"ts": "2026-07-15T16:00:00+02:00", "node": "n", "gpu": 1, "power_w": 400}]
    for value in (json.dumps(rows).encode(), json.dumps(rows[0]).encode(), b" \n" + json.dumps(rows).encode()):
        for headers in (JSON, {}):
            frame = decode("gpu", value, headers)
            assert frame["ts"].to_list() == [NOW.replace(tzinfo=None)]
            assert frame["power_w"].to_list() == [400.0]


def test_a_json_row_that_does_not_fit_costs_only_itself() -> None:
    good = {"ts": "2026-07-15T14:00:00Z", "node": "n", "gpu": 1}
    rows = [good, {**good, "gpu": 99_999}, {**good, "power_w": "high"}, {**good, "watts": 1}, 7, good]
    frame, bad = decode_rows("gpu", json.dumps(rows).encode(), JSON)
    assert frame.height == 2
    assert [b.reason.split(": ", 1)[1] for b in bad] == [
        "Expected `int` <= 1023 - at `$.gpu`",
        "Expected `float | null`, got `str` - at `$.power_w`",
        "Object contains unknown field `watts`",
        "Expected `object`, got `int`",
    ]
    assert json.loads(bad[3].sample) == 7
    with pytest.raises(Malformed, match="1023"):
        decode("gpu", json.dumps(rows).encode(), JSON)


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (b"", {}, "no readable Arrow stream"),
        (b"garbage, long enough to look like something", {}, "no readable Arrow stream"),
        (b"[{]", {}, "no readable JSON"),
        (b"\xff\xfe", JSON, "no readable JSON|got|Expected|malformed|UTF-8"),
        (b"[]", {"schema_version": "2"}, "unknown schema version '2': this program knows 1"),
    ],
)
def test_garbage_is_malformed(value: bytes, headers: dict[str, str], reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        decode("gpu", value, headers)


def arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_arrow_of_other_peoples_producers_is_cast() -> None:
    table = pa.table(
        {
            "node": pa.array(["a", "b"]).dictionary_encode(),
            "gpu": pa.array([1, 2], pa.int64()),
            "ts": pa.array([NOW, NOW], pa.timestamp("ns", "Europe/Berlin")),
            "power_w": pa.array([1.5, None], pa.float64()),
        }
    )
    frame = decode("gpu", arrow(table), {})
    assert frame["node"].to_list() == ["a", "b"]
    assert frame["ts"].to_list() == [NOW.replace(tzinfo=None)] * 2
    assert frame["power_w"].to_list() == [1.5, None]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ({"watts": [1.0]}, "unknown column 'watts'"),
        ({"node": [{"a": 1}]}, "column node has the type struct"),
        ({"power_w": ["high"]}, "column power_w is String, wanted is Float32"),
    ],
)
def test_arrow_that_does_not_fit_is_named(column: dict[str, Any], reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        decode("gpu", arrow(pa.table(column)), {})


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_corrupt_arrow_never_does_more_than_be_malformed(data: st.DataObject) -> None:
    value = bytearray(encode("gpu", frame_of("gpu", gpu_columns())))
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(value)))
    try:
        frame = decode("gpu", bytes(value[:cut]), {})
    except Malformed:
        return
    assert frame.schema == frame_of("gpu", {}).schema


@settings(max_examples=100, deadline=None)
@given(value=st.binary(max_size=400))
def test_any_bytes_are_rows_or_malformed(value: bytes) -> None:
    for headers in ({}, JSON):
        try:
            assert isinstance(decode("facility", value, headers), pl.DataFrame)
        except Malformed:
            continue


def test_encoding_refuses_a_frame_of_another_schema() -> None:
    with pytest.raises(ValueError, match="frame_of"):
        encode("gpu", pl.DataFrame({"node": ["a"]}))


RECORDS = {
    "decisions": Decision(
        decision_id="d", at=NOW, policy="routing", target="weights/chat", value=Weights(endpoint="chat", shares={"a": 1.0})
    ),
    "actions": Action(
        action_id="a",
        at=NOW,
        created_wall=NOW,
        node="n",
        target="clock_cap/n",
        value=ClockCap(max_mhz=1200),
        lease_s=60,
        epoch=3,
    ),
    "outcomes": Outcome(action_id="a", at=NOW, node="n", target="clock_cap/n", status="applied", after="1200"),
    "alerts": Alert(
        alert_id="x", at=NOW, status="firing", alertname="RowPower", severity="critical", series="row-1", probability=0.3
    ),
    "leadership": Claim(controller="host/1", at=NOW),
    "rejected": Rejected(at=NOW, topic="gpu", source="s", reason="power_w is NaN", rows=3),
}


@pytest.mark.parametrize("topic", RECORDS)
def test_a_record_comes_back_equal(topic: str) -> None:
    assert decode_record(topic, encode_record(RECORDS[topic])) == RECORDS[topic]


@pytest.mark.parametrize("value", [Revert(), Raise(alertname="A", severity="warning", labels={}, annotations={"a": "b"})])
def test_every_value_of_an_action_comes_back(value: Any) -> None:
    action = Action(action_id="a", at=NOW, created_wall=NOW, node="n", target="t", value=value, lease_s=1, epoch=1)
    assert decode_record("actions", encode_record(action)) == action


@pytest.mark.parametrize(
    ("topic", "value", "headers", "reason"),
    [
        ("actions", b"{}", {}, "actions: Object missing required field `action_id`"),
        ("actions", encode_record(RECORDS["actions"]).replace(b":60", b":-60"), {}, "lease_s"),
        ("outcomes", b"nonsense", {}, "outcomes: JSON is malformed"),
        ("outcomes", b'"\xff"', {}, "outcomes: "),
        ("gpu", b"{}", {}, "topic gpu carries no records"),
        ("leadership", encode_record(RECORDS["leadership"]), {"schema_version": "99"}, "unknown schema version '99'"),
    ],
)
def test_a_record_that_is_none_is_malformed(topic: str, value: bytes, headers: dict[str, str], reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        decode_record(topic, value, headers)


def test_a_sample_is_text_of_bounded_length() -> None:
    assert sample_of(b"\xff" * 10_000).startswith("\\xff\\xff")
    assert len(sample_of(b"\xff" * 10_000)) == 2000
