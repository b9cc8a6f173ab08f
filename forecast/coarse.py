"""The paths of a class on the 300 s grid, made once per interval: who says what, and how wrong the last hour's word was."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.calibration import usual_error
from forecast.champion import BANDS, band_of
from forecast.grids import Floats, Ints, day_steps, last_seen, newest, restricted
from forecast.restless import restless
from forecast.state import COMBINED, ClassState, Coarse, Said, combined, members_of
from forecast.voices import rows_in, week_of

LOOK_BACK = (3, 6, 12)
"""steps ago whose forecasts of the newest interval are judged"""


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


def composed(
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
                out[mine[:, None], columns] = interpolated(paths.paths[models[code]], last, position[columns], mine)
    own = np.asarray(np.isfinite(out).all(axis=1), dtype=np.bool_)
    if not own.all() and "persistence" in paths.paths:
        out[~own] = interpolated(paths.paths["persistence"], last, position, np.flatnonzero(~own))
    return out, own


def interpolated(path: Floats, last: Floats, position: Floats, rows: Ints | None = None) -> Floats:
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
