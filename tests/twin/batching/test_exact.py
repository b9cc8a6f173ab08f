"""The engine against the reference simulator, which was written from the definition alone and shares no code with it."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.twin import engine_contract as contract
from tests.twin.reference import Request, simulate
from twin.batching.book import book
from twin.batching.drive import drive
from twin.batching.state import Instances, instances, log
from twin.points import POINT


def record(point: contract.Point) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    points = np.zeros(1, POINT)
    for name in ("p0", "p1", "p2", "d0", "d1", "d2", "kv_blocks", "batch_limit", "token_budget", "chunked"):
        points[0][name] = getattr(point, name)
    points[0]["decode_half_batch"] = 100.0
    return points


def engine(
    point: contract.Point, requests: Sequence[Request], clock_steps: Sequence[tuple[float, float]], stride_s: int = 1
) -> tuple[contract.Times, Instances]:
    """Run one instance to the end, in strides at whose beginning the clock is set."""
    s = instances(1, point.batch_limit, point.queue_limit, 0.0)
    ended = log(len(requests))
    b = book(np.full((1, 2), np.inf), (255, 1023), (99, 349))
    arrival_s = np.array([r.arrival_s for r in requests])
    columns = [np.array([getattr(r, name) for r in requests]) for name in ("prompt", "output", "cached", "priority")]
    points, at = record(point), 0.0
    while ended.total[0] < len(requests):
        mhz = clock_steps[bisect_right([x for x, _ in clock_steps], at) - 1][1]
        prefill_slow, decode_slow = contract.RELATIVE[mhz]
        s.inst["prefill_slow"], s.inst["decode_slow"] = prefill_slow, decode_slow
        until = at + stride_s
        low, high = np.searchsorted(arrival_s, [at, until])
        prompt, output, cached, priority = (c[low:high] for c in columns)
        drive(s, points, b, ended, arrival_s[low:high], prompt, output, cached, priority == 0, int(low), at, until)
        at = until
    rows = ended.rows[np.argsort(ended.rows["number"])]
    end_s = np.where(np.isnan(rows["first_s"]), np.nan, rows["end_s"])
    return contract.Times(rows["arrival_s"], rows["first_s"], end_s), s


def check(case: contract.Case) -> None:
    expected = case.run()
    assume(case.margin_s(expected) > contract.MARGIN_S)
    times, s = engine(case.point, case.requests, case.clock_steps)
    contract.compare(expected, times)
    h = s.inst[0]
    assert h["arrived"] == len(case.requests) == h["finished"] + h["rejected"]
    assert h["decoding"] == h["fresh"] == h["waiting_low"] == h["waiting_high"] == h["coming"] == 0
    assert h["context"] == h["prompt_blocks"] == s.pool[2] == 0
    assert h["busy_s"] == pytest.approx(expected.busy_s, abs=1e-6)
    assert h["batch_s"] == pytest.approx(expected.running_s, abs=1e-5)


exhaustive = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@exhaustive
@given(contract.cases(chunked=True, oversized=True))
def test_chunked_prefill_is_the_references(case: contract.Case) -> None:
    check(case)


@exhaustive
@given(contract.cases(chunked=False, oversized=True))
def test_prefill_first_is_the_references(case: contract.Case) -> None:
    check(case)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("load", contract.LOADS)
def test_steady_loads_agree(load: float, chunked: bool) -> None:
    """Means within 2 %, p99 and batch within 5 % at four loads; strides of several seconds change nothing."""
    point = contract.Point(0.0216, 8.4e-5, 1e-9, 0.0289, 2.7e-4, 7.9e-8, 9000, 64, 2048, chunked, 1000)
    requests = contract.steady(point, load, 300.0, seed=1, low_share=0.3)
    expected = simulate(point, requests)
    for stride_s in (1, 5):
        times, s = engine(point, requests, [(0.0, 1980.0)], stride_s)
        batch = float(s.inst[0]["batch_s"] / s.inst[0]["busy_s"])
        got = contract.statistics(times, requests, batch)
        contract.check_steady(contract.statistics(contract.times(expected), requests, expected.batch_busy), got)
