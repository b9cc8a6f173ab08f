"""Records of the log as frames of the history's tables: pure, one micro-batch at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import polars as pl

from contracts.control import Action, Alert, Bounds, Claim, Decision, Outcome, Rejected
from contracts.errors import ConfigError
from contracts.ports import Record
from contracts.schemas import SCHEMAS
from contracts.topology import Topology
from ingest import validate
from ingest.history import topology
from ingest.records import Malformed, check_version, decode_record

BACKFILL_DELAY = timedelta(seconds=60)
"""how late a back-filled row is assumed to have arrived"""
ToRun = Callable[[datetime], datetime]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a commit's bookkeeping says of one topic."""

    records: int = 0
    rows: int = 0
    backfilled_rows: int = 0
    created: tuple[datetime, ...] = ()
    """naive UTC, wall: creation of each live record that tells it"""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What goes into the history in one transaction. Frames have the columns of their tables."""

    frames: Mapping[str, pl.DataFrame]
    """table -> rows; the tables of the topology are replaced, all others appended to"""
    spans: Mapping[tuple[str, int], tuple[int, int]]
    """(topic, partition) -> (first offset, next offset)"""
    told: Mapping[str, Told] = field(default_factory=dict)

    def rows(self) -> int:
        """Rows of all topics."""
        return sum(told.rows for told in self.told.values())


def micro_batch(records: Sequence[Record], to_run: ToRun) -> MicroBatch:
    """Decode, check and stamp `records` (those of a partition in order). Never raises for what stands in them."""
    by_topic: dict[str, list[Record]] = {}
    spans: dict[tuple[str, int], tuple[int, int]] = {}
    for record in records:
        by_topic.setdefault(record.topic, []).append(record)
        place = (record.topic, record.partition)
        first = spans[place][0] if place in spans else record.offset
        spans[place] = (first, record.offset + 1)
    frames: dict[str, pl.DataFrame] = {}
    told: dict[str, Told] = {}
    refused: list[dict[str, Any]] = []
    for topic, part in by_topic.items():
        if topic in SCHEMAS:
            frame = _telemetry(topic, part, to_run, refused)
        else:
            rows, found = _records(topic, part, to_run, refused)
            frame = pl.DataFrame(rows, schema=RECORD_TABLES[topic]) if rows else None
            frames.update(found)
        if frame is not None and frame.height:
            frames[topic] = frame
        told[topic] = _told(part, frame)
    if refused:
        late = pl.DataFrame(refused, schema=RECORD_TABLES["rejected"])
        frames["rejected"] = pl.concat([frames["rejected"], late]) if "rejected" in frames else late
    return MicroBatch(frames=frames, spans=spans, told=told)


def _telemetry(topic: str, records: Sequence[Record], to_run: ToRun, refused: list[dict[str, Any]]) -> pl.DataFrame | None:
    parts = []
    for record in records:
        at = to_run(record.appended_at)
        checked = validate.read(topic, record.value, record.headers, at, _source(record))
        refused += [_rejected_row(r, record, to_run, by="history") for r in checked.rejected]
        if checked.good.height:
            parts.append(_stamped(checked.good, _place(record, to_run)))
    return pl.concat(parts) if parts else None


def _stamped(frame: pl.DataFrame, place: Mapping[str, Any]) -> pl.DataFrame:
    frame = frame.with_columns(pl.lit(value, dtype=PLACE[name]).alias(name) for name, value in place.items())
    if "backfilled" in frame.columns and frame["backfilled"].any():
        assumed = pl.col("ts") + BACKFILL_DELAY
        frame = frame.with_columns(arrived_at=pl.when(pl.col("backfilled")).then(assumed).otherwise("arrived_at"))
    return frame


def _records(
    topic: str, records: Sequence[Record], to_run: ToRun, refused: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, pl.DataFrame]]:
    """Rows of a JSON topic, and the topology's tables where a new one is among them."""
    rows: list[dict[str, Any]] = []
    found: dict[str, pl.DataFrame] = {}
    for record in records:
        try:
            place = _place(record, to_run)
            if topic in ("brake", "state"):
                body = _json(record)
                if topic == "state" and record.key == "topology" and body is not None:
                    found = topology.frames(_topology(body))
                rows.append({"key": record.key, "body": body, **place})
                continue
            value = decode_record(topic, record.value, record.headers)
            if isinstance(value, Rejected):
                rows.append(_rejected_row(value, record, to_run, by="source"))
                continue
            row = _ROWS[topic](value)
            if topic == "leadership":
                row["epoch"] = record.offset
            rows.append({**row, "body": record.value.decode(), **place})
        except Malformed as error:
            told = validate.rejected_message(topic, record.value, error.reason, to_run(record.appended_at), _source(record))
            refused.append(_rejected_row(told, record, to_run, by="history"))
    return rows, found


def _json(record: Record) -> str | None:
    """The text of a JSON value; None for a deletion."""
    check_version(record.headers)
    if not record.value:
        return None
    try:
        return bytes(msgspec.json.decode(record.value, type=msgspec.Raw)).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Malformed(f"{record.topic} {record.key}: {error}") from error


def _topology(body: str) -> Topology:
    try:
        value = msgspec.json.decode(body, type=Topology)
        topology.check(value)
    except (msgspec.MsgspecError, ConfigError) as error:
        raise Malformed(f"state topology: {error}") from error
    return value


def _told(records: Sequence[Record], frame: pl.DataFrame | None) -> Told:
    rows = 0 if frame is None else frame.height
    late: set[tuple[int, int]] = set()
    backfilled = 0
    if frame is not None and "backfilled" in frame.columns and frame["backfilled"].any():
        old = frame.filter(pl.col("backfilled"))
        backfilled = old.height
        late = set(old.select("k_partition", "k_offset").unique().iter_rows())
    created = [_created(r) for r in records if (r.partition, r.offset) not in late]
    return Told(records=len(records), rows=rows, backfilled_rows=backfilled, created=tuple(c for c in created if c is not None))


def _source(record: Record) -> str:
    return record.headers.get("ce_source", "") or record.key or "unknown"


def _created(record: Record) -> datetime | None:
    """The wall time of creation; None where the header does not tell it (other people's producers)."""
    try:
        at = datetime.fromisoformat(record.headers.get("ce_time", ""))
    except ValueError:
        return None
    return _naive(at) if at.tzinfo else at


def _place(record: Record, to_run: ToRun) -> dict[str, Any]:
    return {
        "arrived_at": _naive(to_run(record.appended_at)),
        "k_partition": record.partition,
        "k_offset": record.offset,
        "created_wall": _created(record),
    }


def _naive(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC).replace(tzinfo=None)


def _decision(d: Decision) -> dict[str, Any]:
    return {
        **{n: getattr(d, n) for n in ("decision_id", "policy", "target", "no_change", "reason", "counterfactual", "priority")},
        **{n: getattr(d, n) for n in ("probability", "mode")},
        **_value(d.value),
        **_bounds(d.bounds),
        "ts": _naive(d.at),
        "binding_constraint": d.constraint,
        "expires_at": _naive(d.expires_at),
        "forecast_ids": list(d.forecast_ids),
    }


def _action(a: Action) -> dict[str, Any]:
    return {
        **{n: getattr(a, n) for n in ("action_id", "node", "target", "lease_s", "epoch", "policy", "reason", "mode", "renews")},
        **_value(a.value),
        **_bounds(a.bounds),
        "ts": _naive(a.at),
        "issued_wall": _naive(a.created_wall),
        "decision_ids": list(a.decision_ids),
    }


def _outcome(o: Outcome) -> dict[str, Any]:
    names = ("action_id", "node", "target", "status", "before", "after", "reason", "latency_s", "epoch", "agent")
    return {**{n: getattr(o, n) for n in names}, "ts": _naive(o.at)}


def _alert(a: Alert) -> dict[str, Any]:
    names = ("alert_id", "status", "alertname", "severity", "series", "probability", "lead_s", "summary")
    return {**{n: getattr(a, n) for n in names}, "ts": _naive(a.at), "forecast_ids": list(a.forecast_ids)}


def _claim(c: Claim) -> dict[str, Any]:
    return {"ts": _naive(c.at), "controller": c.controller}


def _rejected_row(r: Rejected, record: Record, to_run: ToRun, *, by: str) -> dict[str, Any]:
    names = ("topic", "source", "reason", "rows", "sample")
    return {**{n: getattr(r, n) for n in names}, "ts": _naive(r.at), "rejected_by": by, **_place(record, to_run)}


def _value(value: Any) -> dict[str, Any]:
    kind = None if value is None else value.__struct_config__.tag
    return {"kind": kind, "max_mhz": getattr(value, "max_mhz", None)}


def _bounds(bounds: Bounds | None) -> dict[str, Any]:
    return {"low": None, "high": None} if bounds is None else {"low": bounds.low, "high": bounds.high}


_ROWS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "decisions": _decision,
    "actions": _action,
    "outcomes": _outcome,
    "alerts": _alert,
    "leadership": _claim,
}
_TS, _STR, _F64, _I64 = pl.Datetime("us"), pl.String(), pl.Float64(), pl.Int64()
_LIST = pl.List(pl.String)
PLACE: dict[str, pl.DataType] = {"arrived_at": _TS, "k_partition": pl.Int32(), "k_offset": _I64, "created_wall": _TS}


def _table(ts: str, text: str, number: str = "", lists: str = "", whole: str = "") -> dict[str, pl.DataType]:
    kinds = ((_TS, ts), (_STR, text), (_F64, number), (_LIST, lists), (_I64, whole))
    return {name: kind for kind, names in kinds for name in names.split()} | PLACE


RECORD_TABLES: dict[str, dict[str, pl.DataType]] = {
    "decisions": _table(
        "ts expires_at",
        "decision_id policy target kind no_change reason binding_constraint counterfactual mode body",
        "max_mhz probability low high",
        "forecast_ids",
        "priority",
    ),
    "actions": _table(
        "ts issued_wall",
        "action_id node target kind policy reason mode renews body",
        "max_mhz lease_s low high",
        "decision_ids",
        "epoch",
    ),
    "outcomes": _table("ts", "action_id node target status before after reason agent body", "latency_s", whole="epoch"),
    "alerts": _table(
        "ts", "alert_id status alertname severity series summary body", "probability lead_s", lists="forecast_ids"
    ),
    "leadership": _table("ts", "controller body", whole="epoch"),
    "rejected": _table("ts", "topic source reason sample rejected_by", whole="rows"),
    "brake": _table("", "key body"),
    "state": _table("", "key body"),
}
"""columns of the JSON topics' tables; inserted by name"""
