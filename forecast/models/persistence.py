"""Persistence: the next value is the last one. The naive forecast that every other model must beat."""

from dataclasses import dataclass

import numpy as np

from contracts.ports import Batch
from forecast.grids import Floats, carried, day_steps


@dataclass(frozen=True)
class PersistenceFitted:
    """Nothing is learnt."""

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps] the newest value of the last day; NaN where there is none."""
        last = carried(batch.values[:, -day_steps(batch.step_s) :])
        level = last[:, -1] if last.shape[1] else np.full(len(batch.names), np.nan)
        return np.repeat(level[:, None], steps, axis=1)


class Persistence:
    """Hold the last observed value."""

    name = "persistence"
    min_points = 1

    def fit(self, batch: Batch) -> PersistenceFitted:  # noqa: ARG002 - the port's shape
        """Return the model; there is nothing to fit."""
        return PersistenceFitted()
