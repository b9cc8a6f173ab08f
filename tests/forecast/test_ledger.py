"""The live record: what was issued meets its outcome once, and only where there is one."""

import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.forecasts import LEVELS
from contracts.ports import Batch
from forecast import ledger as module
from forecast.grids import restricted
from forecast.ledger import PATIENCE_S, Ledger
from forecast.tally import Score
from tests.forecast.synthetic import T0_S, daily

SIGMA = 1.0
Z = np.array([-2.3263, -1.6449, -0.6745, 0.0, 0.6745, 1.6449, 2.3263])
LEADS = np.array([300, 900, 3_600, 21_600, 86_400])


def white(days: float, series: int = 4, seed: int = 0) -> Batch:
    """Independent normal values of sigma 1 around 100: what a forecast of 100 is worth is known."""
    batch = daily(days, series=series)
    return replace(batch, values=100 + np.random.default_rng(seed).normal(0, SIGMA, batch.values.shape))


def bands(series: int, width: float = 1.0, leads: int = len(LEADS)) -> NDArray[np.float64]:
    return np.tile(100 + width * SIGMA * Z, (series, leads, 1))


def play(
    batch: Batch, first: int, *, width: float = 1.0, kinds: Sequence[str] | None = None, every_s: int = 300, late_s: int = 0
) -> tuple[Ledger, list[Score]]:
    """Issue at every column from `first` on and observe as the grid grows; return the ledger and the last rows."""
    ledger = Ledger()
    rows: list[Score] = []
    names = batch.names
    for column in range(first, len(batch.ts)):
        ledger, new = ledger.observed(restricted(batch, column))
        rows = new or rows
        for at in range(int(batch.ts[column]) + late_s, int(batch.ts[column]) + 300, every_s):
            ledger = ledger.issued(
                "inlet", names, kinds or ["smooth"] * len(names), "ridge", at, LEADS, LEVELS, bands(len(names), width)
            )
    return ledger, rows


def row(rows: Sequence[Score], horizon_s: int, kind: str = "smooth") -> Score:
    (one,) = [r for r in rows if r.horizon_s == horizon_s and r.kind == kind]
    return one


def test_the_figures_of_a_known_forecast_are_what_theory_says() -> None:
    """The truth's own quantiles: 90 % and 98 % covered; persistence and yesterday's value are sqrt(2) worse than the mean."""
    ledger, rows = play(white(3, series=6), 288)
    for horizon, points in ((300, 2 * 288 - 1), (900, 2 * 288 - 3), (3_600, 2 * 288 - 12), (86_400, 288)):
        one = row(ledger.scores("inlet", T0_S + 3 * 86_400), horizon)
        assert one.points == 6 * points
        assert one.mae == pytest.approx(0.798, rel=0.05)
        assert one.vs_persistence == pytest.approx(1 / np.sqrt(2), rel=0.05)
        assert one.vs_seasonal == pytest.approx(1 / np.sqrt(2), rel=0.05)
        assert one.coverage_90 == pytest.approx(0.90, abs=0.02)
        assert one.coverage_98 == pytest.approx(0.98, abs=0.01)
        assert one.below_99 == pytest.approx(0.99, abs=0.007)
        assert one.width_90 == pytest.approx(3.29, rel=0.001)
        assert one.pinball_99 == pytest.approx(0.0267, rel=0.15)  # sigma x density at the 99 % point
    assert {r.model for r in rows} == {"ridge"}
    assert all(r.champion for r in rows)


def test_bands_of_half_the_width_cover_less_and_it_is_seen() -> None:
    ledger, _ = play(white(2), 288, width=0.5)
    assert row(ledger.scores("inlet", T0_S + 2 * 86_400), 900).coverage_90 == pytest.approx(0.589, abs=0.03)


def test_an_outcome_counts_once_however_often_it_is_issued_and_looked_at() -> None:
    batch = white(2)
    each_minute, _ = play(batch, 400, every_s=60)
    each_step, _ = play(batch, 400)
    again, _ = each_minute.observed(batch)
    at = int(batch.ts[-1])
    assert each_minute.scores("inlet", at) == each_step.scores("inlet", at) == again.scores("inlet", at)
    assert again.compared == ()


def test_a_set_that_comes_too_late_after_its_step_is_not_taken_for_that_step() -> None:
    ledger, _ = play(white(1.5), 400, late_s=120)
    assert ledger.waiting == {}
    prompt, _ = play(white(1.5), 400, late_s=5)
    assert prompt.scores("inlet", T0_S + 129_600)


def test_gaps_never_count_and_late_outcomes_are_waited_for() -> None:
    batch = white(2, series=2)
    holed = batch.values.copy()
    holed[0, 500] = np.nan
    gap = replace(batch, values=holed)
    ledger = Ledger().issued("inlet", batch.names, ["smooth"] * 2, "ridge", int(batch.ts[499]), LEADS, LEVELS, bands(2))
    waits, _ = ledger.observed(restricted(gap, 500))
    assert waits.compared == ()
    late, _ = waits.observed(restricted(batch, 501))
    assert row(late.scores("inlet", int(batch.ts[501])), 300).points == 2
    never, _ = waits.observed(restricted(gap, 500 + PATIENCE_S // 300))
    assert row(never.scores("inlet", int(batch.ts[501])), 300).points == 1


def test_forecasts_without_an_opinion_do_not_count() -> None:
    batch = white(2, series=2)
    values = bands(2)
    values[1] = np.nan
    ledger = Ledger().issued("inlet", batch.names, ["smooth"] * 2, "ridge", int(batch.ts[499]), LEADS, LEVELS, values)
    ledger, _ = ledger.observed(batch)
    one = row(ledger.scores("inlet", int(batch.ts[-1])), 900)
    assert one.points == 1
    assert np.isfinite([one.mae, one.pinball_99, one.width_90]).all()


def test_the_worst_series_and_the_worst_day_are_named() -> None:
    batch = white(4)
    values = batch.values.copy()
    values[2, 288:] = 100 + 2.0 * (values[2, 288:] - 100)  # twice as restless as its bands
    values[:, 2 * 288 : 3 * 288] = 100 + 3.0 * (values[:, 2 * 288 : 3 * 288] - 100)  # a bad day
    ledger, _ = play(replace(batch, values=values), 288)
    one = row(ledger.scores("inlet", int(batch.ts[-1])), 900)
    assert one.worst_series == "s2"
    assert one.worst_below_99 is not None
    assert one.worst_below_99 < one.below_99 - 0.03
    assert one.worst_day == T0_S + 2 * 86_400
    assert one.worst_day_coverage_90 is not None
    assert one.worst_day_coverage_90 < 0.6


def test_kinds_models_and_challengers_have_rows_of_their_own() -> None:
    batch = white(2)
    ledger = Ledger()
    kinds, models = ["smooth", "bursty", "smooth", "bursty"], ["ridge", "blend", "ridge", "ridge"]
    at = int(batch.ts[499])
    ledger = ledger.issued("inlet", batch.names, kinds, models, at, LEADS, LEVELS, bands(4))
    ledger = ledger.issued("inlet", batch.names, kinds, "kalman", at, LEADS, LEVELS, bands(4), champion=False)
    ledger, rows = ledger.observed(batch)
    found = {(r.kind, r.model, r.champion): r.points for r in rows if r.horizon_s == 900}
    assert found == {
        ("bursty", "blend", True): 1,
        ("bursty", "ridge", True): 1,
        ("smooth", "ridge", True): 2,
        ("bursty", "kalman", False): 2,
        ("smooth", "kalman", False): 2,
    }


def test_series_that_come_and_go_keep_their_record() -> None:
    batch = white(3, series=5)
    four = replace(batch, names=batch.names[:4], values=batch.values[:4])
    ledger, _ = play(restricted(four, 600), 300)
    turned = tuple(reversed(batch.names[1:]))
    ledger = ledger.issued("inlet", turned, ["smooth"] * 4, "ridge", int(batch.ts[601]), LEADS, LEVELS, bands(4))
    ledger, _ = ledger.observed(batch)
    (tally,) = [t for key, t in ledger.tallies.items() if key[2] == 300]
    counted = dict(zip(tally.names, tally.counts[:, :, 0].sum(axis=0).tolist(), strict=True))
    assert counted == {"s0": 301, "s1": 302, "s2": 302, "s3": 302, "s4": 1}


def test_what_is_older_than_the_trailing_days_falls_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DAYS", 2)
    batch = white(4, series=1)
    ledger, _ = play(batch, 288)
    at = int(batch.ts[-1])  # midnight: the last outcome is of a new day
    assert row(ledger.scores("inlet", at), 300).points == 288 + 1
    assert row(ledger.scores("inlet", at), 86_400).points == 2 * 288
    assert ledger.scores("inlet", at + 30 * 86_400) == []


def test_it_survives_pickling_and_gives_rows_once_an_hour() -> None:
    batch = white(1.5)
    ledger, _ = play(restricted(batch, 400), 300)
    again: Ledger = pickle.loads(pickle.dumps(ledger))  # noqa: S301 - our own bytes
    one, rows = again.observed(restricted(batch, 420))
    other, same = ledger.observed(restricted(batch, 420))
    assert rows == same != []
    assert one.scores("inlet", int(batch.ts[-1])) == other.scores("inlet", int(batch.ts[-1]))
    assert one.observed(restricted(batch, 421))[1] == []


def test_an_empty_batch_changes_nothing() -> None:
    batch = white(1.5)
    ledger, _ = play(batch, 400)
    after, rows = ledger.observed(replace(batch, ts=batch.ts[:0], values=batch.values[:, :0]))
    assert rows == []
    assert after.waiting == ledger.waiting


def test_levels_that_are_missing_are_said() -> None:
    with pytest.raises(InputError, match=r"the record needs"):
        Ledger().issued("inlet", ("a",), ["smooth"], "ridge", T0_S, LEADS, (0.5,), np.zeros((1, 5, 1)))
    with pytest.raises(InputError, match="a challenger is one model"):
        Ledger().issued("inlet", ("a",), ["smooth"], ["ridge"], T0_S, LEADS, LEVELS, bands(1), champion=False)


def test_a_large_class_keeps_beyond_an_hour_a_sample_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SERIES", 10)
    names = tuple(f"s{i:02}" for i in range(25))
    ledger = Ledger().issued("inlet", names, ["smooth"] * 25, "ridge", T0_S, LEADS, LEVELS, bands(25))
    ledger = ledger.issued("inlet", names, ["smooth"] * 25, "ridge", T0_S + 300, LEADS, LEVELS, bands(25))
    kept = {key[2]: [len(one.names) for one in sets] for key, sets in ledger.waiting.items()}
    assert kept == {300: [25, 25], 900: [25, 25], 3_600: [25, 25], 21_600: [9, 9], 86_400: [9, 9]}
    a, b = ledger.waiting["inlet", "", 86_400]
    assert a.names is b.names
    assert a.values.dtype == np.float32


def test_what_nobody_asks_for_does_not_pile_up() -> None:
    ledger = Ledger()
    for k in range(400):
        ledger = ledger.issued("inlet", ("a",), ["smooth"], "ridge", T0_S + 300 * k, LEADS, LEVELS, bands(1))
    assert len(ledger.waiting["inlet", "", 300]) <= (module.KEPT_S + 600) // 300
