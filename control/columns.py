"""Columns of a frame as the fold takes them: numbers as a numpy array, NaN where there is NULL, text as one of pyarrow.

So `ingest.codec_unpack` gives them; those of a data frame become so here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Columns = Mapping[str, Any]
"""a column of NULLs only may be missing"""


def columns_of(frame: pl.DataFrame, wanted: Sequence[str]) -> Columns:
    """Return the wanted columns that a frame has, without those of NULLs only."""
    found = [frame[name] for name in wanted if name in frame.columns]
    return {series.name: _column(series) for series in found if series.null_count() < len(series)}


def _column(series: pl.Series) -> Any:
    if isinstance(series.dtype, pl.Datetime):
        return series.cast(pl.Datetime("us")).to_physical().to_numpy()
    return series.to_numpy() if series.dtype.is_numeric() else series.to_arrow()


def micros(ts: NDArray[Any]) -> NDArray[np.float64]:
    """Return times (microseconds since 1970 of any type) as floats."""
    return (ts.view(np.int64) if ts.dtype.kind == "M" else ts).astype(np.float64)


def positions(names: Any, known: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the position of each name; -1 = NULL, or none of them. `known` are numbered through in their order."""
    if not known:
        return np.full(len(names), -1, dtype=np.int64)
    found = pc.index_in(names, value_set=pa.array(list(known), names.type))
    return np.asarray(found.fill_null(-1).to_numpy(), dtype=np.int64)


def is_text(column: Any, text: str) -> NDArray[np.bool_]:
    """Return where a text column holds `text`; NULL does not."""
    return np.asarray(pc.equal(column, text).fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)
