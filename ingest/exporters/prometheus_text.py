"""Prometheus text format to numbers: sums over labels, increases between two scrapes, quantiles of a histogram's increase.

Pure. A scrape is one process's: when one of its counters falls, it was restarted and all of them began at zero again.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, kw_only=True)
class Scrape:
    """The samples of one scrape: (name, labels) -> value. NaN samples are left out: they are no measurement."""

    samples: Mapping[Series, float]

    def has(self, name: str) -> bool:
        """Whether any series bears that name."""
        return any(series == name for series, _ in self.samples)

    def values(self, name: str) -> list[float]:
        """The values of all series of that name."""
        return [value for (series, _), value in self.samples.items() if series == name]

    def total(self, name: str) -> float | None:
        """Their sum; None where there is none."""
        values = self.values(name)
        return sum(values) if values else None

    def mean(self, name: str) -> float | None:
        """Their mean; None where there is none."""
        values = self.values(name)
        return sum(values) / len(values) if values else None


NOTHING = Scrape(samples={})


def parse(text: str, prefixes: tuple[str, ...], only: Mapping[str, str] | None = None) -> Scrape:
    """Read the samples whose names start with one of `prefixes`; the rest is skipped unread.

    `only` {label: value}: a series that bears one of these labels with another value is left out. Raises ValueError on a line
    that is no sample.
    """
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(prefixes)) + "\n"
    samples: dict[Series, float] = {}
    for family in text_string_to_metric_families(wanted):
        for sample in family.samples:
            if only and any(sample.labels.get(label, value) != value for label, value in only.items()):
                continue
            if not math.isnan(sample.value):
                samples[sample.name, frozenset(sample.labels.items())] = float(sample.value)
    return Scrape(samples=samples)


def base_of(before: Scrape, after: Scrape, counters: Collection[str]) -> Scrape:
    """Return what `after` counts from: `before`, or nothing when the process was restarted in between.

    Restarted = its process_start_time_seconds differs, or a series of one of `counters` (names) fell.
    """
    started = before.total("process_start_time_seconds"), after.total("process_start_time_seconds")
    if None not in started and started[0] != started[1]:
        return NOTHING
    fell = any(
        value < before.samples.get(series, -math.inf) for series, value in after.samples.items() if series[0] in counters
    )
    return NOTHING if fell else before


def increase(base: Scrape, after: Scrape, name: str) -> float | None:
    """How much the counters of that name grew in sum since `base` (see base_of); None where there is none in `after`."""
    grown = [value - base.samples.get(series, 0.0) for series, value in after.samples.items() if series[0] == name]
    return sum(grown) if grown else None


def quantile(base: Scrape, after: Scrape, name: str, q: float) -> float | None:
    """Return the q-quantile of what the histogram `name` observed since `base`, summed over its other labels.

    Linear inside a bucket, as Prometheus's histogram_quantile; above the highest finite bound: that bound (the quantile is at
    least this). None when nothing was observed.
    """
    counts: dict[float, float] = {}
    for series, value in after.samples.items():
        if series[0] == f"{name}_bucket":
            bound = float(dict(series[1]).get("le", "nan"))
            counts[bound] = counts.get(bound, 0.0) + value - base.samples.get(series, 0.0)
    bounds = sorted(bound for bound in counts if not math.isnan(bound))
    if not bounds or counts[bounds[-1]] <= 0:
        return None
    rank = q * counts[bounds[-1]]
    low, below = 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= rank:
            if math.isinf(bound):
                return low
            inside = counts[bound] - below
            return low + (bound - low) * (rank - below) / inside if inside > 0 else bound
        low, below = bound, counts[bound]
    return low
