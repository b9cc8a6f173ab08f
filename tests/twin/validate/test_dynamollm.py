"""DynamoLLM's tables: how a row is scored, and the rows that no constant was fitted to."""

import numpy as np
import pytest

from twin.validate.dynamollm import (
    STUDY,
    TABLE_I,
    TABLE_II,
    TABLE_III,
    Row,
    cells,
    energy_wh,
    neighbours,
    points,
    scaled,
    scored,
    scores,
)

ROW = TABLE_I[0]
SERVED = ~np.isnan(np.array(ROW.wh))


def test_the_published_energies_score_full() -> None:
    for row in (*TABLE_I, *TABLE_II, *(model.row for model in TABLE_III)):
        wh = np.array(row.wh)
        score = scored(row, np.nan_to_num(wh, nan=99.0), ~np.isnan(wh))
        assert score.ordered == score.pairs > 0
        assert score.same_feasibility == 12
        assert score.optimum_near


def test_energies_upside_down_score_nothing() -> None:
    upside_down = -np.nan_to_num(np.array(ROW.wh), nan=0.0)
    score = scored(ROW, upside_down, SERVED)
    assert score.ordered == 0
    assert not score.optimum_near
    assert scored(ROW, upside_down, ~SERVED).same_feasibility == 0


def test_pairs_closer_than_five_percent_do_not_count() -> None:
    level = ROW._replace(wh=(1.0,) * 11 + (1.04,))
    assert scored(level, np.ones(12), np.ones(12, dtype=np.bool_)).pairs == 0


def test_a_row_in_which_nothing_serves_has_no_optimum() -> None:
    score = scored(ROW, np.ones(12), np.zeros(12, dtype=np.bool_))
    assert not score.optimum_near
    assert score.optimum == "SS none / TP2 1.2"


def test_neighbours_are_one_clock_or_one_tp_away() -> None:
    assert set(neighbours(0)) == {1, 4}
    assert set(neighbours(6)) == {5, 7, 2, 10}
    assert set(neighbours(11)) == {10, 7}


def test_smaller_models_are_faster() -> None:
    ours = points(STUDY)[1]
    assert scaled(ours, TABLE_III[0]).decode_s(10, 1000) < ours.decode_s(10, 1000)
    assert scaled(ours, TABLE_III[-1]).prefill_s(1000) > ours.prefill_s(1000)


def test_the_rows_left_out_of_the_fit_agree() -> None:
    each = points(STUDY)
    served = {row.name: cells(row, each, STUDY, runs=30) for row in TABLE_II}
    found = scores(TABLE_II, served)
    assert sum(score.ordered for score in found) >= 0.9 * sum(score.pairs for score in found)
    assert sum(score.same_feasibility for score in found) >= 0.9 * 24
    assert all(energy_wh(cell) > 0 for cell in served["MM low"])


@pytest.mark.parametrize("row", [TABLE_I[0], TABLE_I[7]], ids=["SS", "LM"])
def test_a_fitted_row_agrees(row: Row) -> None:
    (score,) = scores((row,), {row.name: cells(row, points(STUDY), STUDY, runs=20)})
    assert score.ordered >= 0.9 * score.pairs
    assert score.optimum_near
