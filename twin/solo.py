"""One instance alone, for profiles and tables of configurations: the engine with one priority, an endless queue, nothing
cached and a clock that stays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.batching.book import book
from twin.batching.drive import drive
from twin.batching.state import instances, log
from twin.points import DECODE, PREFILL, Point, relative_power, relative_time, table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AT_ONCE_S = 3600.0
"""seconds for which the engine is called"""


class Arrivals(NamedTuple):
    """Requests of one instance in order of arrival; [n] each."""

    at_s: Floats
    prompt: Ints
    output: Ints


class Served(NamedTuple):
    """What became of them. A request that can never fit has infinite times."""

    first_s: Floats
    """the first token's time [n]"""
    end_s: Floats
    energy_j: float
    """of one GPU, from the first arrival to the last end"""
    prefill_s: float
    """busy in prefill"""
    decode_s: float
    batch: float
    """running requests, mean over busy time"""
    span_s: float
    """from the first arrival to the last end"""


def serve(point: Point, arrivals: Arrivals, mhz: float) -> Served:
    """Serve all arrivals to the end. ValueError when they are out of order."""
    count = len(arrivals.at_s)
    if np.any(np.diff(arrivals.at_s) < 0):
        raise ValueError("arrivals are out of order")
    if count == 0:
        return Served(np.zeros(0), np.zeros(0), 0.0, 0.0, 0.0, 0.0, 0.0)
    points = table([point])
    begin_s = float(arrivals.at_s[0])
    s, ended = instances(1, point.batch_limit, count, begin_s), log(count)
    s.inst["prefill_slow"] = relative_time(points[0], mhz, PREFILL)
    s.inst["decode_slow"] = relative_time(points[0], mhz, DECODE)
    record = book(np.full((1, 2), np.inf), (255, 1023), (99, 349))
    nothing, low = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_)
    busy = np.zeros(3)  # prefill, decode, load
    at_s, given = begin_s, 0
    while ended.total[0] < count:
        until_s = at_s + AT_ONCE_S
        more = int(np.searchsorted(arrivals.at_s, until_s))
        part = slice(given, more)
        prompt, output = arrivals.prompt[part], arrivals.output[part]
        work = drive(
            s, points, record, ended, arrivals.at_s[part], prompt, output, nothing[part], low[part], given, at_s, until_s
        )
        busy += [work["prefill_s"].sum(), work["decode_s"].sum(), work["load_s"].sum()]
        at_s, given = until_s, more
    rows = ended.rows[np.argsort(ended.rows["number"])]
    fitted = np.isfinite(rows["first_s"])
    span_s = float(rows["end_s"].max() - begin_s)
    prefill_s, decode_s, load_s = busy.tolist()
    busy_j = point.prefill_w * prefill_s + point.decode_base_w * decode_s + point.decode_span_w * load_s
    busy_s = prefill_s + decode_s
    return Served(
        first_s=np.where(fitted, rows["first_s"], np.inf),
        end_s=np.where(fitted, rows["end_s"], np.inf),
        energy_j=relative_power(points[0], mhz) * busy_j + point.loaded_w * max(0.0, span_s - prefill_s - decode_s),
        prefill_s=prefill_s,
        decode_s=decode_s,
        batch=float(s.inst["batch_s"][0]) / busy_s if busy_s else 0.0,
        span_s=span_s,
    )
