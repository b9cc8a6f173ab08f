"""A View from the history: the same fold, fed by what had arrived by a moment."""

from datetime import datetime, timedelta

import msgspec
import polars as pl

from contracts.control import Action, Outcome
from contracts.ports import HistoryReader
from contracts.schemas import SCHEMAS
from control.fold import WANTED, Fold

WINDOW = timedelta(hours=2)


def fold_history(fold: Fold, reader: HistoryReader, as_of: datetime, window: timedelta = WINDOW) -> None:
    """Fold what had arrived in the `window` before `as_of` (aware UTC, run time), in the log's own order."""
    params = {"until": as_of.replace(tzinfo=None), "since": (as_of - window).replace(tzinfo=None)}
    for topic in (*WANTED, "forecasts"):
        names = ", ".join(f'"{column.name}"' for column in SCHEMAS[topic].columns)
        fold.observe(topic, reader.query(_arrived(topic, names), params))
    for body in _bodies(reader, "actions", params):
        fold.action(msgspec.json.decode(body, type=Action))
    for body in _bodies(reader, "outcomes", params):
        fold.outcome(msgspec.json.decode(body, type=Outcome))


def _bodies(reader: HistoryReader, topic: str, params: dict[str, datetime]) -> list[str]:
    frame: pl.DataFrame = reader.query(_arrived(topic, "body"), params)
    return frame["body"].to_list()


def _arrived(topic: str, columns: str) -> str:
    # The names come from our own schemas, never from a caller.
    return (
        f"SELECT {columns} FROM {topic} WHERE arrived_at <= $until AND arrived_at > $since "  # noqa: S608
        "ORDER BY k_partition, k_offset"
    )
