"""One line of a request log to one row of `requests`: OpenTelemetry GenAI names, or ai-dynamo's request trace. Pure.

docs/request-logs.md lists the accepted names; it is the contract with routers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from contracts.schemas import REQUESTS

DYNAMO_SCHEMA = "dynamo.request.trace.v1"
SAMPLE_CHARS = 200

REQUEST_ID = ("request_id", "gen_ai.response.id")
ENDPOINT = ("endpoint", "service.name")
MODEL = ("gen_ai.request.model",)
NODE = ("node", "server.address")
STATUS = ("status",)
STARTED = ("start_time", "start_time_unix_nano")
ENDED = ("end_time", "end_time_unix_nano")
PROMPT_TOKENS = ("gen_ai.usage.input_tokens",)
OUTPUT_TOKENS = ("gen_ai.usage.output_tokens",)
CACHED_TOKENS = ("gen_ai.usage.cache_read.input_tokens",)
TTFT = ("gen_ai.server.time_to_first_token",)
TBT = ("gen_ai.server.time_per_output_token",)
E2E = ("gen_ai.server.request.duration",)
STATUSES = ("ok", "error", "rejected")

_BOUNDS = {column.name: (column.low, column.high) for column in REQUESTS.columns if column.low is not None}


class BadLineError(Exception):
    """A line that is no request; the message says why, naming field and value."""


@dataclass(frozen=True, kw_only=True)
class RequestRow:
    """One finished request; fields as the columns of `requests`. Times aware UTC; ts = its end."""

    ts: datetime
    request_id: str
    endpoint: str
    model: str | None = None
    node: str | None = None
    received_at: datetime | None = None
    status: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    ttft_s: float | None = None
    tbt_s: float | None = None
    e2e_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class RequestParser:
    """How lines of one source are read."""

    endpoint: str = ""
    """service of lines that name none"""
    nodes: Mapping[str, str]
    """server.address or worker id -> server in the topology; an address without an entry stays as it is"""

    def parse(self, line: bytes) -> RequestRow | None:
        """Return the row of one line; None for a trace event that is no end of a request. Raises BadLineError."""
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadLineError(f"no JSON: {error}") from error
        if not isinstance(found, dict):
            raise BadLineError("no JSON object")
        event, attributes = found.get("event"), found.get("attributes")
        try:
            if isinstance(event, dict) and "schema" in event:
                return self._of_dynamo(event)
            return self._of_otel({**found, **attributes} if isinstance(attributes, dict) else found)
        except OverflowError as error:
            raise BadLineError(f"a number beyond all bounds: {error}") from error

    def _of_otel(self, found: dict[str, Any]) -> RequestRow:
        started, ended = _time(found, STARTED), _time(found, ENDED)
        e2e_s = _number(found, E2E)
        if ended is None and started is not None and e2e_s is not None:
            ended = started + timedelta(seconds=e2e_s)
        if ended is None:
            raise BadLineError(f"no time of end: give one of {', '.join(ENDED)}, or {STARTED[0]} and {E2E[0]}")
        if e2e_s is None and started is not None:
            e2e_s = (ended - started).total_seconds()
        model = _text(found, MODEL)
        address = _text(found, NODE)
        return _checked(
            RequestRow(
                ts=ended,
                request_id=_required(_text(found, REQUEST_ID), REQUEST_ID),
                endpoint=_required(_text(found, ENDPOINT) or self.endpoint or model, ENDPOINT),
                model=model,
                node=self.nodes.get(address, address) if address else None,
                received_at=started,
                status=_status(found),
                prompt_tokens=_count(found, PROMPT_TOKENS),
                output_tokens=_count(found, OUTPUT_TOKENS),
                cached_tokens=_count(found, CACHED_TOKENS),
                ttft_s=_number(found, TTFT),
                tbt_s=_number(found, TBT),
                e2e_s=e2e_s,
            )
        )

    def _of_dynamo(self, event: dict[str, Any]) -> RequestRow | None:
        if event["schema"] != DYNAMO_SCHEMA:
            raise BadLineError(f"schema {event['schema']!r} is not known; known is {DYNAMO_SCHEMA}")
        if event.get("event_type") != "request_end":
            return None
        request = event.get("request")
        if not isinstance(request, dict):
            raise BadLineError("no object `request` in the trace event")
        received = _unix(request, "request_received_ms", 1e3)
        total_ms = _number(request, ("total_time_ms",))
        ended = _unix(event, "event_time_unix_ms", 1e3)
        if received is not None and total_ms is not None:
            ended = received + timedelta(milliseconds=total_ms)
        if ended is None:
            raise BadLineError("no time of end: neither event_time_unix_ms nor request_received_ms and total_time_ms")
        worker = request.get("worker")
        worker_id = str(worker.get("decode_worker_id", "")) if isinstance(worker, dict) else ""
        output_tokens = _count(request, ("output_tokens",))
        return _checked(
            RequestRow(
                ts=ended,
                request_id=_required(_text(request, ("request_id",)), ("request_id",)),
                endpoint=_required(self.endpoint, ("endpoint (in the exporter's settings: the trace names none)",)),
                node=self.nodes.get(worker_id),
                received_at=received,
                status="ok" if output_tokens else "error",  # the trace tells none: what ends without a token was not answered
                prompt_tokens=_count(request, ("input_tokens",)),
                output_tokens=output_tokens,
                cached_tokens=_count(request, ("cached_tokens",)),
                ttft_s=_seconds(request, "ttft_ms"),
                tbt_s=_seconds(request, "avg_itl_ms"),
                e2e_s=_seconds(request, "total_time_ms"),
            )
        )


def columns_of(rows: Sequence[RequestRow]) -> dict[str, list[Any]]:
    """Return the rows as columns of the topic `requests`."""
    return {field.name: [getattr(row, field.name) for row in rows] for field in fields(RequestRow)}


def sample_of(line: bytes) -> str:
    """The start of a line as text, for a Problem."""
    return line[: SAMPLE_CHARS * 4].decode(errors="replace")[:SAMPLE_CHARS]


def _checked(row: RequestRow) -> RequestRow:
    for name, (low, high) in _BOUNDS.items():
        value = getattr(row, name, None)
        if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
            raise BadLineError(f"{name} {value} is outside {low:g} .. {high:g}")
    return row


def _first(found: Mapping[str, Any], names: Sequence[str]) -> tuple[str, Any]:
    return next(((name, found[name]) for name in names if found.get(name) is not None), ("", None))


def _required(value: str | None, names: Sequence[str]) -> str:
    if not value:
        raise BadLineError(f"no {' or '.join(names)}")
    return value


def _text(found: Mapping[str, Any], names: Sequence[str]) -> str | None:
    name, value = _first(found, names)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadLineError(f"{name} {value!r} is no text")
    return value.strip() or None


def _number(found: Mapping[str, Any], names: Sequence[str]) -> float | None:
    name, value = _first(found, names)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadLineError(f"{name} {value!r} is no number")
    return float(value)


def _count(found: Mapping[str, Any], names: Sequence[str]) -> int | None:
    value = _number(found, names)
    if value is None:
        return None
    if value != int(value):
        raise BadLineError(f"{_first(found, names)[0]} {value!r} is no whole number")
    return int(value)


def _seconds(found: Mapping[str, Any], name_ms: str) -> float | None:
    value = _number(found, (name_ms,))
    return None if value is None else value / 1e3


def _status(found: Mapping[str, Any]) -> str:
    """`status` as it is; else by http.response.status_code (429, 503 = rejected) and error.type; else ok."""
    status = _text(found, STATUS)
    if status is not None:
        if status not in STATUSES:
            raise BadLineError(f"status {status!r}: allowed are {', '.join(STATUSES)}")
        return status
    code = _number(found, ("http.response.status_code",))
    if code in (429, 503):
        return "rejected"
    return "error" if (code is not None and code >= 400) or _text(found, ("error.type",)) else "ok"


def _time(found: Mapping[str, Any], names: Sequence[str]) -> datetime | None:
    """RFC 3339 text with a zone, or a number of seconds since 1970 (`*_unix_nano`: of nanoseconds, also as text of digits)."""
    name, value = _first(found, names)
    if value is None:
        return None
    if name.endswith("_unix_nano"):
        digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20
        return _unix({name: int(value) if digits else value}, name, 1e9)
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError as error:
            raise BadLineError(f"{name} {value[:60]!r} is no RFC 3339 time") from error
        if parsed.tzinfo is None:
            raise BadLineError(f"{name} {value!r} has no zone; end it with Z or an offset")
        return parsed.astimezone(UTC)
    return _unix(found, name, 1.0)


def _unix(found: Mapping[str, Any], name: str, per_second: float) -> datetime | None:
    value = _number(found, (name,))
    if value is None:
        return None
    seconds = value / per_second
    if not 0 < seconds < 253_402_300_800:  # the year 10000
        raise BadLineError(f"{name} {found[name]!r} is no time since 1970 in this unit")
    return datetime.fromtimestamp(seconds, UTC)
