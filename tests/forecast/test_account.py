"""The account: what was issued meets its outcome once, by whom, in which kind; a class whose errors grow is told."""

from dataclasses import replace

import numpy as np

from contracts.forecasts import LEVELS, Block, Target
from contracts.ports import Batch
from forecast.account import Account, entered, kinds_of, refitted, settled
from forecast.grids import Floats
from tests.forecast.synthetic import T0_S, at

STEP_S = 300
NAMES = ("a", "b", "c")
LEADS = np.array([60.0, 300.0, 900.0, 3_600.0])


def block(minute: int, values: Floats, *, model: str = "", target: Target = "inlet") -> Block:
    """`values` [S, H] with bands one unit wide to both sides."""
    spread = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    return Block(
        target=target,
        champion=not model,
        issued_at=at(minute * 60),
        lead_s=LEADS,
        levels=LEVELS,
        names=NAMES,
        ids=NAMES,
        values=values[:, :, None] + spread,
        data_until_s=np.zeros(3, dtype=np.int64),
        models=(model or "ridge",) * 3,
        notes=((),) * 3,
    )


def outcomes(steps: int, values: Floats) -> Batch:
    ts = T0_S + STEP_S * np.arange(1, steps + 1, dtype=np.int64)
    return Batch(target="inlet", step_s=STEP_S, ts=ts, names=NAMES, values=values[:, :steps])


def test_what_was_issued_is_scored_once_beside_its_challengers() -> None:
    truth = 20.0 + np.random.default_rng(3).normal(0, 1, (3, 80))
    account, rows = Account(), []
    for step in range(12, 60):
        ahead = np.minimum(step - 1 + (LEADS // STEP_S).astype(np.int64), 79)
        exact = truth[:, ahead]
        account = entered(account, [block(step * 5, exact), block(step * 5, exact + 5.0, model="kalman")], {})
        account, scores, _ = settled(account, outcomes(step, truth))
        rows += scores
        again, more, _ = settled(account, outcomes(step, truth))
        assert again is account
        assert more == []
    newest = {(row.model, row.horizon_s): row for row in rows}
    assert set(newest) == {(model, h) for model in ("champion", "kalman") for h in (300, 900, 3_600)}
    champion, kalman = newest["champion", 900], newest["kalman", 900]
    assert champion.mae < 1e-5
    assert abs(kalman.mae - 5.0) < 1e-5
    assert (champion.coverage_90, kalman.coverage_90) == (1.0, 0.0)
    assert champion.vs_persistence is not None
    assert champion.points == kalman.points
    assert champion.points <= 3 * 48
    assert (champion.champion, kalman.champion) == (True, False)


def test_what_has_no_outcome_of_its_own_is_not_entered() -> None:
    account = entered(Account(), [block(60, np.zeros((3, 4)), target="headroom")], {})
    assert account == Account()
    batch = outcomes(3, np.zeros((3, 3)))
    assert settled(account, replace(batch, target="outside"))[0] is account
    assert kinds_of(None, NAMES) == [""] * 3


def test_errors_that_double_raise_an_alarm_once_and_a_refit_answers_it() -> None:
    rng = np.random.default_rng(5)
    truth = 20.0 + rng.normal(0, 0.01, (3, 288 * 4))
    account, raised = Account(), []
    for step in range(12, 288 * 3):
        wrong = rng.normal(0, 1.0 if step < 288 * 2 else 3.0, (3, 4))
        account = entered(account, [block(step * 5, 20.0 + wrong)], {})
        account, _, alarms = settled(account, outcomes(step, truth))
        raised += alarms
        if step == 288 * 2 - 12:
            assert raised == []
            account = refitted(account, ("inlet",), T0_S + step * STEP_S)
    assert {alarm.target for alarm in raised} == {"inlet"}
    assert len({alarm.horizon_s for alarm in raised}) == len(raised)
    assert account.drift.alarms
    assert not refitted(account, ("inlet",), T0_S).drift.alarms
