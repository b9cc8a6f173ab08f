"""Readings that cannot be believed although each alone looks possible: units that change, holes that look like zeros. Found as
episodes of one series; `forecast.inputs` decides what becomes of them. Stuck sensors: `forecast.stuck`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from forecast.grids import DAY_S, Floats, Ints

CELSIUS = ("inlet", "gpu_temp", "outside")
COUNTED = ("load", "prompt_tok", "output_tok")
"""what is counted, not sensed: zero may be true, and no data sheet says how much there can be"""
HELD_S = dict.fromkeys(COUNTED, 3_600)
SENSOR_HELD_S = DAY_S
"""a step by a unit's factor is held apart so long. A load has no declared unit, and after an hour its new level is believed; a
sensor's watts and degrees are declared, so that a day must pass first [A]"""
LEVEL_POINTS = 12
"""readings whose median is the level before a step"""
STEADY = 3.0
"""a level is one if its highest reading is at most so many times its lowest: bursts from nearly nothing are no unit step [A]"""
BACK = 0.25
"""share of the way to the other level up to which a reading counts to the old one"""
NEAR = 2.0
"""how far a ratio may be from 1000 or 1/1000, as a factor: a noisy load, an interval that saw both units [A]"""
MIXED = 100.0
"""the newest interval is held apart from this ratio on: it may have seen both units, which the next one tells [A]"""
LEAST_K = 25.0
"""from -8 degC on a reading in degF is at least this much above that in degC; colder sensors are not looked at"""
RARELY = 0.03
"""share of intervals at zero from which on a service is one that pauses, so that its zeros are believed [A]"""
SURE_REQUESTS = 20.0
"""with this many requests expected in an interval, none at all is a hole in the collection (Poisson: p < 3e-9)"""
SILENT_HELD_S = 900
"""a busy service that is suddenly at zero is held apart so long, then it is believed to have stopped [A]"""
HOLE_S = 7_200
"""zeros of a busy service that end within this time at the old level were a hole [A]"""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Columns first..end-1 of series `row` are not to be believed. `open`: it lasts to the newest reading.

    With a `scale` or `shift` the step has lasted long enough to be followed: what was before it is brought to the new unit.
    """

    row: int
    first: int
    end: int
    why: str
    open: bool
    scale: float = 1.0
    shift: float = 0.0
    """added after `scale`"""

    @property
    def followed(self) -> bool:
        """True where the new level is believed."""
        return self.scale != 1.0 or self.shift != 0.0


def unit_steps(values: Floats, target: str, step_s: int, low: Floats, high: Floats) -> Iterator[Episode]:
    """Yield steps by a factor of 1000 up or down, and of temperatures those from degC to degF or K and back.

    `low`, `high` [S]: the least and greatest reading of each series: most rows are passed over by them.
    """
    if target in CELSIUS:
        rows = np.flatnonzero(high - low > LEAST_K)
    else:
        rows = np.flatnonzero((high > 0) & (high >= np.maximum(low, 0.0) * MIXED))
    held_s = HELD_S.get(target, SENSOR_HELD_S)
    for row in rows:
        columns = np.flatnonzero(~np.isnan(values[row]))
        seen = values[row, columns]
        if _jumps(seen, target):
            yield from _steps(int(row), seen, columns, target, held_s // step_s)


def _jumps(seen: Floats, target: str) -> bool:
    """Return whether any two readings next to each other, or with one between that saw both units, are a unit's step apart."""
    size = seen if target in CELSIUS else np.log(np.maximum(seen, 1e-12))
    most = max(np.abs(seen_later - size[: len(seen_later)]).max(initial=0.0) for seen_later in (size[1:], size[2:]))
    return bool(most > (LEAST_K if target in CELSIUS else np.log(MIXED)))


def _steps(row: int, seen: Floats, columns: Ints, target: str, held: int) -> Iterator[Episode]:
    """Yield the steps of one series, `seen` at `columns`."""
    at = 0
    while (found := _first_step(seen, at, target)) is not None:
        first, level, kind = found
        share = _share(seen, level, _to(level, kind), target)
        mixed = first - 1
        if first and share[mixed] > BACK:  # an interval that saw both units
            yield Episode(row=row, first=int(columns[mixed]), end=int(columns[first]), why=_NAMES[kind], open=False)
            seen, columns, share = np.delete(seen, mixed), np.delete(columns, mixed), np.delete(share, mixed)
            first = mixed
        back = np.flatnonzero(share[first:] <= BACK)
        end = first + int(back[0]) if back.size else len(seen)
        stop = int(columns[end]) if back.size else int(columns[-1]) + 1
        follow = stop - int(columns[first]) > held
        scale, shift = _scaled(kind) if follow else (1.0, 0.0)
        why = f"{_NAMES[kind]}, {'followed since it lasted' if follow else 'held apart'}"
        yield Episode(row=row, first=int(columns[first]), end=stop, why=why, open=not back.size, scale=scale, shift=shift)
        if follow:
            seen = np.concatenate([seen[:first] * scale + shift, seen[first:]])
            at = first + 1
        else:
            seen, columns = np.delete(seen, slice(first, end)), np.delete(columns, slice(first, end))
            at = first


_NAMES = {
    "up": "1000 times the level before",
    "down": "a thousandth of the level before",
    "to_f": "reads like degF",
    "from_f": "reads as if it was degF before",
    "to_k": "reads like K",
    "from_k": "reads as if it was K before",
}


def _scaled(kind: str) -> tuple[float, float]:
    """Return the linear map from the level before to that after."""
    return {
        "up": (1e3, 0.0),
        "down": (1e-3, 0.0),
        "to_f": (1.8, 32.0),
        "from_f": (1 / 1.8, -32.0 / 1.8),
        "to_k": (1.0, 273.15),
        "from_k": (1.0, -273.15),
    }[kind]


def _to(level: float, kind: str) -> float:
    scale, shift = _scaled(kind)
    return level * scale + shift


def _share(seen: Floats, level: float, other: float, target: str) -> Floats:
    """Return how far each reading is on the way from one level to the other (0..1); by ratio, temperatures by difference."""
    if target in CELSIUS:
        return (seen - level) / (other - level)
    return np.asarray(np.log(np.maximum(seen, 1e-12) / level) / np.log(other / level), dtype=np.float64)


def _first_step(seen: Floats, at: int, target: str) -> tuple[int, float, str] | None:
    """Return (index, level before, kind) of the first step at or after index `at`; None without one.

    A step starts from a steady level: bursts out of nearly nothing are none."""
    begin = max(at, LEVEL_POINTS // 4)
    if begin >= len(seen):
        return None
    padded = np.concatenate([np.full(LEVEL_POINTS, np.nan), seen])[:-1]
    before = sliding_window_view(padded, LEVEL_POINTS)[begin:]
    level = np.nanmedian(before, axis=1)
    now = seen[begin:]
    if target in CELSIUS:
        kinds: tuple[str, ...] = ("to_f", "from_f", "to_k", "from_k")
        sudden = (np.nanmax(before, axis=1) - np.nanmin(before, axis=1) < 6.0) & (np.abs(now - level) > LEAST_K)
        hits = [sudden & (np.abs(now - _scaled(k)[0] * level - _scaled(k)[1]) < 6.0) for k in kinds]
    else:
        kinds = ("up", "down")
        least = np.nanmin(before, axis=1)
        steady = (least > 0) & (np.nanmax(before, axis=1) <= STEADY * least)
        ratio = np.log(np.maximum(now, 1e-12)) - np.log(np.where(steady, level, 1.0))
        hits = [steady & (np.abs(ratio - sign * np.log(1e3)) < np.log(NEAR)) for sign in (1, -1)]
        hits[0][-1] |= bool(steady[-1] and np.log(MIXED) < ratio[-1] < np.log(1e3))  # the newest interval may have seen both
    any_hit = np.logical_or.reduce(hits)
    if not any_hit.any():
        return None
    i = int(np.argmax(any_hit))
    return begin + i, float(level[i]), next(k for k, hit in zip(kinds, hits, strict=True) if hit[i])


def silences(load: Floats, step_s: int) -> Iterator[Episode]:
    """Yield zeros of a busy service that no traffic explains: two intervals or more, which ended at the old level within
    HOLE_S, or go on for no longer than SILENT_HELD_S. What is zero for longer has stopped, and is believed."""
    for row, series in enumerate(load):
        busy = series[series > 0]
        usual = float(np.percentile(busy, 10)) if busy.size else 0.0
        seen = np.flatnonzero(~np.isnan(series))
        zero = series[seen] == 0.0
        if usual * step_s < SURE_REQUESTS or zero.sum() > RARELY * len(seen):
            continue
        edge = np.flatnonzero(np.diff(np.concatenate([[False], zero, [False]])))
        for first, end in zip(edge[::2].tolist(), edge[1::2].tolist(), strict=True):
            newest = end == len(seen)
            most = SILENT_HELD_S if newest else HOLE_S
            before = series[seen[first - 1]] if first else 0.0
            after = np.inf if newest else series[seen[end]]
            if 2 <= end - first <= most // step_s and min(before, after) >= usual / 2:
                why = "zero at once although busy before, held apart" if newest else "zero for a while between busy times"
                yield Episode(row=row, first=int(seen[first]), end=int(seen[end - 1]) + 1, why=why, open=newest)
