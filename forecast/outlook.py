"""From fitted models and the newest minutes to quantiles for every series of a class: the arithmetic of a tick.

The paths of the 300 s models are made once per interval. Between, they are interpolated and anchored: what the newest minutes
(filtered by the Kalman node) say beyond the path is a surprise, whose share phi (learnt with the errors) stays on. Where recent
errors leave their family, the path follows the Kalman's level instead, so that a lost air handler or a row that jumps shows
within minutes. Bands are the champion's scaled errors at the time since the newest observation: stale data widens them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.calibration import bands, reached
from forecast.champion import BANDS, band_of
from forecast.coarse import composed, interpolated
from forecast.grids import Floats, Ints
from forecast.minutes import Fine, anchored, by_minutes, fine_level
from forecast.state import ClassState, Coarse, levels_of

STALE_S = 180.0
GAPPY = 0.1


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
    base, own = composed(paths, klass.voices.models, speaker, coarse, now_s + seconds)
    centre, follow = anchored(klass, base, paths, coarse, level, scale, now_s + seconds)
    centre, shifted = by_minutes(klass, centre, follow, speaker, coarse, fine, now_s + seconds)
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
        base = interpolated(paths.paths[model], paths.restless.last, position)
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
