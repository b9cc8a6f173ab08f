"""What drives inlets, put beside them: the outside temperature where cooling follows it, and the site's power.

A free-cooled site holds its supply below 15 degC outside and at its warmest above 29 (TAPAS, Fig. 3, the bends that
`forecast.plant` learns with), so that what counts is the outside temperature within these. The site's power is the sum of its
rows; it is known up to now and nobody's guess about its future is used (row power at 15 min is hardly better than persistence).
"""

from dataclasses import replace

import numpy as np

from contracts.ports import Batch
from forecast.grids import Floats
from forecast.weather import Ahead

OUTSIDE_C = (15.0, 29.0)
OUTSIDE, POWER = "outside_within_bends_c", "site_power_kw"


def driven(inlets: Batch, *, outside: Batch | None = None, weather: Ahead | None = None, power: Batch | None = None) -> Batch:
    """Return the inlets with their drivers as covariates, known up to now: [T], NaN where not known.

    `outside` has one series, degC; `weather` is its assumed future on the inlets' grid, degC, with which the covariate is
    [T + H]; `power` has the rows, W: where a row is missing the sum is not known. Raises ValueError where a grid's step is not
    the inlets'.
    """
    covariates, errors = dict(inlets.covariates), dict(inlets.covariate_errors)
    if outside is not None and len(outside.names):
        past = np.clip(_beside(inlets, outside, outside.values[0]), *OUTSIDE_C)
        ahead = np.zeros(0) if weather is None else np.clip(weather.values, *OUTSIDE_C)
        covariates[OUTSIDE] = np.concatenate([past, ahead])
        if weather is not None:
            errors[OUTSIDE] = weather.sigma
    if power is not None and len(power.names):
        covariates[POWER] = _beside(inlets, power, power.values.sum(axis=0) / 1_000.0)
    return replace(inlets, covariates=covariates, covariate_errors=errors)


def _beside(inlets: Batch, known: Batch, values: Floats) -> Floats:
    """Return `values` [T of known] at the inlets' times."""
    if known.step_s != inlets.step_s:
        raise ValueError(f"{known.target}: a grid of {known.step_s} s beside one of {inlets.step_s} s")
    out = np.full(len(inlets.ts), np.nan)
    if len(known.ts):
        column = (inlets.ts - known.ts[0]) // known.step_s
        inside = (column >= 0) & (column < len(known.ts))
        out[inside] = values[column[inside]]
    return out
