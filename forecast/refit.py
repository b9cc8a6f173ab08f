"""Learning: fit every model, judge it on the recent past that it has not seen, choose champions, gather the errors for bands.

Each model is fitted twice: on all but the newest week, to be judged at rolling origins within that week; and on everything, to
forecast with. The hourly refit costs seconds; Prophet is fitted once a day and judged every hour with the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from contracts.ports import Batch, Fitted, Forecaster
from contracts.registry import FORECASTERS, installed, load
from forecast.calibration import table
from forecast.champion import TRAILING_S
from forecast.grids import WEEK_S, Ints, day_steps, observed, restricted
from forecast.kinds import kinds
from forecast.models.kalman import KalmanFitted
from forecast.rolling import Residuals, residuals, roll, spread_origins
from forecast.state import GPU_POWER, KNOTS_S, TARGETS, Calendar, ClassState, State, by_target, combined, levels_of
from forecast.voices import in_restlessness, judge, verdict_of, voices

HOURLY = ("persistence", "seasonal_naive", "seasonal_mean", "ridge", "autoreg", "kalman", "shared", "ets", "boosted")
LOADS_ONLY = ("ets", "boosted")
"""trees are worth their seconds where series burst; thousands of temperatures would wait for them, and so would who starts"""
INLETS_ONLY = ("shared",)
"""its constants are kelvins"""
FEW = 16
"""classes of more series than this go without Prophet"""
MOST_SERIES = {"autoreg": FEW, "prophet": FEW, "ets": 128}
"""classes of more series than this go without: 20 ms, 0.4 s and 10 ms a fit"""
SAMPLE = 512
"""series of a kind that are judged and calibrated on, where there are more: the others take their kind's champion and band"""
JUDGED_S = WEEK_S
"""the past whose errors make the bands, at most a third of what there is"""
MOST_ORIGINS = 84
"""per class of few series; half as many where series are many, since their errors are pooled"""


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Where the judged past begins (a column), and the origins and horizons within it."""

    cut: int
    origins: list[int]
    knots: list[int]


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
        split = _split(batch)
        prophet: Forecaster = load(FORECASTERS, "prophet")()
        past = restricted(batch, split.cut)
        if (observed(past.values) < prophet.min_points).all():
            continue
        calendars[target] = Calendar(
            now=prophet.fit(batch), past=prophet.fit(past), past_until_s=int(past.ts[-1]), fitted_at=now
        )
    return refit(replace(state, calendars=calendars), batches, now)


def _split(batch: Batch) -> _Split:
    columns = len(batch.ts)
    window = max(1, min(JUDGED_S // batch.step_s, columns // 3))
    knots = [k // batch.step_s for k in KNOTS_S if k % batch.step_s == 0 and k // batch.step_s <= window]
    most = MOST_ORIGINS if len(batch.names) <= FEW else MOST_ORIGINS // 2
    return _Split(
        cut=max(0, columns - window - 1),
        origins=spread_origins(columns, window, most, day_steps(batch.step_s)),
        knots=knots or [1],
    )


def _refit_class(batch: Batch, before: ClassState | None, calendar: Calendar | None, now: datetime) -> ClassState:
    split = _split(batch)
    kind = kinds(batch)
    rows = sampled(batch.names, kind)
    judged = batch if len(rows) == len(batch.names) else part_of(batch, rows)
    models, left_out = _affordable(batch, first=before is None)
    past = restricted(judged, split.cut)
    most = int(observed(past.values).max(initial=0))
    pasts: list[Residuals] = []
    fitted: dict[str, Fitted] = {}
    for model in models:
        if most < model.min_points or not split.origins:
            left_out.append((model.name, f"{most} points before the judged past, {model.min_points} needed"))
            continue
        pasts.append(roll(model.name, model.fit(past), judged, split.origins, split.knots))
        fitted[model.name] = model.fit(batch)
    if calendar is not None and split.origins and calendar.past_until_s <= int(batch.ts[split.origins[0]]):
        pasts.append(roll("prophet", calendar.past, judged, split.origins, split.knots))
        fitted["prophet"] = calendar.now
    for name, paths in combined({p.model: p.paths for p in pasts}).items():
        pasts.append(residuals(name, paths, judged, split.origins, split.knots))
    pasts = in_restlessness(pasts, judged)
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
        names=batch.names,
        fitted=fitted,
        fast=fast if isinstance(fast, KalmanFitted) else None,
        tables=tables,
        choices={c.band: c for c in verdict.choices if not c.kind},
        kind_choices=tuple(c for c in verdict.choices if c.kind),
        voices=voices(verdict, pasts, batch, kind, rows, until) if tables and verdict.choices else None,
        points=dict(zip(batch.names, observed(batch.values).tolist(), strict=True)),
        left_out=tuple(left_out),
    )


def _affordable(batch: Batch, *, first: bool) -> tuple[list[Forecaster], list[tuple[str, str]]]:
    names = ("persistence",) if batch.target == GPU_POWER else tuple(n for n in installed(FORECASTERS) if n in HOURLY)
    if first or batch.target != "load":
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
