"""Rolling-origin backtest of every model over a long frame; a pure function, honest in time.

Models are fitted once a day on what was known then, and forecast from origins spread over the next day. Bands at an origin come
from the errors of the trailing week whose outcome had been observed by then; the champions of a day are chosen on the week
before it. No function here sees a column after its origin: batches are cut before a model gets them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec
import numpy as np
import polars as pl

from contracts.errors import InputError
from contracts.forecasts import LEVELS
from contracts.ports import Batch, Forecaster
from contracts.registry import FORECASTERS, installed, load
from forecast.batches import to_batch
from forecast.calibration import Calibrated, bands, calibrated, usual_error
from forecast.champion import NAIVE, TRAILING_S, Band, Choice
from forecast.grids import DAY_S, WEEK_S, Floats, day_steps, restricted
from forecast.kinds import kinds
from forecast.rolling import HOUR_S, Residuals, residuals, roll
from forecast.scores import Score, score, seasonal_scale
from forecast.state import combined
from forecast.voices import CHAMPION, Verdict, in_restlessness, judge, spoken, verdict_of

WARM_UP = 0.3
"""share of the history before the first origin: its errors are the first to calibrate with"""
TEST = 0.5
"""share of the history before the first scored origin"""
FEWEST_DAYS = 4


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a backtest found. `fit_s`, `predict_s`: seconds spent, all models together."""

    scores: tuple[Score, ...]
    selected: dict[Band, str]
    """band of horizons -> the champion at the end"""
    fit_s: float
    predict_s: float
    origins: int
    """scored origins"""


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """Every model's errors over the same origins, and the choices made day by day."""

    batch: Batch
    first_test: int
    """column of the first scored origin"""
    pasts: Mapping[str, Residuals]
    choices: Sequence[Choice]
    fit_s: float
    predict_s: float


def backtest(
    frame: pl.DataFrame,
    horizons_s: Mapping[str, int],
    *,
    target: str = "load",
    models: Sequence[str] = installed(FORECASTERS),
    origins_per_day: int = 24,
    timer: Callable[[], float] = time.perf_counter,
) -> Report:
    """Score `models`, their ensemble and the champion on a long frame (ts = END of the interval, series, value[, gap]).

    `horizons_s`: label -> seconds, e.g. {"15m": 900}; the step is the frame's own. Other columns are not used.
    Raises InputError where there are fewer than four days, or a horizon is no multiple of the step.
    """
    batch = batch_of(frame, target)
    knots = _knots(horizons_s, batch.step_s)
    rolled = rolling(batch, sorted(set(knots.values())), models=models, origins_per_day=origins_per_day, timer=timer)
    scale = seasonal_scale(batch.values[:, : rolled.first_test], batch.step_s)
    scores: list[Score] = []
    for model, past in rolled.pasts.items():
        quantiles = _quantiles(past, batch, rolled.first_test)
        for label, knot in knots.items():
            scores += _scores(model, label, int(np.flatnonzero(past.knots == knot)[0]), past, quantiles, rolled, scale)
    return Report(
        scores=tuple(scores),
        selected={choice.band: choice.model for choice in rolled.choices if not choice.kind},
        fit_s=rolled.fit_s,
        predict_s=rolled.predict_s,
        origins=int((rolled.pasts["persistence"].origins >= rolled.first_test).sum()),
    )


def batch_of(frame: pl.DataFrame, target: str) -> Batch:
    """Return the whole frame on its own grid (the most frequent distance between two times of a series)."""
    if frame.is_empty() or not {"ts", "series", "value"} <= set(frame.columns):
        raise InputError(f"series: columns {', '.join(frame.columns) or 'none'}; give rows with ts, series and value")
    stamps = (
        frame.select(pl.col("ts").cast(pl.Datetime("us")).to_physical().alias("us"), "series").unique().sort("series", "us")
    )
    gaps = stamps.select((pl.col("us").diff().over("series") // 1_000_000).alias("gap")).drop_nulls()["gap"]
    if gaps.is_empty():
        raise InputError("series: one point per series; a backtest needs four days of them")
    step_s = int(gaps.mode().min())  # type: ignore[arg-type]
    first, last = int(stamps["us"].min()) // 1_000_000, int(stamps["us"].max()) // 1_000_000  # type: ignore[arg-type]
    day_steps(step_s)
    since, until = (datetime.fromtimestamp(at, UTC) for at in (first - step_s, last + step_s - 1))
    batch = to_batch(frame, target, step_s, until, since, lower=float("-inf") if target == "inlet" else 0.0)
    if len(batch.ts) * step_s < FEWEST_DAYS * DAY_S:
        raise InputError(f"series: {len(batch.ts) * step_s / DAY_S:.1f} days of history; a backtest needs {FEWEST_DAYS}")
    return batch


def rolling(
    batch: Batch,
    knots: Sequence[int],
    *,
    models: Sequence[str],
    origins_per_day: int,
    timer: Callable[[], float] = time.perf_counter,
) -> Rolled:
    """Forecast from rolling origins with daily refits; `knots` are steps ahead."""
    columns, day = len(batch.ts), day_steps(batch.step_s)
    start, first_test = int(columns * WARM_UP), int(columns * TEST)
    stride = max(1, day // origins_per_day)
    names = list(dict.fromkeys(["persistence", "seasonal_naive", *models]))
    parts: dict[str, list[Residuals]] = {name: [] for name in names}
    verdict: Verdict | None = None
    spent = [0.0, 0.0]
    chosen: list[Choice] = []
    champion: list[Residuals] = []
    for cut in range(start, columns - 1, day):
        origins = list(range(cut, min(cut + day, columns - 1), stride))
        known = restricted(batch, cut)
        verdict = _choose(parts, known, verdict)
        chosen += verdict.choices
        for name in names:
            model: Forecaster = load(FORECASTERS, name)()
            began = timer()
            fitted = model.fit(known)
            fitted_at = timer()
            parts[name].append(roll(name, fitted, batch, origins, knots))
            spent = [spent[0] + fitted_at - began, spent[1] + timer() - fitted_at]
        for name, paths in combined({name: parts[name][-1].paths for name in names}).items():
            parts.setdefault(name, []).append(residuals(name, paths, batch, origins, knots))
        today = in_restlessness([past[-1] for past in parts.values()], batch)
        for past in today:
            parts[past.model][-1] = past
        champion.append(spoken({past.model: past for past in today}, verdict.models, verdict.speaker))
    pasts = {name: _joined(past) for name, past in parts.items() if past}
    return Rolled(
        batch=batch,
        first_test=first_test,
        pasts={**pasts, CHAMPION: _joined(champion)},
        choices=chosen,
        fit_s=spent[0],
        predict_s=spent[1],
    )


def _knots(horizons_s: Mapping[str, int], step_s: int) -> dict[str, int]:
    for label, seconds in horizons_s.items():
        if seconds < step_s or seconds % step_s:
            raise InputError(f"horizon {label}: the series' step is {step_s} s; ask for a multiple of it")
    return {label: seconds // step_s for label, seconds in horizons_s.items()}


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
    naive = {name: rolled.pasts[name].paths[scored, k] for name in ("persistence", "seasonal_naive")}
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
