"""The rows' highest power of the next seconds, as a block of forecasts: levels of P(max <= value), one lead per window."""

from dataclasses import replace
from datetime import datetime

import numpy as np

from contracts.forecasts import Block
from contracts.ports import Batch
from forecast.grids import Floats, newest, rows_of
from forecast.maxima import Maxima, RowMaxima


def aligned(batch: Batch, rows: tuple[str, ...]) -> Floats:
    """Return the batch's values [R, T] in the order of `rows`; a row that is not there is NaN."""
    position = rows_of(batch.names, replace(batch, names=rows))
    return np.where((position >= 0)[:, None], batch.values[position], np.nan)


def highest(learnt: Maxima, rows: tuple[str, ...], power: Batch, now: datetime, slot: int) -> Block:
    """Return what may come at most in each window after `now`; `power`: 2 s means of the newest half hour or more.

    The same `slot` gives the same ids. A row whose newest sample is old speaks for the window that reaches as far from that
    sample on, and says so.
    """
    found: RowMaxima = learnt.now(aligned(power, rows))
    seen = dict(zip(power.names, newest(power).tolist(), strict=True))
    return Block(
        target="row_max",
        champion=True,
        issued_at=now,
        lead_s=np.asarray(found.windows_s, dtype=np.float64),
        levels=found.levels,
        names=rows,
        ids=tuple(f"row_max-{name}-{slot:x}" for name in rows),
        values=found.quantiles,
        data_until_s=np.array([seen.get(name, -1) for name in rows], dtype=np.int64),
        models=("maxima",) * len(rows),
        notes=tuple((note,) if note else () for note in found.notes),
    )
