"""Bad input through the whole of a refit and a tick: a reason instead of an exception, a NaN, or a believed lie."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.forecasts import Forecast
from contracts.ports import Batch
from forecast.batches import to_batch, utc
from forecast.inputs import clean
from forecast.produce import State, refit
from tests.forecast.synthetic import T0_S, at, daily, frame_of
from tests.forecast.ticking import tick

DAYS = 2
END_S = DAYS * 86_400
FEW = settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LEVEL = {"load": 20.0, "power": 20_000.0, "inlet": 24.0}


def past(target: str, series: int = 3, seed: int = 1) -> Batch:
    """Two days of an ordinary class."""
    level = LEVEL[target]
    return replace(daily(DAYS, series=series, target=target, level=level, noise=0.01 * level, seed=seed), lower=0.0)


def issued(
    *batches: Batch, fine: tuple[Batch, ...] = (), now: datetime | None = None
) -> tuple[dict[str, Forecast], dict[str, str]]:
    """Refit and tick: the champions by series, and why there is none."""
    moment = now or at(END_S)
    state = refit(State(), batches, moment)
    forecasts, after = tick(state, batches, fine, None, {}, moment, 1)
    for forecast in forecasts:
        values = np.array(forecast.values)
        assert np.isfinite(values).all()
        assert (np.diff(values, axis=1) >= 0).all()
    return {f.series: f for f in forecasts if f.champion and f.target != "headroom"}, dict(after.without)


def quantiles(forecast: Forecast) -> NDArray[np.float64]:
    return np.array(forecast.values)


def width(forecast: Forecast) -> float:
    """Of the 90 % band at 15 min."""
    row = forecast.values[4]
    return row[5] - row[1]


def changed(batch: Batch, row: int, columns: slice, values: float | NDArray[np.float64]) -> Batch:
    out = batch.values.copy()
    out[row, columns] = values
    return replace(batch, values=out)


def notes(forecast: Forecast, kind: str) -> list[str]:
    return [note for note in forecast.degradations if note.startswith(f"{kind}:")]


@cache
def ordinary(target: str) -> dict[str, Forecast]:
    """The champions of the class without anything wrong."""
    return issued(past(target))[0]


@pytest.fixture(scope="module")
def power() -> Batch:
    return past("power")


@pytest.fixture(scope="module")
def normal() -> dict[str, Forecast]:
    return ordinary("power")


def test_an_ordinary_class_is_left_as_it_is(power: Batch, normal: dict[str, Forecast]) -> None:
    given = clean(power)
    assert np.shares_memory(given.batch.values, power.values)
    assert given.notes == ((), (), ())
    assert all(f.degradations == ("coarse: no minute data",) for f in normal.values())


def test_1_nothing_at_all_is_a_reason() -> None:
    empty = to_batch(
        pl.DataFrame(schema={"ts": pl.Datetime, "series": pl.String, "value": pl.Float64}), "load", 300, at(900), at(0)
    )
    assert empty.names == ()
    assert issued(empty) == ({}, {"load": "no series is known"})
    hollow = replace(past("load"), ts=np.array([], dtype=np.int64), values=np.empty((3, 0)))
    forecasts, without = issued(hollow)
    assert forecasts == {}
    assert set(without) == {"load/s0", "load/s1", "load/s2"}


@pytest.mark.parametrize("alone", [True, False])
def test_2_a_constant_series_says_what_its_width_rests_on(power: Batch, alone: bool) -> None:
    batch = changed(power, 0, slice(None), 7_000.0)
    if alone:
        batch = replace(batch, names=("s0",), values=batch.values[:1])
    forecast = issued(batch)[0]["s0"]
    np.testing.assert_allclose(quantiles(forecast)[:, 3], 7_000.0, rtol=1e-3)
    assert notes(forecast, "constant")
    assert alone or width(forecast) > 0


def test_3_all_gaps_are_no_forecast_with_a_reason(power: Batch) -> None:
    forecasts, without = issued(replace(power, values=np.full_like(power.values, np.nan)))
    assert forecasts == {}
    assert without["power/s1"] == "nothing observed in the whole window"
    forecasts, without = issued(changed(power, 1, slice(None), np.nan))
    assert set(forecasts) == {"s0", "s2"}
    assert without["power/s1"] == "nothing observed ever"


def test_4_two_points_get_the_classes_band_or_a_reason(power: Batch) -> None:
    two = changed(power, 0, slice(None, -2), np.nan)
    forecast = issued(two)[0]["s0"]
    assert notes(forecast, "pooled")
    assert width(forecast) > 0
    forecasts, without = issued(replace(two, names=("s0",), ts=two.ts[-2:], values=two.values[:1, -2:]))
    assert forecasts == {}
    assert "too few past errors" in without["power/s0"]


def test_5_times_given_twice_are_averaged_and_named(power: Batch) -> None:
    frame = frame_of(power)
    again = frame.filter((pl.col("series") == "s0") & (pl.col("ts") > at(END_S - 3_600).replace(tzinfo=None)))
    batch = to_batch(pl.concat([frame, again.with_columns(pl.col("value") * 1.02)]), "power", 300, at(END_S), at(0))
    np.testing.assert_allclose(batch.values[0, -12:], power.values[0, -12:] * 1.01)
    forecasts, _ = issued(batch)
    assert notes(forecasts["s0"], "repeated")[0].startswith("repeated: 12 times given twice")
    assert notes(forecasts["s1"], "repeated") == []


def test_6_unsorted_times_are_put_in_order(power: Batch, normal: dict[str, Forecast]) -> None:
    shuffled = to_batch(frame_of(power).sample(fraction=1.0, shuffle=True, seed=5), "power", 300, at(END_S), at(0))
    order = np.random.default_rng(0).permutation(len(power.ts))
    mixed, _ = issued(replace(power, ts=power.ts[order], values=power.values[:, order]))
    sorted_, _ = issued(shuffled)
    for name in power.names:
        np.testing.assert_allclose(quantiles(mixed[name]), quantiles(normal[name]), rtol=1e-9)
        np.testing.assert_allclose(quantiles(sorted_[name]), quantiles(normal[name]), rtol=1e-6)
        assert "backwards" in notes(mixed[name], "times")[0]


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_7_infinite_readings_are_masked_and_leave_the_others_alone(
    power: Batch, normal: dict[str, Forecast], value: float
) -> None:
    forecasts, _ = issued(changed(power, 0, slice(-6, -2), value))
    assert notes(forecasts["s0"], "infinite") == ["infinite: 4 readings of the last day masked"]
    for name in ("s1", "s2"):
        np.testing.assert_allclose(quantiles(forecasts[name]), quantiles(normal[name]), rtol=0.02)


@pytest.mark.parametrize(
    ("target", "wrong"),
    [("power", 1e3), ("power", 1e-3), ("load", 1e3), ("inlet", "degF"), ("inlet", "K"), ("load", 200.0)],
)
def test_8_a_step_to_another_unit_is_held_apart(target: str, wrong: float | str) -> None:
    """The last half hour in other units; 200 times: the newest interval alone, a fifth of it in other units."""
    batch = past(target)
    newest = slice(-1, None) if wrong == 200.0 else slice(-6, None)
    tail = batch.values[0, newest]
    other = tail * 1.8 + 32 if wrong == "degF" else tail + 273.15 if wrong == "K" else tail * float(wrong)
    forecasts, _ = issued(changed(batch, 0, newest, other))
    assert notes(forecasts["s0"], "unit") or (wrong == "K" and notes(forecasts["s0"], "out of range"))
    np.testing.assert_allclose(quantiles(forecasts["s0"])[2, 3], batch.values[0, -1], rtol=0.1)
    assert width(forecasts["s0"]) > (1.0 if wrong == 200.0 else 1.15) * width(ordinary(target)["s0"])


def test_8_a_load_that_stays_at_its_new_level_is_followed_after_an_hour_and_a_sensor_is_not() -> None:
    for target, followed in (("load", True), ("power", False)):
        batch = past(target)
        stepped = changed(batch, 0, slice(-24, None), batch.values[0, -24:] * 1e-3)
        forecasts, _ = issued(stepped)
        median = quantiles(forecasts["s0"])[2, 3]
        expected = stepped.values[0, -1] if followed else batch.values[0, -1]
        np.testing.assert_allclose(median, expected, rtol=0.15)
        assert ("followed" in notes(forecasts["s0"], "unit")[0]) is followed


def test_8_a_wrong_unit_that_came_a_minute_ago_does_not_reach_the_forecast(power: Batch, normal: dict[str, Forecast]) -> None:
    ts = T0_S + END_S + 60 * np.arange(-59, 1, dtype=np.int64)
    values = np.repeat(power.values[:, -12:], 5, axis=1)
    values[0, -2:] *= 1e3
    minutes = Batch(target="power", step_s=60, ts=ts, names=power.names, values=values)
    forecasts, _ = issued(power, fine=(minutes,))
    np.testing.assert_allclose(quantiles(forecasts["s0"])[:, 3], quantiles(normal["s0"])[:, 3], rtol=0.05)
    assert notes(forecasts["s0"], "unit")


def test_9_local_times_with_their_offset_are_one_series_through_the_change_of_clocks() -> None:
    """26 October 2025, 01:00 UTC: Berlin's clocks go from 03:00 back to 02:00."""
    change = datetime(2025, 10, 26, 1, tzinfo=ZoneInfo("UTC"))
    times = [change + timedelta(minutes=5 * k) for k in range(-288, 289)]
    local = [t.astimezone(ZoneInfo("Europe/Berlin")) for t in times]
    values = 100.0 + np.arange(len(times))
    forms = {
        "utc": pl.Series([t.replace(tzinfo=None) for t in times]),
        "zone": pl.Series(times, dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone("Europe/Berlin"),
        "text": pl.Series([t.isoformat() for t in local]),
    }
    batches = {
        form: to_batch(pl.DataFrame({"ts": ts, "series": "a", "value": values}), "power", 300, times[-1], times[0])
        for form, ts in forms.items()
    }
    for batch in batches.values():
        np.testing.assert_array_equal(batch.values[0], values[1:])
        assert batch.notes == ()
    naive = pl.DataFrame({"ts": [t.replace(tzinfo=None) for t in local], "series": "a", "value": values})
    late = to_batch(naive, "power", 300, times[-1], times[0])
    assert late.notes[0][0].startswith("repeated: 12 times given twice")


def test_9_times_that_are_none_are_refused_in_one_line() -> None:
    np.testing.assert_array_equal(
        utc(pl.Series(["2026-07-15T14:00:00Z", "2026-07-15 16:00:00+02:00", "2026-07-15T14:00:00.000", None])).to_list()[:3],
        [datetime(2026, 7, 15, 14)] * 3,  # noqa: DTZ001
    )
    with pytest.raises(InputError, match="'yesterday' is no time"):
        utc(pl.Series(["2026-07-15T14:00:00Z", "yesterday"]))
    with pytest.raises(InputError, match="Float64 is no time"):
        utc(pl.Series([1.5]))


def test_10_a_clock_that_jumps_neither_fills_the_memory_nor_moves_the_rest(power: Batch, normal: dict[str, Forecast]) -> None:
    wild = power.ts.copy()
    wild[100], wild[101] = 0, T0_S * 3
    wild[200:212] += 3_600
    forecasts, _ = issued(replace(power, ts=wild))
    for name in power.names:
        (note,) = notes(forecasts[name], "times")
        assert "2 far from all others" in note
        assert "12 repeated" in note
        np.testing.assert_allclose(quantiles(forecasts[name])[:5, 3], quantiles(normal[name])[:5, 3], rtol=0.02)


@pytest.mark.parametrize("degrees", [False, True])
def test_11_a_stuck_sensor_is_named_and_grows_stale(degrees: bool) -> None:
    batch = replace(daily(2, series=8, level=24.0, noise=0.05, seed=3))
    moment = at(END_S - 6 * 3_600)  # 18:00: over the last 8 h the curve has fallen by 7 K
    values = np.round(batch.values) if degrees else batch.values
    cut = replace(batch, ts=batch.ts[:-72], values=values[:, :-72])
    dead = changed(cut, 2, slice(-96, None), cut.values[2, -97])
    sound = issued(cut, now=moment)[0]
    forecasts, _ = issued(dead, now=moment)
    stuck = forecasts["s2"]
    assert notes(stuck, "stuck")
    assert notes(stuck, "stale")
    assert stuck.data_until <= at(END_S - 14 * 3_600)
    assert width(stuck) > 1.5 * width(sound["s2"])
    assert [name for name, f in forecasts.items() if notes(f, "stuck")] == ["s2"]
    assert not any(notes(f, "stuck") for f in sound.values())


def test_11_what_is_stuck_for_hours_is_not_believed_by_the_minute() -> None:
    batch = replace(daily(2, series=4, level=24.0, noise=0.05, seed=3))
    dead = changed(batch, 2, slice(-60, None), batch.values[2, -61])
    ts = T0_S + END_S + 60 * np.arange(-59, 1, dtype=np.int64)
    minutes = Batch(target="inlet", step_s=60, ts=ts, names=batch.names, values=np.repeat(dead.values[:, -12:], 5, axis=1))
    forecast = issued(dead, fine=(minutes,))[0]["s2"]
    assert forecast.data_until == at(END_S - 300 * 60)
    assert len(notes(forecast, "stuck")) == 1


def test_11_a_sensor_of_whole_degrees_is_still_for_hours_in_quiet_nights() -> None:
    for seed in range(4):
        batch = daily(5, series=12, level=22.0, noise=0.02, seed=seed)
        assert clean(replace(batch, values=np.round(batch.values))).notes == ((),) * 12


def test_11_after_a_day_there_is_no_forecast_but_the_reason() -> None:
    batch = daily(DAYS + 1, series=4, level=24.0, noise=0.05)
    dead = changed(batch, 0, slice(-300, None), batch.values[0, -301])
    forecasts, without = issued(dead, now=at(END_S + 86_400))
    assert "s0" not in forecasts
    assert without["inlet/s0"].startswith("nothing observed since")
    assert "stuck: " in without["inlet/s0"]


def test_12_zeros_of_one_busy_service_among_others_are_a_hole_until_they_last() -> None:
    batch = past("load")
    normal = ordinary("load")["s0"]
    hole = issued(changed(batch, 0, slice(-10, -4), 0.0))[0]["s0"]
    np.testing.assert_allclose(quantiles(hole)[2, 3], quantiles(normal)[2, 3], rtol=0.05)
    assert notes(hole, "silent")
    fresh = issued(changed(batch, 0, slice(-2, None), 0.0))[0]["s0"]
    assert quantiles(fresh)[2, 3] > 10.0
    assert "held apart" in notes(fresh, "silent")[0]
    ended = issued(changed(batch, 0, slice(-12, None), 0.0))[0]["s0"]
    assert quantiles(ended)[2, 3] < 1.0
    assert notes(ended, "silent") == []


def test_12_a_gap_of_one_series_is_a_gap_and_named(power: Batch) -> None:
    forecasts, _ = issued(changed(power, 0, slice(-80, -20), np.nan))
    assert notes(forecasts["s0"], "gaps")
    assert not notes(forecasts["s1"], "gaps")


def test_readings_that_cannot_be_are_masked_by_capacity_and_by_nature(power: Batch) -> None:
    above = changed(power, 1, slice(-5, -2), 29_000.0)
    limited = replace(above, upper=np.array([np.inf, 28_000.0, np.inf]))
    forecast = issued(limited)[0]["s1"]
    assert notes(forecast, "out of range") == ["out of range: 3 readings, the newest 29000, not within 0 to 28000"]
    assert quantiles(forecast).max() <= 28_000.0
    assert notes(issued(above)[0]["s1"], "out of range") == []
    cold = clean(
        Batch(target="inlet", step_s=300, ts=at_steps(3), names=("a",), values=np.array([[-5.0, 20, 300]]), lower=-40.0)
    )
    np.testing.assert_array_equal(cold.batch.values, [[-5.0, 20.0, np.nan]])


def test_a_frost_is_no_gap() -> None:
    frame = pl.DataFrame({"ts": [at(300).replace(tzinfo=None)], "series": ["site"], "value": [-12.0]})
    for target, value in (("outside", -12.0), ("inlet", -12.0), ("power", np.nan)):
        np.testing.assert_array_equal(to_batch(frame, target, 300, at(300), at(0)).values, [[value]])


def at_steps(count: int) -> NDArray[np.int64]:
    return T0_S + 300 * np.arange(1, count + 1, dtype=np.int64)


@FEW
@given(order=st.permutations(range(3)))
def test_issued_quantiles_do_not_depend_on_the_order_of_the_series(
    power: Batch, normal: dict[str, Forecast], order: list[int]
) -> None:
    turned, _ = issued(replace(power, names=tuple(power.names[i] for i in order), values=power.values[order]))
    for name in power.names:
        np.testing.assert_allclose(quantiles(turned[name]), quantiles(normal[name]), rtol=1e-6)


@FEW
@given(factor=st.floats(min_value=0.01, max_value=1_000.0))
def test_issued_quantiles_scale_with_the_series(power: Batch, normal: dict[str, Forecast], factor: float) -> None:
    """Of everything but loads (regressed as log1p) and temperatures (which know what a degree is)."""
    scaled, _ = issued(replace(power, values=power.values * factor))
    for name in power.names:
        np.testing.assert_allclose(quantiles(scaled[name]), quantiles(normal[name]) * factor, rtol=1e-5)


@FEW
@given(columns=st.integers(min_value=1, max_value=500), dead=st.booleans())
def test_issued_quantiles_do_not_depend_on_what_was_never_observed(
    power: Batch, normal: dict[str, Forecast], columns: int, dead: bool
) -> None:
    values = np.concatenate([np.full((3, columns), np.nan), power.values], axis=1)
    ts = power.ts[0] + 300 * np.arange(-columns, len(power.ts), dtype=np.int64)
    names = power.names
    if dead:
        values, names = np.concatenate([np.full((1, values.shape[1]), np.nan), values]), ("dead", *names)
    padded, _ = issued(replace(power, ts=ts, names=names, values=values))
    assert set(padded) == set(power.names)
    for name in power.names:
        np.testing.assert_allclose(quantiles(padded[name]), quantiles(normal[name]), rtol=1e-6)
