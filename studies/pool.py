"""Many evaluations of one function, in as many processes as wanted; results in the order of the points, whoever was first.

Workers are spawned, never forked (polars' threads do not survive a fork), and keep to one thread each. What a point raises
becomes that point's outcome; a worker that dies ends the whole."""

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import NamedTuple

Point = Mapping[str, float]
Evaluate = Callable[[Point], float]
Progress = Callable[[int, int], None]
"""(evaluated, of so many)"""

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")


class Outcome(NamedTuple):
    """A finite value, or why there is none."""

    value: float | None
    error: str = ""


@contextmanager
def workers(count: int) -> Iterator[Executor]:
    """Yield an executor of `count` processes; 1 = this process, for what cannot be pickled and what is fast.

    Processes import the function's module: it must stand at the top level of one.
    """
    if count < 1:
        raise ValueError(f"workers = {count}: must be at least 1")
    executor: Executor
    if count == 1:
        executor = ThreadPoolExecutor(1)
    else:
        executor = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    if count > 1:
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # read by libraries at import, so before a worker starts
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run(executor: Executor, evaluate: Evaluate, points: Sequence[Point], progress: Progress | None = None) -> list[Outcome]:
    """Return the outcome of each point, in their order. A dead worker raises BrokenExecutor."""
    futures = [executor.submit(_call, evaluate, dict(point)) for point in points]
    for done, _ in enumerate(as_completed(futures), start=1):
        if progress is not None:
            progress(done, len(futures))
    return [_outcome(future) for future in futures]


def _call(evaluate: Evaluate, point: Point) -> float:
    return float(evaluate(point))


def _outcome(future: "Future[float]") -> Outcome:
    error = future.exception()
    if error is None:
        value = future.result()
        return Outcome(value) if math.isfinite(value) else Outcome(None, f"the result is {value}")
    if isinstance(error, BrokenExecutor) or not isinstance(error, Exception):
        raise error
    return Outcome(None, f"{type(error).__name__}: {error}".splitlines()[0])
