"""Inlets of servers that share their air: the level of an aisle is forecast, each sensor shows it in its own whole degrees.

    L[t+h] - L[t] = c + sum_w a_w (L[t] - L[t-w]) + r (L[t] - mean) + inputs       direct per horizon, pooled over the groups

with w of 5 to 60 min. What a sensor will show is its law (`forecast.sensors`) at the forecast level. The inputs are the batch's
covariates, by their moves over the last hour, and, where the batch brings their future, by their move until then. Groups are
`Batch.groups`; without them all series are one group.

Between two intervals of the grid `fresh` says the same from the newest minutes. When the level of the last minutes leaves its
family (errors of the regression GATE times the usual ones) the regression is not asked any more:
- going away from where it was before, the level goes on with the newest slope, which fades by the factor phi a minute (an AR(1)
  of the minutes' moves: a first-order approach to a new level; a lost chiller's ramp has 1). phi starts at PHI and stays below
  MOST_PHI: a failure that is repaired within the quarter of an hour is what makes straight lines wrong;
- coming back, it approaches where it was before, with RETURN_MIN, and does not go beyond.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.grids import Floats, Ints, carried, clipped, day_steps, filled, observed, recent, rows_of
from forecast.models.shared_minutes import course_of
from forecast.sensors import Sensors, learnt

KNOTS_S = (300, 600, 900, 1_800, 3_600)
BACK_S = (300, 600, 900, 1_800, 3_600)
"""over which the level's moves are among the inputs"""
DRIVEN_S = (900, 1_800, 3_600)
"""over which the covariates' moves are"""
MOST_DAYS = 14
PRIOR = 2.0
"""weight, in points, of a level that stays where it is"""
OWN_S = 6 * 3_600
"""newest readings that tell how far a sensor has moved from its law"""


@dataclass(frozen=True, kw_only=True)
class SharedFitted:
    """Coefficients [K, P] at `knots` [K] steps; `blind` are those without the covariates' future. `mean` [G] of the levels,
    `input_mean` [I]."""

    names: tuple[str, ...]
    groups: tuple[str, ...]
    sensors: Sensors
    step_s: int
    inputs: tuple[str, ...]
    """covariates that were there at the fit, sorted"""
    told_ahead: tuple[bool, ...]
    """whose future was there too"""
    mean: Floats
    input_mean: Floats
    knots: Ints
    foreseen: Floats
    blind: Floats

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps] the readings to come; beyond an hour the last level stays. NaN for a series that was not fitted or
        has nothing observed in the last two days, and on another grid."""
        out = np.full((len(batch.names), steps), np.nan)
        row = rows_of(self.names, batch)
        if not self.names or not len(batch.ts) or batch.step_s != self.step_s:
            return out
        day = day_steps(batch.step_s)
        chosen = np.flatnonzero((row >= 0) & (observed(recent(batch, 2 * day).values) > 0))
        hour = max(BACK_S) // batch.step_s
        tail = batch.values[chosen, -hour - 1 :]
        levels = self.sensors.levels(row[chosen], tail, len(self.groups))
        path = self.ahead(_padded(levels, hour + 1), batch, int(batch.ts[-1]))
        at = np.interp(np.arange(1, steps + 1), np.append(0, self.knots), np.arange(len(self.knots) + 1))
        out[chosen] = self._read(batch, chosen, row[chosen], _taken(path, at))
        return clipped(out, batch)

    def fresh(self, coarse: Batch, fine: Batch, at_s: Ints) -> tuple[Floats, Floats]:
        """Return the readings [S, H] at the times `at_s`, from the newest minutes, and [S] how far (0..1) the level's own
        course is followed instead of the regression. NaN where the minutes know nothing of a series' group, or where its newest
        300 s are not all there."""
        out, follow = np.full((len(coarse.names), len(at_s)), np.nan), np.zeros(len(coarse.names))
        row, heard = rows_of(self.names, coarse), rows_of(self.names, fine)
        if not self.names or coarse.step_s != self.step_s or not len(fine.ts) or not (heard >= 0).any():
            return out, follow
        levels = self.sensors.levels(heard[heard >= 0], fine.values[heard >= 0], len(self.groups))
        now_s = int(fine.ts[-1])
        lead = (at_s - now_s).astype(np.float64)
        course = course_of(self, levels, coarse, now_s, fine.step_s, lead)
        chosen = np.flatnonzero(row >= 0)
        out[chosen] = self._read(coarse, chosen, row[chosen], course.path)
        follow[chosen] = course.follow[self.sensors.group[row[chosen]]]
        return clipped(out, coarse), follow

    def ahead(self, levels: Floats, batch: Batch, end_s: int) -> Floats:
        """Return [G, 1 + K] the level now and at the knots, from the newest hour of levels [G, 13] on the fit's step, which
        ends at `end_s`; the batch lends its covariates."""
        now = levels[:, -1]
        columns = [np.ones(len(now))]
        columns += [now - levels[:, -1 - w // self.step_s] for w in BACK_S]
        columns.append(now - self.mean)
        values, until_s = _inputs(self.inputs, batch, end_s, self.step_s, int(self.knots[-1]))
        far_s = end_s + int(self.knots[-1]) * self.step_s
        known = all(until >= far_s for until, told in zip(until_s, self.told_ahead, strict=True) if told)
        hour = max(BACK_S) // self.step_s
        for i in range(len(self.inputs)):
            here = values[i, hour]
            columns += [np.full(len(now), here - values[i, hour - w // self.step_s]) for w in DRIVEN_S]
            columns.append(np.full(len(now), here - self.input_mean[i]))
        x = np.stack(columns, axis=1)
        move = np.stack([values[:, hour + k] - values[:, hour] for k in self.knots], axis=1)
        beta = self.foreseen if known else self.blind
        change = x @ beta[:, : x.shape[1]].T + np.einsum("ki,ik->k", beta[:, x.shape[1] :], move)[None]
        return np.concatenate([now[:, None], now[:, None] + change], axis=1)

    def _read(self, batch: Batch, chosen: Ints, row: Ints, path: Floats) -> Floats:
        """Return [C, H] what the chosen series' sensors show of the groups' paths [G, H], moved by what they lately showed
        beyond rounding."""
        own = path[self.sensors.group[row]]
        tail = batch.values[chosen, -(OWN_S // batch.step_s) :]
        levels = self.sensors.levels(row, tail, len(self.groups))[self.sensors.group[row]]
        off = tail - self.sensors.shown(row, levels.T).T
        count = (~np.isnan(off)).sum(axis=1)
        mean = np.nansum(off, axis=1) / np.maximum(count, 1)
        moved = np.sign(mean) * np.maximum(np.abs(mean) - 0.25 * self.sensors.step[row], 0.0)
        laws = _moved(self.sensors, row, moved)
        return laws.shown(np.arange(len(row)), own.T).T


def _moved(sensors: Sensors, row: Ints, moved: Floats) -> Sensors:
    """Return the laws of the sensors `row` with their offsets moved."""
    offset = sensors.offset[row] + moved
    return Sensors(group=sensors.group[row], offset=offset, gain=sensors.gain[row], step=sensors.step[row])


@dataclass(frozen=True, kw_only=True)
class SharedLevel:
    """The forecaster. Its constants are kelvins: it is of use for temperatures."""

    name: str = "shared"
    min_points: int = 288

    def fit(self, batch: Batch) -> SharedFitted:
        """Learn laws and regressions from the newest two weeks; passes over series with fewer than `min_points` there.

        Raises ValueError where `groups` do not belong to the series.
        """
        if batch.groups and len(batch.groups) != len(batch.names):
            raise ValueError(f"{len(batch.groups)} groups for {len(batch.names)} series")
        columns = len(batch.ts)
        some = slice(max(0, columns - MOST_DAYS * day_steps(batch.step_s)), columns)
        values = batch.values[:, some]
        rows = np.flatnonzero(observed(values) >= self.min_points)
        if max(BACK_S) % batch.step_s or any(k % batch.step_s for k in (*KNOTS_S, *BACK_S, *DRIVEN_S)):
            rows = rows[:0]
        all_groups = batch.groups or ("",) * len(batch.names)
        sensors, groups = learnt(values[rows], [all_groups[r] for r in rows])
        levels = sensors.levels(np.arange(len(rows)), values[rows], len(groups))
        inputs = tuple(sorted(name for name, given in batch.covariates.items() if np.ndim(given) == 1)) if len(rows) else ()
        driven = np.stack([filled(batch.covariates[name][None, some])[0] for name in inputs]) if inputs else levels[:0]
        told = tuple(batch.covariates[name].shape[-1] > columns for name in inputs)
        knots = np.array([k // batch.step_s for k in KNOTS_S], dtype=np.int64) if len(rows) else np.zeros(0, dtype=np.int64)
        doubt = np.stack([_doubt(batch, name, knots) for name in inputs]) if inputs else np.zeros((0, len(knots)))
        data = _Data(batch.step_s, levels, np.nan_to_num(driven), np.array(told, dtype=np.bool_), doubt, _means(levels))
        return SharedFitted(
            names=tuple(batch.names[r] for r in rows),
            groups=groups,
            sensors=sensors,
            step_s=batch.step_s,
            inputs=inputs,
            told_ahead=told,
            mean=data.mean,
            input_mean=data.input_mean,
            knots=knots,
            foreseen=_regressions(data, knots, foreseen=True),
            blind=_regressions(data, knots, foreseen=False),
        )


@dataclass(frozen=True)
class _Data:
    step_s: int
    levels: Floats
    driven: Floats
    """[I, T]"""
    told: NDArray[np.bool_]
    """[I] whose future will be there"""
    doubt: Floats
    """[I, K] one sigma of that future at the knots"""
    mean: Floats

    @property
    def input_mean(self) -> Floats:
        """[I]"""
        return _means(self.driven)


def _means(levels: Floats) -> Floats:
    count = (~np.isnan(levels)).sum(axis=1)
    return np.asarray(np.nansum(levels, axis=1) / np.maximum(count, 1), dtype=np.float64)


def _regressions(data: _Data, knots: Ints, *, foreseen: bool) -> Floats:
    """Return [K, P] coefficients of the columns: 1, the level's moves and distance from its mean, the inputs' moves and
    distances, the inputs' moves until then (zeros where not `foreseen`)."""
    count = 2 + len(BACK_S) + len(data.driven) * (len(DRIVEN_S) + 2)
    out = np.zeros((len(knots), count))
    hour = max(BACK_S) // data.step_s
    for k, h in enumerate(knots.tolist()):
        at = np.arange(hour, data.levels.shape[1] - h)
        if not len(at):
            continue
        groups = [_columns(data, g, at, h) for g in range(len(data.levels))]
        x = np.concatenate([x for x, _ in groups])
        goal = np.concatenate([goal for _, goal in groups])
        ok = np.isfinite(x).all(axis=1) & np.isfinite(goal)
        used = np.ones(count, dtype=np.bool_)
        used[count - len(data.driven) :] = foreseen & data.told
        sigma = np.concatenate([np.zeros(count - len(data.driven)), data.doubt[:, k]])
        out[k, used] = _ridge(x[ok][:, used], goal[ok], sigma[used])
    return out


def _columns(data: _Data, g: int, at: Ints, h: int) -> tuple[Floats, Floats]:
    """Return the regression's columns [N, P] and goals [N] of one group at the columns `at`."""
    level = data.levels[g]
    now = level[at]
    x = [np.ones(len(at)), *(now - level[at - w // data.step_s] for w in BACK_S), now - data.mean[g]]
    for i, given in enumerate(data.driven):
        x += [*(given[at] - given[at - w // data.step_s] for w in DRIVEN_S), given[at] - data.input_mean[i]]
    x += [given[at + h] - given[at] for given in data.driven]
    return np.stack(x, axis=1), level[at + h] - now


def _ridge(x: Floats, goal: Floats, sigma: Floats) -> Floats:
    """Return the coefficients, shrunk to zero by PRIOR points of every column's own size; a column that never moves gets 0.

    `sigma` [P] is the error with which a column will be known when it is used: it counts as that much noise in each point.
    """
    size = x.std(axis=0)
    size[0] = 1.0
    moves = size > 1e-9
    unit = np.where(moves, size, 1.0)
    scaled = np.where(moves, x / unit, 0.0)
    noise = PRIOR + len(x) * np.square(sigma / unit)
    beta = np.linalg.solve(scaled.T @ scaled + np.diag(noise), scaled.T @ goal)
    return np.where(moves, beta / unit, 0.0)


def _doubt(batch: Batch, name: str, knots: Ints) -> Floats:
    """Return [K] one sigma of a covariate's future at the knots; 0 where none is given or it is not given so far."""
    sigma = batch.covariate_errors.get(name, np.zeros(0))
    at = np.minimum(knots - 1, len(sigma) - 1)
    return np.nan_to_num(sigma[at]) if len(sigma) else np.zeros(len(knots))


def _inputs(names: Sequence[str], batch: Batch, end_s: int, step_s: int, ahead: int) -> tuple[Floats, list[int]]:
    """Return the covariates [I, 13 + ahead] on the grid that ends `ahead` steps after `end_s`, the last value held, and the
    newest time at which each is known; one that is not there stands still at zero."""
    hour = max(BACK_S) // step_s
    at = end_s + step_s * np.arange(-hour, ahead + 1)
    first = max(0, len(batch.ts) - 4 * hour)
    given: Mapping[str, Floats] = batch.covariates
    out, until_s = np.zeros((len(names), len(at))), [0] * len(names)
    for i, name in enumerate(names):
        values = given.get(name, np.zeros(0))[first:]
        ts = batch.ts[0] + batch.step_s * np.arange(first, first + len(values))
        some = np.isfinite(values)
        if some.any():
            out[i], until_s[i] = np.interp(at, ts[some], values[some]), int(ts[some][-1])
    return out, until_s


def _padded(levels: Floats, columns: int) -> Floats:
    """Return the newest `columns` levels [G, columns], gaps carried; what is before the first one is like it."""
    whole = filled(carried(levels))
    missing = max(0, columns - whole.shape[1])
    return np.concatenate([np.repeat(whole[:, :1], missing, axis=1), whole], axis=1)[:, -columns:]


def _taken(path: Floats, at: Floats) -> Floats:
    """Return the path [G, 1 + K] at fractional columns [H]."""
    low = np.minimum(at.astype(np.int64), path.shape[1] - 2)
    return np.asarray(path[:, low] * (1 - (at - low)) + path[:, low + 1] * (at - low), dtype=np.float64)
