"""One forecast for people: the newest champion of a series as table, JSON lines and picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from contracts.errors import InputError
from contracts.ports import HistoryReader
from forecast.scores import opposite

Floats = NDArray[np.float64]
SHOWN_H = (2, 3, 4, 6, 8, 12, 16, 20, 24)
"""hours ahead that a table shows of a longer path; JSON and pictures have all"""
MOST_NAMES = 8
LEAST_BAR = 16
MARKS = "-=#"
"""of the bands, the widest first"""
_NEWEST = """
SELECT forecast_id, model, ts, data_until, unit, valid_at, levels, "values", degradations FROM forecasts
WHERE target = $target AND series = $series AND champion AND list_max(valid_at) > $after
ORDER BY ts DESC, k_offset DESC LIMIT 1
"""
_NAMES = "SELECT DISTINCT series FROM forecasts WHERE target = $target AND champion ORDER BY series"


@dataclass(frozen=True, kw_only=True)
class Issued:
    """One record: a forecast as it was published. Times aware UTC, run time."""

    forecast_id: str
    model: str
    issued_at: datetime
    data_until: datetime
    degradations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """The quantiles for one time."""

    valid_at: datetime
    values: tuple[float, ...]
    issued: Issued


@dataclass(frozen=True, kw_only=True)
class Found:
    """The newest champion forecast, and beyond its last time the newest one that reaches further."""

    target: str
    series: str
    unit: str
    levels: tuple[float, ...]
    rows: tuple[Row, ...]

    @property
    def issued(self) -> tuple[Issued, ...]:
        """The records behind the rows, the newest first."""
        return tuple({row.issued.forecast_id: row.issued for row in self.rows}.values())


def newest(history: HistoryReader, target: str, series: str) -> Found:
    """Return the newest champion forecast of a series. InputError says which series there are, or why there is none."""
    first = _record(history, target, series, datetime(1970, 1, 1))  # noqa: DTZ001  (columns are naive UTC)
    if first is None:
        raise InputError(f"no forecast of {target} for {series!r}: {_others(history, target)}")
    rows = _rows(first)
    further = _record(history, target, series, rows[-1].valid_at.replace(tzinfo=None))
    if further is not None and further["levels"] == first["levels"]:
        rows += [row for row in _rows(further) if row.valid_at > rows[-1].valid_at]
    return Found(target=target, series=series, unit=first["unit"], levels=tuple(first["levels"]), rows=tuple(rows))


def tables(found: Found, width: int) -> list[str | Table]:
    """Return what was forecast from what, and the quantiles by time with their bands drawn as bars."""
    head = found.issued[0]
    said: list[str | Table] = [f"{found.target} of {found.series}, {found.unit}"]
    for one in found.issued:
        said.append(f"{one.forecast_id}: {one.model}, issued {_time(one.issued_at)} from data until {_time(one.data_until)}")
        said += [f"  worse than usual: {why}" for why in one.degradations]
    rows = _chosen(found.rows, head.issued_at)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("valid at, UTC", "ahead", *(f"P{100 * level:g}" for level in found.levels)):
        table.add_column(column, justify="right", no_wrap=True)
    low, high = min(row.values[0] for row in rows), max(row.values[-1] for row in rows)
    form = _form(low, high)
    taken = 30 + sum(max(len(form.format(high)), len(form.format(low)), 5) + 3 for _ in found.levels)  # with the gaps between
    columns = min(60, width - taken)
    drawn = columns >= LEAST_BAR  # a narrow terminal has room for the figures only
    if drawn:
        table.add_column(f"{form.format(low)} to {form.format(high)}", no_wrap=True, width=columns)
    for row in rows:
        cells = [form.format(value) for value in row.values]
        bar = [_bar(found, row, low, high, columns)] if drawn else []
        table.add_row(f"{row.valid_at:%m-%d %H:%M}", _ahead(row.valid_at - head.issued_at), *cells, *bar)
    return [*said, table, *(["bands: - 98 %, = 90 %, # 50 %, | median"] if drawn else [])]


def json_lines(found: Found) -> str:
    """Return one JSON object a time forecast, a line each."""
    return "".join(json.dumps(_object(found, row)) + "\n" for row in found.rows)


def last_day(history: HistoryReader, found: Found) -> tuple[Floats, Floats]:
    """Return (times in s since 1970, values) of the series over the day before the forecast; empty where it is not recorded as
    a series of its own (headroom, a row's maximum)."""
    from ingest.history.series import TARGETS

    if found.target not in TARGETS:
        return np.empty(0), np.empty(0)
    at = found.issued[0].issued_at
    frame = history.series(found.target, as_of=at, since=at - timedelta(days=1), step_s=300)
    own = frame.filter(frame["series"] == found.series)
    return own["ts"].dt.epoch("s").to_numpy().astype(np.float64), own["value"].to_numpy()


def draw(found: Found, past: tuple[Floats, Floats], file: Path) -> None:
    """Draw the forecast and the readings before it, as .svg or .png."""
    from coldaisle.forecast_pictures import Fan, fan_figure, saved

    zero = found.issued[0].issued_at.timestamp()
    empty = np.empty(0)
    fan = Fan(
        axis=f"from {_time(found.issued[0].issued_at)}",
        unit=f"{found.target} of {found.series}, {found.unit}",
        levels=found.levels,
        at_s=np.array([row.valid_at.timestamp() - zero for row in found.rows]),
        values=np.array([row.values for row in found.rows]),
        past_s=past[0] - zero,
        past=past[1],
        came_s=empty,
        came=empty,
    )
    saved(fan_figure(fan), file)


def _record(history: HistoryReader, target: str, series: str, after: datetime) -> dict[str, Any] | None:
    frame = history.query(_NEWEST, {"target": target, "series": series, "after": after})
    return None if frame.is_empty() else frame.row(0, named=True)


def _rows(record: dict[str, Any]) -> list[Row]:
    issued = Issued(
        forecast_id=record["forecast_id"],
        model=record["model"],
        issued_at=record["ts"].replace(tzinfo=UTC),
        data_until=record["data_until"].replace(tzinfo=UTC),
        degradations=tuple(record["degradations"]),
    )
    width = len(record["levels"])
    return [
        Row(valid_at=at.replace(tzinfo=UTC), values=tuple(record["values"][i * width : (i + 1) * width]), issued=issued)
        for i, at in enumerate(record["valid_at"])
    ]


def _others(history: HistoryReader, target: str) -> str:
    names: list[str] = history.query(_NAMES, {"target": target})["series"].to_list()
    if not names:
        return "none of that target has been forecast yet"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"there are forecasts of {', '.join(names[:MOST_NAMES])}{more}"


def _chosen(rows: Sequence[Row], issued_at: datetime) -> list[Row]:
    """Return all rows of the first hour, and of a longer path those nearest to whole hours."""
    near = [row for row in rows if row.valid_at - issued_at <= timedelta(hours=1, minutes=5)]
    far = [row for row in rows if row not in near]
    if len(far) > len(SHOWN_H):
        wanted = [issued_at + timedelta(hours=h) for h in SHOWN_H]
        nearest = [min(far, key=lambda row: abs(row.valid_at - at)) for at in wanted]
        far = list({row.valid_at: row for row in nearest}.values())
    return near + far


def _bar(found: Found, row: Row, low: float, high: float, columns: int) -> Text:
    """Draw one row's quantiles on a line: outer bands thin, the middle half thick, the median a mark."""
    span = high - low or 1.0
    cells = [" "] * columns
    middle = found.levels.index(0.5)
    at = [round((value - low) / span * (columns - 1)) for value in row.values]
    for i in range(middle):
        first, last = at[i], at[opposite(found.levels, i)]
        cells[first : last + 1] = MARKS[min(i, len(MARKS) - 1)] * (last - first + 1)
    cells[at[middle]] = "|"
    return Text("".join(cells).rstrip())


def _object(found: Found, row: Row) -> dict[str, Any]:
    one = row.issued
    return {
        "target": found.target,
        "series": found.series,
        "unit": found.unit,
        "valid_at": row.valid_at.isoformat(),
        "lead_s": (row.valid_at - one.issued_at).total_seconds(),
        **{f"p{100 * level:04.1f}".replace(".0", ""): value for level, value in zip(found.levels, row.values, strict=True)},
        "forecast_id": one.forecast_id,
        "model": one.model,
        "issued_at": one.issued_at.isoformat(),
        "data_until": one.data_until.isoformat(),
        "degradations": list(one.degradations),
    }


def _form(low: float, high: float) -> str:
    size = max(abs(low), abs(high))
    return "{:,.0f}" if size >= 1_000 else "{:.1f}" if size >= 20 else "{:.3g}"


def _ahead(lead: timedelta) -> str:
    minutes = lead.total_seconds() / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
