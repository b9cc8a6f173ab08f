"""What a study of a claim comes to, and as Markdown for people."""

from collections.abc import Sequence

import msgspec

from studies.crossing import Flip
from studies.morris import Effect
from studies.parameters import Parameter

HEAD = ("parameter", "unit", "taken", "range", "mark", "mu*", "95 %", "mu", "sigma", "flips below", "flips above")
FAILURES_SHOWN = 10


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A point at which the claim could not be evaluated."""

    where: str
    """the draw ("draw 17"), the step of a trajectory or the line it belongs to"""
    error: str
    parameters: dict[str, float]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How firmly a claim stands. Margins are in the claim's unit; above 0 it holds."""

    claim: str
    text: str
    unit: str
    seed: int
    default_margin: float
    draws: int
    evaluated: int
    """draws with a margin; shares are of these"""
    holds: int
    share: float
    share_low: float
    """95 % Wilson interval, made for independent draws; those of a Latin hypercube scatter as much or less"""
    share_high: float
    margin_p05: float
    margin_p50: float
    margin_p95: float
    effects: tuple[Effect, ...]
    """the strongest first"""
    flips: tuple[Flip, ...]
    """of the strongest parameters, in that order"""
    parameters: tuple[Parameter, ...]
    failures: tuple[Failure, ...]


def markdown(v: Verdict) -> str:
    """Return the verdict as Markdown: the claim, the share of draws, a row per parameter (strongest first), failures."""
    says = "holds" if v.default_margin > 0 else "does not hold"
    flips = {flip.name: flip for flip in v.flips}
    effects = {effect.name: effect for effect in v.effects}
    known = {p.name: p for p in v.parameters}
    order = [*effects, *(name for name in known if name not in effects)]
    lines = [
        f"# {v.claim}",
        "",
        f"{v.text[:1].upper()}{v.text[1:]}. It {says} with all parameters as taken (margin {_g(v.default_margin)} {v.unit}).",
        "",
        f"It holds in {v.holds} of {v.evaluated} draws: {_share(v.share)} (95 % interval {_share(v.share_low)} to "
        f"{_share(v.share_high)}). Margin: median {_g(v.margin_p50)}, 5 to 95 %: {_g(v.margin_p05)} to {_g(v.margin_p95)} "
        f"{v.unit}. Seed {v.seed}.",
        "",
        *_table([HEAD, *(_row(known[name], effects.get(name), flips.get(name)) for name in order)]),
        "",
        f"mu*, mu, sigma: Morris's elementary effects on the margin in {v.unit} per whole distribution. Flips: the nearest "
        "value at which the claim flips, all others as taken; - = not within the range; empty = not sought.",
    ]
    if v.failures:
        lines += ["", f"{len(v.failures)} points could not be evaluated:", ""]
        lines += [f"- {failure.where}: {failure.error}" for failure in v.failures[:FAILURES_SHOWN]]
        if len(v.failures) > FAILURES_SHOWN:
            lines.append(f"- and {len(v.failures) - FAILURES_SHOWN} more")
    return "\n".join(lines) + "\n"


def _row(p: Parameter, effect: Effect | None, flip: Flip | None) -> tuple[str, ...]:
    moved = ("unknown", "", "", "")
    if effect is not None:
        interval = f"{_g(effect.mu_star_low)} to {_g(effect.mu_star_high)}"
        moved = (_g(effect.mu_star), interval, _g(effect.mu), "" if effect.sigma is None else _g(effect.sigma))
    found = ("", "") if flip is None else (_or_dash(flip.below), _or_dash(flip.above))
    return (p.name, p.unit, _g(p.default), f"{_g(p.low)} to {_g(p.high)}", p.mark, *moved, *found)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _g(value: float) -> str:
    return f"{value:.4g}"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else _g(value)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
