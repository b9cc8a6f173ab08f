"""The twin's benchmark measures what it says: its peer serves the same requests, its loop publishes and folds everything."""

import numpy as np
import pytest

from bench import twin as bench
from bench.beside import per_iteration
from bench.beside.empty_loop import EmptyLoop
from twin import models, solo
from twin.points import Point
from twin.resized import resized
from twin.warmup import plain_workload
from twin.world import World


@pytest.fixture(scope="module")
def point() -> Point:
    return models.load("modern").point("llama3.1-70b", "h100", 4)


@pytest.mark.parametrize("rps", [0.8, 8.0])
def test_the_peer_serves_as_the_twin_does(point: Point, rps: float) -> None:
    rng = np.random.default_rng(1)
    at_s = np.cumsum(rng.exponential(1 / rps, 60))
    prompt, output = rng.integers(1, 12_000, 60), rng.integers(1, 300, 60)
    each = [per_iteration.Request(*row) for row in zip(at_s.tolist(), prompt.tolist(), output.tolist(), strict=True)]
    per_iteration.serve(point, each)
    own = solo.serve(point, solo.Arrivals(at_s, prompt, output), point.clock_mhz[-1])
    assert [r.first_s for r in each] == pytest.approx(own.first_s, rel=1e-9)
    assert [r.end_s for r in each] == pytest.approx(own.end_s, rel=1e-9)


def test_the_peer_refuses_what_it_cannot_serve(point: Point) -> None:
    many = [per_iteration.Request(0.0, 8000, 8000) for _ in range(200)]
    with pytest.raises(ValueError, match="KV cache"):
        per_iteration.serve(point, many)


def test_a_short_run_begins_at_the_weeks_mean() -> None:
    workload = plain_workload()
    start = bench.week(workload, 60, servers=8).start
    minute = start.hour * 60 + start.minute
    assert np.interp(minute, workload.minute_of_week, workload.rate) == pytest.approx(workload.rate.mean(), rel=0.02)
    assert bench.week(workload, bench.WEEK_S).start.hour == 0


def test_the_empty_loop_publishes_and_folds_everything_and_acts_never() -> None:
    loop = EmptyLoop(World(resized("azure-week", servers=8), plain_workload(), 1))
    loop.advance(20)
    assert loop.counts["ticks"] == 4
    assert loop.counts["rejected"] == loop.counts["actions"] == 0
    assert loop.counts["records"] == sum(20 // period_s for name, period_s in loop.period_s.items() if name != "tick")
    view = loop.fold.view(loop.world.now, loop.world.now)
    assert view.gpu_power_w.sum() == pytest.approx(loop.world.state.gpu_w.sum(), rel=0.05)
    assert view.row_measured.all()
    assert sum(loop.cpu_s.values()) > 0


def test_rates_of_a_short_run_are_medians_and_of_a_long_one_totals() -> None:
    short = [{"simulated_s": 60.0, "cpu_s": cpu_s} for cpu_s in (1.0, 2.0, 60.0)]
    assert bench.rate(short, "simulated_s") == 30.0
    long = [{"simulated_s": 86_400.0, "cpu_s": cpu_s} for cpu_s in (1.0, 2.0)]
    assert bench.rate(long, "simulated_s") == 57_600.0
