"""Persistence: the next value is the last one. The naive forecast that every other model must beat."""

from dataclasses import dataclass

import numpy as np

from contracts.ports import Batch
from forecast.grids import Floats, day_steps, last_seen


@dataclass(frozen=True)
class PersistenceFitted:
    """Nothing is learnt."""

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps] the newest value of the last day; NaN where there is none."""
        level = last_seen(batch.values[:, -day_steps(batch.step_s) :])
        return np.repeat(level[:, None], steps, axis=1)


class Persistence:
    """Hold the last observed value."""

    name = "persistence"
    min_points = 1

    def fit(self, batch: Batch) -> PersistenceFitted:  # noqa: ARG002 - the port's shape
        """Return the model; there is nothing to fit."""
        return PersistenceFitted()
