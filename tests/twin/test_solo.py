"""The instance alone against the definition, and the bad input that it refuses."""

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from tests.twin.reference import Request, simulate
from twin.models import DECODE, PREFILL, Point, load, relative_time, table
from twin.solo import Arrivals, serve

OLD = load("llama2-70b-2023").point("llama2-70b", "h100", 2)
NEW = load("modern").point("llama3.1-70b", "h100", 4)
MHZ = 1150.0


def some(count: int, rps: float, seed: int) -> Arrivals:
    rng = np.random.default_rng(seed)
    at_s = np.cumsum(rng.exponential(1 / rps, count))
    return Arrivals(at_s, rng.integers(1, 3000, count), rng.integers(1, 300, count))


@pytest.mark.parametrize("point", [OLD, NEW], ids=["prefill first", "chunked"])
@pytest.mark.parametrize("kv_blocks", [300, 100_000], ids=["little memory", "memory"])
@pytest.mark.parametrize("batch_limit", [4, 128])
def test_every_request_ends_when_the_definition_says(point: Point, kv_blocks: int, batch_limit: int) -> None:
    point = msgspec.structs.replace(point, kv_blocks=kv_blocks, batch_limit=batch_limit)
    arrivals = some(120, 2.0, 5)
    served = serve(point, arrivals, MHZ)
    record = table([point])[0]
    fields = ("p0", "p1", "p2", "d0", "d1", "d2", "kv_blocks", "batch_limit", "token_budget", "chunked")
    plain = SimpleNamespace(**{name: getattr(point, name) for name in fields}, queue_limit=10**9)
    requests = [Request(float(at), int(prompt), int(output)) for at, prompt, output in zip(*arrivals, strict=True)]
    factors = (relative_time(record, MHZ, PREFILL), relative_time(record, MHZ, DECODE))
    result = simulate(plain, requests, relative=lambda _: factors)
    assert served.first_s == pytest.approx([each.first_s for each in result.records], abs=1e-9)
    assert served.end_s == pytest.approx([each.end_s for each in result.records], abs=1e-9)
    assert served.prefill_s + served.decode_s == pytest.approx(result.busy_s)
    assert kv_blocks > 300 or any(each.preemptions for each in result.records)


def test_what_can_never_fit_never_ends_and_holds_nobody_up() -> None:
    point = msgspec.structs.replace(OLD, kv_blocks=100)
    served = serve(point, Arrivals(np.array([0.0, 0.0, 9.0]), np.array([5000, 100, 100]), np.array([5, 5, 5])), MHZ)
    assert np.isinf(served.end_s).tolist() == [True, False, False]


def test_energy_is_waiting_prefill_and_decode() -> None:
    arrivals = Arrivals(np.array([0.0, 100.0]), np.array([1000, 1000]), np.array([11, 11]))
    served = serve(OLD, arrivals, 1980.0)
    waiting_s = served.span_s - served.prefill_s - served.decode_s
    expected = served.prefill_s * OLD.prefill_w + served.decode_s * OLD.decode_w(1) + waiting_s * OLD.loaded_w
    assert served.prefill_s == pytest.approx(2 * OLD.prefill_s(1000))
    assert served.batch == pytest.approx(1.0)
    assert served.energy_j == pytest.approx(expected)


def test_arrivals_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="out of order"):
        serve(OLD, Arrivals(np.array([1.0, 0.0]), np.array([1, 1]), np.array([1, 1])), MHZ)
