"""The reference against cases solved by hand, laws of queues and invariants; the contract against wrong engines."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.engine_contract import (
    LOADS,
    MARGIN_S,
    Case,
    Point,
    Times,
    cases,
    check_steady,
    compare,
    points,
    rate_per_s,
    statistics,
    steady,
    times,
)
from tests.twin.reference import Record, Request, Result, simulate, steps

# A prefill of n tokens takes .5 + .01 n s, a decode of b requests .1 + .01 b s.
HAND = Point(0.5, 0.01, 0.0, 0.1, 0.01, 0.0, kv_blocks=1000, batch_limit=8, token_budget=100, chunked=False, queue_limit=100)
PLAIN = Point(0.0269, 5.8e-5, 1.5e-9, 0.0298, 2.0e-4, 1.8e-7, 4000, 32, 8192, chunked=False, queue_limit=1000)
MODERN = Point(0.0101, 4.1e-5, 1.1e-9, 0.0164, 9.1e-5, 1.1e-8, 9000, 96, 2048, chunked=True, queue_limit=1000)
both = pytest.mark.parametrize("chunked", [False, True])


def hand(**changes: Any) -> Point:
    return replace(HAND, **changes)


def lives(result: Result) -> list[tuple[float | None, float | None]]:
    """First and end of each request, to the nanosecond."""
    return [tuple(None if x is None else round(x, 9) for x in (r.first_s, r.end_s)) for r in result.records]  # type: ignore[misc]


@both
def test_one_request(chunked: bool) -> None:
    point = hand(chunked=chunked, p2=1e-4, d2=1e-3)
    result = simulate(point, [Request(2.0, 50, 3)])
    # Prefill .5 + .5 + .25; decodes with 51, then 52 tokens of context.
    assert lives(result) == [(3.25, 3.25 + 0.161 + 0.162)]
    assert [i.kind for i in result.iterations] == ["prefill", "decode", "decode"]
    assert [i.blocks for i in result.iterations] == [4, 4, 4]


def test_the_only_token_comes_with_the_prefill() -> None:
    assert lives(simulate(HAND, [Request(0.0, 50, 1)])) == [(1.0, 1.0)]


def test_a_prompt_interrupts_decoding_where_prefill_goes_first() -> None:
    result = simulate(HAND, [Request(0.0, 50, 4), Request(1.05, 20, 2)])
    # 0 A 1.0 a 1.11 B 1.81 ab 1.93 a 2.04
    assert lives(result) == [(1.0, 2.04), (1.81, 1.93)]
    assert [(i.kind, i.batch, i.chunk, i.running) for i in result.iterations] == [
        ("prefill", 0, 50, 1),
        ("decode", 1, 0, 1),
        ("prefill", 0, 20, 2),
        ("decode", 2, 0, 2),
        ("decode", 1, 0, 1),
    ]


def test_a_prompt_goes_beside_decoding_where_it_is_chunked() -> None:
    result = simulate(hand(chunked=True), [Request(0.0, 50, 4), Request(1.05, 20, 2)])
    # 0 A 1.0 a 1.11 a+B (.11 + .2) 1.42 ab 1.54
    assert lives(result) == [(1.0, 1.54), (1.42, 1.54)]
    assert [i.kind for i in result.iterations] == ["prefill", "decode", "mixed", "decode"]


def test_a_prompt_spread_over_three_iterations_pays_for_what_it_looks_back_at() -> None:
    result = simulate(hand(chunked=True, token_budget=40, p2=1e-4), [Request(0.0, 100, 1)])
    # 40, 40 and 20 tokens: 40^2, 80^2 - 40^2, 100^2 - 80^2
    assert [i.chunk for i in result.iterations] == [40, 40, 20]
    assert [round(i.end_s - i.start_s, 9) for i in result.iterations] == [1.06, 1.38, 1.06]
    assert lives(result) == [(3.5, 3.5)]


def test_decoding_requests_take_their_tokens_from_the_budget_first() -> None:
    result = simulate(hand(chunked=True, token_budget=40), [Request(0.0, 10, 10), Request(0.3, 100, 1)])
    assert [(i.batch, i.chunk) for i in result.iterations][:5] == [(0, 10), (1, 39), (1, 39), (1, 22), (1, 0)]
    # .6, then .11 + .39 twice, then .11 + .22
    assert lives(result)[1] == (1.93, 1.93)


def test_prompts_share_a_budget_in_order_of_admission() -> None:
    result = simulate(hand(chunked=True, token_budget=40), [Request(0.0, 30, 2), Request(0.0, 30, 1)])
    assert lives(result) == [(0.9, 1.21), (1.21, 1.21)]  # 30 + 10 tokens, then a decode beside 20


def test_whole_prompts_go_together_up_to_the_budget_and_one_in_any_case() -> None:
    prompts = [150, 60, 40, 1]
    result = simulate(HAND, [Request(0.0, n, 1) for n in prompts])
    assert [i.chunk for i in result.iterations] == [150, 100, 1]
    assert [first for first, _ in lives(result)] == [2.0, 3.5, 3.5, 4.01]


@both
@pytest.mark.parametrize(("priorities", "victim"), [((0, 0), 1), ((0, 1), 1), ((1, 0), 0)])
def test_preempted_requests_compute_all_again(chunked: bool, priorities: tuple[int, int], victim: int) -> None:
    requests = [Request(0.0, 16, 40, cached=4, priority=p) for p in priorities]
    result = simulate(hand(chunked=chunked, kv_blocks=4), requests)
    # Together: prefill of 24 tokens (.74), 15 decodes of .12 until both have 32 tokens, for the 33rd of both there is no
    # room. One makes its last 24 tokens alone; the other computes 32 (.82), which gives its 17th, and 23 more.
    alone = 0.74 + 15 * 0.12 + 24 * 0.11
    again = alone + 0.82 + 23 * 0.11
    expected = [(0.74, round(alone, 9)), (0.74, round(again, 9))]
    assert lives(result) == (expected if victim == 1 else expected[::-1])
    assert [r.preemptions for r in result.records] == [int(victim == 0), int(victim == 1)]
    assert max(i.blocks for i in result.iterations) == 4


def test_a_preempted_request_goes_before_those_that_wait() -> None:
    waits = Request(1.0, 16, 1)
    result = simulate(hand(kv_blocks=4), [Request(0.0, 16, 40), Request(0.0, 16, 40), waits])
    back = result.records[1]
    assert back.preemptions == 1
    # Its 32 tokens and the 16 of the other go into one prefill, but not into 4 blocks: 3 + 2.
    assert result.records[2].first_s is not None
    assert back.end_s is not None
    assert result.records[2].first_s > result.records[0].end_s  # type: ignore[operator]
    assert result.records[2].first_s == pytest.approx(back.end_s + 0.66)


def test_a_prompt_that_is_only_begun_can_be_preempted() -> None:
    point = hand(chunked=True, kv_blocks=6, token_budget=20)
    result = simulate(point, [Request(0.0, 15, 30), Request(0.0, 70, 1)])
    # A: 15 tokens, 1 block, its 18th token needs 2; B holds 5 from its admission on. First iteration: A 15, B 5.
    # A's first token .7; the 17th token does not fit: B goes back with 5 tokens done, before it makes any.
    assert [(i.batch, i.chunk, i.running) for i in result.iterations][:3] == [(0, 20, 2), (1, 0, 1), (1, 0, 1)]
    assert result.records[1].preemptions == 1
    assert result.records[1].admitted_s == 0.0
    # A ends after 29 decodes alone (B fits again only then), and B computes all 70: 20, 20, 20, 10.
    first_end = 0.7 + 29 * 0.11
    assert lives(result) == [(0.7, round(first_end, 9)), (round(first_end + 4 * 0.5 + 0.7, 9),) * 2]


def test_nobody_overtakes_a_head_that_does_not_fit() -> None:
    result = simulate(hand(kv_blocks=4), [Request(0.0, 30, 5), Request(0.1, 40, 1), Request(0.1, 5, 1)])
    # The third would fit beside the first (2 + 1 blocks), the second (3) does not.
    assert lives(result) == [(0.8, 1.24), (2.19, 2.19), (2.19, 2.19)]


@both
def test_one_more_than_the_queue_holds_is_rejected(chunked: bool) -> None:
    point = hand(chunked=chunked, queue_limit=1, batch_limit=1)
    requests = [Request(0.0, 50, 1), Request(0.1, 50, 1), Request(0.2, 50, 1), Request(1.1, 50, 1), Request(1.2, 50, 1)]
    result = simulate(point, requests)
    assert [r.rejected for r in result.records] == [False, False, True, False, True]
    assert lives(result) == [(1.0, 1.0), (2.0, 2.0), (None, None), (3.0, 3.0), (None, None)]


@both
def test_those_that_come_at_once_meet_in_the_queue_and_the_oversized_is_rejected(chunked: bool) -> None:
    result = simulate(hand(chunked=chunked, queue_limit=1), [Request(0.0, 50, 1), Request(0.0, 50, 1)])
    assert [r.rejected for r in result.records] == [False, True]
    result = simulate(hand(chunked=chunked, kv_blocks=4), [Request(0.0, 50, 15), Request(0.0, 50, 14), Request(9.0, 60, 5)])
    assert [r.rejected for r in result.records] == [True, False, True]
    assert simulate(hand(chunked=chunked, kv_blocks=4), [Request(0.0, 50, 15)]).iterations == []


@both
def test_high_priority_goes_to_the_front_of_the_queue_but_stops_nobody(chunked: bool) -> None:
    low, high = 1, 0
    requests = [Request(at, 50, 1, priority=p) for at, p in ((0.0, low), (0.1, low), (0.2, high), (0.3, high))]
    assert lives(simulate(hand(chunked=chunked, batch_limit=1), requests)) == [(1.0,) * 2, (4.0,) * 2, (2.0,) * 2, (3.0,) * 2]


@pytest.mark.parametrize(("chunked", "squares"), [(False, 20**2), (True, 50**2 - 30**2)])
def test_cached_tokens_are_not_computed_but_looked_back_at_and_held(chunked: bool, squares: int) -> None:
    result = simulate(hand(chunked=chunked, p2=1e-4), [Request(0.0, 50, 1, cached=30)])
    assert lives(result) == [(round(0.7 + 1e-4 * squares, 9),) * 2]
    assert (result.iterations[0].chunk, result.iterations[0].blocks) == (20, 4)


def test_an_iteration_keeps_the_clock_it_began_with() -> None:
    factors = {1980.0: (1.0, 1.0), 800.0: (3.0, 2.0)}
    clock = steps([(0.0, 1980.0), (0.5, 800.0), (1.2, 1980.0)])
    assert [clock(t) for t in (-1.0, 0.0, 0.49, 0.5, 1.19, 1.2, 9.0)] == [1980.0] * 3 + [800.0] * 2 + [1980.0] * 2
    result = simulate(HAND, [Request(0.0, 50, 4)], clock=clock, relative=factors.__getitem__)
    assert [round(i.end_s, 9) for i in result.iterations] == [1.0, 1.22, 1.33, 1.44]
    requests = [Request(0.0, 50, 2), Request(0.1, 20, 1)]
    mixed = simulate(hand(chunked=True), requests, clock=clock, relative=factors.__getitem__)
    assert mixed.records[1].first_s == pytest.approx(1.0 + 2.0 * 0.11 + 3.0 * 0.2)


def test_busy_seconds_and_batch() -> None:
    result = simulate(hand(chunked=True), [Request(1.5, 50, 3), Request(2.0, 30, 1)], until_s=4.0)
    # 1.5 to 2.5 prefill, to 2.91 mixed (.11 + .3), to 3.02 decode
    assert result.prefill_s == pytest.approx([0.0, 0.5, 0.5 + 0.3, 0.0])
    assert result.decode_s == pytest.approx([0.0, 0.0, 0.11 + 0.09, 0.02])
    assert result.busy_s == pytest.approx(1.52)
    assert result.span_s == 4.0
    assert result.running_s == pytest.approx(1.0 + 2 * 0.41 + 0.11)
    assert result.batch_busy == pytest.approx(1.93 / 1.52)
    assert result.batch_all == pytest.approx(1.93 / 4.0)


def test_a_run_that_is_cut_short_knows_nothing_later() -> None:
    requests = [Request(0.0, 50, 3), Request(1.3, 50, 1), Request(1.4, 50, 1), Request(1.6, 50, 1)]
    result = simulate(hand(queue_limit=1), requests, until_s=1.5)
    assert lives(result) == [(1.0, 1.22)] + [(None, None)] * 3
    assert [r.rejected for r in result.records] == [False, False, False, False]  # the second runs, the third waits
    assert result.span_s == 1.5
    assert result.busy_s == pytest.approx(1.22 + 0.2)
    assert [r.rejected for r in simulate(hand(queue_limit=1), requests, until_s=1.65).records] == [False, False, False, True]
    with pytest.raises(ValueError, match="unfinished"):
        compare(result, times(result))


def test_bad_requests_are_named() -> None:
    for wrong in ((0, 1, 0, 0), (5, 0, 0, 0), (5, 1, 5, 0), (5, 1, -1, 0), (5, 1, 0, 2)):
        with pytest.raises(ValueError, match="no such request"):
            Request(0.0, *wrong)
    with pytest.raises(ValueError, match="order"):
        simulate(HAND, [Request(1.0, 5, 1), Request(0.0, 5, 1)])


@given(points(), st.integers(1, 3000), st.integers(2, 300))
@settings(max_examples=40, deadline=None)
def test_an_unloaded_instance_follows_the_formulas(point: Point, prompt: int, output: int) -> None:
    point = replace(point, kv_blocks=1000)
    result = simulate(point, [Request(100.0 * k, prompt, output) for k in range(2)])
    # Decodes see prompt + 1 to prompt + output - 1 tokens; squares of a prompt's chunks add up to the whole's.
    ttft = point.p0 + point.p1 * prompt + point.p2 * prompt**2
    if point.chunked:
        ttft += point.p0 * (math.ceil(prompt / point.token_budget) - 1)
    tbt = point.d0 + point.d1 + point.d2 * (prompt + output / 2)
    for record in result.records:
        assert record.first_s is not None
        assert record.end_s is not None
        assert record.first_s - record.request.arrival_s == pytest.approx(ttft, rel=1e-9)
        assert (record.end_s - record.first_s) / (output - 1) == pytest.approx(tbt, rel=1e-9)


@given(st.booleans().flatmap(lambda chunked: cases(chunked, oversized=True)))
@settings(max_examples=40, deadline=None)
def test_invariants(case: Case) -> None:
    point, result = case.point, case.run()
    done = [r for r in result.records if not r.rejected]
    log = result.iterations
    _check_tokens(result, done)
    for i in log:
        assert 1 <= i.running <= point.batch_limit
        assert 1 <= i.blocks <= point.kv_blocks
        assert i.batch + i.chunk > 0
        assert not point.chunked or i.batch + i.chunk <= max(point.token_budget, i.batch)
    # Work waits for nobody: an iteration begins when the last one ends, or when somebody comes.
    arrivals = {r.request.arrival_s for r in done}
    assert all(b.start_s == a.end_s or (b.start_s > a.end_s and b.start_s in arrivals) for a, b in pairwise(log))
    assert sum(i.end_s - i.start_s for i in log) == pytest.approx(result.busy_s, abs=1e-9)
    assert sum(result.prefill_s) + sum(result.decode_s) == pytest.approx(result.busy_s, abs=1e-9)
    assert all(0.0 <= p + d <= 1.0 + 1e-9 for p, d in zip(result.prefill_s, result.decode_s, strict=True))
    for priority in (0, 1):  # within a priority nobody is admitted before an older one
        admitted = [r.admitted_s for r in done if r.request.priority == priority]
        assert admitted == sorted(a for a in admitted if a is not None)


def _check_tokens(result: Result, done: list[Record]) -> None:
    """Tokens in = tokens out."""
    assert all(r.generated == (0 if r.rejected else r.request.output) for r in result.records)
    for r in done:
        assert r.admitted_s is not None
        assert r.first_s is not None
        assert r.end_s is not None
        assert r.request.arrival_s <= r.admitted_s < r.first_s <= r.end_s
    preemptions = sum(r.preemptions for r in done)
    computed, decoded = sum(i.chunk for i in result.iterations), sum(i.batch for i in result.iterations)
    asked = sum(r.request.prompt - r.request.cached for r in done)
    made = sum(r.request.output for r in done)
    if preemptions == 0:
        assert computed == asked
        assert decoded + len(done) == made  # the first token comes with the prefill
    assert computed >= asked
    assert made - len(done) - preemptions <= decoded <= made - len(done)


@pytest.mark.parametrize(("point", "seconds"), [(PLAIN, 1000.0), (MODERN, 300.0)])
def test_littles_law_on_a_long_run(point: Point, seconds: float) -> None:
    warm_s = 50.0
    requests = steady(point, 0.7, seconds, seed=6)
    result = simulate(point, requests)
    stays = [r.end_s - r.admitted_s for r in result.records if r.end_s is not None and r.admitted_s is not None]
    assert len(stays) == len(result.records)
    if not any(r.preemptions for r in result.records):
        assert sum(stays) == pytest.approx(result.running_s, rel=1e-9)
    # L = lambda W between warm-up and the last arrival; who is inside comes from the log, how long one stays from the records.
    inside = sum(i.running * max(0.0, min(i.end_s, seconds) - max(i.start_s, warm_s)) for i in result.iterations)
    arrived = sum(r.arrival_s >= warm_s for r in requests)
    assert inside / (seconds - warm_s) == pytest.approx(arrived / (seconds - warm_s) * np.mean(stays), rel=0.02)


def test_waiting_time_of_the_m_d_1_queue() -> None:
    """One request of one size at a time: Pollaczek and Khinchine's mean wait, rho S / 2 (1 - rho)."""
    random, service_s, rho = Random(3), 1.0, 0.6
    at, requests = 0.0, []
    for _ in range(25_000):
        at += random.expovariate(rho / service_s)
        requests.append(Request(at, 50, 1))
    result = simulate(hand(batch_limit=1, queue_limit=10_000), requests)
    wait = np.mean([r.first_s - r.request.arrival_s - service_s for r in result.records if r.first_s is not None])
    assert wait == pytest.approx(rho * service_s / (2.0 * (1.0 - rho)), rel=0.03)
    assert result.batch_all == pytest.approx(rho, rel=0.02)


def test_steady_loads_are_what_they_are_called() -> None:
    requests = steady(PLAIN, 0.5, 20_000.0, seed=1)
    assert len(requests) == pytest.approx(20_000.0 * rate_per_s(PLAIN, 0.5), rel=0.03)
    assert np.median([r.prompt for r in requests]) == pytest.approx(1020, rel=0.03)
    assert np.median([r.output for r in requests]) == pytest.approx(129, rel=0.04)
    gaps = np.diff([r.arrival_s for r in requests])
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.03)
    assert any(r.priority for r in steady(PLAIN, 0.5, 60.0, 1, low_share=0.5))


def test_steady_loads_differ_in_batch_and_stay_stable() -> None:
    for point in (PLAIN, MODERN):
        batches, waits = [], []
        for load in LOADS:
            requests = steady(point, load, 60.0, seed=2)
            result = simulate(point, requests)
            figures = statistics(times(result), requests, result.batch_busy, warm_s=20.0)
            batches.append(figures.batch)
            waits.append(figures.ttft_p99)
            check_steady(figures, figures)
        assert batches == sorted(batches)
        assert batches[-1] < 0.9 * point.batch_limit
        assert max(waits) < 60.0


@both
def test_the_cases_reach_what_they_are_for(chunked: bool) -> None:
    seen: Counter[str] = Counter()

    @given(cases(chunked))
    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    def look(case: Case) -> None:
        result = case.run()
        seen["preempted"] += any(r.preemptions for r in result.records)
        seen["rejected"] += any(r.rejected for r in result.records)
        seen["mixed"] += any(i.kind == "mixed" for i in result.iterations)
        seen["clock changed"] += any(at < result.span_s for at, _ in case.clock_steps[1:])
        seen["cached"] += any(r.cached for r in case.requests)
        seen["close"] += case.margin_s(result) <= MARGIN_S
        compare(result, times(result))

    look()
    assert seen.pop("close") <= 5
    assert (seen.pop("mixed") > 0) == chunked
    assert min(seen.values()) >= 6, seen


def _spoil(change: Callable[[Times], object]) -> tuple[Result, Times]:
    result = simulate(hand(queue_limit=1, batch_limit=1), [Request(0.0, 50, 2), Request(0.1, 50, 2), Request(0.2, 5, 1)])
    answer = times(result)
    change(answer)
    return result, answer


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("error", [2e-6, -2e-6, math.nan])
def test_the_comparison_finds_a_wrong_engine(column: int, error: float) -> None:
    compare(*_spoil(lambda t: t[column].__iadd__(5e-7)))
    with pytest.raises(AssertionError, match="1 of 3 requests differ, first request 1"):
        compare(*_spoil(lambda t: t[column].__setitem__(1, t[column][1] + error)))


def test_the_comparison_finds_a_rejected_request_that_was_served_and_a_missing_one() -> None:
    with pytest.raises(AssertionError, match="first request 2"):
        compare(*_spoil(lambda t: (t.first_s.__setitem__(2, 3.0), t.end_s.__setitem__(2, 3.0))[0]))
    result, answer = _spoil(lambda _: None)
    with pytest.raises(AssertionError, match="arrays"):
        compare(result, Times(*(x[:2] for x in answer)))


def test_steady_figures_out_of_bounds_are_named() -> None:
    requests = steady(PLAIN, 0.5, 60.0, seed=2)
    result = simulate(PLAIN, requests)
    right = statistics(times(result), requests, result.batch_busy)
    factors = {"ttft_mean": 1.021, "ttft_p99": 0.949, "tbt_mean": 0.979, "tbt_p99": 1.051, "batch": 1.051}
    for name, factor in factors.items():
        with pytest.raises(AssertionError, match=f"off by {name} [^,]*:"):
            check_steady(right, right._replace(**{name: getattr(right, name) * factor}))
        near = 1.0 + 0.9 * (factor - 1.0)
        check_steady(right, right._replace(**{name: getattr(right, name) * near}))
