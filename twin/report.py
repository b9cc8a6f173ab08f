"""What a run came to, for people and for benchmarks: the score, the latencies by endpoint and class, and what it cost."""

from math import isnan

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin.batching.book import ENDED, OK, REJECTED, TBT, TTFT, Book, quantile
from twin.classes import CLASSES
from twin.score import Score
from twin.world import World

Ints = NDArray[np.int64]
ALL = "all"


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a run cost. CPU seconds are those of all threads."""

    cpu_s: float
    """of the loop, after compilation"""
    startup_cpu_s: float
    """of everything before it: imports, compiled code, building and settling the site"""
    wall_s: float
    """of the loop"""
    rss_mib: float
    """most memory that the process ever held"""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one endpoint and class. Quantiles are read off the exact histograms, whose bins are 1.6 to 3.1 % wide.

    None where no request had such a time (a request of one token has no TBT)."""

    endpoint: str
    request_class: str = msgspec.field(name="class")
    """SS to LL, or all"""
    requests: int
    """that ended, rejected ones included"""
    rejected: int
    slo_ok: float
    ttft_mean_s: float | None
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    tbt_mean_s: float | None
    tbt_p50_s: float | None
    tbt_p99_s: float | None


class Report(Score, frozen=True, kw_only=True):
    """A run: what it was, what it suffered (`Score`), how long its requests took, and what it cost (`Cost`)."""

    scenario: str
    start: str
    """ISO 8601"""
    workload: str
    """where the load comes from"""
    seed: int
    step_s: int
    servers: int
    rows: int
    gpus: int
    gpu_seconds: float
    rejected: int
    cpu_s: float
    startup_cpu_s: float
    wall_s: float
    rss_mib: float
    latencies: tuple[Latency, ...]
    """all together first, then each endpoint's: all, and its classes that had a request"""


def report(world: World, cost: Cost) -> Report:
    """Return the report of what `world` has lived through so far."""
    score, topology = world.score(), world.topology
    gpus = int(world.state.die_c.size)
    return Report(
        **msgspec.structs.asdict(score),
        **msgspec.structs.asdict(cost),
        scenario=world.scenario.name,
        start=world.scenario.start.isoformat(),
        workload=world.workload.name,
        seed=world.seed,
        step_s=world.step_s,
        servers=len(topology.servers),
        rows=len(topology.rows),
        gpus=gpus,
        gpu_seconds=float(gpus * score.simulated_s),
        rejected=int(world.serving.book.counts[:, :, REJECTED].sum()),
        latencies=latencies(world.serving.book, tuple(e.name for e in topology.endpoints)),
    )


def latencies(b: Book, endpoints: tuple[str, ...]) -> tuple[Latency, ...]:
    """Return the latencies of all requests, of every endpoint, and of each of its classes; of those that had a request."""
    every = slice(None)
    found = [_latency(b, ALL, ALL, every, every)]
    for e, name in enumerate(endpoints):
        found.append(_latency(b, name, ALL, slice(e, e + 1), every))
        found += [_latency(b, name, label, slice(e, e + 1), slice(c, c + 1)) for c, label in enumerate(CLASSES)]
    return tuple(one for one in found if one.requests)


def _latency(b: Book, endpoint: str, label: str, e: slice, c: slice) -> Latency:
    """Return the latencies of the endpoints `e` and classes `c` of the book, taken together."""
    counts, histogram = b.counts[e, c].sum(axis=(0, 1)), b.histogram[e, c].sum(axis=(0, 1))
    ttft_s, tbt_s = b.total_s[e, c].sum(axis=(0, 1)).tolist()
    requests = int(counts[ENDED])
    return Latency(
        endpoint=endpoint,
        request_class=label,
        requests=requests,
        rejected=int(counts[REJECTED]),
        slo_ok=float(counts[OK]) / requests if requests else 1.0,
        ttft_mean_s=_mean(ttft_s, histogram[TTFT]),
        ttft_p50_s=_known(quantile(histogram[TTFT], 0.50)),
        ttft_p99_s=_known(quantile(histogram[TTFT], 0.99)),
        tbt_mean_s=_mean(tbt_s, histogram[TBT]),
        tbt_p50_s=_known(quantile(histogram[TBT], 0.50)),
        tbt_p99_s=_known(quantile(histogram[TBT], 0.99)),
    )


def _mean(total_s: float, histogram: Ints) -> float | None:
    count = int(histogram.sum())
    return total_s / count if count else None


def _known(value: float) -> float | None:
    return None if isnan(value) else value
