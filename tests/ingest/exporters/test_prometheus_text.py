import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.exporters.prometheus_text import NOTHING, Scrape, base_of, increase, parse, quantile

TEXT = """\
# HELP other ignored
other{x="1"} 7
app:requests_total{model="a",reason="stop"} 10
app:requests_total{model="a",reason="length"} 5
app:requests_total{model="b",reason="stop"} 100
app:load NaN
app:wait_bucket{le="0.1",model="a"} 50
app:wait_bucket{le="0.2",model="a"} 90
app:wait_bucket{le="0.4",model="a"} 98
app:wait_bucket{le="+Inf",model="a"} 100
"""


def test_sums_over_labels_and_leaves_out_other_models_and_nan() -> None:
    everything, only_a = parse(TEXT, ("app:",)), parse(TEXT, ("app:",), {"model": "a"})
    assert (everything.total("app:requests_total"), only_a.total("app:requests_total")) == (115, 15)
    assert not everything.has("other")
    assert everything.total("app:load") is None


def test_a_line_that_is_no_sample_raises() -> None:
    with pytest.raises(ValueError, match="could not convert"):
        parse("app:load twelve\n", ("app:",))


@pytest.mark.parametrize(
    ("q", "wanted"),
    [(0.25, 0.05), (0.5, 0.1), (0.7, 0.15), (0.98, 0.4), (0.99, 0.4)],
)
def test_quantiles_are_linear_inside_a_bucket_and_end_at_the_last_bound(q: float, wanted: float) -> None:
    assert quantile(NOTHING, parse(TEXT, ("app:",)), "app:wait", q) == pytest.approx(wanted)


def test_a_quantile_describes_the_interval_only() -> None:
    before = parse(TEXT, ("app:",))
    after = parse(TEXT.replace('le="0.4",model="a"} 98', 'le="0.4",model="a"} 108').replace("} 100\n", "} 110\n"), ("app:",))
    assert quantile(before, after, "app:wait", 0.5) == pytest.approx(0.3)
    assert quantile(after, after, "app:wait", 0.5) is None


def test_a_restart_counts_from_zero() -> None:
    name = "app:requests_total"
    before, after = parse(f"{name} 100\n", ("app:",)), parse(f"{name} 30\n", ("app:",))
    assert increase(base_of(before, after, {name}), after, name) == 30
    assert increase(base_of(after, before, {name}), before, name) == 70


def test_a_restart_that_has_caught_up_is_seen_by_its_start_time() -> None:
    name, start = "app:requests_total", "process_start_time_seconds"
    before = parse(f"{name} 100\n{start} 1000\n", ("app:", start))
    after = parse(f"{name} 130\n{start} 2000\n", ("app:", start))
    assert increase(base_of(before, after, {name}), after, name) == 130


def test_a_falling_gauge_is_no_restart() -> None:
    before, after = (parse(f"app:a_total {a}\napp:open_count {b}\n", ("app:",)) for a, b in ((100, 9), (110, 2)))
    assert increase(base_of(before, after, {"app:a_total"}), after, "app:a_total") == 10


COUNTS = st.lists(st.integers(0, 50), min_size=2, max_size=6)


@given(COUNTS, st.floats(0.0, 1.0))
def test_a_quantile_lies_within_the_bounds_and_rises_with_q(counts: list[int], q: float) -> None:
    bounds = [str(0.1 * (i + 1)) for i in range(len(counts) - 1)] + ["+Inf"]
    cumulative = [sum(counts[: i + 1]) for i in range(len(counts))]
    scrape = Scrape(
        samples={("h_bucket", frozenset({("le", b)})): float(c) for b, c in zip(bounds, cumulative, strict=True)},
    )
    found, higher = quantile(NOTHING, scrape, "h", q), quantile(NOTHING, scrape, "h", min(1.0, q + 0.1))
    if sum(counts) == 0:
        assert found is None
    else:
        assert found is not None
        assert higher is not None
        assert 0 <= found <= higher <= 0.1 * (len(counts) - 1) + 1e-9
