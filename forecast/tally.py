"""Sums over days from which the live record's figures follow: how good one speaker was at one horizon.

What is averaged over the series of a kind is kept per kind, model and day; what must be known of each series, how many outcomes
it had and how many of them were at or below P99, as 16 bit counts per series and day. Ten thousand series take 320 kB for a
week.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from forecast.grids import DAY_S, Floats, Ints

LEVELS = (0.01, 0.05, 0.5, 0.95, 0.99)
"""of an issued forecast, those that are kept and scored"""
FEWEST = 30
"""outcomes without which a day is not named as the worst"""
FEWEST_OF_SERIES = 100
"""the same for a series: below it a share below P99 is too coarse to be told"""
SUMS = 11
Label = tuple[str, str]
"""kind of the series, model that spoke"""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Forecasts of one moment and horizon beside their outcomes: what was issued for `ts` (seconds), all [S]."""

    target: str
    horizon_s: int
    step_s: int
    champion: bool
    ts: int
    names: tuple[str, ...]
    labels: tuple[Label, ...]
    code: NDArray[np.int16]
    """[S] which label"""
    values: Floats
    """[S, LEVELS]"""
    actual: Floats
    """NaN = never observed"""
    persistence: Floats
    seasonal: Floats

    def errors(self) -> Floats:
        """Return [S] the median's absolute errors; NaN where there is no forecast or no outcome."""
        return np.abs(self.actual - self.values[:, 2])


@dataclass(frozen=True, kw_only=True)
class Score:
    """A row of the table forecast_scores; times in seconds, None = cannot be told. Errors and widths in the target's unit.

    Figures are over the trailing days of outcomes, ratios over the points that both forecast. `worst_series` is that of all the
    champion's (or this challenger's) forecasts of the kind, by its share at or below P99; `worst_day` (midnight UTC) by the
    coverage of its 90 % bands.
    """

    ts: int
    target: str
    kind: str
    horizon_s: int
    model: str
    champion: bool
    points: int
    mae: float
    vs_persistence: float | None
    vs_seasonal: float | None
    pinball_99: float
    coverage_90: float
    coverage_98: float
    below_99: float
    width_90: float
    worst_series: str | None
    worst_below_99: float | None
    worst_day: int | None
    worst_day_coverage_90: float | None


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The sums of one target, speaker and horizon over the newest `days` days (today and those before)."""

    days: int
    day: Ints
    """[days] which day (since 1970) each place of the ring holds; -1 = none"""
    counts: NDArray[np.uint16]
    """[days, S, 2] outcomes; those at or below P99"""
    names: tuple[str, ...] = ()
    kinds: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, dtype=np.str_))
    """[S] as of the newest forecast"""
    sums: Mapping[Label, Floats] = field(default_factory=dict)
    """[days, SUMS]"""

    def added(self, new: Compared) -> "Tally":
        """Return the tally with these outcomes in it; those of a day that has left the ring do not count."""
        day = new.ts // DAY_S
        at = day % self.days
        known = ~np.isnan(new.errors())
        if not known.any() or day < self.day[at]:
            return self
        out = self._with(new.names)
        sums, counts, days = {label: rows.copy() for label, rows in out.sums.items()}, out.counts.copy(), out.day.copy()
        if days[at] != day:
            days[at], counts[at] = day, 0
            for rows in sums.values():
                rows[at] = 0.0
        for label, rows in _summed(new, known).items():
            sums.setdefault(label, np.zeros((self.days, SUMS)))[at] += rows
        own = slice(0, len(new.names))
        counts[at, own, 0] += known
        counts[at, own, 1] += known & (new.actual <= new.values[:, 4])
        kinds = np.concatenate([np.array([kind for kind, _ in new.labels], dtype=np.str_)[new.code], out.kinds[own.stop :]])
        live = {label: rows for label, rows in sums.items() if rows[:, 0].any()}
        return replace(out, day=days, sums=live, counts=counts, kinds=kinds)

    def _with(self, names: tuple[str, ...]) -> "Tally":
        """Return the tally with `names` first; series that are not among them stay as long as they have outcomes."""
        if names is self.names or names == self.names[: len(names)]:
            return self
        given = set(names)
        kept = [s for s, name in enumerate(self.names) if name not in given and self.counts[:, s, 0].any()]
        row = {name: s for s, name in enumerate(self.names)}
        before = np.array([row.get(name, -1) for name in names] + kept, dtype=np.int64)
        counts = np.zeros((self.days, len(before), 2), dtype=np.uint16)
        kinds = np.full(len(before), "", dtype=self.kinds.dtype)
        counts[:, before >= 0] = self.counts[:, before[before >= 0]]
        kinds[before >= 0] = self.kinds[before[before >= 0]]
        return replace(self, names=(*names, *(self.names[s] for s in kept)), counts=counts, kinds=kinds)

    def scores(self, target: str, horizon_s: int, *, champion: bool, ts: int) -> list[Score]:
        """Return one row per kind and model with outcomes in the trailing days up to `ts`."""
        recent = (self.day > ts // DAY_S - self.days) & (self.day >= 0)
        out = []
        for (kind, model), rows in sorted(self.sums.items()):
            total = rows[recent].sum(axis=0)
            if not total[0]:
                continue
            series, below = self._worst_series(kind, recent)
            day, coverage = self._worst_day(rows, recent)
            mean = total / total[0]
            out.append(
                Score(
                    ts=ts,
                    target=target,
                    kind=kind,
                    horizon_s=horizon_s,
                    model=model,
                    champion=champion,
                    points=int(total[0]),
                    mae=float(mean[1]),
                    vs_persistence=float(total[2] / total[3]) if total[3] > 0 else None,
                    vs_seasonal=float(total[4] / total[5]) if total[5] > 0 else None,
                    pinball_99=float(mean[6]),
                    coverage_90=float(mean[7]),
                    coverage_98=float(mean[8]),
                    below_99=float(mean[9]),
                    width_90=float(mean[10]),
                    worst_series=series,
                    worst_below_99=below,
                    worst_day=day,
                    worst_day_coverage_90=coverage,
                )
            )
        return out

    def _worst_series(self, kind: str, recent: NDArray[np.bool_]) -> tuple[str | None, float | None]:
        points, below = self.counts[recent].sum(axis=0, dtype=np.int64).T
        some = np.flatnonzero((points >= FEWEST_OF_SERIES) & (self.kinds == kind))
        if not some.size:
            return None, None
        share = below[some] / points[some]
        worst = int(np.argmin(share))
        return self.names[some[worst]], float(share[worst])

    def _worst_day(self, rows: Floats, recent: NDArray[np.bool_]) -> tuple[int | None, float | None]:
        some = np.flatnonzero(recent & (rows[:, 0] >= FEWEST))
        if not some.size:
            return None, None
        share = rows[some, 7] / rows[some, 0]
        worst = int(np.argmin(share))
        return int(self.day[some[worst]]) * DAY_S, float(share[worst])


def tally(days: int) -> Tally:
    """Return an empty tally over today and the days before, `days` in all."""
    return Tally(days=days, day=np.full(days, -1, dtype=np.int64), counts=np.zeros((days, 0, 2), dtype=np.uint16))


def _summed(new: Compared, known: NDArray[np.bool_]) -> dict[Label, Floats]:
    """Return the sums [SUMS] of each label over the known points, in the order in which `Tally.scores` reads them."""
    code, labels = new.code[known], len(new.labels)
    p1, p5, _, p95, p99 = new.values[known].astype(np.float64).T
    actual, error = new.actual[known], new.errors()[known]
    parts: list[Floats] = [np.ones(len(code)), error]
    for naive in (np.abs(actual - new.persistence[known]), np.abs(actual - new.seasonal[known])):
        both = ~np.isnan(naive)
        parts += [np.where(both, error, 0.0), np.where(both, naive, 0.0)]
    parts.append(np.where(actual >= p99, 0.99 * (actual - p99), 0.01 * (p99 - actual)))
    parts += [(actual >= p5) & (actual <= p95), (actual >= p1) & (actual <= p99), actual <= p99, p95 - p5]
    sums = np.stack([np.bincount(code, weights=part, minlength=labels) for part in parts], axis=1)
    return {label: row for label, row in zip(new.labels, sums, strict=True) if row[0]}


def encoded(kinds: Sequence[str], models: str | Sequence[str]) -> tuple[tuple[Label, ...], NDArray[np.int16]]:
    """Return the labels that occur, and which one each series has."""
    if isinstance(models, str):
        pairs = [(kind, models) for kind in sorted(set(kinds))]
        model = None
    else:
        pairs = [(kind, name) for kind in sorted(set(kinds)) for name in sorted(set(models))]
        model = np.array(models, dtype=np.str_)
    kind_of = np.array(kinds, dtype=np.str_)
    labels: list[Label] = []
    code = np.zeros(len(kind_of), dtype=np.int16)
    for kind, name in pairs:
        own = kind_of == kind if model is None else (kind_of == kind) & (model == name)
        if own.any():
            code[own] = len(labels)
            labels.append((kind, name))
    return tuple(labels), code
