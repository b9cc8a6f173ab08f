"""What each model would have said at past moments, made with what was known then and kept from refit to refit.

A service judges a model by the errors of fits that were as fresh as those that speak. What the last refit fitted has seen
nothing since: it speaks for the moments after it, at no cost but its paths. Moments that nothing was fitted for (the history
before the service began, a model that is new) are made up for: one fit at the beginning of each UTC day, for the origins of
that day; where a fit is dear, few fits for several days each. Paths are kept and errors are not: outcomes come later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch, Fitted, Forecaster
from forecast.grids import DAY_S, WEEK_S, Floats, Ints, day_steps, observed, restricted
from forecast.rolling import paths_from

Singles = NDArray[np.float32]
Bools = NDArray[np.bool_]
Known = Sequence[tuple[int, Fitted]]
"""(time until which it has seen, what was fitted then), rising"""

JUDGED_S = WEEK_S
LEAST_PAST_S = 2 * DAY_S
LEAST_PAST = 0.3
"""the judged past is at most a week, and leaves this share of the history and two days of it (of less than three days two
thirds) for the first fit"""
DENSER, FEWEST_ORIGINS = 5, 30
"""below so many origins there are so many times as many, so that a day or two also give a band some hours ahead"""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """Paths of one class from the origins of the judged past."""

    names: tuple[str, ...]
    step_s: int
    origin_ts: Ints
    """[O] rising"""
    knots: Ints
    """[K] steps ahead"""
    paths: Mapping[str, Singles]
    """model -> [O, K, S]; NaN = no opinion"""
    made: Mapping[str, Bools]
    """model -> [O] whether the path was made at all"""


def origins_of(batch: Batch, per_day: int) -> Ints:
    """Return the columns from which models are judged: up to `per_day` a day, at changing times of day, each with a step after
    it; of a short history five times as many. They are fixed in time, so that later refits find them again."""
    columns, day = len(batch.ts), day_steps(batch.step_s)
    least = max(LEAST_PAST * columns, min(LEAST_PAST_S // batch.step_s, 2 * columns / 3))
    first = max(columns - JUDGED_S // batch.step_s, int(np.ceil(least)) - 1, 0)
    stride = DENSER * -(-day // (DENSER * per_day))
    if day % stride == 0:
        stride += DENSER  # else the same few times of day come again and again
    at = np.arange(first, columns - 1, dtype=np.int64)
    place = batch.ts[at] // batch.step_s
    some = at[place % stride == 0]
    return np.asarray(some if len(some) >= FEWEST_ORIGINS else at[place % (stride // DENSER) == 0], dtype=np.int64)


def tried(
    batch: Batch,
    origins: Ints,
    knots: Ints,
    models: Sequence[Forecaster],
    known: Mapping[str, Known],
    before: Tried | None = None,
    most_fits: Mapping[str, int] | None = None,
) -> Tried:
    """Return the paths of `models`, and of what is `known`, from `origins` (columns): kept ones, those of earlier fits, and for
    the rest of `models` new fits, one a day or at most `most_fits` of a model (the days are shared among them)."""
    kept = aligned(before, batch, origins, knots)
    paths, made = dict(kept.paths), dict(kept.made)
    by_name = {model.name: model for model in models}
    for name in dict.fromkeys([*by_name, *known]):
        path = paths.get(name, np.full((len(origins), len(knots), len(batch.names)), np.nan, dtype=np.float32)).copy()
        done = made.get(name, np.zeros(len(origins), dtype=np.bool_)).copy()
        for until_s, fitted in reversed(known.get(name, ())):
            _speak(fitted, batch, knots, path, done, np.flatnonzero(~done & (kept.origin_ts >= until_s)), origins)
        if name in by_name:
            for some in _spans(kept.origin_ts, np.flatnonzero(~done), (most_fits or {}).get(name)):
                past = restricted(batch, int(origins[some[0]]))
                if observed(past.values).max(initial=0) >= by_name[name].min_points:
                    _speak(by_name[name].fit(past), batch, knots, path, done, some, origins)
        if done.any():
            paths[name], made[name] = path, done
    wanted = {*by_name, *known}
    return Tried(
        names=batch.names,
        step_s=batch.step_s,
        origin_ts=kept.origin_ts,
        knots=knots,
        paths={name: path for name, path in paths.items() if name in wanted},
        made={name: done for name, done in made.items() if name in wanted},
    )


def aligned(before: Tried | None, batch: Batch, origins: Ints, knots: Ints) -> Tried:
    """Return what is kept of `before`, at the `origins` and for the series of the batch; nothing where grid or horizons are
    others, or where a series has come that is known for a day or more: then all is made anew."""
    origin_ts = batch.ts[origins]
    empty = Tried(names=batch.names, step_s=batch.step_s, origin_ts=origin_ts, knots=knots, paths={}, made={})
    if before is None or before.step_s != batch.step_s or not np.array_equal(before.knots, knots):
        return empty
    position = {name: i for i, name in enumerate(before.names)}
    row = np.array([position.get(name, -1) for name in batch.names], dtype=np.int64)
    if (observed(batch.values[row < 0]) >= day_steps(batch.step_s)).any():
        return empty
    there, at = np.flatnonzero(np.isin(origin_ts, before.origin_ts)), np.flatnonzero(np.isin(before.origin_ts, origin_ts))
    paths, made = {}, {}
    for name, old in before.paths.items():
        new = np.full((len(origins), len(knots), len(row)), np.nan, dtype=np.float32)
        new[np.ix_(there, np.arange(len(knots)), row >= 0)] = old[at][:, :, row[row >= 0]]
        paths[name], made[name] = new, np.zeros(len(origins), dtype=np.bool_)
        made[name][there] = before.made[name][at]
    return Tried(names=batch.names, step_s=batch.step_s, origin_ts=origin_ts, knots=knots, paths=paths, made=made)


def paths_of(given: Tried) -> dict[str, Floats]:
    """Return model -> paths [O, K, S] in double precision."""
    return {name: path.astype(np.float64) for name, path in given.paths.items()}


def _spans(origin_ts: Ints, missing: Ints, most: int | None) -> list[Ints]:
    """Return the missing origins by UTC day, neighbouring days together where there are more than `most`."""
    days = origin_ts[missing] // DAY_S
    each = np.unique(days)
    if not len(each):
        return []
    shares = np.array_split(each, min(most or len(each), len(each)))
    return [missing[np.isin(days, share)] for share in shares]


def _speak(fitted: Fitted, batch: Batch, knots: Ints, path: Singles, done: Bools, some: Ints, origins: Ints) -> None:
    """Write what `fitted` says from the origins `some` (positions) into `path` and `done`."""
    if len(some):
        path[some] = paths_from(fitted, batch, origins[some].tolist(), knots.tolist())
        done[some] = True
