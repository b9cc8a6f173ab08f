"""A recorded history as a run's input: requests, opaque tenants' power, outside temperature. Parquet files, read once.

A file's times are UTC and stand as they are: the scenario's `start` must lie within them. Every mistake is named with file,
column and row (counted from 0)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import InputError
from twin.arrivals import Arrivals
from twin.fleet import Fleet
from twin.hardware import Profile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_S = 60
RATE_S = 600.0
"""`Requests.rates` is a mean over bins of so long"""
LEAD_S = 600.0
"""a file's first row may be so much later than the scenario's start"""
TOKENS_MOST = 1e8  # as in contracts.schemas
GRID = np.linspace(0.0, 1.0, 201)
"""levels at which a server's power is tabulated"""


class Requests:
    """Requests of the columns received_at, endpoint, prompt_tokens, output_tokens and, if there, weight and status.

    Rows whose status is not "ok" tell no lengths; they are left out, and `left_out` counts them. A row of weight w stands for w
    requests: they get its lengths and are spread evenly up to the endpoint's next row. Fractions are carried on to later rows.
    """

    def __init__(self, path: str | Path, fleet: Fleet, start: datetime) -> None:
        """Read and check the file; InputError names file, column and row."""
        self._name = Path(path).name
        frame = _read(path, {"received_at": "time", "endpoint": "text", "prompt_tokens": "number", "output_tokens": "number"})
        frame = frame.with_row_index("_row")
        self.left_out = 0
        if "status" in frame.columns:
            kept = frame.filter(pl.col("status").fill_null("ok") == "ok")
            self.left_out = len(frame) - len(kept)
            frame = kept
        rows = frame["_row"].to_numpy()
        at_s = _seconds(frame, "received_at", start, self._name, rows)
        _rising(at_s, self._name, "received_at", rows)
        _covers(at_s, start, self._name)
        endpoint = self._endpoints(frame, fleet, rows)
        tokens = [_numbers(frame, key, self._name, rows, 1.0, TOKENS_MOST) for key in ("prompt_tokens", "output_tokens")]
        has_weight = "weight" in frame.columns
        weight = frame.select(pl.col("weight").fill_null(1.0).alias("weight")) if has_weight else None
        if weight is not None:
            at_s, picked = _spread(at_s, endpoint, _numbers(weight, "weight", self._name, rows, 0.0, 1e9))
            endpoint, tokens = endpoint[picked], [values[picked] for values in tokens]
        self._at_s, self._endpoint = at_s, endpoint.astype(np.int32)
        self._prompt, self._output = (values.astype(np.int32) for values in tokens)
        self._count = len(fleet.topology.endpoints)

    def __len__(self) -> int:
        """Requests in the file, weights counted."""
        return len(self._at_s)

    def arrivals(self, block: int) -> Arrivals:
        """The requests of seconds [60 block, 60 block + 60), by time."""
        low, high = np.searchsorted(self._at_s, [block * BLOCK_S, (block + 1) * BLOCK_S])
        return Arrivals(
            at_s=self._at_s[low:high],
            endpoint=self._endpoint[low:high].astype(np.int64),
            prompt=self._prompt[low:high].astype(np.int64),
            output=self._output[low:high].astype(np.int64),
        )

    def rates(self, seconds: Floats) -> Floats:
        """[T, endpoints] requests/s around `seconds` [T]: the mean of the 10 min that each lies in."""
        bins, place = np.unique(np.floor(seconds / RATE_S), return_inverse=True)
        rates = np.zeros((len(bins), self._count))
        for k, number in enumerate(bins):
            low, high = np.searchsorted(self._at_s, [number * RATE_S, (number + 1) * RATE_S])
            rates[k] = np.bincount(self._endpoint[low:high], minlength=self._count) / RATE_S
        return rates[place]

    def _endpoints(self, frame: pl.DataFrame, fleet: Fleet, rows: Ints) -> Ints:
        place = {e.name: i for i, e in enumerate(fleet.topology.endpoints)}
        known = _known(frame, "endpoint", self._name, rows)
        found: Ints = known.replace_strict(list(place), list(place.values()), default=-1, return_dtype=pl.Int64).to_numpy()
        if (found < 0).any():
            i = int(np.argmax(found < 0))
            there = ", ".join(place) or "none"
            raise InputError(f"{self._name}: endpoint, row {rows[i]}: {known[i]!r}: the site has {there}")
        return found


def _spread(at_s: Floats, endpoint: Ints, weight: Floats) -> tuple[Floats, Ints]:
    """Return (times, rows) of the requests that weighted rows stand for, by time."""
    picked_all, at_all = [], []
    for e in np.unique(endpoint):
        rows = np.flatnonzero(endpoint == e)
        copies = np.diff(np.floor(np.concatenate([[0.0], np.cumsum(weight[rows])]) + 1e-6)).astype(np.int64)
        gap_s = np.diff(at_s[rows])
        gap_s = np.append(gap_s, gap_s[-1:] if len(gap_s) else 0.0)
        picked = np.repeat(rows, copies)
        number = np.arange(len(picked)) - np.repeat(np.cumsum(copies) - copies, copies)
        at_all.append(at_s[picked] + number * np.repeat(gap_s / np.maximum(1, copies), copies))
        picked_all.append(picked)
    if not picked_all:
        return at_s, np.zeros(0, dtype=np.int64)
    times, picked = np.concatenate(at_all), np.concatenate(picked_all)
    order = np.argsort(times, kind="stable")
    return times[order], picked[order]


class Power:
    """Server power (columns node, ts, power_w; ts = end of the interval) of opaque tenants, turned into their load levels.

    Rows of other servers are passed over: what those draw follows from their requests.
    """

    def __init__(self, path: str | Path, fleet: Fleet, start: datetime) -> None:
        """Read and check the file; InputError names file, column and row."""
        name = Path(path).name
        frame = _read(path, {"node": "text", "ts": "time", "power_w": "number"})
        rows = np.arange(len(frame))
        at_s = _seconds(frame, "ts", start, name, rows)
        power_w = _numbers(frame, "power_w", name, rows, 0.0, 100_000.0)
        nodes = {s.name: i for i, s in enumerate(fleet.topology.servers)}
        self._series: list[tuple[int, Floats, Floats]] = []
        for (node,), part in frame.with_row_index("_row").group_by("node", maintain_order=True):
            mine = part["_row"].to_numpy()
            if node not in nodes:
                raise InputError(f"{name}: node, row {mine[0]}: {node!r}: the site has no such server")
            server = nodes[str(node)]
            if fleet.customer[server] < 0:
                continue
            _rising(at_s[mine], name, "ts", mine)
            _covers(at_s[mine], start, name)
            profile = fleet.profiles[fleet.server_hardware[server]]
            self._series.append((server, at_s[mine], level_of(power_w[mine], profile)))
        if not self._series:
            raise InputError(f"{name}: node: none of them is an opaque tenant's; nothing to replay")

    def levels(self, seconds: Floats, otherwise: Floats) -> Floats:
        """[T, S] levels at `seconds` [T]: of the interval that each lies in; `otherwise` [T, S] for nodes not in the file."""
        levels = otherwise.copy()
        for server, ends_s, level in self._series:
            levels[:, server] = level[np.minimum(np.searchsorted(ends_s, seconds), len(level) - 1)]
        return levels


def level_of(power_w: Floats, profile: Profile) -> Floats:
    """Return the load level (0 to 1) at which a mean server of this profile draws `power_w` at the wall.

    Fans are taken to follow the level, from their idle duty to that of full load.
    """
    p, fans = profile.power, profile.fans
    duty = fans.idle_duty + (fans.hot_duty - fans.idle_duty) * GRID
    gpu_w = p.loaded_w + (profile.sheet.gpu_tdp_w - p.loaded_w) * GRID
    wall_w = (profile.sheet.gpus * gpu_w + p.overhead_w + p.fans_w * duty**3) / p.psu_share
    level: Floats = np.interp(power_w, wall_w, GRID)
    return level


class Outside:
    """Outside temperature (columns ts, outside_c), linear between rows and flat beyond them."""

    def __init__(self, path: str | Path, start: datetime) -> None:
        """Read and check the file; rows without a temperature are passed over. InputError names file, column and row."""
        name = Path(path).name
        frame = _read(path, {"ts": "time", "outside_c": "number"}).with_row_index("_row").drop_nulls("outside_c")
        rows = frame["_row"].to_numpy()
        self._at_s = _seconds(frame, "ts", start, name, rows)
        _rising(self._at_s, name, "ts", rows)
        _covers(self._at_s, start, name)
        self._outside_c = _numbers(frame, "outside_c", name, rows, -60.0, 70.0)

    def at(self, seconds: Floats) -> Floats:
        """[T] degC at `seconds`."""
        outside: Floats = np.interp(seconds, self._at_s, self._outside_c)
        return outside


def _read(path: str | Path, columns: dict[str, str]) -> pl.DataFrame:
    name = Path(path).name
    try:
        frame = pl.read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{name}: not a Parquet file: {str(error).splitlines()[0]}") from None
    for column, kind in columns.items():
        if column not in frame.columns:
            raise InputError(f"{name}: {column}: missing; there are {', '.join(frame.columns) or 'none'}")
        dtype = frame.schema[column]
        if not {"time": dtype == pl.Datetime, "text": dtype == pl.String, "number": dtype.is_numeric()}[kind]:
            raise InputError(f"{name}: {column}: is {dtype}, must be a {kind}")
    if frame.is_empty():
        raise InputError(f"{name}: has no rows")
    return frame


def _known(frame: pl.DataFrame, column: str, name: str, rows: Ints) -> Any:
    series = frame[column]
    if series.null_count():
        raise InputError(f"{name}: {column}, row {rows[int(np.argmax(series.is_null().to_numpy()))]}: has no value")
    return series


def _seconds(frame: pl.DataFrame, column: str, start: datetime, name: str, rows: Ints) -> Floats:
    """Return times as seconds from `start`."""
    series = _known(frame, column, name, rows)
    begin = np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "us")
    utc = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if series.dtype.time_zone else series
    seconds: Floats = (utc.cast(pl.Datetime("us")).to_numpy() - begin) / np.timedelta64(1, "s")
    return seconds


def _numbers(frame: pl.DataFrame, column: str, name: str, rows: Ints, low: float, high: float) -> Floats:
    values: Floats = _known(frame, column, name, rows).cast(pl.Float64).to_numpy()
    wrong = ~((values >= low) & (values <= high))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise InputError(f"{name}: {column}, row {rows[i]}: {values[i]:g}: must be {low:g} to {high:g}")
    return values


def _rising(at_s: Floats, name: str, column: str, rows: Ints) -> None:
    back = np.flatnonzero(np.diff(at_s) < 0)
    if len(back):
        raise InputError(f"{name}: {column}, row {rows[back[0] + 1]}: is earlier than the row before; sort the file by time")


def _covers(at_s: Floats, start: datetime, name: str) -> None:
    if len(at_s) == 0 or not at_s[0] - LEAD_S <= 0.0 <= at_s[-1]:
        within = f"{-at_s[-1]:g} to {-at_s[0]:g} s from the start" if len(at_s) else "nothing"
        raise InputError(f"{name}: does not hold the scenario's start = {start.isoformat()}: rows lie {within}")
