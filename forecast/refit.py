"""Learning: fit every model, judge it on the recent past that it has not seen, choose champions, gather the errors for bands.

Each model is fitted twice: on all but the newest week, to be judged at rolling origins within that week; and on everything, to
forecast with. The hourly refit costs seconds; Prophet is fitted once a day and judged every hour with the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from contracts.ports import Batch, Fitted, Forecaster
from contracts.registry import FORECASTERS, installed, load
from forecast.calibration import Table, table
from forecast.champion import BANDS, TRAILING_S, Band, Choice, choose, eligible, ratios
from forecast.grids import WEEK_S, day_steps, observed, restricted
from forecast.models.kalman import KalmanFitted
from forecast.rolling import Residuals, residuals, roll, spread_origins
from forecast.state import GPU_POWER, KNOTS_S, TARGETS, Calendar, ClassState, State, by_target, combined, levels_of

HOURLY = ("persistence", "seasonal_naive", "seasonal_mean", "ridge", "autoreg", "kalman", "boosted")
LOADS_ONLY = ("boosted",)
"""trees are worth their seconds where series burst; thousands of temperatures would wait for them, and so would who starts"""
FEW = 16
"""classes of more series than this go without AutoReg (20 ms a fit) and Prophet (0.4 s a fit)"""
COSTLY = ("autoreg", "prophet")
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
    models, left_out = _affordable(batch, first=before is None)
    past = restricted(batch, split.cut)
    pasts: list[Residuals] = []
    fitted: dict[str, Fitted] = {}
    for model in models:
        most = int(observed(past.values).max(initial=0))
        if most < model.min_points or not split.origins:
            left_out.append((model.name, f"{most} points before the judged past, {model.min_points} needed"))
            continue
        pasts.append(roll(model.name, model.fit(past), batch, split.origins, split.knots))
        fitted[model.name] = model.fit(batch)
    if calendar is not None and split.origins and calendar.past_until_s <= int(batch.ts[split.origins[0]]):
        pasts.append(roll("prophet", calendar.past, batch, split.origins, split.knots))
        fitted["prophet"] = calendar.now
    for name, paths in combined({p.model: p.paths for p in pasts}).items():
        pasts.append(residuals(name, paths, batch, split.origins, split.knots))
    until = int(batch.ts[-1])
    tables = {p.model: table(p, levels_of(batch.target), until_s=until) for p in pasts}
    tables = {name: t for name, t in tables.items() if len(t.horizons_s)}
    fast = fitted.get("kalman")
    return ClassState(
        target=batch.target,
        step_s=batch.step_s,
        fitted_at=now,
        names=batch.names,
        fitted=fitted,
        fast=fast if isinstance(fast, KalmanFitted) else None,
        tables=tables,
        choices=_choices(batch.target, pasts, tables, before, until, now),
        points=dict(zip(batch.names, observed(batch.values).tolist(), strict=True)),
        left_out=tuple(left_out),
    )


def _affordable(batch: Batch, *, first: bool) -> tuple[list[Forecaster], list[tuple[str, str]]]:
    names = ("persistence",) if batch.target == GPU_POWER else tuple(n for n in installed(FORECASTERS) if n in HOURLY)
    if first or batch.target != "load":
        names = tuple(name for name in names if name not in LOADS_ONLY)
    many = len(batch.names) > FEW
    left_out = [(name, f"{len(batch.names)} series; it is fitted to at most {FEW}") for name in COSTLY if many]
    return [load(FORECASTERS, name)() for name in names if not (many and name in COSTLY)], left_out


def _choices(
    target: str,
    pasts: Sequence[Residuals],
    tables: Mapping[str, Table],
    before: ClassState | None,
    until_s: int,
    now: datetime,
) -> dict[Band, Choice]:
    """Choose per band among the models whose errors reach into it; a band without any is absent."""
    out: dict[Band, Choice] = {}
    for band, _ in BANDS:
        errors = eligible(band, ratios([p for p in pasts if p.model in tables], band, since_s=until_s - TRAILING_S))
        if not errors:
            continue
        previous = before.choices[band].model if before is not None and band in before.choices else ""
        out[band] = choose(target, band, errors, previous, now)
    return out
