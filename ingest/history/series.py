"""Series for forecasters: means over regular intervals of what had arrived by a moment.

Back-filled rows are coarse means, taken as they are; live rows are many, summed by DuckDB. Both meet in dense arrays, one cell
per series and interval: sorting 28 days of 5 min for a fleet costs more than the whole rest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import HistoryError

Fetch = Callable[[str, Mapping[str, Any]], pl.DataFrame]
Floats = NDArray[np.float64]
TARGETS = ("load", "inlet", "power", "gpu_temp", "gpu_power", "server_power", "airflow", "outside")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ROWS = """
SELECT {key} AS key, (epoch_us(ts) + $step - 1) // $step - $first AS cell, {value}::DOUBLE AS total, 1::BIGINT AS n
FROM {table} WHERE ts > $lo AND ts <= $hi AND arrived_at <= $as_of AND backfilled AND {value} IS NOT NULL AND {where}
UNION ALL
SELECT {key} AS key, (epoch_us(ts) + $step - 1) // $step - $first AS cell, sum({value}::DOUBLE) AS total, count(*) AS n
FROM {table}
WHERE ts > $lo AND ts <= $hi AND arrived_at <= $as_of AND backfilled IS DISTINCT FROM true AND {value} IS NOT NULL AND {where}
GROUP BY ALL
"""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The complete intervals between two moments. Interval i ends at (first + 1 + i) * step, in microseconds of Unix time."""

    step_us: int
    first: int
    cells: int
    as_of: datetime

    def params(self) -> dict[str, Any]:
        """Parameters of the queries; times naive UTC."""
        return {
            "step": self.step_us,
            "first": self.first + 1,
            "lo": _at(self.first * self.step_us),
            "hi": _at((self.first + self.cells) * self.step_us),
            "as_of": self.as_of.astimezone(UTC).replace(tzinfo=None),
        }


@dataclass(frozen=True, kw_only=True)
class Dense:
    """`values[i, cell]` of series `names[i]`, sorted; NaN = nothing had arrived."""

    names: tuple[str, ...]
    values: Floats


def read(fetch: Fetch, target: str, *, as_of: datetime, since: datetime, step_s: int) -> pl.DataFrame:
    """Return (ts, series, value) as `HistoryReader.series` promises; HistoryError for an unknown target or impossible time."""
    if target not in TARGETS:
        raise HistoryError(f"unknown target {target!r}: there are {', '.join(TARGETS)}")
    grid = make_grid(as_of, since, step_s)
    if grid.cells <= 0:
        return _long(Dense(names=(), values=np.empty((0, 0))), grid)
    return _long(_BUILDERS[target](fetch, grid), grid)


def make_grid(as_of: datetime, since: datetime, step_s: int) -> Grid:
    """Return the intervals that begin at or after `since` and end at or before `as_of`, both aware."""
    if as_of.tzinfo is None or since.tzinfo is None:
        raise HistoryError(f"as_of = {as_of}, since = {since}: both need a time zone, e.g. 2026-07-15T14:00:00Z")
    if not 1 <= step_s <= 86_400:
        raise HistoryError(f"step_s = {step_s}: must be 1 to 86400")
    step = step_s * 1_000_000
    first = -(-_micros(since) // step)
    return Grid(step_us=step, first=first, cells=_micros(as_of) // step - first, as_of=as_of)


def _inlet(fetch: Fetch, grid: Grid) -> Dense:
    return _means(fetch, grid, "server", "node", "inlet_c")


def _server_power(fetch: Fetch, grid: Grid) -> Dense:
    return _means(fetch, grid, "server", "node", "power_w")


def _airflow(fetch: Fetch, grid: Grid) -> Dense:
    return _means(fetch, grid, "facility", "unit", "airflow_cfm", "kind = 'aisle'")


def _outside(fetch: Fetch, grid: Grid) -> Dense:
    return _means(fetch, grid, "facility", "'site'", "outside_c", "kind = 'site'")


def _gpu_temp(fetch: Fetch, grid: Grid) -> Dense:
    return _with_gpus(fetch, grid, "gpu_max_c", "temp_c", _highest)


def _gpu_power(fetch: Fetch, grid: Grid) -> Dense:
    return _with_gpus(fetch, grid, "gpu_power_w", "power_w", _summed)


def _with_gpus(fetch: Fetch, grid: Grid, gauge: str, value: str, combine: Callable[[Dense], Dense]) -> Dense:
    """The server's own gauge where it has one; the large table of GPUs only for servers without.

    Of GPUs: means over the interval first, then their sum or maximum, since they need not be read at one moment.
    """
    gauges = _means(fetch, grid, "server", "node", gauge)
    seen = fetch("SELECT name FROM sources WHERE topic = 'gpu' ORDER BY name", {})["name"].to_list()
    without = sorted(set(seen) - set(gauges.names))
    if not without:
        return gauges
    parts = _means(fetch, grid, "gpu", "node || '/' || gpu", value, "node IN (SELECT unnest($only))", {"only": without})
    return _union(gauges, combine(parts))


def _load(fetch: Fetch, grid: Grid) -> Dense:
    """Requests/s: gauges of the instances summed; of an endpoint without gauges its logged requests are counted."""
    gauges = _summed(_means(fetch, grid, "endpoints", "endpoint || '/' || node", "requests_rps"))
    seen = fetch("SELECT name FROM sources WHERE topic = 'requests' ORDER BY name", {})["name"].to_list()
    without = sorted(set(seen) - set(gauges.names))
    return _union(gauges, _counted(fetch, grid, without)) if without else gauges


def _counted(fetch: Fetch, grid: Grid, endpoints: Sequence[str]) -> Dense:
    """Requests/s from the log. An interval in which nothing at all was logged is a gap; one in which others were, a zero."""
    frame = fetch(
        """
        SELECT endpoint AS key, (epoch_us(ts) + $step - 1) // $step - $first AS cell, 1::BIGINT AS n,
            sum(coalesce(weight, 1))::DOUBLE AS total
        FROM requests WHERE ts > $lo AND ts <= $hi AND arrived_at <= $as_of GROUP BY ALL
        """,
        grid.params(),
    )
    dense = _dense(frame, grid)
    logged = ~np.isnan(dense.values).all(axis=0) if dense.names else np.zeros(grid.cells, dtype=np.bool_)
    rates = dense.values / (grid.step_us / 1e6)
    for row in rates:
        known = np.flatnonzero(~np.isnan(row))
        inside = np.arange(grid.cells) >= known[0]  # before its first request the service may not have been there
        row[np.isnan(row) & logged & inside] = 0.0
    keep = [i for i, name in enumerate(dense.names) if name in set(endpoints)]
    return Dense(names=tuple(dense.names[i] for i in keep), values=rates[keep])


def _power(fetch: Fetch, grid: Grid) -> Dense:
    """Row power: the meter's; in an interval without, the sum of the row's servers if each of them told its power."""
    meters = _means(fetch, grid, "facility", "unit", "power_w", "kind = 'row'")
    members = fetch("SELECT row, node FROM topology ORDER BY row, node", {})
    rows = tuple(members["row"].unique().sort().to_list())
    at = {name: i for i, name in enumerate(meters.names)}
    silent = [row for row in rows if row not in at or np.isnan(meters.values[at[row]]).any()]
    if not silent:
        return meters
    nodes = members.filter(pl.col("row").is_in(silent))
    servers = _means(
        fetch, grid, "server", "node", "power_w", "node IN (SELECT unnest($only))", {"only": nodes["node"].to_list()}
    )
    where = {name: i for i, name in enumerate(servers.names)}
    filled: dict[str, Floats] = {name: meters.values[i] for name, i in at.items()}
    for (row,), part in nodes.group_by(["row"]):
        here = [where[node] for node in part["node"] if node in where]
        if len(here) < part.height:
            continue
        total = servers.values[here].sum(axis=0)  # NaN as soon as one is missing
        meter = filled.get(str(row))
        filled[str(row)] = total if meter is None else np.where(np.isnan(meter), total, meter)
    return _of(filled, grid)


_BUILDERS: dict[str, Callable[[Fetch, Grid], Dense]] = {
    "load": _load,
    "inlet": _inlet,
    "power": _power,
    "gpu_temp": _gpu_temp,
    "gpu_power": _gpu_power,
    "server_power": _server_power,
    "airflow": _airflow,
    "outside": _outside,
}


def _means(
    fetch: Fetch,
    grid: Grid,
    table: str,
    key: str,
    value: str,
    where: str = "true",
    more: Mapping[str, Any] | None = None,
) -> Dense:
    # Table, key, value and where are our own texts above; what a caller gives goes in as a parameter.
    query = _ROWS.format(table=table, key=key, value=value, where=where)
    return _dense(fetch(query, grid.params() | dict(more or {})), grid)


def _dense(frame: pl.DataFrame, grid: Grid) -> Dense:
    """Means from rows (key, cell, total, n)."""
    names = frame["key"].unique().sort()
    codes = frame["key"].cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()
    where = codes * grid.cells + frame["cell"].to_numpy()
    size = len(names) * grid.cells
    total = np.bincount(where, weights=frame["total"].to_numpy(), minlength=size)
    count = np.bincount(where, weights=frame["n"].to_numpy(), minlength=size)
    values = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    return Dense(names=tuple(names.to_list()), values=values.reshape(len(names), grid.cells))


def _summed(parts: Dense) -> Dense:
    return _combined(parts, np.add)


def _highest(parts: Dense) -> Dense:
    return _combined(parts, np.maximum)


def _combined(parts: Dense, of: np.ufunc) -> Dense:
    """Join the series `whole/part` into `whole`; what is NaN takes no part, and all NaN stays NaN."""
    wholes = [name.rpartition("/")[0] for name in parts.names]
    names = tuple(sorted(set(wholes)))
    at = {name: i for i, name in enumerate(names)}
    values = np.full((len(names), parts.values.shape[1]), np.nan)
    for whole, row in zip(wholes, parts.values, strict=True):
        target = values[at[whole]]
        joined = of(target, row)  # NaN where either is
        values[at[whole]] = np.where(np.isnan(joined), np.where(np.isnan(target), row, target), joined)
    return Dense(names=names, values=values)


def _union(first: Dense, second: Dense) -> Dense:
    names = (*first.names, *second.names)
    order = sorted(range(len(names)), key=names.__getitem__)
    values = np.concatenate([first.values, second.values]) if second.names else first.values
    return Dense(names=tuple(names[i] for i in order), values=values[order])


def _of(rows: Mapping[str, Floats], grid: Grid) -> Dense:
    names = tuple(sorted(rows))
    return Dense(names=names, values=np.array([rows[n] for n in names]).reshape(len(names), grid.cells))


def _long(dense: Dense, grid: Grid) -> pl.DataFrame:
    at, cell = np.nonzero(~np.isnan(dense.values))
    ends = (grid.first + 1 + cell.astype(np.int64)) * grid.step_us
    names = pl.Series("series", dense.names, dtype=pl.String)
    return pl.DataFrame(
        {
            "ts": pl.Series(ends, dtype=pl.Int64).cast(pl.Datetime("us")),
            "series": names.gather(at),
            "value": dense.values[at, cell],
        }
    )


def _micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _at(micros: int) -> datetime:
    return (EPOCH + timedelta(microseconds=micros)).replace(tzinfo=None)
