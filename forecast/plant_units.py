"""One law for many units: each unit's coefficients, shrunk to its class, and the class to what is published.

A mixed model, solved in closed form from sums of products: units lie around their class with known spreads, classes around the
published values, and readings around a unit's law with a known noise, of which an hour tells as much as one reading would
(errors of a law last). So what a unit has shown decides where it has shown it, its class where it has not, and a server that
stands at one load all month takes its slope from the others. What lies five robust sigmas off its law does not count. All in
chunks: the terms of thousands of units are never in memory together.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast.grids import Floats, Ints

Points = Callable[[slice], tuple[Floats, Floats]]
"""units a..b -> their terms [n, F, T] (or [1, F, T]: the same for all) and readings [n, T]; NaN = absent"""

DAY, WEEK = 288, 2_016
"""intervals of 300 s"""
HELD_OUT = 0.2
"""share of a history below three weeks that a fit is judged on"""
INLET_NOISE_K, GPU_NOISE_K, POWER_NOISE_W, AIR_NOISE = 0.5, 0.5, 60.0, 0.03
"""of a reading around its law: whole degrees, 1 % of a server, 3 % of an aisle [A]"""
ALIKE = 12.0
"""readings of 300 s that tell as much as one: errors of a law last about an hour"""
OUTLIER = 5.0
"""robust sigmas from which a point (a cooling fault, a bad sensor) does not count"""
DRIFT = 3.0
"""mean absolute errors by which the median of a day lies off when a unit has left its family"""
DAY_POINTS = 48
"""readings without which a day says nothing"""
CHUNK = 500_000
"""numbers of terms in memory at a time"""


@dataclass(frozen=True, kw_only=True)
class Law:
    """What is known before any reading. S units, F terms."""

    published: Floats
    """[S, F]"""
    class_sd: Floats
    """[F] how far a class lies from the published values (1 sigma)"""
    unit_sd: Floats
    """[F] how far a unit lies from its class"""
    noise: float
    """of one reading (1 sigma), and the least that counts as drift"""
    group: Ints
    """[S] class"""


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """Coefficients and what they are worth."""

    coefficients: Floats
    """[S, F]"""
    errors: Floats
    """[S] mean absolute error on the held-out part, of a fit on the rest; NaN where it has no reading"""
    shares: Floats
    """[S] the same relative to the reading"""
    points: int


def held_out(columns: int, per: float = 1.0) -> int:
    """Return how many of the newest columns a fit is judged on: a week, of a history under three weeks a fifth.
    `per` = intervals of 300 s from one column to the next."""
    week = round(WEEK / per)
    return week if columns >= 3 * week else int(np.ceil(columns * HELD_OUT))


def untold(law: Law) -> Learnt:
    """Return the published values: nothing was read."""
    nothing = np.full(len(law.published), np.nan)
    return Learnt(coefficients=law.published, errors=nothing, shares=nothing, points=0)


def learn(points: Points, columns: int, law: Law, per: float = 1.0) -> Learnt:
    """Return the units' coefficients learnt from all columns, and their errors on the newest by a fit on the rest.

    A unit that has left its family for whole days up to the end (a repaired fan, a new heat sink) is learnt from these days
    alone. Shifts that a whole class makes together do not count as that: they are weather.
    """
    cut = columns - held_out(columns, per)
    whole = np.zeros(len(law.published), dtype=np.int64)
    trial = _fitted(points, law, law.published, whole, cut)
    trial = _fitted(points, law, trial, whole, cut, clean=True)
    rest, shares, count = _judged(points, law, trial, cut, columns)
    errors = _mean(np.abs(rest))
    since = _since(rest, errors, law, columns, per)
    out = _fitted(points, law, trial, since, columns, clean=True, changed=since > 0)
    return Learnt(coefficients=out, errors=errors, shares=shares, points=count)


def rows(law: Law, columns: int) -> Iterator[slice]:
    """Yield chunks of units whose terms fit into memory."""
    step = max(1, CHUNK // max(1, columns * law.published.shape[1]))
    for low in range(0, len(law.published), step):
        yield slice(low, min(low + step, len(law.published)))


def drift_of(rest: Floats, errors: Floats, noise: float, group: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return ([S] whether a unit has left its family, [S] whether its class has) by a day's errors [S, T] (NaN = absent).

    A class has left when its median unit has; a unit when it lies off its class's common shift.
    """
    middle = _median(rest, DAY_POINTS)
    limit = DRIFT * np.maximum(noise / 2, np.where(np.isnan(errors), noise, errors))
    own, common = np.zeros(len(rest), dtype=np.bool_), np.zeros(len(rest), dtype=np.bool_)
    for kind in np.unique(group):
        mine = group == kind
        known = middle[mine][~np.isnan(middle[mine])]
        shift = float(np.median(known)) if known.size > 2 else 0.0  # of one or two nobody knows who is odd
        own[mine] = np.abs(middle[mine] - shift) > limit[mine]
        common[mine] = abs(shift) > np.median(limit[mine])
    return own, common


def _fitted(
    points: Points, law: Law, start: Floats, since: Ints, until: int, *, clean: bool = False,
    changed: NDArray[np.bool_] | None = None,
) -> Floats:  # fmt: skip
    """Return [S, F] learnt from columns since..until; `clean` = without what lies far off `start`'s law (not of `changed`)."""
    size = law.unit_sd  # in units of the spread all penalties are 1
    grams, rights = [], []
    for some in rows(law, until):
        x, y = points(some)
        x, y = x[:, :, :until], y[:, :until]
        use = np.isfinite(y) & np.isfinite(x).all(axis=1)
        if since[some].any():
            use &= np.arange(y.shape[1]) >= since[some, None]
        if clean:
            far = _far(x, y, start[some], law.noise)
            use &= ~far if changed is None else ~far | changed[some, None]
        x = np.where(use[:, None, :], x * size[:, None], 0.0)
        grams.append(x @ x.transpose(0, 2, 1))
        rights.append((x @ np.where(use, y, 0.0)[:, :, None])[:, :, 0])
    return _shrunk(np.concatenate(grams), np.concatenate(rights), law) * size


def _far(x: Floats, y: Floats, coefficients: Floats, noise: float) -> NDArray[np.bool_]:
    rest = np.abs(y - (coefficients[:, None, :] @ x)[:, 0])
    sigma = 1.4826 * _median(rest, 1)
    return np.asarray(rest > OUTLIER * np.maximum(np.nan_to_num(sigma), noise / 4)[:, None], dtype=np.bool_)


def _shrunk(gram: Floats, right: Floats, law: Law) -> Floats:
    """Return the posterior means, in units of `law.unit_sd`.

    Of a class: (sum W_s + P) m = sum W_s b_s + P m0 with W_s = (v + A_s)^-1 A_s, W_s b_s = (v + A_s)^-1 r_s, v the noise of
    what an hour tells, P = (unit_sd / class_sd)^2. Of a unit: (A_s + v) b = r_s + v m.
    """
    v = ALIKE * law.noise**2
    full = gram + v * np.eye(gram.shape[1])
    weight = np.linalg.solve(full, gram)
    told = np.linalg.solve(full, right[:, :, None])[:, :, 0]
    prior = np.diag(np.square(law.unit_sd / law.class_sd))
    out = np.empty_like(right)
    for kind in np.unique(law.group):
        mine = law.group == kind
        published = (law.published[mine] / law.unit_sd).mean(axis=0)
        mean = np.linalg.solve(weight[mine].sum(axis=0) + prior, told[mine].sum(axis=0) + prior @ published)
        out[mine] = np.linalg.solve(full[mine], (right[mine] + v * mean)[:, :, None])[:, :, 0]
    return out


def _judged(points: Points, law: Law, coefficients: Floats, cut: int, columns: int) -> tuple[Floats, Floats, int]:
    """Return (errors [S, T'] of the newest columns, mean relative errors [S], readings of all columns)."""
    parts, shares, count = [], [], 0
    for some in rows(law, columns):
        x, y = points(some)
        count += int(np.isfinite(y).sum())
        rest = y[:, cut:] - (coefficients[some][:, None, :] @ x[:, :, cut:])[:, 0]
        shares.append(_mean(np.abs(rest) / np.maximum(np.abs(y[:, cut:]), 1e-9)))
        parts.append(rest)
    return np.concatenate(parts), np.concatenate(shares), count


def _since(rest: Floats, errors: Floats, law: Law, columns: int, per: float) -> Ints:
    """Return [S] the column from which on a unit counts: 0, or where the whole days began that it has been another one."""
    day = max(1, round(DAY / per))
    since = np.zeros(len(rest), dtype=np.int64)
    going = np.ones(len(rest), dtype=np.bool_)
    earlier = _earlier(rest, errors, day)
    for end in range(rest.shape[1], day - 1, -day):
        own, _ = drift_of(rest[:, end - day : end], earlier, law.noise, law.group)
        going &= own
        since[going] = columns - rest.shape[1] + end - day
    return since


def _earlier(rest: Floats, errors: Floats, day: int) -> Floats:
    """Return [S] what is usual: the smaller of the unit's own error and twice its class's; its own may be the change's."""
    known = errors[~np.isnan(errors)]
    usual = float(np.median(known)) if known.size else np.nan
    return np.where(np.isnan(errors), usual, np.minimum(errors, 2.0 * usual)) if rest.shape[1] >= day else errors


def _mean(values: Floats) -> Floats:
    seen = np.isfinite(values)
    count = seen.sum(axis=1)
    return np.where(count > 0, np.where(seen, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _median(values: Floats, fewest: int) -> Floats:
    """Return [S] medians of what is there; NaN below `fewest`."""
    count = np.isfinite(values).sum(axis=1)
    out = np.full(len(values), np.nan)
    whole = count == values.shape[1]
    if whole.any() and values.shape[1] >= fewest:
        out[whole] = np.median(values[whole], axis=1)
    for i in np.flatnonzero(~whole & (count >= fewest)):
        out[i] = np.median(values[i][np.isfinite(values[i])])
    return out
