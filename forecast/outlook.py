"""From fitted models and the newest minutes to quantiles for every series of a class: the arithmetic of a tick.

The paths of the 300 s models are made once per interval. Between, they are interpolated and anchored: what the newest minutes
(filtered by the Kalman node) say beyond the path is a surprise, whose share phi (learnt with the errors) stays on. Where recent
errors leave their family, the path follows the Kalman's level instead, so that a lost air handler or a row that jumps shows
within minutes. Bands are the champion's scaled errors at the time since the newest observation: stale data widens them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.calibration import Table, bands
from forecast.champion import BANDS, band_of
from forecast.grids import Floats, Ints, carried, day_steps, newest, recent, restricted, rows_of
from forecast.models.kalman import MEMORY_STEPS, KalmanFitted
from forecast.rolling import volatility
from forecast.state import COMBINED, ClassState, Coarse, combined, levels_of

SURPRISED, SURE = 3.0, 6.0
"""size of recent errors, in their usual ones, from which the level begins to be followed, and is followed wholly"""
SHIFT_LASTS_S = 12 * 3_600.0
"""a followed level fades into the usual course with this time constant [assumed: repairs take hours]"""
LOOK_BACK = (3, 6, 12)
"""steps ago whose forecasts of the newest interval are judged"""
STALE_S = 180.0
GAPPY = 0.1


@dataclass(frozen=True)
class Fine:
    """The newest minutes of a class, aligned to its coarse batch: filtered node and drive [S] at `at_s`, noise [S] of a 60 s
    mean, time of the newest point [S] (-1 = none)."""

    fast: KalmanFitted
    at_s: int
    node: Floats
    drive: Floats
    noise: Floats
    newest_s: Ints


@dataclass(frozen=True)
class Outlook:
    """Quantiles [S, H, L] at `seconds` [H] after now; NaN where there is no opinion."""

    names: tuple[str, ...]
    seconds: Ints
    levels: tuple[float, ...]
    values: Floats
    data_until_s: Ints
    models: tuple[str, ...]
    notes: tuple[tuple[str, ...], ...]


def champion_at(klass: ClassState, seconds: float) -> str:
    """Return the model that speaks at a horizon: the band's champion, or that of the nearest shorter band; else persistence."""
    wanted = band_of(seconds)
    model = "persistence"
    for band, _ in BANDS:
        if band in klass.choices:
            model = klass.choices[band].model
        if band == wanted:
            break
    return model


def coarse_paths(klass: ClassState, batch: Batch, steps: int, models: Sequence[str]) -> Coarse:
    """Return the paths of `models` from the batch's newest interval, kept ones where they serve."""
    kept = klass.coarse
    last = int(batch.ts[-1])
    same = kept is not None and kept.last_ts == last and kept.names == batch.names
    paths: dict[str, Floats] = {}
    if kept is not None and same and kept.steps >= steps:
        paths, steps = dict(kept.paths), kept.steps
    wanted = ["persistence", "seasonal_naive", *models, *(m for name in models for m in COMBINED.get(name, ()))]
    for model in dict.fromkeys(wanted):
        if model in klass.fitted and model not in paths:
            paths[model] = klass.fitted[model].predict(batch, steps)
    if any(name in COMBINED and name not in paths for name in models):
        paths |= combined(paths)
    surprise = kept.surprise if kept is not None and same else _surprise(klass, batch)
    return Coarse(last_ts=last, names=batch.names, steps=steps, paths=paths, surprise=surprise)


def fine_level(klass: ClassState, coarse: Batch, fine: Batch | None) -> Fine | None:
    """Filter the newest minutes; minutes that were not recorded are bridged by the 300 s means. None without a Kalman fit."""
    if klass.fast is None:
        return None
    if fine is None or not len(fine.ts):
        node, drive = klass.fast.level(coarse)
        none = np.full(len(coarse.names), -1, dtype=np.int64)
        return Fine(klass.fast, int(coarse.ts[-1]), node, drive, np.zeros(len(coarse.names)), none)
    row = rows_of(fine.names, coarse)
    tail = recent(fine, MEMORY_STEPS)
    own = np.where((row >= 0)[:, None], tail.values[row], np.nan)
    joined = replace(tail, names=coarse.names, values=_bridged(own, tail, coarse))
    node, drive = klass.fast.level(joined)
    change = np.abs(np.diff(own, axis=1))
    enough = (~np.isnan(change)).sum(axis=1) >= 10
    noise = np.zeros(len(row))
    if enough.any():
        noise[enough] = 1.4826 / np.sqrt(2.0) * np.nanmedian(change[enough], axis=1)
    return Fine(klass.fast, int(tail.ts[-1]), node, drive, noise, newest(replace(tail, names=coarse.names, values=own)))


def look(klass: ClassState, coarse: Batch, fine: Batch | None, now_s: int, seconds: Ints, paths: Coarse) -> Outlook:
    """Return the champions' quantiles at now + `seconds`, anchored to the newest minutes."""
    levels = levels_of(klass.target)
    level = fine_level(klass, coarse, fine)
    data_until = newest(coarse)
    if level is not None:
        data_until = np.maximum(data_until, level.newest_s)
    scale = _scale(coarse, level)
    gap_share = np.isnan(coarse.values[:, -day_steps(coarse.step_s) :]).mean(axis=1)
    speaker = [champion_at(klass, float(s)) for s in seconds]
    age = np.maximum(now_s + seconds[None, :] - data_until[:, None], 0).astype(np.float64)
    base, own = _composed(paths.paths, speaker, coarse, now_s + seconds)
    centre, follow = _anchored(klass, base, paths, coarse, level, scale, now_s + seconds)
    z = np.full((*centre.shape, len(levels)), np.nan)
    for model in dict.fromkeys(speaker):
        columns = np.array([i for i, name in enumerate(speaker) if name == model])
        z[:, columns] = _reached(klass.tables[model], age[:, columns])
    if (~own).any() and "persistence" in klass.tables:
        z[~own] = _reached(klass.tables["persistence"], age[~own])
    noise = None if level is None else level.noise[:, None] * np.array([NormalDist().inv_cdf(p) for p in levels])
    values = bands(centre, scale * (1.0 + gap_share), z, levels, lower=coarse.lower, upper=coarse.upper, noise=noise)
    silent = data_until < now_s - 86_400
    values[silent] = np.nan
    champions = "+".join(dict.fromkeys(speaker))
    models = tuple(
        "persistence" if not mine else f"kalman+{champions}" if g >= 0.5 and "kalman" not in speaker else champions
        for mine, g in zip(own, follow, strict=True)
    )
    notes = _notes(klass, coarse, level, now_s, data_until, gap_share, own, follow)
    return Outlook(coarse.names, seconds, levels, values, data_until, models, notes)


def challengers(
    klass: ClassState, coarse: Batch, now_s: int, seconds: Ints, paths: Coarse, models: Sequence[str]
) -> list[Outlook]:
    """Return each model's own quantiles, without anchor: what it would have said alone."""
    levels = levels_of(klass.target)
    data_until, scale = newest(coarse), _scale(coarse, None)
    age = np.maximum(now_s + seconds[None, :] - data_until[:, None], 0).astype(np.float64)
    count = len(coarse.names)
    out = []
    for model in models:
        base, _ = _composed({model: paths.paths[model]}, [model] * len(seconds), coarse, now_s + seconds)
        z = _reached(klass.tables[model], age)
        values = bands(base, scale, z, levels, lower=coarse.lower, upper=coarse.upper)
        out.append(Outlook(coarse.names, seconds, levels, values, data_until, (model,) * count, ((),) * count))
    return out


def _reached(table: Table, age: Floats) -> Floats:
    """Return the table's quantiles; NaN beyond its reach."""
    z = table.quantiles(age)
    return np.where((age > table.reach_s())[..., None], np.nan, z)


def _composed(
    paths: Mapping[str, Floats], speaker: Sequence[str], coarse: Batch, at_s: Ints
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the paths of each horizon's speaker at `at_s` [S, H], and [S] whether the speakers know the series.

    Between grid points the path is interpolated, before the first one from the newest value on. A series without a path of its
    own takes persistence's.
    """
    position = (at_s - coarse.ts[-1]) / coarse.step_s
    last = carried(coarse.values[:, -day_steps(coarse.step_s) :])[:, -1]
    out = np.full((len(coarse.names), len(at_s)), np.nan)
    for model in dict.fromkeys(speaker):
        columns = np.array([i for i, name in enumerate(speaker) if name == model])
        out[:, columns] = _interpolated(paths[model], last, position[columns])
    own = np.asarray(np.isfinite(out).all(axis=1), dtype=np.bool_)
    if not own.all() and "persistence" in paths:
        out[~own] = _interpolated(paths["persistence"][~own], last[~own], position)
    return out, own


def _interpolated(path: Floats, last: Floats, position: Floats) -> Floats:
    """Return path values at fractional steps (0 = the newest value, 1 = the first step); held beyond the end."""
    whole = np.concatenate([np.where(np.isnan(last), path[:, 0], last)[:, None], path], axis=1)
    place = np.clip(position, 0, path.shape[1])
    low = np.minimum(place.astype(np.int64), path.shape[1] - 1)
    share = place - low
    return np.asarray(whole[:, low] * (1 - share) + whole[:, low + 1] * share, dtype=np.float64)


def _anchored(
    klass: ClassState, base: Floats, paths: Coarse, coarse: Batch, level: Fine | None, scale: Floats, at_s: Ints
) -> tuple[Floats, Floats]:
    """Return the path moved by the newest minutes [S, H], and [S] how far (0..1) it follows the level instead."""
    if level is None:
        return base, np.zeros(len(base))
    first = champion_at(klass, 0.0)
    here, _ = _composed(paths.paths, [first], coarse, np.array([level.at_s]))
    surprise = np.nan_to_num(level.node - here[:, 0])
    usual = np.hypot(_usual(klass.tables[first]) * scale, level.noise)
    size = np.fmax(np.abs(surprise) / usual, paths.surprise)
    follow = np.clip((size - SURPRISED) / (SURE - SURPRISED), 0.0, 1.0)
    ahead = np.maximum(at_s - level.at_s, 0).astype(np.float64)
    moved = base + surprise[:, None] * klass.tables[first].damping(ahead)
    course = level.fast.at(ahead, level.node, level.drive) + _yesterdays_move(paths, coarse, at_s, level.at_s)
    weight = follow[:, None] * np.exp(-ahead / SHIFT_LASTS_S)
    return np.where(np.isnan(course), moved, moved + weight * (course - moved)), follow


def _yesterdays_move(paths: Coarse, coarse: Batch, at_s: Ints, from_s: int) -> Floats:
    """Return [S, H] by how much the usual day moves between `from_s` and `at_s`; 0 where yesterday is not known.

    The champion's own path will not do while a shift is followed: it would lead back to where the series used to be.
    """
    if "seasonal_naive" not in paths.paths:
        return np.zeros((len(coarse.names), len(at_s)))
    usual = paths.paths["seasonal_naive"]
    position = (np.append(at_s, from_s) - coarse.ts[-1]) / coarse.step_s
    course = _interpolated(usual, usual[:, 0], np.maximum(position, 1.0))
    return np.nan_to_num(course[:, :-1] - course[:, -1:])


def _usual(table: Table) -> float:
    """Return the usual size of a one-step error in units of the volatility: a 90 % band's half width as a normal's sigma."""
    low, high = table.levels.index(0.05), table.levels.index(0.95)
    return max(float(table.z[0, high] - table.z[0, low]) / 3.29, 1e-3)


def _scale(coarse: Batch, level: Fine | None) -> Floats:
    """Return [S] the present volatility; the newest minutes count as one step more."""
    values = coarse.values[:, -day_steps(coarse.step_s) - 1 :]
    if level is not None:
        values = np.concatenate([values, level.node[:, None]], axis=1)
    return np.asarray(volatility(values, coarse.step_s, np.array([values.shape[1] - 1]))[0], dtype=np.float64)


def _surprise(klass: ClassState, batch: Batch) -> Floats:
    """Return [S] the mean size of the champion's errors about the newest interval, from 15, 30 and 60 min before it."""
    last = carried(batch.values)[:, -1]
    sizes = []
    for back in LOOK_BACK:
        model = champion_at(klass, float(back * batch.step_s))
        if len(batch.ts) <= back + 2 or model not in klass.tables:
            continue
        before = restricted(batch, len(batch.ts) - 1 - back)
        path = _alone(klass, model, before, back)[:, -1]
        table = klass.tables[model]
        z = table.quantiles(np.array([float(back * batch.step_s)]))[0]
        usual = max(float(z[table.levels.index(0.95)] - z[table.levels.index(0.05)]) / 3.29, 1e-3)
        sizes.append(np.abs(last - path) / (usual * _scale(before, None)))
    if not sizes:
        return np.zeros(len(batch.names))
    return np.asarray(np.nan_to_num(np.mean(sizes, axis=0)), dtype=np.float64)


def _alone(klass: ClassState, model: str, batch: Batch, steps: int) -> Floats:
    """Return the path of one model or combination."""
    if model not in COMBINED:
        return klass.fitted[model].predict(batch, steps)
    members = [name for name in COMBINED[model] if name in klass.fitted]
    return combined({name: klass.fitted[name].predict(batch, steps) for name in members})[model]


def _bridged(own: Floats, tail: Batch, coarse: Batch) -> Floats:
    """Fill the minutes before a series' first one with the 300 s means, at the middle of their intervals."""
    first = np.where((~np.isnan(own)).any(axis=1), np.argmax(~np.isnan(own), axis=1), own.shape[1])
    middle = (coarse.ts - coarse.step_s // 2) // tail.step_s * tail.step_s
    column = (middle - tail.ts[0]) // tail.step_s
    inside = (column >= 0) & (column < own.shape[1])
    out = own.copy()
    for source, to in zip(np.flatnonzero(inside), column[inside], strict=True):
        early = (to < first) & np.isnan(out[:, to])
        out[early, to] = coarse.values[early, source]
    return out


def _notes(
    klass: ClassState,
    coarse: Batch,
    level: Fine | None,
    now_s: int,
    data_until: Ints,
    gap_share: Floats,
    own: NDArray[np.bool_],
    follow: Floats,
) -> tuple[tuple[str, ...], ...]:
    """Name per series why its forecast is worse than usual."""
    out = []
    for s, name in enumerate(coarse.names):
        notes = []
        if (age := now_s - int(data_until[s])) > (
            STALE_S if level is not None and level.newest_s[s] >= 0 else 2.5 * coarse.step_s
        ):
            notes.append(f"stale: newest {klass.target} is {age / 60:.0f} min old")
        if level is None or level.newest_s[s] < now_s - 10 * STALE_S:
            notes.append("coarse: no minute data")
        if gap_share[s] > GAPPY:
            notes.append(f"gaps: {gap_share[s]:.0%} of the last day missing")
        if not own[s]:
            notes.append(f"pooled: {klass.points.get(name, 0)} points are too few for a model of its own")
        if follow[s] > 0:
            notes.append(f"shifted: recent errors far above usual, the level is followed ({follow[s]:.0%})")
        out.append(tuple(notes))
    return tuple(out)
