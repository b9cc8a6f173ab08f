"""The outside temperature ahead, as a covariate with its own error by lead: from a provided forecast, or from this line-up.

A provided forecast (any service's, hourly or finer) is anchored to what is measured now, since a station is not the site: the
difference fades with ANCHOR_S. Its error by lead is learnt from its own past issues once there are enough of them. Without one
the outside series is forecast by a model of the line-up, whose error by lead comes from rolling origins like everyone's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from contracts.ports import Batch, Forecaster
from forecast.grids import Floats, Ints, carried, future, restricted, rows_of
from forecast.rolling import roll, spread_origins

ANCHOR_S = 6 * 3_600.0
"""time constant with which the site's present difference from a provided forecast fades [A]"""
FEWEST = 20
"""errors without which a lead has none of its own: then the next shorter lead's, grown with the root of time"""
MOST_ORIGINS = 84
ASSUMED_SIGMA_C = ((0, 0.5), (6 * 3_600, 1.0), (24 * 3_600, 1.5), (72 * 3_600, 2.5))
"""error of a weather service's 2 m temperature by lead before its own is learnt, (s, K) [A]"""


@dataclass(frozen=True, kw_only=True)
class Errors:
    """One sigma [K] at leads of `lead_s` [K] rising."""

    lead_s: Ints
    sigma: Floats

    def at(self, seconds: Floats | Ints) -> Floats:
        """Return sigma at leads of `seconds`; below the first lead it shrinks with the root of time, beyond the last one it
        grows so."""
        s = np.maximum(np.asarray(seconds, dtype=np.float64), 0.0)
        inside = np.interp(s, self.lead_s, self.sigma)
        first, last = max(float(self.lead_s[0]), 1.0), max(float(self.lead_s[-1]), 1.0)
        out = np.where(s > last, inside * np.sqrt(s / last), inside)
        return np.asarray(np.where(s < first, inside * np.sqrt(s / first), out), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Issued:
    """One forecast of a weather service: temperatures `values` [N] at `ts` [N] (seconds UTC, rising), made at `issued_s`."""

    issued_s: int
    ts: Ints
    values: Floats


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """The assumed future of one quantity on a batch's grid: `values` [H] and one sigma [H] for the steps after it."""

    values: Floats
    sigma: Floats


def assumed_errors() -> Errors:
    """Return the errors of a weather service of which nothing has been scored yet."""
    lead, sigma = zip(*ASSUMED_SIGMA_C, strict=True)
    return Errors(lead_s=np.array(lead, dtype=np.int64), sigma=np.array(sigma))


def learnt_errors(past: Sequence[Issued], outside: Batch, leads_s: Sequence[int]) -> Errors:
    """Return the errors by lead of a service's past issues against the outside series (its first row), each anchored as in use.

    Leads with fewer than FEWEST outcomes take the next shorter one's, grown with the root of time, or what is assumed.
    """
    measured = outside.values[0]
    known = ~np.isnan(measured)
    gathered: list[list[float]] = [[] for _ in leads_s]
    for issue in past:
        last = int(np.searchsorted(outside.ts, issue.issued_s, side="right")) - 1
        if last < 0:
            continue
        path = provided(issue, restricted(outside, last), int(max(leads_s)) // outside.step_s, assumed_errors()).values
        for k, lead in enumerate(leads_s):
            at = last + lead // outside.step_s
            if (
                0 < lead // outside.step_s <= len(path)
                and at < len(measured)
                and known[at]
                and not np.isnan(path[at - last - 1])
            ):
                gathered[k].append(float(measured[at] - path[at - last - 1]))
    sigma: list[float] = []
    for k, lead in enumerate(leads_s):
        if len(gathered[k]) >= FEWEST:
            own = float(np.sqrt(np.mean(np.square(gathered[k]))))
        elif k:
            own = sigma[-1] * float(np.sqrt(lead / leads_s[k - 1]))
        else:
            own = float(assumed_errors().at(np.array([lead]))[0])
        sigma.append(own)
    return Errors(lead_s=np.array(leads_s, dtype=np.int64), sigma=np.maximum.accumulate(np.array(sigma)))


def provided(issue: Issued, outside: Batch, steps: int, errors: Errors) -> Ahead:
    """Return a provided forecast on the grid after `outside`, moved by what is measured now, with its error at its own age.

    Past the end of the issue there is no value (NaN), and no error.
    """
    at = future(outside, steps)
    path = np.interp(at, issue.ts, issue.values, left=np.nan, right=np.nan)
    now = carried(outside.values)[0, -1] if outside.values.size else np.nan
    here = np.interp(outside.ts[-1], issue.ts, issue.values, left=np.nan, right=np.nan) if len(outside.ts) else np.nan
    off = float(np.nan_to_num(now - here))
    moved = path + off * np.exp(-(at - outside.ts[-1]) / ANCHOR_S)
    sigma = np.where(np.isnan(moved), np.nan, errors.at(at - issue.issued_s))
    return Ahead(values=moved, sigma=sigma)


def forecast_outside(outside: Batch, model: Forecaster, steps: int) -> Ahead:
    """Return the line-up's own forecast of the outside series (its first row) with its error by lead.

    The model is fitted on all but the newest third, judged at origins within it, and fitted again on everything. Without enough
    history for that the last value is held, with the error that is assumed of a service, doubled.
    """
    columns = len(outside.ts)
    cut = columns - columns // 3 - 1
    held = carried(outside.values)[0, -1] if columns else np.nan
    step = np.arange(1, steps + 1, dtype=np.int64) * outside.step_s
    origins = spread_origins(columns, columns // 3, MOST_ORIGINS, max(1, 86_400 // outside.step_s))
    seen = int((~np.isnan(outside.values[0, : cut + 1])).sum()) if columns else 0
    path = model.fit(outside).predict(outside, steps)[0] if seen >= model.min_points else np.full(steps, np.nan)
    if not origins or np.isnan(path).any():
        return Ahead(values=np.full(steps, held), sigma=2.0 * assumed_errors().at(step))
    knots = sorted({max(1, int(k)) for k in np.geomspace(1, max(1, min(steps, columns // 3)), 8)})
    past = roll(model.name, model.fit(restricted(outside, cut)), outside, origins, knots)
    errors = past.errors[:, :, 0]
    enough = (~np.isnan(errors)).sum(axis=0) >= FEWEST
    if not enough.any():
        return Ahead(values=path, sigma=2.0 * assumed_errors().at(step))
    sigma = np.sqrt(np.nanmean(np.square(errors[:, enough]), axis=0))
    lead = np.asarray(knots, dtype=np.int64)[enough] * outside.step_s
    return Ahead(values=path, sigma=Errors(lead_s=lead, sigma=np.maximum.accumulate(sigma)).at(step))


def with_covariate(batch: Batch, name: str, known: Batch, ahead: Ahead, series: str = "site") -> Batch:
    """Return the batch with a covariate [T + H]: the past of `series` in `known` at the batch's own times (NaN where it is not
    known), and its assumed future with its error. Raises ValueError where the grids' steps differ."""
    if known.step_s != batch.step_s:
        raise ValueError(f"{name}: a grid of {known.step_s} s beside one of {batch.step_s} s")
    row = int(rows_of((series,), known).argmax()) if series in known.names else 0
    column = (batch.ts - known.ts[0]) // batch.step_s if len(known.ts) else np.full(len(batch.ts), -1)
    inside = (column >= 0) & (column < len(known.ts))
    past = np.full(len(batch.ts), np.nan)
    past[inside] = known.values[row, column[inside]]
    return replace(
        batch,
        covariates={**batch.covariates, name: np.concatenate([past, ahead.values])},
        covariate_errors={**batch.covariate_errors, name: ahead.sigma},
    )
