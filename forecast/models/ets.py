"""ETS: statsmodels' exponential smoothing with additive errors and a damped trend, on what a seasonal curve leaves.

    l[t] = l[t-1] + phi b[t-1] + alpha e[t],   b[t] = phi b[t-1] + beta e[t]      (Hyndman et al. 2008, ETS(A, Ad, N))

The day is Fourier terms rather than 144 or 288 seasonal states: those learn each step of the day from as many values as there
are days, and cost a hundred times as much.
"""

import numpy as np

from contracts.ports import Batch
from forecast.grids import COUNTED, Floats, day_steps, recent
from forecast.models.innovations import InnovationsFitted, is_flat, kept, prepared

MOST_DAYS = 14
"""history that a fit reads"""


class Ets:
    """Exponential smoothing, one maximum likelihood fit per series (some 10 ms): for classes of few series."""

    name = "ets"
    min_points = 96

    def fit(self, batch: Batch) -> InnovationsFitted:
        """Learn from the newest two weeks of the batch; passes over series with fewer than `min_points` there."""
        log = batch.target in COUNTED
        batch = recent(batch, MOST_DAYS * day_steps(batch.step_s))
        start = prepared(batch, self.min_points, log)
        count = len(start.rows)
        design, transition = np.zeros((count, 2)), np.zeros((count, 2, 2))
        gain, state = np.zeros((count, 2)), np.zeros((count, 2))
        for i, rest in enumerate(start.rest):
            alpha, beta, phi, state[i] = _smoothing(rest)
            design[i], transition[i], gain[i] = (1.0, phi), ((1.0, phi), (0.0, phi)), (alpha, beta)
        return kept(batch, start, log, design, transition, gain, state)


def _smoothing(rest: Floats) -> tuple[float, float, float, Floats]:
    """Return alpha, beta, phi and the last (level, trend) of one series."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    if is_flat(rest):
        return 1.0, 0.0, 0.0, np.array([rest[-1], 0.0])
    level, spread = float(np.mean(rest)), float(np.std(rest))
    model = ETSModel((rest - level) / spread, error="add", trend="add", damped_trend=True, initialization_method="heuristic")
    fitted = model.fit(disp=False)
    named = dict(zip(fitted.param_names, np.asarray(fitted.params, dtype=np.float64), strict=True))
    state = np.array([fitted.level[-1] * spread + level, fitted.slope[-1] * spread])
    return named["smoothing_level"], named["smoothing_trend"], named["damping_trend"], state
