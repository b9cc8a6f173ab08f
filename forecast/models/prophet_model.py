"""Prophet, for the calendar and the day ahead: refitted once a day, its path is kept and read off until the next fit.

Public holidays are configured: a country's (with its region's) by the package `holidays`, which Prophet brings, and days of
one's own. All go by one name, so that any past holiday teaches the next: with weeks of history none comes twice by its own.
`zone` puts days where people live; a holiday by UTC would begin at nine in the morning in Tokyo.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from contracts.errors import ConfigError
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
        out = np.full((len(batch.names), steps), np.nan)
        if not len(batch.ts):
            return out
        at = future(batch, steps)
        for s, r in enumerate(row):
            if r >= 0:
                out[s] = np.interp(at, self.ts, self.path[r], left=np.nan, right=np.nan)
        return clipped(out, batch)


@dataclass(frozen=True, kw_only=True)
class ProphetModel:
    """Additive daily and weekly seasonality, holidays where configured; growth flat below four weeks of history."""

    name: str = "prophet"
    min_points: int = 96
    country: str = ""
    """two-letter code whose public holidays count; empty = none"""
    region: str = ""
    """the country's subdivision, e.g. BY"""
    days: tuple[date, ...] = ()
    """further days that go like holidays (local dates)"""
    zone: str = "UTC"
    """IANA name; the series' days and hours are local there"""

    def fit(self, batch: Batch) -> ProphetFitted:
        """Fit one Prophet per series with at least `min_points` (each some tenths of a second) and keep its path.

        Raises ConfigError for a country, region or zone that does not exist.
        """
        import pandas as pd

        start = batch.ts[-1] if len(batch.ts) else 0
        ts = start + COARSE_S * np.arange(0, PATH_S // COARSE_S + 1)
        rows = [s for s, n in enumerate(observed(batch.values)) if n >= self.min_points]
        ahead = pd.DataFrame({"ds": self._local(ts)})
        off = self._holidays(self._local(batch.ts), ahead["ds"]) if rows else None
        path = np.zeros((len(rows), len(ts)))
        for i, s in enumerate(rows):
            at, mean = _coarse(batch.ts, batch.values[s])
            path[i] = _path(pd.DataFrame({"ds": self._local(at), "y": mean}), ahead, off, span_s(batch))
        return ProphetFitted(names=tuple(batch.names[s] for s in rows), ts=ts, path=path)

    def _local(self, ts: Ints) -> "pd.DatetimeIndex":
        """Return naive local times: Prophet knows no zones."""
        import zoneinfo

        import pandas as pd

        try:
            zone = zoneinfo.ZoneInfo(self.zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            raise ConfigError(f"prophet: no time zone {self.zone!r}; give an IANA name such as Europe/Berlin") from None
        stamps = pd.DatetimeIndex(np.asarray(ts, dtype="datetime64[s]").astype("datetime64[ns]"), tz="UTC")
        return stamps.tz_convert(zone).tz_localize(None)

    def _holidays(self, past: Sequence["pd.Timestamp"], ahead: Sequence["pd.Timestamp"]) -> "pd.DataFrame | None":
        """Return the holidays of the past and of the path, as Prophet takes them; None where the past holds none."""
        import pandas as pd

        first, last, end = past[0].date(), past[-1].date(), ahead[len(ahead) - 1].date()
        named = {day for day in (*self.days, *self._public(range(first.year, end.year + 1))) if first <= day <= end}
        if not any(day <= last for day in named):
            return None
        return pd.DataFrame({"ds": pd.to_datetime(sorted(named)), "holiday": "holiday"})

    def _public(self, years: range) -> tuple[date, ...]:
        if not self.country:
            return ()
        import holidays

        try:
            return tuple(holidays.country_holidays(self.country, subdiv=self.region or None, years=years))
        except NotImplementedError:
            where = "/".join(part for part in (self.country, self.region) if part)
            raise ConfigError(f"prophet: no calendar of public holidays for {where}; give e.g. country = 'DE'") from None


def _coarse(ts: Ints, values: Floats) -> tuple[Ints, Floats]:
    """Return the observed points as means over COARSE_S, stamped at the end of the interval."""
    seen = ~np.isnan(values)
    slot, place = np.unique(-(-ts[seen] // COARSE_S), return_inverse=True)
    return slot * COARSE_S, np.bincount(place, weights=values[seen]) / np.bincount(place)


def _path(past: "pd.DataFrame", ahead: "pd.DataFrame", off: "pd.DataFrame | None", span: int) -> Floats:
    import pandas as pd
    from cmdstanpy import disable_logging
    from prophet import Prophet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Prophet 1.5 uses calls that pandas 3.1 announces to drop
        model = Prophet(
            growth="flat" if span < FLAT_BELOW_S else "linear",
            daily_seasonality=span >= 2 * DAY_S,
            weekly_seasonality=span >= 2 * WEEK_S,
            yearly_seasonality=False,
            holidays=off,
            uncertainty_samples=0,
        )
        logging.getLogger("prophet").setLevel(logging.ERROR)  # it reports every fit, as cmdstanpy does
        with disable_logging():
            model.fit(past, seed=1)
        wanted = ahead["ds"].to_numpy()  # when clocks go back, local times come twice and out of order: ask for each once
        once, place = np.unique(wanted, return_inverse=True)
        return np.asarray(model.predict(pd.DataFrame({"ds": once}))["yhat"], dtype=np.float64)[place]
