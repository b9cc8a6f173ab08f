import numpy as np

from bench.forecast_inlet import Case, Ticked, crossings, errors


def run() -> Ticked:
    """Two servers at 20 degC; at minute 60 the first warms by 1 K a minute to 30; the forecast knows it from minute 65 on."""
    minutes = np.full((2, 120), 20.0)
    minutes[0, 60:] = np.minimum(20.0 + np.arange(1, 61), 30.0)
    limit = np.array([28.0, 28.0])
    past, fault = np.full((2, 10), 20.0), (60, 90)
    case = Case(
        kind="ahu-lost",
        seed=1,
        begin_s=0,
        past=past,
        minutes=minutes,
        smooth=minutes,
        limit=limit,
        fault=fault,
        aisles=("aisle-0",) * 2,
        outside=np.zeros(34),
    )
    when = np.arange(40, 105)
    median = np.full((2, len(when)), 20.0)
    median[0, when >= 65] = 30.0
    return Ticked(case=case, minutes=when, median=median, highest_p99=median + 0.5, highest_median=median)


def test_a_crossing_is_foreseen_from_the_first_alarm_since_the_failure() -> None:
    done = run()
    found = crossings(done, done.highest_p99)
    assert (found.crossed, found.leads) == (1, [69.0 - 65.0])
    assert found.alarms == found.right == (done.minutes >= 65).sum()


def test_an_alarm_that_comes_after_the_crossing_is_a_miss() -> None:
    done = run()
    done.highest_p99[:, done.minutes < 75] = 0.0
    found = crossings(done, done.highest_p99)
    assert (found.crossed, found.leads) == (1, [])


def test_an_alarm_that_always_sounds_shows() -> None:
    done = run()
    done.highest_p99[:] = 99.0
    found = crossings(done, done.highest_p99)
    assert (found.crossed, found.leads) == (1, [9.0])
    assert found.alarms == 2 * len(done.minutes)
    assert found.right == (done.minutes > 69 - 30).sum()
    assert found.quiet == found.alarms - found.right


def test_errors_are_those_of_the_outcome_fifteen_minutes_later() -> None:
    done = run()
    ours, naive = errors(done, done.case.minutes, "normal")
    assert np.concatenate(ours).max() == 0
    assert len(ours[0]) == len([m for m in done.minutes if m + 15 <= 60])
    ours, naive = errors(done, done.case.minutes, "fault")
    late = [m for m in done.minutes if m + 15 > 60]
    assert ours[0][late.index(70)] == 0
    assert naive[0][late.index(70)] == 30 - (26 + 27 + 28 + 29 + 30) / 5


def test_a_quarter_of_an_hour_before_a_failure_and_its_repair_is_set_apart() -> None:
    done = run()
    ours, _ = errors(done, done.case.minutes, "undisturbed")
    kept = [m for m in done.minutes if m > 60 and (m > 90 or m + 15 <= 90)]
    assert len(ours[0]) == len(kept)
