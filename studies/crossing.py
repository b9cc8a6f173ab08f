"""Where a margin crosses nought along one parameter alone: a walk from the default to either end, then bisection."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from studies.parameters import Parameter

STEPS = 4
"""of the walk to each end; two crossings within one step are not seen"""
ROUNDS = 12
"""of bisection: the value is known to (high - low) / 4 / 2^12 at worst"""

Margins = Callable[[list[Mapping[str, float]], list[str]], Sequence[float]]
"""(points, names for failures) -> margins, NaN where there is none"""


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """The values nearest to the default at which a claim flips, everything else at its default."""

    name: str
    below: float | None
    """None: it does not between low and the default, or a failure hides it"""
    above: float | None
    margin_low: float | None
    """margin at the range's low end; None where it failed"""
    margin_high: float | None


@dataclass
class _Side:
    """The way from the default to one end of a parameter's range."""

    parameter: Parameter
    end: float
    end_margin: float = math.nan
    bracket: tuple[float, float] | None = None
    """(value on the default's side, value past the crossing)"""


def crossings(top: Sequence[Parameter], base: Mapping[str, float], margin: float, margins: Margins) -> tuple[Flip, ...]:
    """Return the flips along each of `top` around `base`, whose margin is `margin`; each round is one call of `margins`."""
    sides = [_Side(p, end) for p in top for end in (p.low, p.high)]
    _walk(sides, base, margin, margins)
    for _ in range(ROUNDS):
        _bisect([side for side in sides if side.bracket is not None], base, margin > 0, margins)
    return tuple(
        Flip(
            name=below.parameter.name,
            below=_middle(below),
            above=_middle(above),
            margin_low=None if math.isnan(below.end_margin) else below.end_margin,
            margin_high=None if math.isnan(above.end_margin) else above.end_margin,
        )
        for below, above in zip(sides[::2], sides[1::2], strict=True)
    )


def _walk(sides: list[_Side], base: Mapping[str, float], margin: float, margins: Margins) -> None:
    """Evaluate STEPS values towards each end and set the bracket of the first crossing, and the end's margin."""
    shares = np.arange(1, STEPS + 1) / STEPS
    # ends exactly as given: the logarithm's way back need not meet them
    values = [[*s.parameter.between(s.parameter.default, s.end, shares[:-1]).tolist(), s.end] for s in sides]
    found = iter(_along([(s, v) for s, own in zip(sides, values, strict=True) for v in own], base, margins))
    for side, own in zip(sides, values, strict=True):
        last = side.parameter.default
        for value in own:
            here = next(found)
            if value == side.end:
                side.end_margin = here
            if math.isnan(here) or side.bracket is not None:
                continue
            if (here > 0) != (margin > 0):
                side.bracket = (last, value)
            last = value


def _bisect(sides: list[_Side], base: Mapping[str, float], holds: bool, margins: Margins) -> None:
    """Halve each bracket; one whose middle cannot be evaluated is given up."""
    middles = [_middle(side) for side in sides]
    found = _along([(s, m) for s, m in zip(sides, middles, strict=True) if m is not None], base, margins)
    for side, middle, here in zip(sides, middles, found, strict=True):
        if side.bracket is None or middle is None or math.isnan(here):
            side.bracket = None
        elif (here > 0) == holds:
            side.bracket = (middle, side.bracket[1])
        else:
            side.bracket = (side.bracket[0], middle)


def _middle(side: _Side) -> float | None:
    return None if side.bracket is None else float(side.parameter.between(*side.bracket, np.array(0.5)))


def _along(at: list[tuple[_Side, float]], base: Mapping[str, float], margins: Margins) -> Sequence[float]:
    if not at:
        return []
    points: list[Mapping[str, float]] = [{**base, side.parameter.name: value} for side, value in at]
    return margins(points, [f"line of {side.parameter.name}" for side, _ in at])
