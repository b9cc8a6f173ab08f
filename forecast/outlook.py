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
from forecast.calibration import bands, reached, usual_error
from forecast.champion import BANDS, band_of
from forecast.grids import Floats, Ints, day_steps, last_seen, newest, recent, restricted, rows_of
from forecast.models.kalman import MEMORY_STEPS, KalmanFitted
from forecast.models.shared import SharedFitted
from forecast.restless import restless
from forecast.state import COMBINED, ClassState, Coarse, Said, combined, levels_of, members_of
from forecast.voices import rows_in, week_of

SURPRISED, SURE = 3.0, 6.0
"""size of recent errors, in their usual ones, from which the level begins to be followed, and is followed wholly"""
SHIFT_LASTS_S = 12 * 3_600.0
"""a followed level fades into the usual course with this time constant [assumed: repairs take hours]"""
LOOK_BACK = (3, 6, 12)
"""steps ago whose forecasts of the newest interval are judged"""
MANY, MEMORY_OF_MANY = 1_000, 31
"""in classes of more series fewer steps are filtered. Of series simulated by the node itself the errors of level and forecast
were less than 2 % larger than with 60, 4 % at the slowest node with the most noise"""
NOISE_STEPS = 31
"""newest minutes whose steps tell the noise of a minute's mean"""
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
    """Return the paths of `models`, and of all who speak for a series, from the batch's newest interval; kept ones where they
    serve."""
    kept = klass.coarse
    last = int(batch.ts[-1])
    same = kept is not None and (kept.fitted_at, kept.last_ts, kept.names) == (klass.fitted_at, last, batch.names)
    paths: dict[str, Floats] = {}
    steps = max(steps, *LOOK_BACK)
    if kept is not None and same and kept.steps >= steps:
        paths, steps = dict(kept.paths), kept.steps
    models = [*models, *_speaking(klass, steps * batch.step_s)]
    members = (member for name in models for member in members_of(name, klass.fitted))
    for model in dict.fromkeys(["persistence", "seasonal_naive", *models, *members]):
        if model in klass.fitted and model not in paths:
            paths[model] = klass.fitted[model].predict(batch, steps)
    if any(name in COMBINED and name not in paths for name in models):
        paths |= combined(paths)
    if kept is not None and same:
        return replace(kept, steps=steps, paths=paths)
    row = rows_in(klass.voices, klass.names, batch)
    moving = restless(batch.values, batch.step_s, week_of(klass.voices, row))
    before = kept.trail if kept is not None and kept.names == batch.names else ()
    return Coarse(
        fitted_at=klass.fitted_at,
        last_ts=last,
        names=batch.names,
        steps=steps,
        paths=paths,
        surprise=_surprise(klass, batch, row, before),
        row=row,
        restless=moving,
        newest_s=newest(batch),
        gap_share=np.isnan(batch.values[:, -day_steps(batch.step_s) :]).mean(axis=1),
        trail=(_said(klass, batch, row, paths, moving.now(None)), *before[: max(LOOK_BACK) - 1]),
    )


def _speaking(klass: ClassState, seconds: float) -> list[str]:
    """Return the models that speak for any series up to a horizon of `seconds`."""
    if klass.voices is None:
        return []
    order = [band for band, _ in BANDS]
    used = klass.voices.speaker[:, : order.index(band_of(seconds)) + 1]
    return [klass.voices.models[code] for code in np.unique(used)]


def fine_level(klass: ClassState, coarse: Batch, fine: Batch | None) -> Fine | None:
    """Filter the newest minutes; minutes that were not recorded are bridged by the 300 s means. None without a Kalman fit."""
    if klass.fast is None:
        return None
    memory = MEMORY_STEPS if len(coarse.names) <= MANY else MEMORY_OF_MANY
    if fine is None or not len(fine.ts):
        node, drive = klass.fast.level(recent(coarse, memory))
        none = np.full(len(coarse.names), -1, dtype=np.int64)
        return Fine(klass.fast, int(coarse.ts[-1]), node, drive, np.zeros(len(coarse.names)), none)
    row = np.arange(len(coarse.names)) if fine.names == coarse.names else rows_of(fine.names, coarse)
    tail = recent(fine, memory)
    own = np.where((row >= 0)[:, None], tail.values[row], np.nan)
    joined = replace(tail, names=coarse.names, values=_bridged(own, tail, coarse))
    node, drive = klass.fast.level(joined)
    return Fine(klass.fast, int(tail.ts[-1]), node, drive, _noise(own), newest(replace(tail, names=coarse.names, values=own)))


def look(klass: ClassState, coarse: Batch, fine: Batch | None, now_s: int, seconds: Ints, paths: Coarse) -> Outlook:
    """Return the champions' quantiles at now + `seconds`, anchored to the newest minutes.

    Raises ValueError where the class has no voices (nothing was chosen or calibrated yet).
    """
    if klass.voices is None:
        raise ValueError(f"{klass.target}: nothing chosen yet")
    levels = levels_of(klass.target)
    level = fine_level(klass, coarse, fine)
    data_until = paths.newest_s if level is None else np.maximum(paths.newest_s, level.newest_s)
    scale = paths.restless.now(None if level is None else level.node)
    speaker = klass.voices.speaker[paths.row]
    base, own = _composed(paths, klass.voices.models, speaker, coarse, now_s + seconds)
    centre, follow = _anchored(klass, base, paths, coarse, level, scale, now_s + seconds)
    centre, shifted = _by_minutes(klass, centre, follow, speaker, coarse, fine, now_s + seconds)
    until, of = np.unique(data_until, return_inverse=True)
    age = np.maximum(now_s + seconds[None, :] - until[:, None], 0).astype(np.float64)
    z = klass.voices.bands.quantiles(paths.row, age, of, paths.surprise)
    if not own.all() and "persistence" in klass.tables:
        z[~own] = reached(klass.tables["persistence"], age[of[~own]])
    noise = None if level is None else level.noise[:, None] * np.array([NormalDist().inv_cdf(p) for p in levels])
    values = bands(centre, scale * (1.0 + paths.gap_share), z, levels, lower=coarse.lower, upper=coarse.upper, noise=noise)
    values[data_until < now_s - 86_400] = np.nan
    models = _models(klass.voices.models, speaker, seconds, own, follow)
    notes = _notes(klass, coarse, level, now_s, data_until, paths.gap_share, own, shifted)
    return Outlook(coarse.names, seconds, levels, values, data_until, models, notes)


def challengers(
    klass: ClassState, coarse: Batch, now_s: int, seconds: Ints, paths: Coarse, models: Sequence[str]
) -> list[Outlook]:
    """Return each model's own quantiles, without anchor: what it would have said alone."""
    levels = levels_of(klass.target)
    scale = paths.restless.now(None)
    until, of = np.unique(paths.newest_s, return_inverse=True)
    age = np.maximum(now_s + seconds[None, :] - until[:, None], 0).astype(np.float64)
    count = len(coarse.names)
    position = (now_s + seconds - coarse.ts[-1]) / coarse.step_s
    out = []
    for model in models:
        base = _interpolated(paths.paths[model], paths.restless.last, position)
        z = reached(klass.tables[model], age)[of]
        values = bands(base, scale, z, levels, lower=coarse.lower, upper=coarse.upper)
        out.append(Outlook(coarse.names, seconds, levels, values, paths.newest_s, (model,) * count, ((),) * count))
    return out


def _models(models: Sequence[str], speaker: Ints, seconds: Ints, own: NDArray[np.bool_], follow: Floats) -> tuple[str, ...]:
    """Return per series the names of who speaks over the horizons, shortest first; the Kalman first where its level is
    followed."""
    order = [band for band, _ in BANDS]
    used = sorted({order.index(band_of(float(s))) for s in seconds})
    code = speaker[:, used] @ (len(models) ** np.arange(len(used)))
    code = np.where(own, code, -1) * 2 + (own & (follow >= 0.5))
    kinds, first, of = np.unique(code, return_index=True, return_inverse=True)
    told = []
    for value, s in zip(kinds, first, strict=True):
        champions = list(dict.fromkeys(models[m] for m in speaker[s, used]))
        name = "+".join(champions)
        followed = value % 2 == 1 and "kalman" not in champions
        told.append("persistence" if not own[s] else f"kalman+{name}" if followed else name)
    return tuple(np.asarray(told, dtype=object)[of].tolist())


def _composed(
    paths: Coarse, models: Sequence[str], speaker: Ints, coarse: Batch, at_s: Ints
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the paths of each series' speakers [S, BANDS] at `at_s` [S, H], and [S] whether the speakers know the series.

    The bands count from the newest interval. Between grid points the path is interpolated, before the first one from the
    newest value on. A series without a path of its own takes persistence's.
    """
    position = (at_s - coarse.ts[-1]) / coarse.step_s
    order = [band for band, _ in BANDS]
    band = np.array([order.index(band_of(float(s))) for s in at_s - coarse.ts[-1]])
    last = paths.restless.last
    out = np.full((len(coarse.names), len(at_s)), np.nan)
    for b in np.unique(band):
        columns = np.flatnonzero(band == b)
        for code in np.unique(speaker[:, b]):
            mine = np.flatnonzero(speaker[:, b] == code)
            if models[code] in paths.paths:
                out[mine[:, None], columns] = _interpolated(paths.paths[models[code]], last, position[columns], mine)
    own = np.asarray(np.isfinite(out).all(axis=1), dtype=np.bool_)
    if not own.all() and "persistence" in paths.paths:
        out[~own] = _interpolated(paths.paths["persistence"], last, position, np.flatnonzero(~own))
    return out, own


def _interpolated(path: Floats, last: Floats, position: Floats, rows: Ints | None = None) -> Floats:
    """Return path values at fractional steps (0 = the newest value, 1 = the first step); held beyond the end. Of `rows` only,
    if given; a path to 24 h is not copied for it."""
    place = np.clip(position, 0, path.shape[1])
    low = np.minimum(place.astype(np.int64), path.shape[1] - 1)
    share = place - low
    some: slice | Ints = slice(None) if rows is None or len(rows) == len(path) else rows[:, None]
    before, after = path[some, np.maximum(low - 1, 0)], path[some, low]
    if not low.all():
        start = last if rows is None else last[rows]
        first = path[:, 0] if rows is None else path[rows, 0]
        before[:, low == 0] = np.where(np.isnan(start), first, start)[:, None]
    before *= 1 - share
    return np.asarray(np.add(before, after * share, out=before), dtype=np.float64)


def _anchored(
    klass: ClassState, base: Floats, paths: Coarse, coarse: Batch, level: Fine | None, scale: Floats, at_s: Ints
) -> tuple[Floats, Floats]:
    """Return the path moved by the newest minutes [S, H], and [S] how far (0..1) it follows the level instead."""
    if level is None or klass.voices is None:
        return base, np.zeros(len(base))
    voices = klass.voices
    here, _ = _composed(paths, voices.models, voices.speaker[paths.row], coarse, np.array([level.at_s]))
    surprise = np.nan_to_num(level.node - here[:, 0])
    kind = voices.bands.kind[paths.row]
    usual = np.array([usual_error(table, 0.0) for table in voices.bands.tables])[kind]
    size = np.fmax(np.abs(surprise) / np.hypot(usual * scale, level.noise), paths.surprise)
    follow = np.clip((size - SURPRISED) / (SURE - SURPRISED), 0.0, 1.0)
    ahead = np.maximum(at_s - level.at_s, 0).astype(np.float64)
    left = np.stack([table.damping(ahead) for table in voices.bands.tables])[kind]
    moved = base + surprise[:, None] * left
    if not follow.any():
        return moved, follow
    course = level.fast.at(ahead, level.node, level.drive) + _yesterdays_move(paths, coarse, at_s, level.at_s)
    weight = follow[:, None] * np.exp(-ahead / SHIFT_LASTS_S)
    return np.where(np.isnan(course), moved, moved + weight * (course - moved)), follow


def _by_minutes(
    klass: ClassState, centre: Floats, follow: Floats, speaker: Ints, coarse: Batch, fine: Batch | None, at_s: Ints
) -> tuple[Floats, Floats]:
    """Return the centre with the courses of series for which a model speaks that reads the minutes itself, up to an hour ahead,
    and [S] how far any series follows a shift. `follow` becomes 0 for them: no Kalman is in it."""
    model = klass.fitted.get("shared")
    if not isinstance(model, SharedFitted) or fine is None or klass.voices is None or "shared" not in klass.voices.models:
        return centre, follow
    mine = speaker == klass.voices.models.index("shared")
    if not mine.any():
        return centre, follow
    path, shifted = model.fresh(coarse, fine, at_s)
    order = [band for band, _ in BANDS]
    band = np.array([order.index(band_of(float(s))) for s in at_s - coarse.ts[-1]])
    taken = mine[:, band] & np.isfinite(path)
    some = taken.any(axis=1)
    told = np.where(some, shifted, follow)
    follow[some] = 0.0
    return np.where(taken, path, centre), told


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


def _noise(minutes: Floats) -> Floats:
    """Return [S] the sigma of a 60 s mean about its neighbours: from the median step of the newest half hour; 0 where there are
    fewer than ten steps."""
    change = np.sort(np.abs(np.diff(minutes[:, -NOISE_STEPS:], axis=1)), axis=1)  # NaN sorts last
    count = (~np.isnan(change)).sum(axis=1)
    if not change.shape[1]:
        return np.zeros(len(minutes))
    rows = np.arange(len(change))
    middle = 0.5 * (change[rows, np.maximum(count - 1, 0) // 2] + change[rows, np.minimum(count // 2, change.shape[1] - 1)])
    return np.where(count >= 10, 1.4826 / np.sqrt(2.0) * middle, 0.0)


def _surprise(klass: ClassState, batch: Batch, row: Ints, trail: Sequence[Said]) -> Floats:
    """Return [S] the mean size of the speakers' errors about the newest interval, from 15, 30 and 60 min before it: of what
    they said then, or, where that was not kept (at the start), of what they would say."""
    total, count = np.zeros(len(batch.names)), 0
    if klass.voices is None:
        return total
    kept = {said.at_s: said for said in trail}
    last = last_seen(batch.values[:, -day_steps(batch.step_s) :])
    for i, back in enumerate(LOOK_BACK):
        if len(batch.ts) <= back + 2:
            continue
        said = kept.get(int(batch.ts[-1]) - back * batch.step_s)
        if said is None:
            before = restricted(batch, len(batch.ts) - 1 - back)
            unit = restless(before.values, batch.step_s, week_of(klass.voices, row)).now(None)
            said = _said(klass, before, row, {}, unit, (back,))
            total += np.nan_to_num(np.abs(last - said.values[:, 0]) / said.usual[:, 0])
        else:
            total += np.nan_to_num(np.abs(last - said.values[:, i]) / said.usual[:, i])
        count += 1
    return total / max(count, 1)


def _said(
    klass: ClassState, batch: Batch, row: Ints, paths: Mapping[str, Floats], unit: Floats, steps: Sequence[int] = LOOK_BACK
) -> Said:
    """Return what the speakers say of the values `steps` after the batch, and their usual errors; `paths` need not be made
    again."""
    voices = klass.voices
    values = np.full((len(batch.names), len(steps)), np.nan, dtype=np.float32)
    usual = np.ones_like(values)
    if voices is None:
        return Said(int(batch.ts[-1]), values, usual)
    order, kind = [band for band, _ in BANDS], voices.bands.kind[row]
    for i, ahead in enumerate(steps):
        seconds = float(ahead * batch.step_s)
        usual[:, i] = np.array([usual_error(table, seconds) for table in voices.bands.tables])[kind] * unit
        speaker = voices.speaker[row, order.index(band_of(seconds))]
        for code in np.unique(speaker):
            mine, model = speaker == code, voices.models[code]
            path = paths[model] if model in paths else _alone(klass, model, batch, ahead)
            if path.shape[1] >= ahead:
                values[mine, i] = path[mine, ahead - 1]
    return Said(int(batch.ts[-1]), values, usual)


def _alone(klass: ClassState, model: str, batch: Batch, steps: int) -> Floats:
    """Return the path of one model or combination; NaN where its parts are gone."""
    if model in klass.fitted:
        return klass.fitted[model].predict(batch, steps)
    paths = {name: klass.fitted[name].predict(batch, steps) for name in members_of(model, klass.fitted)}
    return combined(paths).get(model, np.full((len(batch.names), steps), np.nan))


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
    minutes = np.full(len(own), -1) if level is None else level.newest_s
    age = now_s - data_until
    stale = age > np.where(minutes >= 0, STALE_S, 2.5 * coarse.step_s)
    rough = minutes < now_s - 10 * STALE_S
    gappy = gap_share > GAPPY
    usual = ("coarse: no minute data",) if rough.all() else ()
    out: list[tuple[str, ...]] = [usual] * len(own)
    for s in np.flatnonzero(stale | gappy | ~own | (follow > 0) | (rough & ~rough.all())):
        notes = [f"stale: newest {klass.target} is {age[s] / 60:.0f} min old"] if stale[s] else []
        if rough[s]:
            notes.append("coarse: no minute data")
        if gappy[s]:
            notes.append(f"gaps: {gap_share[s]:.0%} of the last day missing")
        if not own[s]:
            notes.append(f"pooled: {klass.points.get(coarse.names[s], 0)} points are too few for a model of its own")
        if follow[s] > 0:
            notes.append(f"shifted: recent errors far above usual, the level is followed ({follow[s]:.0%})")
        out[s] = tuple(notes)
    return tuple(out)
