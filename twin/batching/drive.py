"""One instance with given arrivals: for operating points, and for whoever checks the engine."""

import numpy as np
from numpy.typing import NDArray

from twin.batching.book import Book
from twin.batching.route import push
from twin.batching.serve import serve
from twin.batching.state import WORK, Instances, Log, Records
from twin.compiled import seldom

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def drive(
    s: Instances, points: Records, b: Book, log: Log, at_s: Floats, prompt: Ints, output: Ints, cached: Ints,
    high: NDArray[np.bool_], number: int, from_s: float, until_s: float,
) -> Records:  # fmt: skip
    """Bring instance 0 from `from_s` to `until_s` with these arrivals of that time, in order; return its WORK by the second.

    Arrivals are numbered from `number`.
    """
    work = np.zeros(max(1, int(np.ceil(until_s - from_s))), dtype=WORK)
    _drive(s, points, b, log, at_s, prompt, output, cached, high, number, from_s, until_s, work)
    return work


@seldom
def _drive(
    s: Instances, points: Records, b: Book, log: Log, at_s: Floats, prompt: Ints, output: Ints, cached: Ints,
    high: NDArray[np.bool_], number: int, from_s: float, until_s: float, work: Records,
) -> None:  # fmt: skip
    for k in range(len(at_s)):
        push(s, 0, high[k], at_s[k], prompt[k], output[k], cached[k], number + k)
    serve(s, points, b, log, 0, from_s, until_s, work)
