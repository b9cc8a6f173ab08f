"""The tasks of a backtest: which there are, and how one is done. `forecast.backtest` joins what they find."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from contracts.errors import InputError
from contracts.ports import Batch, Fitted
from contracts.registry import FORECASTERS, installed, load
from forecast.backtest_series import Known, Table, known_at, outcomes
from forecast.champion import NAIVE, band_of
from forecast.grids import Floats, day_steps
from forecast.rolling import roll
from forecast.state import KNOTS_S

WARM_UP = 0.3
"""share of the history before the first origin: its errors are the first to calibrate with"""
TEST = 0.3
"""share of the history that is scored: its end"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One day of some models: fit at `origins[0]`, forecast from each of `origins` (columns) to `knots` (steps ahead)."""

    origins: tuple[int, ...]
    before: int
    """the last origin of the day before, -1 without one: outcomes after it are told by this task"""
    models: tuple[str, ...]
    knots: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one task found."""

    task: Task
    paths: Mapping[str, Floats]
    """model -> [O, K, S]; a model that failed has no opinion"""
    failed: Mapping[str, str]
    """model -> why"""
    seen: Floats
    """[S, C] outcomes as believed when they came, of the columns task.before + 1 to the last origin"""
    notes: tuple[tuple[str, ...], ...]
    """[S] what was masked at the last origin"""
    fit_s: float
    predict_s: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A backtest to be done."""

    table: Table
    horizons: Mapping[str, int]
    """label -> steps ahead"""
    knots: tuple[int, ...]
    """steps ahead of those horizons, and between them for pictures"""
    models: tuple[str, ...]
    first_test: int
    """column of the first scored origin"""
    tasks: tuple[Task, ...]


def plan(
    given: Table,
    horizons_s: Mapping[str, int],
    *,
    models: Sequence[str] = installed(FORECASTERS),
    origins_per_day: int = 24,
    test: float = TEST,
    split: int = 1,
) -> Plan:
    """Return the tasks, one a day; with `split` each day's models are dealt to so many tasks. Figures do not depend on it.

    `test`: share of the history that is scored, its end. Raises InputError where a horizon is no multiple of the step, or
    nothing was observed in the scored part.
    """
    if not 0 < test <= 1 - WARM_UP:
        raise InputError(f"test = {test:g}: the scored part must be above 0 and at most {1 - WARM_UP:g} of the history")
    first_test = int(len(given.batch.ts) * (1 - test))
    given = _scorable(given, first_test)
    horizons = _knots(horizons_s, given.batch.step_s)
    knots = tuple(sorted({*horizons.values(), *_between(horizons.values(), given.batch.step_s)}))
    names = tuple(dict.fromkeys([*NAIVE, *models]))
    tasks = _tasks(given.batch, knots, names, origins_per_day, split)
    return Plan(table=given, horizons=horizons, knots=knots, models=names, first_test=first_test, tasks=tasks)


def run(task: Task, batch: Batch, timer: Callable[[], float] = time.perf_counter) -> Part:
    """Fit and forecast one day. `batch`: the whole table; nothing after an origin reaches a model that forecasts from it.

    A model that raises (it is a plug-in) has no opinion on that day, and the part says why.
    """
    known = [known_at(batch, origin) for origin in task.origins]
    paths, failed, spent = {}, {}, [0.0, 0.0]
    for name in task.models:
        try:
            began = timer()
            fitted = load(FORECASTERS, name)().fit(known[0].batch)
            fitted_at = timer()
            paths[name] = _paths(name, fitted, known, task)
            spent = [spent[0] + fitted_at - began, spent[1] + timer() - fitted_at]
        except Exception as error:  # noqa: BLE001  (one bad model must not cost the others)
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            paths[name] = np.full((len(task.origins), len(task.knots), len(batch.names)), np.nan)
    return Part(
        task=task,
        paths=paths,
        failed=failed,
        seen=outcomes(batch, known, task.before + 1),
        notes=known[-1].notes,
        fit_s=spent[0],
        predict_s=spent[1],
    )


def _knots(horizons_s: Mapping[str, int], step_s: int) -> dict[str, int]:
    for label, seconds in horizons_s.items():
        if seconds < step_s or seconds % step_s:
            raise InputError(f"horizon {label}: the series' step is {step_s} s; ask for a multiple of it")
    return {label: seconds // step_s for label, seconds in horizons_s.items()}


def _between(asked: Collection[int], step_s: int) -> list[int]:
    """Return the steps ahead that a fan is drawn through: the service's horizons, in the bands in which something is scored."""
    scored = {band_of(float(knot * step_s)) for knot in asked}
    reached = max(asked) * step_s
    return [s // step_s for s in KNOTS_S if s % step_s == 0 and s <= reached and band_of(float(s)) in scored]


def _scorable(given: Table, first_test: int) -> Table:
    """Return the table without the series of which nothing was observed after the first scored origin."""
    batch = given.batch
    seen = np.flatnonzero(~np.isnan(batch.values[:, first_test + 1 :]).all(axis=1)).tolist()
    if not seen:
        raise InputError(f"series: nothing was observed in the scored part, the last {len(batch.ts) - first_test} steps")
    if len(seen) == len(batch.names):
        return given
    names = tuple(batch.names[i] for i in seen)
    silent = [(name, "nothing observed in the scored part") for name in batch.names if name not in names]
    kept = replace(batch, names=names, values=batch.values[seen])
    return replace(given, batch=kept, left_out=tuple(sorted([*given.left_out, *silent])))


def _tasks(batch: Batch, knots: tuple[int, ...], names: tuple[str, ...], origins_per_day: int, split: int) -> tuple[Task, ...]:
    columns, day = len(batch.ts), day_steps(batch.step_s)
    stride = max(1, day // origins_per_day)
    hands = [names[i :: min(split, len(names))] for i in range(min(split, len(names)))]
    tasks: list[Task] = []
    before = -1
    for cut in range(int(columns * WARM_UP), columns - 1, day):
        origins = tuple(range(cut, min(cut + day, columns - 1), stride))
        tasks += [Task(origins=origins, before=before, models=hand, knots=knots) for hand in hands]
        before = origins[-1]
    return tuple(tasks)


def _paths(name: str, fitted: Fitted, known: Sequence[Known], task: Task) -> Floats:
    """Return [O, K, S]: origins from which the past looked the same go together (cheaper), the others each by itself."""
    last = known[-1].batch
    alike = [
        bool(np.array_equal(k.batch.values, last.values[:, : o + 1], equal_nan=True))
        for k, o in zip(known, task.origins, strict=True)
    ]
    out = np.full((len(task.origins), len(task.knots), len(last.names)), np.nan)
    out[alike] = roll(name, fitted, last, [o for o, same in zip(task.origins, alike, strict=True) if same], task.knots).paths
    for i, (moment, origin) in enumerate(zip(known, task.origins, strict=True)):
        if not alike[i]:
            out[i] = roll(name, fitted, moment.batch, [origin], task.knots).paths[0]
    return out
