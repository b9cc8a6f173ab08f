"""Series for forecasters: means over regular intervals of what had arrived by a moment.

Back-filled rows are coarse means, taken as they are; live rows are many, summed by DuckDB. Both meet in dense arrays, one cell
per series and interval: sorting 28 days of 5 min for a fleet costs more than the whole rest.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from contracts.errors import HistoryError
from ingest.history.dense import Dense, Floats, Grid, dense, highest, long, make_grid, of, summed, union

Fetch = Callable[[str, Mapping[str, Any]], pl.DataFrame]

_ROWS = """
SELECT {key} AS key, (epoch_us(ts) + $step - 1) // $step - $first AS cell, {value}::DOUBLE AS total, 1::BIGINT AS n
FROM {table} WHERE ts > $lo AND ts <= $hi AND arrived_at <= $as_of AND backfilled AND {value} IS NOT NULL AND {where}
UNION ALL
SELECT {key} AS key, (epoch_us(ts) + $step - 1) // $step - $first AS cell, sum({value}::DOUBLE) AS total, count(*) AS n
FROM {table}
WHERE ts > $lo AND ts <= $hi AND arrived_at <= $as_of AND backfilled IS DISTINCT FROM true AND {value} IS NOT NULL AND {where}
GROUP BY ALL
"""


def read(
    fetch: Fetch, target: str, *, as_of: datetime, since: datetime, until: datetime | None = None, step_s: int
) -> pl.DataFrame:
    """Return (ts, series, value) as `HistoryReader.series` promises; HistoryError for an unknown target or impossible time."""
    if target not in TARGETS:
        raise HistoryError(f"unknown target {target!r}: there are {', '.join(TARGETS)}")
    grid = make_grid(as_of, since, until or as_of, step_s)
    if grid.cells <= 0:
        return long(Dense(names=(), values=np.empty((0, 0))), grid)
    return long(_BUILDERS[target](fetch, grid), grid)


def _inlet(fetch: Fetch, grid: Grid) -> Dense:
    return _means(fetch, grid, "server", "node", "inlet_c")


def _server_power(fetch: Fetch, grid: Grid) -> Dense:
    return _means(fetch, grid, "server", "node", "power_w")


def _airflow(fetch: Fetch, grid: Grid) -> Dense:
    return _means(fetch, grid, "facility", "unit", "airflow_cfm", "kind = 'aisle'")


def _outside(fetch: Fetch, grid: Grid) -> Dense:
    return _means(fetch, grid, "facility", "'site'", "outside_c", "kind = 'site'")


def _gpu_temp(fetch: Fetch, grid: Grid) -> Dense:
    return _with_gpus(fetch, grid, "gpu_max_c", "temp_c", highest)


def _gpu_power(fetch: Fetch, grid: Grid) -> Dense:
    return _with_gpus(fetch, grid, "gpu_power_w", "power_w", summed)


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
    return union(gauges, combine(parts))


def _gpu_temp_each(fetch: Fetch, grid: Grid) -> Dense:
    return _means(fetch, grid, "gpu", "node || '/' || gpu", "temp_c")


def _ups_power(fetch: Fetch, grid: Grid) -> Dense:
    return _means(fetch, grid, "facility", "unit", "power_w", "kind = 'ups'")


def _load(fetch: Fetch, grid: Grid) -> Dense:
    return _asked(fetch, grid, "requests_rps", "1")


def _prompt_tok(fetch: Fetch, grid: Grid) -> Dense:
    return _asked(fetch, grid, "prompt_tok_s", "coalesce(prompt_tokens, 0)")


def _output_tok(fetch: Fetch, grid: Grid) -> Dense:
    return _asked(fetch, grid, "output_tok_s", "coalesce(output_tokens, 0)")


def _asked(fetch: Fetch, grid: Grid, gauge: str, each: str) -> Dense:
    """Rates per endpoint: gauges of the instances summed; of an endpoint without gauges its logged requests are counted. And
    per request class (`endpoint/MS`), which only the log tells."""
    gauges = summed(_means(fetch, grid, "endpoints", "endpoint || '/' || node", gauge))
    seen = fetch("SELECT name FROM sources WHERE topic = 'requests' ORDER BY name", {})["name"].to_list()
    if not seen:
        return gauges
    without = sorted(set(seen) - set(gauges.names))
    counted = [_counted(fetch, grid, "endpoint", each, without)] if without else []
    return union(gauges, *counted, _counted(fetch, grid, _CLASS, each))


_CLASS = """
endpoint || '/' || CASE WHEN prompt_tokens < 256 THEN 'S' WHEN prompt_tokens < 1024 THEN 'M'
    WHEN prompt_tokens >= 1024 THEN 'L' END
    || CASE WHEN output_tokens < 100 THEN 'S' WHEN output_tokens < 350 THEN 'M'
    WHEN output_tokens >= 350 THEN 'L' END
"""
"""the request classes of DynamoLLM (Table IV)"""


def _counted(fetch: Fetch, grid: Grid, key: str, each: str, only: Sequence[str] | None = None) -> Dense:
    """Rates from the log. An interval in which nothing at all was logged is a gap; one in which others were, a zero."""
    frame = fetch(
        f"""
        SELECT {key} AS key, (epoch_us(ts) + $step - 1) // $step - $first AS cell, 1::BIGINT AS n,
            sum(coalesce(weight, 1) * {each})::DOUBLE AS total
        FROM requests WHERE ts > $lo AND ts <= $hi AND arrived_at <= $as_of AND {key} IS NOT NULL GROUP BY ALL
        """,  # noqa: S608 - key and each are our own texts above
        grid.params(),
    )
    found = dense(frame, grid)
    logged = ~np.isnan(found.values).all(axis=0) if found.names else np.zeros(grid.cells, dtype=np.bool_)
    rates = found.values / (grid.step_us / 1e6)
    for row in rates:
        known = np.flatnonzero(~np.isnan(row))
        inside = np.arange(grid.cells) >= known[0]  # before its first request the service may not have been there
        row[np.isnan(row) & logged & inside] = 0.0
    keep = [i for i, name in enumerate(found.names) if only is None or name in set(only)]
    return Dense(names=tuple(found.names[i] for i in keep), values=rates[keep])


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
    return of(filled, grid)


_BUILDERS: dict[str, Callable[[Fetch, Grid], Dense]] = {
    "load": _load,
    "prompt_tok": _prompt_tok,
    "output_tok": _output_tok,
    "inlet": _inlet,
    "power": _power,
    "gpu_temp": _gpu_temp,
    "gpu_temp_each": _gpu_temp_each,
    "gpu_power": _gpu_power,
    "server_power": _server_power,
    "ups_power": _ups_power,
    "airflow": _airflow,
    "outside": _outside,
}
TARGETS = tuple(_BUILDERS)


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
    return dense(fetch(query, grid.params() | dict(more or {})), grid)
