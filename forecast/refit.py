"""Learning: fit every model, judge it on the recent past that it has not seen, choose champions, gather the errors for bands.

Each model is fitted on everything, to forecast with, and judged by what its earlier fits said at moments after them
(`forecast.folds`): the hourly refit fits once, the first one of a service on back-filled history once more per judged day.
Prophet is fitted once a day and judged every hour with the others.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from contracts.ports import Batch, Forecaster
from contracts.registry import FORECASTERS, installed, load
from forecast.calibration import table
from forecast.champion import TRAILING_S
from forecast.folds import Known, Tried, origins_of, paths_of, tried
from forecast.grids import COUNTED, DAY_S, Ints, observed, restricted
from forecast.kinds import kinds
from forecast.models.kalman import KalmanFitted
from forecast.restless import restlessness
from forecast.rolling import Residuals, residuals
from forecast.state import GPU_POWER, KNOTS_S, TARGETS, Calendar, ClassState, State, by_target, combined, levels_of
from forecast.voices import judge, verdict_of, voices

HOURLY = ("persistence", "seasonal_naive", "seasonal_mean", "ridge", "autoreg", "kalman", "shared", "ets", "boosted")
LOADS_ONLY = ("ets", "boosted")
"""not at the first refit: who starts would wait for them"""
BURSTY = (*COUNTED, "power", "ups_power")
"""targets for which LOADS_ONLY are worth their seconds; thousands of temperatures would wait for them"""
INLETS_ONLY = ("shared",)
"""its constants are kelvins"""
FEW = 16
"""classes of more series than this go without Prophet"""
MOST_SERIES = {"autoreg": FEW, "prophet": FEW, "ets": 128, "boosted": 128}
"""classes of more series than this go without: 20 ms, 0.4 s and 10 ms a fit; trees cost 4 s whatever the class"""
MOST_FITS = {"ets": 3, "boosted": 3}
"""fits that make up for a judged past that a model has not seen; the others have one a day"""
FOLDED = 128
"""classes of more series than this are judged by one fit before the judged past, and keep no paths"""
SAMPLE = 512
"""series of a kind that are judged and calibrated on, where there are more: the others take their kind's champion and band"""
PER_DAY = ((FEW, 30), (FOLDED, 15))
"""(series, origins a day from which classes of up to so many are judged); larger ones: the last of"""
PER_DAY_AT_LEAST = 6
"""errors of many series are pooled, and need fewer origins"""


def refit(state: State, batches: Sequence[Batch], now: datetime) -> State:
    """Return the state with every class of `batches` (300 s grid, the whole history) learnt anew.

    Classes that are not among the batches stay. Prophet's paths come from the last `refit_daily`.
    """
    classes = dict(state.classes)
    for target, batch in by_target(batches).items():
        if target not in (*TARGETS, GPU_POWER) or not len(batch.ts):
            continue
        classes[target] = _refit_class(batch, classes.get(target), state.calendars.get(target), now)
    return replace(state, classes=classes)


def refit_daily(state: State, batches: Sequence[Batch], now: datetime) -> State:
    """Return the state with Prophet fitted anew for the classes of few series, and the champions chosen again with it."""
    calendars = dict(state.calendars)
    for target, batch in by_target(batches).items():
        if target not in TARGETS or len(batch.names) > FEW or not len(batch.ts):
            continue
        found = _calendar(batch, calendars.get(target), now)
        if found is not None:
            calendars[target] = found
    return refit(replace(state, calendars=calendars), batches, now)


def _calendar(batch: Batch, before: Calendar | None, now: datetime) -> Calendar | None:
    """Return Prophet fitted on everything, beside yesterday's or one on all but the judged past; None where that has too few
    points."""
    prophet: Forecaster = load(FORECASTERS, "prophet")()
    if before is not None and before.until_s <= int(batch.ts[-1]):
        past, past_until_s = before.now, before.until_s
    else:
        origins = origins_of(batch, PER_DAY[0][1])
        known = restricted(batch, int(origins[0]) if len(origins) else 0)
        if (observed(known.values) < prophet.min_points).all():
            return None
        past, past_until_s = prophet.fit(known), int(known.ts[-1])
    return Calendar(now=prophet.fit(batch), until_s=int(batch.ts[-1]), past=past, past_until_s=past_until_s, fitted_at=now)


def _refit_class(batch: Batch, before: ClassState | None, calendar: Calendar | None, now: datetime) -> ClassState:
    kind = kinds(batch)
    rows = sampled(batch.names, kind)
    judged = batch if len(rows) == len(batch.names) else part_of(batch, rows)
    models, left_out = _affordable(batch, first=before is None)
    said = _said(batch, judged, models, before, calendar)
    left_out += [(model.name, _unjudged(batch, model)) for model in models if model.name not in said.paths]
    models = [model for model in models if model.name in said.paths]
    fitted = {model.name: model.fit(batch) for model in models}
    if calendar is not None and "prophet" in said.paths:
        fitted["prophet"] = calendar.now
    pasts = _errors(said, judged)
    until = int(batch.ts[-1])
    tables = {p.model: table(p, levels_of(batch.target), until_s=until) for p in pasts}
    tables = {name: t for name, t in tables.items() if len(t.horizons_s)}
    found = judge([p for p in pasts if p.model in tables], batch.target, [kind[r] for r in rows], until - TRAILING_S)
    verdict = verdict_of(found, batch.target, before, judged.names, [kind[r] for r in rows], now)
    fast = fitted.get("kalman")
    return ClassState(
        target=batch.target,
        step_s=batch.step_s,
        fitted_at=now,
        until_s=until,
        names=batch.names,
        fitted=fitted,
        fast=fast if isinstance(fast, KalmanFitted) else None,
        tables=tables,
        choices={c.band: c for c in verdict.choices if not c.kind},
        kind_choices=tuple(c for c in verdict.choices if c.kind),
        voices=voices(verdict, pasts, batch, kind, rows, until) if tables and verdict.choices else None,
        points=dict(zip(batch.names, observed(batch.values).tolist(), strict=True)),
        left_out=tuple(left_out),
        tried=said if len(batch.names) <= FOLDED and before is not None else None,
    )


def _said(
    batch: Batch, judged: Batch, models: Sequence[Forecaster], before: ClassState | None, calendar: Calendar | None
) -> Tried:
    """Return what the models said in the judged past: a large class's by one fit, others' day by day from the second refit on
    (who starts would wait for it)."""
    count = len(batch.names)
    per_day = next((many for most, many in PER_DAY if count <= most), PER_DAY_AT_LEAST)
    knots = np.array([k // batch.step_s for k in KNOTS_S if k % batch.step_s == 0] or [1], dtype=np.int64)
    origins = origins_of(judged, per_day)
    once = dict.fromkeys([model.name for model in models], 1)
    if count > FOLDED:
        return tried(judged, origins, knots, models, {}, most_fits=once)
    known: dict[str, Known] = {}
    if before is not None and int(batch.ts[-1]) - before.until_s <= DAY_S:  # an older fit is not what would have spoken
        known = {model.name: [(before.until_s, before.fitted[model.name])] for model in models if model.name in before.fitted}
    if calendar is not None:
        known["prophet"] = [(calendar.past_until_s, calendar.past), (calendar.until_s, calendar.now)]
    if before is None:
        return tried(judged, origins, knots, models, known, most_fits=once)
    return tried(judged, origins, knots, models, known, before.tried, MOST_FITS)


def _errors(said: Tried, judged: Batch) -> list[Residuals]:
    """Return the errors of all models and their combinations, in units of the restlessness; none without an origin."""
    if not len(said.origin_ts):
        return []
    at, knots = np.searchsorted(judged.ts, said.origin_ts), said.knots.tolist()
    unit, paths = restlessness(judged.values, judged.step_s, at), paths_of(said)
    return [residuals(name, path, judged, at.tolist(), knots, unit) for name, path in (paths | combined(paths)).items()]


def _unjudged(batch: Batch, model: Forecaster) -> str:
    most = int(observed(batch.values).max(initial=0))
    return f"{most} points are too few to be judged on: {model.min_points} are needed before the judged past"


def _affordable(batch: Batch, *, first: bool) -> tuple[list[Forecaster], list[tuple[str, str]]]:
    names = tuple(name for name in installed(FORECASTERS) if name in HOURLY)
    if first or batch.target not in BURSTY:
        names = tuple(name for name in names if name not in LOADS_ONLY)
    if batch.target != "inlet":
        names = tuple(name for name in names if name not in INLETS_ONLY)
    many = [name for name, most in MOST_SERIES.items() if len(batch.names) > most and name in (*names, "prophet")]
    left_out = [(name, f"{len(batch.names)} series; it is fitted to at most {MOST_SERIES[name]}") for name in many]
    return [load(FORECASTERS, name)() for name in names if name not in many], left_out


def sampled(names: Sequence[str], kind: Sequence[str], most: int = SAMPLE) -> Ints:
    """Return the positions of at most `most` series of each kind, rising; by name, so that their order does not matter."""
    chosen: list[int] = []
    for wanted in dict.fromkeys(kind):
        mine = sorted((s for s, own in enumerate(kind) if own == wanted), key=lambda s: names[s])
        at = np.arange(min(most, len(mine))) * len(mine) // min(most, len(mine))
        chosen += [mine[i] for i in at]
    return np.array(sorted(chosen), dtype=np.int64)


def part_of(batch: Batch, rows: Ints) -> Batch:
    """Return the series `rows` of the batch."""
    low, high = (bound[rows] if np.ndim(bound) else bound for bound in (np.asarray(batch.lower), np.asarray(batch.upper)))
    covariates = {name: values[rows] if values.ndim > 1 else values for name, values in batch.covariates.items()}
    names = tuple(batch.names[r] for r in rows)
    notes = tuple(batch.notes[r] for r in rows) if batch.notes else ()
    groups = tuple(batch.groups[r] for r in rows) if batch.groups else ()
    part = replace(batch, names=names, values=batch.values[rows], lower=low, upper=high, groups=groups)
    return replace(part, covariates=covariates, notes=notes)
