"""Rolling-origin backtest of every model over a long frame; pure functions, honest in time.

Models are fitted once a day on what was known then, and forecast from origins spread over the next day. Bands at an origin come
from the errors of the trailing week whose outcome had been observed by then; the champions of a day are chosen on the week
before it. No function here sees a column after its origin: the table is cut before it is cleaned and before a model gets it.

`plan` makes tasks, `run` does one of them (a day's fits and paths: what takes the time), `join` chooses, bands and scores.
Tasks know nothing of one another: they may run anywhere, in any order. Series stay together, since models and bands pool them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

from contracts.forecasts import LEVELS
from contracts.ports import Batch
from contracts.registry import FORECASTERS, installed
from forecast.backtest_report import Report, made
from forecast.backtest_series import Table, known_at, outcomes, tabled
from forecast.backtest_tasks import TEST, Part, Plan, plan, run
from forecast.calibration import Calibrated, bands, calibrated, usual_error
from forecast.champion import NAIVE, TRAILING_S, Choice
from forecast.grids import WEEK_S, Floats, Ints, restricted
from forecast.kinds import kinds
from forecast.rolling import HOUR_S, Residuals, residuals
from forecast.scores import Score, score, seasonal_scale
from forecast.state import combined
from forecast.voices import CHAMPION, Verdict, in_restlessness, judge, spoken, verdict_of


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """Every model's errors over the same origins, and the choices made day by day."""

    batch: Batch
    """its values are the outcomes, as believed when they came"""
    first_test: int
    """column of the first scored origin"""
    pasts: Mapping[str, Residuals]
    choices: Sequence[Choice]
    fit_s: float
    predict_s: float
    failed: Sequence[tuple[str, int, str]] = ()
    """(model, time of the fit in s, why)"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The report, and the arrays that its figures were made from."""

    report: Report
    plan: Plan
    rolled: Rolled
    quantiles: Mapping[str, Floats]
    """model -> [O, K, S, L]; NaN before the first scored origin and where there was no band"""


def backtest(
    frame: pl.DataFrame,
    horizons_s: Mapping[str, int],
    *,
    target: str = "load",
    models: Sequence[str] = installed(FORECASTERS),
    origins_per_day: int = 24,
    test: float = TEST,
    timer: Callable[[], float] = time.perf_counter,
) -> Report:
    """Score `models`, their ensemble and the champion on a long frame (ts = END of the interval, series, value[, gap]).

    `horizons_s`: label -> seconds, e.g. {"15m": 900}; the step is the frame's own. Other columns are not used.
    Raises InputError where no series has four days, or a horizon is no multiple of the step.
    """
    given = plan(tabled(frame, target), horizons_s, models=models, origins_per_day=origins_per_day, test=test)
    return join(given, [run(task, given.table.batch, timer) for task in given.tasks]).report


def join(given: Plan, parts: Sequence[Part]) -> Result:
    """Choose, band and score what all tasks of the plan found; the order of `parts` does not matter."""
    rolled = rolled_of(given, parts)
    asked = sorted(set(given.horizons.values()))
    pasts = {name: past if name == CHAMPION else at_knots(past, asked) for name, past in rolled.pasts.items()}
    quantiles = {name: _quantiles(past, rolled.batch, given.first_test) for name, past in pasts.items()}
    scale = seasonal_scale(rolled.batch.values[:, : given.first_test], rolled.batch.step_s)
    scores: list[Score] = []
    for model, past in pasts.items():
        for label, knot in given.horizons.items():
            scores += _scores(model, label, int(np.flatnonzero(past.knots == knot)[0]), past, quantiles[model], rolled, scale)
    notes = _notes(given, parts)
    return Result(
        report=made(given, rolled, quantiles[CHAMPION], scores, scale, notes), plan=given, rolled=rolled, quantiles=quantiles
    )


def batch_of(frame: pl.DataFrame, target: str) -> Batch:
    """Return the whole frame on its own grid, not yet cleaned. Raises InputError as `backtest_series.tabled`."""
    return tabled(frame, target).batch


def rolling(
    batch: Batch,
    knots: Sequence[int],
    *,
    models: Sequence[str],
    origins_per_day: int,
    test: float = TEST,
    timer: Callable[[], float] = time.perf_counter,
) -> Rolled:
    """Forecast from rolling origins with daily refits; `knots` are steps ahead."""
    horizons = {str(knot): knot * batch.step_s for knot in knots}
    given = plan(Table(batch=batch, left_out=(), notes=()), horizons, models=models, origins_per_day=origins_per_day, test=test)
    return rolled_of(given, [run(task, batch, timer) for task in given.tasks])


def rolled_of(given: Plan, parts: Sequence[Part]) -> Rolled:
    """Return the errors of all models, their combinations and the champion, over all origins in their order."""
    days = _by_day(parts)
    batch = replace(given.table.batch, values=_seen(given.table.batch, days))
    asked = sorted(set(given.horizons.values()))
    found: dict[str, list[Residuals]] = {name: [] for name in given.models}
    verdict: Verdict | None = None
    chosen: list[Choice] = []
    champion: list[Residuals] = []
    for day in days:
        task = day[0].task
        before = {name: [at_knots(past, asked) for past in pasts] for name, pasts in found.items()}
        verdict = _choose(before, restricted(batch, task.origins[0]), verdict)
        chosen += verdict.choices
        paths = {name: path for part in day for name, path in part.paths.items()}
        paths = {name: paths[name] for name in given.models}
        made_today = [
            residuals(name, path, batch, task.origins, task.knots) for name, path in (paths | combined(paths)).items()
        ]
        today = in_restlessness(made_today, batch)
        for past in today:
            found.setdefault(past.model, []).append(past)
        champion.append(spoken({past.model: past for past in today}, verdict.models, verdict.speaker))
    return Rolled(
        batch=batch,
        first_test=given.first_test,
        pasts={**{name: _joined(past) for name, past in found.items() if past}, CHAMPION: _joined(champion)},
        choices=chosen,
        fit_s=sum(part.fit_s for part in parts),
        predict_s=sum(part.predict_s for part in parts),
        failed=[(name, int(batch.ts[p.task.origins[0]]), why) for day in days for p in day for name, why in p.failed.items()],
    )


def at_knots(past: Residuals, knots: Sequence[int] | Ints) -> Residuals:
    """Return the errors at these horizons (steps ahead) only."""
    at = np.flatnonzero(np.isin(past.knots, knots))
    return replace(past, knots=past.knots[at], paths=past.paths[:, at], errors=past.errors[:, at])


def _by_day(parts: Sequence[Part]) -> list[list[Part]]:
    days: dict[int, list[Part]] = {}
    for part in sorted(parts, key=lambda p: p.task.origins[0]):
        days.setdefault(part.task.origins[0], []).append(part)
    return list(days.values())


def _seen(batch: Batch, days: Sequence[Sequence[Part]]) -> Floats:
    """Return the outcomes [S, T], each as believed at the first origin at or after it; after the last origin, at the end."""
    told = [day[0].seen for day in days]
    last = days[-1][0].task.origins[-1]
    return np.concatenate([*told, outcomes(batch, [known_at(batch, len(batch.ts) - 1)], last + 1)], axis=1)


def _notes(given: Plan, parts: Sequence[Part]) -> list[tuple[str, int, str]]:
    """Return (series, time of the last origin, what was masked then) of every day."""
    batch = given.table.batch
    return [
        (name, int(batch.ts[day[0].task.origins[-1]]), note)
        for day in _by_day(parts)
        for name, notes in zip(batch.names, day[0].notes, strict=True)
        for note in notes
    ]


def _choose(parts: Mapping[str, list[Residuals]], known: Batch, before: Verdict | None) -> Verdict:
    """Choose the day's champions by the errors that were known at the end of `known`."""
    at_s = int(known.ts[-1])
    kind = kinds(known)
    found = judge([_known(_joined(past), at_s) for past in parts.values() if past], known.target, kind, at_s - TRAILING_S)
    return verdict_of(found, known.target, before, known.names, kind, datetime.fromtimestamp(at_s, UTC))


def _known(past: Residuals, at_s: int) -> Residuals:
    seen = past.origin_ts[:, None] + past.knots[None, :] * past.step_s <= at_s
    return replace(past, errors=np.where(seen[:, :, None], past.errors, np.nan))


def _joined(parts: Sequence[Residuals]) -> Residuals:
    first = parts[0]
    return Residuals(
        model=first.model,
        origins=np.concatenate([p.origins for p in parts]),
        origin_ts=np.concatenate([p.origin_ts for p in parts]),
        step_s=first.step_s,
        knots=first.knots,
        paths=np.concatenate([p.paths for p in parts]),
        errors=np.concatenate([p.errors for p in parts]),
        scale=np.concatenate([p.scale for p in parts]),
    )


def _quantiles(past: Residuals, batch: Batch, first_test: int) -> Floats:
    """Return [O, K, S, L] bands at the scored origins, from the trailing week's errors known there; NaN before and without.

    Calibrated anew every hour, as in the service; the errors of the last hour widen a band at once.
    """
    out = np.full((*past.errors.shape, len(LEVELS)), np.nan)
    rows = np.arange(len(batch.names))
    now: Calibrated | None = None
    calibrated_s = 0
    for o in np.flatnonzero(past.origins >= first_test):
        origin, at_s = int(past.origins[o]), int(past.origin_ts[o])
        if now is None or at_s - calibrated_s >= HOUR_S:
            kind = kinds(restricted(batch, origin))
            now, calibrated_s = calibrated(past, kind, LEVELS, until_s=at_s, since_s=at_s - WEEK_S), at_s
        seconds = (past.knots * past.step_s)[past.knots * past.step_s <= now.reach_s()].astype(np.float64)
        if not len(seconds):
            continue
        z = now.quantiles(rows, seconds[None], np.zeros_like(rows), _surprise(past, now, int(o)))
        made = bands(past.paths[o, : len(seconds)].T, past.scale[o], z, LEVELS, lower=batch.lower, upper=batch.upper)
        out[o, : len(seconds)] = made.transpose(1, 0, 2)
    return out


def _surprise(past: Residuals, now: Calibrated, o: int) -> Floats:
    """Return [S] the mean size, in usual ones, of the errors at the origin `o` of forecasts up to an hour old."""
    sizes = []
    for k, knot in enumerate(past.knots):
        before = int(np.searchsorted(past.origins, past.origins[o] - knot))
        if knot * past.step_s > min(HOUR_S, now.reach_s()) or past.origins[before] != past.origins[o] - knot:
            continue
        usual = np.array([usual_error(table, float(knot * past.step_s)) for table in now.tables])[now.kind]
        sizes.append(np.abs(past.errors[before, k]) / (usual * past.scale[before]))
    if not sizes:
        return np.zeros(len(now.kind))
    known = ~np.isnan(sizes)
    return np.asarray(np.where(known, sizes, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), dtype=np.float64)


def _scores(model: str, label: str, k: int, past: Residuals, quantiles: Floats, rolled: Rolled, scale: Floats) -> list[Score]:
    scored = past.origins >= rolled.first_test
    naive = {name: at_knots(rolled.pasts[name], past.knots[[k]]).paths[scored, 0] for name in NAIVE}
    path = past.paths[scored, k]
    if past.model not in NAIVE:  # what is issued is the band's median; a naive model is the value that it repeats
        median = quantiles[scored, k, :, LEVELS.index(0.5)]
        path = np.where(np.isnan(median), path, median)
    ahead = past.origins[scored] + past.knots[k]
    columns = len(rolled.batch.ts)
    actual = np.where((ahead < columns)[:, None], rolled.batch.values.T[np.minimum(ahead, columns - 1)], np.nan)
    return [
        score(
            model,
            label,
            name,
            actual=actual[:, s],
            path=path[:, s],
            quantiles=quantiles[scored, k, s],
            levels=LEVELS,
            scale=float(scale[s]),
            persistence=naive["persistence"][:, s],
            seasonal=naive["seasonal_naive"][:, s],
        )
        for s, name in enumerate(rolled.batch.names)
    ]
