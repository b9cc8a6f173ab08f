"""What comes in, made fit to be believed: `clean` masks what cannot be true and says so in a few words per series.

A note begins with its kind: infinite, out of range, unit, stuck, silent, constant, times, and from `to_batch` repeated. It
becomes a degradation of the forecast, beside those the band knows of itself (stale, gaps, coarse, pooled, shifted). What is
masked is a gap: the newest believed reading grows old, the band widens by itself, and after a day there is no forecast.

Cleaning reads the whole batch (a hole is one only once it has ended). Who must not peek cuts the batch first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from contracts.ports import Batch
from forecast.grids import DAY_S, Floats, Ints
from forecast.stuck import stuck
from forecast.suspects import Episode, silences, unit_steps

BOUNDS: Mapping[str, tuple[float, float]] = {
    "inlet": (-40.0, 80.0),
    "outside": (-70.0, 60.0),
    "gpu_temp": (-40.0, 130.0),
}
"""what a reading can be at all, degC [A: sensors' ranges; weather records -89 and 57]; everything else: nothing below zero"""
MOST_STEPS = 600_000
"""columns of a grid made of times in disorder (5.7 years of 300 s): one wild stamp must not fill the memory"""
CONSTANT_S = 6 * 3_600
"""a series that never moved over a shorter time is nothing to tell [A]"""
TOLD_S = DAY_S
"""what is older than this makes the forecast no worse than usual: it is masked, but not told"""


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """A batch without what cannot be believed, and per series [S] what that was (of the last day)."""

    batch: Batch
    notes: tuple[tuple[str, ...], ...]
    apart_since_s: Ints
    """[S] from when on the newest readings are held apart; -1 = they are believed"""


def bounds_of(target: str) -> tuple[float, float]:
    """Return the least and greatest reading that a target can have."""
    return BOUNDS.get(target, (0.0, float("inf")))


def clean(batch: Batch, *, longer: Cleaned | None = None) -> Cleaned:
    """Return the batch on a regular grid, with what cannot be believed masked, and the reasons.

    `longer`: the same series with a longer past, cleaned: what it holds apart at its end is held apart here too (three hours
    cannot show that a sensor has been stuck for five). The given batch stays as it is; a clean one comes back without a copy.
    """
    batch, said = _ordered(batch)
    notes: list[list[str]] = [[*said, *own] for own in batch.notes or ((),) * len(batch.names)]
    apart = np.full(len(batch.names), -1, dtype=np.int64)
    if not batch.names or not len(batch.ts):
        return Cleaned(batch=replace(batch, notes=()), notes=tuple(map(tuple, notes)), apart_since_s=apart)
    values, low, high = _possible(batch, notes)
    if longer is not None:
        values = _held(values, batch, longer, apart)
    if longer is None and len(batch.ts) * batch.step_s >= CONSTANT_S:
        _constants(values, low, high, notes)
    episodes = [("unit", e) for e in unit_steps(values, batch.target, batch.step_s, low, high)]
    values = _without(values, [e for _, e in episodes])
    found = [("stuck", e) for e in stuck(values, batch.target, batch.step_s, batch.names)]
    if batch.target == "load":
        found += [("silent", e) for e in silences(values, batch.step_s)]
    values = _without(values, [e for _, e in found])
    for word, episode in [*episodes, *found]:
        _tell(word, episode, batch, notes, apart)
    return Cleaned(batch=_begun(batch, values), notes=tuple(map(tuple, notes)), apart_since_s=apart)


def cleaned(batches: Sequence[Batch | Cleaned], longer: Mapping[str, Cleaned] | None = None) -> dict[str, Cleaned]:
    """Return the batches by target, cleaned; of two with one target the later wins. What is clean already is taken as it is."""
    past = longer or {}
    out: dict[str, Cleaned] = {}
    for given in batches:
        target = given.batch.target if isinstance(given, Cleaned) else given.target
        out[target] = given if isinstance(given, Cleaned) else clean(given, longer=past.get(target))
    return out


def told_of(*inputs: Cleaned | None) -> dict[str, tuple[str, ...]]:
    """Return series -> notes of all inputs, of each kind the first; only series that have any."""
    out: dict[str, tuple[str, ...]] = {}
    for given in inputs:
        if given is None or not any(given.notes):
            continue
        for name, notes in zip(given.batch.names, given.notes, strict=True):
            kinds = {note.split(":")[0] for note in out.get(name, ())}
            if new := tuple(note for note in notes if note.split(":")[0] not in kinds):
                out[name] = (*out.get(name, ()), *new)
    return out


def noted(
    names: Sequence[str], notes: Sequence[tuple[str, ...]], told: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], ...]:
    """Return the notes [S] of forecasts of `names` with what is told of their inputs put first."""
    return tuple((*told.get(name, ()), *own) for name, own in zip(names, notes, strict=True))


def explained(without: Sequence[tuple[str, str]], target: str, told: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Return the (target/series, why there is no forecast) with what is told of the series' inputs added."""
    return [(key, "; ".join((why, *told.get(key.removeprefix(f"{target}/"), ())))) for key, why in without]


def _ordered(batch: Batch) -> tuple[Batch, list[str]]:
    """Return the batch on rising times one step apart; what was repeated is averaged, what is far from all others left out."""
    ts, step = np.asarray(batch.ts, dtype=np.int64), batch.step_s
    if len(ts) < 2 or (np.diff(ts) == step).all():
        return batch, []
    cell = -(-ts // step)
    near = np.abs(cell - np.int64(np.median(cell))) < MOST_STEPS // 2
    unsorted = int((np.diff(ts) < 0).sum())
    cell, given = cell[near], batch.values[:, near]
    cells = np.arange(cell.min(), cell.max() + 1)
    size = len(cells)
    seen = ~np.isnan(given)
    flat = (np.arange(len(given))[:, None] * size + (cell - cells[0])[None, :]).ravel()
    count = np.bincount(flat, weights=seen.ravel(), minlength=len(given) * size)
    with np.errstate(invalid="ignore"):  # an infinite reading stays one, to be named
        total = np.bincount(flat, weights=np.where(seen, given, 0.0).ravel(), minlength=len(given) * size)
    values = np.full(len(given) * size, np.nan)
    np.divide(total, count, out=values, where=count > 0)
    facts = {
        "backwards": unsorted,
        "repeated": len(cell) - len(np.unique(cell)),
        "missing": size - len(np.unique(cell)),
        "far from all others": int((~near).sum()),
    }
    said = f"times: {', '.join(f'{n} {what}' for what, n in facts.items() if n)}; put in order"
    regular = replace(batch, ts=cells * step, values=values.reshape(len(given), size), covariates={}, covariate_errors={})
    return regular, [said]


def _possible(batch: Batch, notes: list[list[str]]) -> tuple[Floats, Floats, Floats]:
    """Return the values with everything infinite or out of range masked, and the least and greatest [S] of what is left."""
    rows = len(batch.values)
    least, most = bounds_of(batch.target)
    low, high = np.maximum(np.resize(batch.lower, rows), least), np.minimum(np.resize(batch.upper, rows), most)
    bottom, top = _extremes(batch.values)
    wrong = np.flatnonzero((bottom < low) | (top > high) | np.isinf(bottom) | np.isinf(top))
    if not wrong.size:
        return batch.values, bottom, top
    values = batch.values.copy()
    recent = batch.ts > batch.ts[-1] - TOLD_S
    for s in wrong:
        bad = (values[s] < low[s]) | (values[s] > high[s]) | np.isinf(values[s])
        told = values[s, bad & recent]
        values[s, bad] = np.nan
        endless, finite = int(np.isinf(told).sum()), told[np.isfinite(told)]
        if endless:
            notes[s].append(f"infinite: {endless} readings of the last day masked")
        if finite.size:
            limits = f"{low[s]:.6g} to {high[s]:.6g}"
            notes[s].append(f"out of range: {finite.size} readings, the newest {finite[-1]:.6g}, not within {limits}")
    bottom[wrong], top[wrong] = _extremes(values[wrong])
    return values, bottom, top


def _extremes(values: Floats) -> tuple[Floats, Floats]:
    """Return least and greatest [S], NaN for a series without any reading; rows without a gap take the quick way."""
    low, high = values.min(axis=1), values.max(axis=1)
    gappy = np.flatnonzero(np.isnan(low))
    low[gappy], high[gappy] = np.fmin.reduce(values[gappy], axis=1), np.fmax.reduce(values[gappy], axis=1)
    return low, high


def _held(values: Floats, batch: Batch, longer: Cleaned, apart: Ints) -> Floats:
    """Return the values without the columns from which on the longer past holds the series apart."""
    since = dict(zip(longer.batch.names, longer.apart_since_s.tolist(), strict=True))
    from_s = np.array([since.get(name, -1) for name in batch.names], dtype=np.int64)
    if (from_s < 0).all():
        return values
    mask = (from_s >= 0)[:, None] & (batch.ts[None, :] > from_s[:, None] - longer.batch.step_s)
    apart[:] = from_s
    return np.where(mask, np.nan, values)


def _without(values: Floats, episodes: Sequence[Episode]) -> Floats:
    """Return the values without the episodes; where a step is followed, the past is brought to the new unit instead."""
    if not episodes:
        return values
    out = values.copy()
    for e in episodes:
        if e.followed:
            out[e.row, : e.first] = out[e.row, : e.first] * e.scale + e.shift
        else:
            out[e.row, e.first : e.end] = np.nan
    return out


def _tell(word: str, episode: Episode, batch: Batch, notes: list[list[str]], apart: Ints) -> None:
    first_s = int(batch.ts[episode.first])
    ended_s = int(batch.ts[episode.end - 1])
    if ended_s <= int(batch.ts[-1]) - TOLD_S:
        return
    until = "" if episode.open else f" to {datetime.fromtimestamp(ended_s, UTC):%H:%MZ}"
    since = f"{datetime.fromtimestamp(first_s, UTC):%Y-%m-%dT%H:%MZ}{until}"
    notes[episode.row].append(f"{word}: {episode.why} ({since})")
    if episode.open and not episode.followed:
        apart[episode.row] = first_s if apart[episode.row] < 0 else min(first_s, int(apart[episode.row]))


def _constants(values: Floats, low: Floats, high: Floats, notes: list[list[str]]) -> None:
    """Name the series that have never moved: their own errors say nothing about a width."""
    for s in np.flatnonzero(low == high):
        count = int((~np.isnan(values[s])).sum())
        if count > 1:
            what = "its class's" if len(values) > 1 else "nothing but this value"
            notes[s].append(f"constant: {low[s]:.6g} in all {count} readings; its band is {what}")


def _begun(batch: Batch, values: Floats) -> Batch:
    """Return the batch with `values`, from the first column on in which anything was observed; its notes are told."""
    first = 0
    if np.isnan(values[:, 0]).all():
        first = int(np.argmax(~np.isnan(values).all(axis=0)))
    covariates = {name: known[..., first:] for name, known in batch.covariates.items()}
    return replace(batch, ts=batch.ts[first:], values=values[:, first:], covariates=covariates, notes=())
