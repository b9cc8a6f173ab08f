"""The JSON records of the command path as bytes and back. Imports neither polars nor pyarrow: an agent lives from this."""

from collections.abc import Mapping

import msgspec

from contracts.control import Action, Alert, Claim, Decision, Outcome, Rejected
from contracts.schemas import SCHEMA_VERSION

Record = Decision | Action | Outcome | Alert | Claim | Rejected

TYPES: dict[str, type[Record]] = {
    "decisions": Decision,
    "actions": Action,
    "outcomes": Outcome,
    "alerts": Alert,
    "leadership": Claim,
    "rejected": Rejected,
}
"""topic -> what stands on it. `brake` and `state` carry JSON of their own."""

CONTENT_JSON = "application/json"
CONTENT_ARROW = "application/vnd.apache.arrow.stream"
SAMPLE_CHARS = 2000

_encoder = msgspec.json.Encoder()
_decoders = {topic: msgspec.json.Decoder(kind) for topic, kind in TYPES.items()}


class Malformed(Exception):  # noqa: N818  (what it is: a message that cannot be read; callers turn it into a Rejected)
    """A message cannot be read. `reason` is one line for people; the caller counts it and keeps it in `rejected`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def encode_record(record: msgspec.Struct) -> bytes:
    """Return `record` as JSON bytes."""
    return _encoder.encode(record)


def decode_record(topic: str, value: bytes, headers: Mapping[str, str] | None = None) -> Record:
    """Return the record that stands on `topic`; Malformed names what is wrong with it.

    `headers`, when given, are checked for a schema version that this program does not know.
    """
    decoder = _decoders.get(topic)
    if decoder is None:
        raise Malformed(f"topic {topic} carries no records; there are {', '.join(sorted(TYPES))}")
    check_version(headers or {})
    try:
        record: Record = decoder.decode(value)
    except msgspec.MsgspecError as error:  # not JSON, or not such a record
        raise Malformed(f"{topic}: {error}") from error
    except UnicodeDecodeError as error:
        raise Malformed(f"{topic}: no UTF-8 at byte {error.start}") from error
    return record


def check_version(headers: Mapping[str, str]) -> None:
    """Raise Malformed when the message says it has a schema version other than ours (absent = ours)."""
    version = headers.get("schema_version", str(SCHEMA_VERSION))
    if version != str(SCHEMA_VERSION):
        raise Malformed(f"unknown schema version {version[:40]!r}: this program knows {SCHEMA_VERSION}")


def sample_of(value: bytes) -> str:
    """Return the beginning of a message as text, for Rejected.sample."""
    return value[: SAMPLE_CHARS * 4].decode(errors="backslashreplace")[:SAMPLE_CHARS]
