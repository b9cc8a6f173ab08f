"""Drift: a doubling of the errors is told within hours, what is usual is not."""

import pickle
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from forecast.drift import QUIET_S, Drift
from forecast.tally import Compared
from tests.forecast.synthetic import T0_S

STEPS = 288


def moment(errors: NDArray[np.float64], ts: int, horizon_s: int = 900, *, champion: bool = True) -> Compared:
    """Outcomes of a forecast of 0: half of the series are smooth, half bursty."""
    n = len(errors)
    return Compared(
        target="load",
        horizon_s=horizon_s,
        step_s=300,
        champion=champion,
        ts=ts,
        names=tuple(f"s{i}" for i in range(n)),
        labels=(("bursty", "ridge"), ("smooth", "ridge")),
        code=(np.arange(n) % 2).astype(np.int16),
        values=np.zeros((n, 5)),
        actual=errors,
        persistence=np.zeros(n),
        seasonal=np.zeros(n),
    )


def play(errors: NDArray[np.float64], drift: Drift | None = None, since: int = 0, refit_steps: int = 12) -> Drift:
    """Tell [S, T] errors one moment after the other, with a refit every hour until there is an alarm."""
    drift = drift or Drift()
    for t in range(errors.shape[1]):
        ts = T0_S + 300 * (since + t)
        drift = drift.observed([moment(errors[:, t], ts)])
        if t % refit_steps == 0 and not drift.alarms:
            drift = drift.refitted("load", ts)
    return drift


def noise(days: float, series: int = 8, seed: int = 0) -> NDArray[np.float64]:
    """Errors of very different size, each series with its own."""
    size = np.logspace(-2, 3, series)[:, None]
    return size * np.random.default_rng(seed).normal(size=(series, int(days * STEPS)))


def test_a_doubling_of_one_kind_is_told_for_that_kind_within_two_hours() -> None:
    errors = noise(3.5)
    start = 3 * STEPS
    errors[0::2, start:] *= 2
    calm = play(errors[:, :start])
    assert calm.alarms == ()
    drift = play(errors[:, start : start + 24], calm, since=start)
    (alarm,) = drift.alarms
    assert (alarm.target, alarm.kind, alarm.horizon_s) == ("load", "bursty", 900)
    assert alarm.at_s - (T0_S + 300 * start) <= 7_200
    assert abs(alarm.since_s - (T0_S + 300 * start)) <= 3_600
    assert 1.5 < alarm.size < 2.5


def test_a_week_of_the_usual_raises_nothing() -> None:
    assert play(noise(7)).alarms == ()


def test_errors_that_are_twice_as_large_by_day_as_by_night_are_usual() -> None:
    errors = noise(6)
    hour = np.arange(errors.shape[1]) // 12 % 24
    drift = play(errors * np.where((hour >= 8) & (hour < 20), 2.0, 1.0))
    last = T0_S + errors.shape[1] * 300
    assert [a for a in drift.alarms if a.at_s > last - 3 * 86_400] == []


def test_a_single_jump_is_no_drift() -> None:
    errors = noise(4)
    errors[:, 3 * STEPS] *= 1_000
    assert play(errors).alarms == ()


def test_the_first_day_is_silent() -> None:
    errors = noise(0.9)
    errors[:, 100:] *= 5
    assert play(errors).alarms == ()


def test_a_refit_answers_the_alarm_and_the_new_level_becomes_usual() -> None:
    errors = noise(5)
    errors[:, 3 * STEPS :] *= 2
    drift, alarms = Drift(), 0
    for t in range(errors.shape[1]):
        ts = T0_S + 300 * t
        drift = drift.observed([moment(errors[:, t], ts)])
        alarms += len(drift.alarms)
        if drift.alarms or t % 12 == 0:
            drift = drift.refitted("load", ts)
        assert drift.alarms == ()
    assert 1 <= alarms <= 2, "once for each kind at most, and not again every hour"
    assert drift.quiet_until_s["load"] < T0_S + 300 * (3 * STEPS + 72) + QUIET_S


def test_challengers_other_horizons_gaps_and_constant_series_say_nothing() -> None:
    errors = noise(4)
    errors[3] = np.nan
    errors[5] = 0.0
    drift = Drift()
    for t in range(errors.shape[1]):
        ts = T0_S + 300 * t
        grown = errors[:, t] * (1 if t < 3 * STEPS else 10)
        drift = drift.observed([moment(grown, ts, champion=False), moment(grown, ts, 21_600), moment(errors[:, t], ts)])
        if t % 12 == 0:
            drift = drift.refitted("load", ts)
    assert drift.alarms == ()
    assert np.isfinite([watch.total for watch in drift.watches.values()]).all()
    assert np.isnan(drift.usual["load", 900].reference[3])


def test_series_may_come_and_go_and_change_places() -> None:
    errors = noise(3)
    before = play(errors)
    turned = replace(moment(errors[::-1, 0], T0_S + 86_400 * 3), names=tuple(f"s{i}" for i in range(7, -1, -1)))
    after = before.observed([turned]).usual["load", 900]
    np.testing.assert_allclose(after.reference[::-1], before.usual["load", 900].reference)
    fewer = replace(moment(errors[:2, 0], T0_S + 86_400 * 3), names=("s1", "new"))
    kept = before.observed([fewer]).usual["load", 900]
    assert kept.reference[0] == before.usual["load", 900].reference[1]
    assert np.isnan(kept.reference[1])


def test_it_survives_pickling() -> None:
    drift = play(noise(2))
    again: Drift = pickle.loads(pickle.dumps(drift))  # noqa: S301 - our own bytes
    assert again.watches.keys() == drift.watches.keys()
    new = moment(np.full(8, 5.0), T0_S + 2 * 86_400)
    assert again.observed([new]).alarms == drift.observed([new]).alarms
