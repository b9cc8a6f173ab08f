"""What passes between the owner and those who ask it over HTTP."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from ingest.history.readonly import plain

ARROW = "application/vnd.apache.arrow.stream"
TIMESTAMP = "timestamp"
"""a parameter {"timestamp": "2026-07-15T14:00:00"} is a time: JSON has none"""


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /query."""

    sql: str
    params: dict[str, Any] = {}
    format: Literal["arrow", "json"] = "arrow"


def to_json(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON can carry them."""
    return {name: _out(plain(value)) for name, value in params.items()}


def from_json(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that `to_json` wrote. ValueError for an object that is no time."""
    return {name: _in(value) for name, value in params.items()}


def _out(value: Any) -> Any:
    if isinstance(value, list):
        return [_out(v) for v in value]
    return {TIMESTAMP: value.isoformat()} if isinstance(value, datetime) else value


def _in(value: Any) -> Any:
    if isinstance(value, list):
        return [_in(v) for v in value]
    if not isinstance(value, dict):
        return value
    if list(value) != [TIMESTAMP] or not isinstance(value[TIMESTAMP], str):
        raise ValueError(f'a parameter is the object {value!r}: only {{"{TIMESTAMP}": "2026-07-15T14:00:00"}} is one')
    at = datetime.fromisoformat(value[TIMESTAMP])
    return at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
