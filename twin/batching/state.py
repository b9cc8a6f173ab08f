"""What instances hold: one record per instance, and one per request from its arrival to its end."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Records = NDArray[Any]
Record = Any
"""one of them, as kernels see it: with attributes"""

LOW, HIGH = 0, 1
"""priorities; also the position of a priority's queue"""
NOBODY = -1

INSTANCE = np.dtype(
    [
        ("at_s", np.float64),  # everything up to here has happened: the last boundary between iterations, or the end of a sleep
        ("end_s", np.float64),  # end of the iteration in progress
        ("seen_s", np.float64),  # up to here the iteration in progress has been accounted
        ("decode_part_s", np.float64),  # of the iteration in progress
        ("prefill_part_s", np.float64),
        ("soon_s", np.float64),  # the next arrival; inf = none is known
        ("decode_slow", np.float64),  # relative time at the clock in force; inf = halted
        ("prefill_slow", np.float64),
        ("iteration", np.int64),  # tokens that a request running all along would have
        ("context", np.int64),  # tokens held by the decoding requests
        ("point", np.int32),  # which operating point it runs
        ("endpoint", np.int32),
        ("busy", np.int32),  # 1 = an iteration is in progress
        ("blocked", np.int32),  # 1 = somebody has arrived and waits for room
        ("steps", np.int32),  # 1 = the decoding requests take part in it
        ("decoding", np.int32),
        ("fresh", np.int32),  # admitted, prompt not yet whole; the last of them may stay partial
        ("partial", np.int32),  # 1 = after this iteration the last of the fresh still misses prompt tokens
        ("fresh_first", np.int32),
        ("fresh_last", np.int32),
        ("prompt_blocks", np.int32),  # blocks of the fresh ones
        ("coming", np.int32),  # given to the instance, not yet arrived at a boundary
        ("first_coming", np.int32),
        ("last_coming", np.int32),
        ("waiting_low", np.int32),
        ("waiting_high", np.int32),
        ("first_low", np.int32),
        ("first_high", np.int32),
        ("last_low", np.int32),
        ("last_high", np.int32),
        ("batch_s", np.float64),  # integral of running requests over time; this and what follows counts up for ever
        ("busy_s", np.float64),
        ("arrived", np.int64),
        ("rejected", np.int64),
        ("finished", np.int64),
        ("preempted", np.int64),
        ("prompt_tokens", np.int64),  # of finished requests
        ("output_tokens", np.int64),
        ("computed_tokens", np.int64),  # prompt tokens that went through prefill, recomputed ones included
        ("made_tokens", np.int64),  # output tokens
    ],
    align=True,
)

REQUEST = np.dtype(
    [
        ("arrival_s", np.float64),
        ("first_s", np.float64),  # NaN = no token yet
        ("prompt", np.int32),
        ("output", np.int32),
        ("cached", np.int32),  # prompt tokens that a prefix cache holds
        ("made", np.int32),  # output tokens before this admission (after a preemption)
        ("todo", np.int32),  # prompt tokens still to compute
        ("done", np.int32),  # prompt tokens computed or cached
        ("next", np.int32),  # in its queue, among the fresh or among the free
        ("high", np.int32),
        ("number", np.int64),  # of the arrival, as given by the caller
    ],
    align=True,
)

WORK = np.dtype([("prefill_s", np.float64), ("decode_s", np.float64), ("load_s", np.float64)], align=True)
"""of one instance in one slice of 1 s: seconds in prefill, in decode, and the integral of b / (b + half) over decode"""

ENDED = np.dtype(
    [
        ("arrival_s", np.float64),
        ("first_s", np.float64),  # NaN = rejected
        ("end_s", np.float64),
        ("number", np.int64),
        ("instance", np.int32),
        ("endpoint", np.int32),
        ("prompt", np.int32),
        ("output", np.int32),
        ("cached", np.int32),
        ("ok", np.int32),  # within both objectives
    ],
    align=True,
)


class Instances(NamedTuple):
    """State of I instances with B places each. Times are seconds from the run's start."""

    inst: Records
    """[I] INSTANCE"""
    requests: Records
    """[N] REQUEST, everyone's; those let go last are taken first, so few of them are ever touched"""
    pool: Ints
    """[3] first free request, how many were ever taken, how many are in use"""
    due: Ints
    """[I, B] the decoding requests, who ends first last: iteration of the last token << 32 | request"""
    limit: Ints
    """[1] requests that may wait at an instance"""


class Log(NamedTuple):
    """Requests that ended; `total[0]` of them."""

    total: Ints
    """[1] how many ended; those beyond the room are not in `rows`"""
    rows: Records
    """[L] ENDED"""


COMING = 1 << 18
"""room for requests that are given to instances before they arrive"""


def instances(count: int, batch: int, queue: int, at_s: float) -> Instances:
    """Return `count` empty instances that stand at `at_s`, run operating point 0 and let `queue` requests wait."""
    inst = np.zeros(count, dtype=INSTANCE)
    inst["at_s"] = at_s
    inst["soon_s"] = np.inf
    inst["decode_slow"] = inst["prefill_slow"] = 1.0
    return Instances(
        inst=inst,
        requests=np.zeros(count * (batch + queue) + COMING, dtype=REQUEST),
        pool=np.array([NOBODY, 0, 0], dtype=np.int64),
        due=np.zeros((count, batch), dtype=np.int64),
        limit=np.array([queue], dtype=np.int64),
    )


def log(rows: int) -> Log:
    """Return an empty log with room for so many requests."""
    return Log(np.zeros(1, dtype=np.int64), np.zeros(rows, dtype=ENDED))


def grown(s: Instances, count: int, batch: int, at_s: float) -> Instances:
    """Return the state with room for `count` instances and `batch` places; the new ones are empty and stand at `at_s`."""
    old = len(s.inst)
    inst = np.zeros(count, dtype=INSTANCE)
    inst[:old] = s.inst
    inst["at_s"][old:] = at_s
    inst["soon_s"][old:] = np.inf
    inst["decode_slow"][old:] = inst["prefill_slow"][old:] = 1.0
    due = np.zeros((count, max(batch, s.due.shape[1])), dtype=np.int64)
    due[:old, : s.due.shape[1]] = s.due
    requests: Records = np.zeros(len(s.requests) + (count - old) * (batch + int(s.limit[0])), dtype=s.requests.dtype)
    requests[: len(s.requests)] = s.requests
    return s._replace(inst=inst, due=due, requests=requests)
