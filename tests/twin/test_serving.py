import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import calibration as c
from twin import serving

ONE = np.array([1.0])
FIRST, MEMBERS = np.array([0, 1]), np.array([0])


def serve_all(prompts: list[int], outputs: list[int], mhz: float, *, gap_s: float = 0.0, queue: int = 512, batch: int = 16):  # type: ignore[no-untyped-def]
    """Send requests to one instance and run it until all are gone (or 600 s)."""
    s, w, d = serving.instances(1, batch, queue, 0.0), serving.work(1), serving.done()
    at = np.arange(len(prompts), dtype=np.float64) * gap_s
    serving.route(s, w, d, at, np.zeros(len(at), dtype=np.int64), np.array(prompts), np.array(outputs), ONE, FIRST, MEMBERS)
    for second in range(1, 601):
        serving.serve(s, w, d, float(second), np.array([mhz]), 8192)
        assert s.waiting[0] >= 0
        assert 0 <= s.running[0] <= batch
        assert s.context[0] >= 0
    return s, w, d


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 60)), min_size=1, max_size=40),
    st.sampled_from([800.0, 1200.0, 1980.0]),
    st.floats(0, 0.5),
)
def test_tokens_and_requests_are_conserved(requests: list[tuple[int, int]], mhz: float, gap_s: float) -> None:
    prompts, outputs = [r[0] for r in requests], [r[1] for r in requests]
    s, w, d = serve_all(prompts, outputs, mhz, gap_s=gap_s)
    n = int(d.total[0])
    assert n == len(requests) == w.arrived[0] == w.finished[0]
    assert (w.prompt_tokens[0], w.output_tokens[0]) == (sum(prompts), sum(outputs))
    assert sorted(zip(d.prompt[:n].tolist(), d.output[:n].tolist(), strict=True)) == sorted(requests)
    assert (s.running[0], s.waiting[0], s.context[0]) == (0, 0, 0)
    assert (d.arrival_s[:n] < d.first_s[:n]).all()
    assert (d.first_s[:n] <= d.end_s[:n]).all()


def test_a_lone_request_takes_what_the_table_says() -> None:
    lat, prompt, output = c.H100_TP8_2023, 1000, 101
    _, _, d = serve_all([prompt], [output], c.MAX_MHZ)
    assert d.first_s[0] == pytest.approx(lat.p0 + lat.p1 * prompt + lat.p2 * prompt**2)
    steps = sum(lat.d0 + lat.d1 + lat.d2 * (prompt + k) for k in range(1, output))
    assert d.end_s[0] - d.first_s[0] == pytest.approx(steps)


@pytest.mark.parametrize(("mhz", "tbt", "ttft"), list(zip(c.CLOCK_MHZ, c.DECODE_TIME, c.PREFILL_TIME, strict=True)))
def test_a_lower_clock_is_as_slow_as_calibrated(mhz: float, tbt: float, ttft: float) -> None:
    _, _, fast = serve_all([2000], [200], c.MAX_MHZ)
    _, _, slow = serve_all([2000], [200], float(mhz))
    assert slow.first_s[0] / fast.first_s[0] == pytest.approx(ttft)
    assert (slow.end_s[0] - slow.first_s[0]) / (fast.end_s[0] - fast.first_s[0]) == pytest.approx(tbt)


def test_below_the_table_time_keeps_rising_without_a_jump() -> None:
    times = [serving.relative_time(mhz, c.DECODE_TIME, c.DECODE_BETA) for mhz in (800.0, 799.9, 600.0, 288.0)]
    assert times[0] == pytest.approx(times[1], rel=1e-3)
    assert times == sorted(times)


def test_a_halted_instance_serves_nothing_and_a_full_queue_rejects() -> None:
    s, w, d = serving.instances(1, 4, 3, 0.0), serving.work(1), serving.done()
    at, five = np.zeros(5), np.full(5, 10, dtype=np.int64)
    serving.route(s, w, d, at, np.zeros(5, dtype=np.int64), five, five, ONE, FIRST, MEMBERS)
    serving.serve(s, w, d, 10.0, np.array([0.0]), 8192)
    assert (w.arrived[0], w.rejected[0], w.finished[0], s.waiting[0]) == (5, 2, 0, 3)
    assert np.isnan(d.first_s[:2]).all()
    serving.serve(s, w, d, 20.0, np.array([1980.0]), 8192)
    assert w.finished[0] == 3
    assert (d.first_s[2:5] > 10.0).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda w: sum(w) > 0.01))
def test_weights_decide_the_shares(raw: list[float]) -> None:
    weights = np.array(raw) / sum(raw)
    count, n = len(raw), 1000
    s, w, d = serving.instances(count, 4, 2000, 0.0), serving.work(count), serving.done()
    ones, zeros = np.ones(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    serving.route(s, w, d, np.zeros(n), zeros, ones, ones, weights, np.array([0, count]), np.arange(count))
    assert w.arrived.sum() == n
    assert np.abs(w.arrived - n * weights).max() <= count
    assert (w.arrived[weights == 0.0] == 0).all()
