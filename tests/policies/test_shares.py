import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.shares import Instance, distance, quantised, water_fill

numbers = st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.0, 2.0)), min_size=1, max_size=40)


@settings(deadline=None, max_examples=40)
@given(numbers)
def test_filled_shares_sum_to_one_and_hold_their_ceilings(pairs: list[tuple[float, float]]) -> None:
    capacity, ceiling = (np.array(column) for column in zip(*pairs, strict=True))
    shares = water_fill(capacity, ceiling)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares >= 0).all()
    if ceiling.sum() > 1.0:
        assert (shares <= ceiling + 1e-9).all()


@settings(deadline=None, max_examples=40)
@given(numbers)
def test_whoever_is_not_full_stands_at_one_level(pairs: list[tuple[float, float]]) -> None:
    capacity, ceiling = (np.array(column) for column in zip(*pairs, strict=True))
    if ceiling.sum() <= 1.0:
        return
    shares = water_fill(capacity, ceiling)
    level = (shares / capacity)[shares < ceiling - 1e-9]
    assert np.ptp(level) <= 1e-9 * max(level.max(initial=1.0), 1.0) if len(level) else True


def test_a_full_instance_leaves_its_rest_to_the_others() -> None:
    assert water_fill(np.array([1.0, 1.0, 2.0]), np.array([0.1, 1.0, 1.0])).tolist() == pytest.approx([0.1, 0.3, 0.6])


def test_without_capacity_an_instance_gets_nothing() -> None:
    assert water_fill(np.array([0.0, 1.0]), np.array([1.0, 1.0])).tolist() == [0.0, 1.0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=30).filter(lambda xs: sum(xs) > 0.1))
def test_rounded_shares_sum_to_one(raw: list[float]) -> None:
    shares = quantised([Instance(node=f"n{i:02}", share=x) for i, x in enumerate(raw)])
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(0 < share <= 1 for share in shares.values())


def test_distance_is_the_part_of_requests_that_moves() -> None:
    assert distance({"a": 0.5, "b": 0.5}, {"a": 0.75, "c": 0.25}) == pytest.approx(0.5)
    assert distance({"a": 1.0}, {"a": 1.0}) == 0.0
