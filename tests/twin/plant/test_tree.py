import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.plant import tree

ROWS, UPSES = 5, 4
NOTHING = np.zeros(2 * ROWS, dtype=np.bool_), np.zeros(UPSES, dtype=np.bool_)
masks = st.lists(st.booleans(), min_size=2 * ROWS, max_size=2 * ROWS), st.lists(st.booleans(), min_size=UPSES, max_size=UPSES)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 4e5), min_size=ROWS, max_size=ROWS), *masks, st.integers(0, 2**32 - 1))
def test_power_is_conserved_whatever_is_lost_and_however_it_is_fed(
    row_w: list[float], pdu_lost: list[bool], ups_lost: list[bool], seed: int
) -> None:
    fed = np.random.default_rng(seed).random((2 * ROWS, UPSES)) < 0.6
    feeds = tree.pairs(ROWS, UPSES)._replace(pdu_upses=fed)
    lost = np.array(pdu_lost), np.array(ups_lost)
    d = tree.drawn(feeds, np.array(row_w), *lost)
    assert d.pdu_w.sum() + d.unfed_w.sum() == pytest.approx(sum(row_w), rel=1e-12, abs=1e-9)
    assert d.ups_w.sum() == pytest.approx(d.pdu_w.sum(), rel=1e-12, abs=1e-9)
    assert not d.pdu_w[lost[0]].any()
    assert not d.ups_w[lost[1]].any()
    by_row = d.pdu_w[feeds.row_pdus].sum(axis=1) + d.unfed_w
    np.testing.assert_allclose(by_row, row_w, rtol=1e-12, atol=1e-9)


def test_each_of_a_pair_carries_half_and_all_ups_the_same() -> None:
    d = tree.drawn(tree.pairs(ROWS, UPSES), np.full(ROWS, 200e3), *NOTHING)
    assert d.pdu_w.tolist() == [100e3] * 10
    assert d.ups_w.tolist() == [250e3] * 4


def test_the_other_of_a_pair_carries_the_whole_and_a_row_without_feed_is_dark() -> None:
    lost = NOTHING[0].copy()
    lost[[0, 2, 3]] = True
    d = tree.drawn(tree.pairs(ROWS, UPSES), np.full(ROWS, 200e3), lost, NOTHING[1])
    assert d.pdu_w[:4].tolist() == [0.0, 200e3, 0.0, 0.0]
    assert d.unfed_w.tolist() == [0.0, 200e3, 0.0, 0.0, 0.0]


def test_limits_hold_while_any_one_is_lost_and_are_reached() -> None:
    feeds, row_limit_w = tree.pairs(ROWS, UPSES), np.full(ROWS, 240e3)
    pdu_limit_w, ups_limit_w = tree.limits(feeds, row_limit_w)
    assert pdu_limit_w.tolist() == [240e3] * 10
    assert ups_limit_w.tolist() == pytest.approx([400e3] * 4)  # three of four carry 1.2 MW
    for k in range(UPSES):
        d = tree.drawn(feeds, row_limit_w, NOTHING[0], np.arange(UPSES) == k)
        assert (d.ups_w <= ups_limit_w * (1 + 1e-12)).all()
    two = tree.drawn(feeds, row_limit_w, NOTHING[0], np.array([True, True, False, False]))
    assert (two.ups_w[2:] > ups_limit_w[2:]).all()


def test_two_upses_in_two_feeds_must_each_carry_all() -> None:
    fed = np.tile(np.eye(2, dtype=np.bool_), (ROWS, 1))
    feeds = tree.pairs(ROWS, 2)._replace(pdu_upses=fed)
    assert tree.limits(feeds, np.full(ROWS, 100e3))[1].tolist() == [500e3, 500e3]
