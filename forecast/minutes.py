"""What the newest minutes add to the paths: a level filtered from them, the share of a surprise that stays, shifts."""

from dataclasses import dataclass, replace

import numpy as np

from contracts.ports import Batch
from forecast.calibration import usual_error
from forecast.champion import BANDS, band_of
from forecast.coarse import composed, interpolated
from forecast.grids import Floats, Ints, newest, recent, rows_of
from forecast.models.kalman import MEMORY_STEPS, KalmanFitted
from forecast.models.shared import SharedFitted
from forecast.state import ClassState, Coarse

SURPRISED, SURE = 3.0, 6.0
"""size of recent errors, in their usual ones, from which the level begins to be followed, and is followed wholly"""
SHIFT_LASTS_S = 12 * 3_600.0
"""a followed level fades into the usual course with this time constant [assumed: repairs take hours]"""
MANY, MEMORY_OF_MANY = 1_000, 31
"""in classes of more series fewer steps are filtered. Of series simulated by the node itself the errors of level and forecast
were less than 2 % larger than with 60, 4 % at the slowest node with the most noise"""
NOISE_STEPS = 31
"""newest minutes whose steps tell the noise of a minute's mean"""


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


def anchored(
    klass: ClassState, base: Floats, paths: Coarse, coarse: Batch, level: Fine | None, scale: Floats, at_s: Ints
) -> tuple[Floats, Floats]:
    """Return the path moved by the newest minutes [S, H], and [S] how far (0..1) it follows the level instead."""
    if level is None or klass.voices is None:
        return base, np.zeros(len(base))
    voices = klass.voices
    here, _ = composed(paths, voices.models, voices.speaker[paths.row], coarse, np.array([level.at_s]))
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


def by_minutes(
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
    course = interpolated(usual, usual[:, 0], np.maximum(position, 1.0))
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
