"""Seasonal-naive: the value at the same time yesterday, or a week ago where two weeks (weekly_naive: eight days) are known."""

from dataclasses import dataclass

import numpy as np

from contracts.ports import Batch
from forecast.grids import DAY_S, WEEK_S, Floats, day_steps, span_s, taken

LOOK_BACK = 3
"""seasons tried before the model has no opinion: a gap yesterday is bridged by the day before"""


@dataclass(frozen=True)
class SeasonalNaiveFitted:
    """`weekly` where the history was long enough to look a week back first."""

    weekly: bool

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps] the value one season before each step, or up to three where that one is a gap; else NaN.

        A batch shorter than a week falls back to yesterday.
        """
        day = day_steps(batch.step_s)
        seasons = [7 * day] * self.weekly + [day * k for k in range(1, LOOK_BACK + 1)]
        out = np.full((len(batch.names), steps), np.nan)
        columns = batch.values.shape[1]
        ahead = np.arange(1, steps + 1)
        for season in seasons:
            back = -(-ahead // season) * season  # whole seasons, so that the source lies in the past
            value = taken(batch.values, columns - 1 + ahead - back)
            out = np.where(np.isnan(out), value, out)
            if not np.isnan(out).any():
                break
        return out


class SeasonalNaive:
    """Repeat the last day, or the last week where two weeks are known."""

    name = "seasonal_naive"
    min_points = 2

    def fit(self, batch: Batch) -> SeasonalNaiveFitted:
        """Return the model; learns only whether there are two weeks."""
        return SeasonalNaiveFitted(weekly=span_s(batch) >= 2 * WEEK_S)


class WeeklyNaive:
    """Repeat the last week as soon as it can be done for a day ahead (eight days of history), until then the last day.

    It stands beside `seasonal_naive`, which every score is a ratio to and whose meaning therefore stays as it is.
    """

    name = "weekly_naive"
    min_points = 2

    def fit(self, batch: Batch) -> SeasonalNaiveFitted:
        """Return the model; learns only whether there are eight days."""
        return SeasonalNaiveFitted(weekly=span_s(batch) >= WEEK_S + DAY_S)
