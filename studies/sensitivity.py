"""At which value of what does a claim flip?

    python -m studies.sensitivity --claim NAME [--draws N] [--report F]

A claim is a function of the uncertain parameters whose result, the margin, is above 0 where the claim holds. Three questions:
in what share of Latin-hypercube draws does it hold, which parameters move the margin most (Morris), and along each of these
alone, all others at their defaults, where is the nearest value at which it flips?"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from scipy.stats import binomtest

from contracts.errors import ColdaisleError
from studies import morris, parameters, pool
from studies.claims import CLAIMS, Claim
from studies.crossing import crossings
from studies.morris import Effect
from studies.parameters import Floats, Parameter
from studies.pool import Point
from studies.verdict import Failure, Verdict, markdown

Progress = Callable[[str, int, int], None]
"""(what is evaluated, evaluated, of so many)"""

COVERAGE = 0.95


class StudyError(ColdaisleError):
    """A claim cannot be studied: it fails where nothing is varied, or everywhere."""


@dataclass(frozen=True)
class _Run:
    """A study under way: where evaluations go, and the failures so far."""

    claim: Claim
    executor: Executor
    progress: Progress | None
    failures: list[Failure]

    def margins(self, what: str, points: Sequence[Point], names: Sequence[str]) -> list[float]:
        """Return the margin of each point, NaN where there is none; `names` say in the failures where it was."""

        def step(done: int, of: int) -> None:
            if self.progress is not None:
                self.progress(what, done, of)

        outcomes = pool.run(self.executor, self.claim.evaluate, points, step)
        for where, point, outcome in zip(names, points, outcomes, strict=True):
            if outcome.value is None:
                self.failures.append(Failure(where=where, error=outcome.error, parameters=dict(point)))
        return [math.nan if outcome.value is None else outcome.value for outcome in outcomes]

    def default(self, base: Point) -> float:
        """Return the margin with nothing varied. StudyError where there is none."""
        margin = self.margins("default", [base], ["default"])[0]
        if math.isnan(margin):
            raise StudyError(f"claim {self.claim.name}: cannot be evaluated at the defaults: {self.failures[-1].error}")
        return margin

    def draws(self, varied: tuple[Parameter, ...], count: int, seed: int) -> Floats:
        """Return the margins of the draws that have one. StudyError where none has."""
        points = parameters.draws(varied, count, seed).to_dicts()
        margins = np.array(self.margins("draws", points, [f"draw {n}" for n in range(count)]))
        if np.isnan(margins).all():
            raise StudyError(f"claim {self.claim.name}: all {count} draws failed, the first: {self.failures[0].error}")
        evaluated: Floats = margins[~np.isnan(margins)]
        return evaluated

    def effects(self, varied: tuple[Parameter, ...], count: int, seed: int) -> tuple[Effect, ...]:
        """Return Morris's effects from `count` trajectories."""
        quantiles = morris.trajectories(len(varied), count, seed)
        values = parameters.points(varied, quantiles.reshape(-1, len(varied)))
        names = [p.name for p in varied]
        points = [dict(zip(names, row, strict=True)) for row in values.tolist()]
        where = [f"trajectory {t}, step {s}" for t in range(count) for s in range(len(varied) + 1)]
        margins = np.array(self.margins("effects", points, where)).reshape(count, -1)
        return morris.effects(tuple(names), morris.elementary(quantiles, margins), seed)


def flips(
    claim: Claim,
    varied: tuple[Parameter, ...],
    *,
    draws: int = 200,
    trajectories: int = 20,
    top: int = 5,
    workers: int = 1,
    seed: int = 1,
    progress: Progress | None = None,
) -> Verdict:
    """Return how firmly `claim` stands while the parameters `varied` vary; the same for any number of workers.

    Costs draws + trajectories (K + 1) evaluations for K parameters, and up to 32 for each of the `top` ones. With workers
    above 1 the claim's function must stand at the top level of a module. StudyError where the defaults or all draws fail.
    """
    if draws < 1 or trajectories < 1 or top < 0 or not varied:
        raise ValueError(f"draws = {draws}, trajectories = {trajectories}, top = {top}, {len(varied)} parameters: too few")
    base = parameters.defaults(varied)
    with pool.workers(workers) as executor:
        run = _Run(claim, executor, progress, [])
        default = run.default(base)
        margins = run.draws(varied, draws, seed)
        effects = run.effects(varied, trajectories, seed)
        strongest = parameters.select(varied, tuple(e.name for e in effects if e.mu_star > 0.0)[:top])
        found = crossings(strongest, base, default, lambda points, names: run.margins("flips", points, names))
    holds = int((margins > 0).sum())
    interval = binomtest(holds, len(margins)).proportion_ci(COVERAGE, method="wilson")
    low, middle, high = np.quantile(margins, [0.05, 0.5, 0.95]).tolist()
    return Verdict(
        claim=claim.name,
        text=claim.text,
        unit=claim.unit,
        seed=seed,
        default_margin=default,
        draws=draws,
        evaluated=len(margins),
        holds=holds,
        share=holds / len(margins),
        share_low=float(interval.low),
        share_high=float(interval.high),
        margin_p05=low,
        margin_p50=middle,
        margin_p95=high,
        effects=effects,
        flips=found,
        parameters=varied,
        failures=tuple(run.failures),
    )


def main(arguments: list[str]) -> int:
    """Study a claim, print Markdown; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.sensitivity",
        description="In what share of draws does a claim hold, what moves it most, at which value does it flip?",
        epilog="claims: " + "; ".join(f"{c.name} ({c.text})" for c in CLAIMS.values()),
    )
    parser.add_argument("--claim", required=True, choices=sorted(CLAIMS))
    parser.add_argument("--draws", type=int, default=200, help="Latin-hypercube draws (%(default)s)")
    parser.add_argument("--trajectories", type=int, default=20, help="of Morris's method (%(default)s)")
    parser.add_argument("--top", type=int, default=5, help="strongest parameters whose flips are sought (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parameters", type=Path, default=parameters.FILE, help="TOML file of ranges (the shipped one)")
    parser.add_argument("--report", type=Path, help="write to this file: Markdown if it ends so (.md), else JSON")
    options = parser.parse_args(arguments)
    for name in ("draws", "trajectories", "workers"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: must be at least 1")
    if options.top < 0:
        parser.error(f"--top {options.top}: must be at least 0")
    if options.report and not options.report.parent.is_dir():
        parser.error(f"--report {options.report}: there is no folder {options.report.parent}")
    claim = CLAIMS[options.claim]
    try:
        verdict = flips(
            claim,
            parameters.select(parameters.load(options.parameters), claim.reads),
            draws=options.draws,
            trajectories=options.trajectories,
            top=options.top,
            workers=options.workers,
            seed=options.seed,
            progress=_on_terminal if sys.stderr.isatty() else None,
        )
    except ColdaisleError as error:
        print(f"studies.sensitivity: {error}", file=sys.stderr)
        return error.status
    text = markdown(verdict)
    print(text, end="")
    if options.report:
        as_json = msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode() + "\n"
        options.report.write_text(text if options.report.suffix == ".md" else as_json, encoding="utf-8")
    return 0


def _on_terminal(what: str, done: int, of: int) -> None:
    print(f"\r{what} {done}/{of}   ", end="\n" if done == of else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
