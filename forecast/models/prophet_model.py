"""Prophet, for the calendar and the day ahead: refitted once a day, its path is kept and read off until the next fit."""

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.grids import DAY_S, WEEK_S, Floats, Ints, clipped, future, observed, rows_of, span_s

if TYPE_CHECKING:
    import pandas as pd  # only for annotations: the import costs half a second

PATH_S = 9 * DAY_S
"""how far a path is kept: a fit that calibrates a week of origins, and the day ahead of the last of them"""
COARSE_S = 900
"""Prophet sees means over 15 min: its seasonality is no finer, and a fit costs a third"""
FLAT_BELOW_S = 4 * WEEK_S


@dataclass(frozen=True)
class ProphetFitted:
    """`path` [S, N] at the times `ts`."""

    names: tuple[str, ...]
    ts: Ints
    path: Floats

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps] read off the kept path; NaN past its end (nine days) and for series that were not fitted."""
        row = rows_of(self.names, batch)
        at = future(batch, steps)
        out = np.full((len(batch.names), steps), np.nan)
        for s, r in enumerate(row):
            if r >= 0:
                out[s] = np.interp(at, self.ts, self.path[r], left=np.nan, right=np.nan)
        return clipped(out, batch)


class ProphetModel:
    """Additive daily and weekly seasonality; growth flat below four weeks of history."""

    name = "prophet"
    min_points = 96

    def fit(self, batch: Batch) -> ProphetFitted:
        """Fit one Prophet per series with at least `min_points` (each some tenths of a second) and keep its path."""
        import pandas as pd

        start = batch.ts[-1] if len(batch.ts) else 0
        ts = start + COARSE_S * np.arange(0, PATH_S // COARSE_S + 1)
        rows = [s for s, n in enumerate(observed(batch.values)) if n >= self.min_points]
        ahead = pd.DataFrame({"ds": _times(ts)})
        path = np.zeros((len(rows), len(ts)))
        for i, s in enumerate(rows):
            at, mean = _coarse(batch.ts, batch.values[s])
            path[i] = _path(pd.DataFrame({"ds": _times(at), "y": mean}), ahead, span_s(batch))
        return ProphetFitted(names=tuple(batch.names[s] for s in rows), ts=ts, path=path)


def _times(ts: Ints) -> NDArray[np.datetime64]:
    return np.asarray(ts, dtype="datetime64[s]").astype("datetime64[ns]")


def _coarse(ts: Ints, values: Floats) -> tuple[Ints, Floats]:
    """Return the observed points as means over COARSE_S, stamped at the end of the interval."""
    seen = ~np.isnan(values)
    slot, place = np.unique(-(-ts[seen] // COARSE_S), return_inverse=True)
    return slot * COARSE_S, np.bincount(place, weights=values[seen]) / np.bincount(place)


def _path(past: "pd.DataFrame", ahead: "pd.DataFrame", span: int) -> Floats:
    from cmdstanpy import disable_logging
    from prophet import Prophet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Prophet 1.5 uses calls that pandas 3.1 announces to drop
        model = Prophet(
            growth="flat" if span < FLAT_BELOW_S else "linear",
            daily_seasonality=span >= 2 * DAY_S,
            weekly_seasonality=span >= 2 * WEEK_S,
            yearly_seasonality=False,
            uncertainty_samples=0,
        )
        logging.getLogger("prophet").setLevel(logging.ERROR)  # it reports every fit, as cmdstanpy does
        with disable_logging():
            model.fit(past, seed=1)
        return np.asarray(model.predict(ahead)["yhat"], dtype=np.float64)
