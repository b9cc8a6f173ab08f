import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.schemas import REQUESTS
from ingest.codec import frame_of
from ingest.exporters.request_rows import BadLineError, RequestParser, RequestRow, columns_of

DATA = Path(__file__).parents[2] / "data"
PARSER = RequestParser(nodes={"10.0.0.7": "r0s1"})
LINE: dict[str, Any] = {
    "request_id": "abc",
    "endpoint": "chat",
    "start_time": "2026-07-15T14:00:00Z",
    "end_time": "2026-07-15T16:00:02.5+02:00",
    "gen_ai.request.model": "llama2-70b",
    "gen_ai.usage.input_tokens": 640,
    "gen_ai.usage.output_tokens": 60,
    "gen_ai.usage.cache_read.input_tokens": 16,
    "gen_ai.server.time_to_first_token": 0.2,
    "gen_ai.server.time_per_output_token": 0.03,
    "server.address": "10.0.0.7",
    "status": "ok",
}


def parse(parser: RequestParser = PARSER, **changes: Any) -> RequestRow:
    line = {name: value for name, value in {**LINE, **changes}.items() if value is not None}
    row = parser.parse(json.dumps(line).encode())
    assert row is not None
    return row


def test_reads_every_name_of_the_contract() -> None:
    assert parse() == RequestRow(
        ts=datetime(2026, 7, 15, 14, 0, 2, 500_000, tzinfo=UTC),
        request_id="abc",
        endpoint="chat",
        model="llama2-70b",
        node="r0s1",
        received_at=datetime(2026, 7, 15, 14, 0, tzinfo=UTC),
        status="ok",
        prompt_tokens=640,
        output_tokens=60,
        cached_tokens=16,
        ttft_s=0.2,
        tbt_s=0.03,
        e2e_s=2.5,
    )


def test_rows_fit_the_schema_and_cover_it() -> None:
    frame = frame_of("requests", columns_of([parse()]))
    assert frame.height == 1
    assert set(columns_of([])) == {column.name for column in REQUESTS.columns} - {"weight"}


def test_attributes_may_stand_in_an_object_of_their_own() -> None:
    outside = {name: LINE[name] for name in ("request_id", "start_time", "end_time")}
    inside = {name: value for name, value in LINE.items() if name not in outside}
    assert PARSER.parse(json.dumps({**outside, "attributes": inside}).encode()) == parse()


@pytest.mark.parametrize(
    "times",
    [
        {"start_time": 1784124000, "end_time": 1784124002.5},
        {
            "start_time": None,
            "end_time": None,
            "start_time_unix_nano": 1784124000 * 10**9,
            "end_time_unix_nano": "1784124002500000000",
        },
        {"end_time": None, "gen_ai.server.request.duration": 2.5},
    ],
)
def test_times_come_in_three_ways(times: dict[str, Any]) -> None:
    assert parse(**times) == parse()


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"status": None}, "ok"),
        ({"status": None, "http.response.status_code": 200}, "ok"),
        ({"status": None, "http.response.status_code": 429}, "rejected"),
        ({"status": None, "http.response.status_code": 500}, "error"),
        ({"status": None, "error.type": "timeout"}, "error"),
    ],
)
def test_status_is_derived_where_it_is_not_given(changes: dict[str, Any], wanted: str) -> None:
    assert parse(**changes).status == wanted


def test_the_endpoint_is_the_lines_own_else_the_settings_else_the_model() -> None:
    assert parse(endpoint=None).endpoint == "llama2-70b"
    assert parse(RequestParser(endpoint="search", nodes={}), endpoint=None).endpoint == "search"
    assert parse(RequestParser(endpoint="search", nodes={})).endpoint == "chat"
    assert parse(PARSER, endpoint=None, **{"service.name": "summary"}).endpoint == "summary"


def test_an_address_without_an_entry_stays_as_it_is() -> None:
    assert parse(PARSER, **{"server.address": "10.9.9.9"}).node == "10.9.9.9"
    assert parse(PARSER, **{"server.address": None}).node is None


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b'{"request_id": "abc"', "no JSON"),
        (b"[1, 2]", "no JSON object"),
        (json.dumps({**LINE, "request_id": ""}), "no request_id or gen_ai.response.id"),
        (json.dumps({**LINE, "request_id": 7}), "request_id 7 is no text"),
        (json.dumps({**LINE, "end_time": "2026-07-15T14:00:00"}), "has no zone"),
        (json.dumps({**LINE, "end_time": "yesterday"}), "'yesterday' is no RFC 3339 time"),
        (json.dumps({**LINE, "end_time": 1784124002500}), "is no time since 1970"),
        (json.dumps({name: value for name, value in LINE.items() if "time" not in name}), "no time of end"),
        (json.dumps({**LINE, "end_time": "2026-07-15T13:59:59Z"}), "e2e_s -1.0 is outside 0 .. 604800"),
        (json.dumps({**LINE, "gen_ai.usage.input_tokens": -3}), "prompt_tokens -3 is outside"),
        (json.dumps({**LINE, "gen_ai.usage.input_tokens": 3.5}), "gen_ai.usage.input_tokens 3.5 is no whole number"),
        (json.dumps({**LINE, "gen_ai.usage.output_tokens": "60"}), "gen_ai.usage.output_tokens '60' is no number"),
        (json.dumps({**LINE, "gen_ai.usage.output_tokens": 10**400}), "beyond all bounds"),
        (json.dumps({**LINE, "status": "success"}), "allowed are ok, error, rejected"),
        (b'{"event":{"schema":"dynamo.request.trace.v9"}}', "'dynamo.request.trace.v9' is not known"),
    ],
)
def test_a_bad_line_says_what_is_wrong_with_it(line: bytes | str, wanted: str) -> None:
    with pytest.raises(BadLineError) as caught:
        PARSER.parse(line if isinstance(line, bytes) else line.encode())
    assert wanted in str(caught.value)


def test_reads_the_recorded_trace_of_ai_dynamo() -> None:
    parser = RequestParser(endpoint="chat", nodes={"8609397047251157071": "r0s0"})
    rows = [parser.parse(line) for line in (DATA / "dynamo_request_trace.jsonl").read_bytes().splitlines()]
    assert [row.prompt_tokens for row in rows if row] == [30, 4, 220, 540, 150]
    first = rows[0]
    assert first is not None
    assert (first.node, first.status, first.output_tokens, first.cached_tokens) == ("r0s0", "ok", 12, 0)
    assert first.received_at == datetime(2026, 11, 21, 9, 28, 47, 719_000, tzinfo=UTC)
    assert (first.ts - first.received_at).total_seconds() == pytest.approx(0.08764537, abs=1e-6)
    assert (first.ttft_s, first.tbt_s, first.e2e_s) == pytest.approx((0.021717, 0.0059935, 0.0876454), rel=1e-4)


def test_the_trace_needs_an_endpoint_and_other_events_are_no_requests() -> None:
    line = (DATA / "dynamo_request_trace.jsonl").read_bytes().splitlines()[0]
    with pytest.raises(BadLineError, match="endpoint \\(in the exporter's settings"):
        RequestParser(nodes={}).parse(line)
    assert PARSER.parse(line.replace(b"request_end", b"tool_start")) is None


NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    -1e308,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    " ",
    "\ud800",
    "0" * 25,
    [],
    {},
]
NASTY += [
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-02-30T00:00:00Z",
    253_402_300_799,
    {"schema": 1},
    [{}],
]
NAMES = [*LINE, "event", "attributes", "end_time_unix_nano", "gen_ai.server.request.duration", "http.response.status_code"]


@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(NASTY), max_size=4))
def test_nasty_values_give_a_row_or_a_reason(found: dict[str, Any]) -> None:
    assert_row_or_reason(json.dumps({**LINE, **found}).encode())


@given(st.binary(max_size=60))
def test_bytes_give_a_row_or_a_reason(line: bytes) -> None:
    assert_row_or_reason(line)


def assert_row_or_reason(line: bytes) -> None:
    try:
        row = PARSER.parse(line)
    except BadLineError:
        return
    assert row is None or frame_of("requests", columns_of([row])).height == 1
