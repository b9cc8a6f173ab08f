"""Sensors of whole degrees in one aisle: the level behind them, its forecast, and its course when cooling fails."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.drivers import OUTSIDE, POWER, driven
from forecast.models.shared import SharedFitted, SharedLevel
from forecast.sensors import learnt
from forecast.weather import Ahead
from tests.forecast.synthetic import T0_S

Floats = NDArray[np.float64]
DAYS, SERVERS = 6, 40
RNG = np.random.default_rng(5)
OFFSETS_K = RNG.normal(0.0, 1.0, SERVERS)


def swings(ts: NDArray[np.int64], phase: float = 0.0) -> Floats:
    """A level that moves by some tenths of a kelvin in 15 min."""
    day = 2 * np.pi * ts / 86_400
    return 25.0 + 3.0 * np.sin(day + phase) + 0.6 * np.sin(7.3 * day + 2 * phase) + 0.3 * np.sin(19.1 * day)


def readings(level: Floats) -> Floats:
    return np.rint(level[None] + OFFSETS_K[:, None])


def inlets(ts: NDArray[np.int64], values: Floats, groups: tuple[str, ...] = ()) -> Batch:
    names = tuple(f"s{i}" for i in range(len(values)))
    step_s = int(ts[1] - ts[0])
    return Batch(target="inlet", step_s=step_s, ts=ts, names=names, values=values, lower=-40.0, upper=80.0, groups=groups)


def history(groups: tuple[str, ...] = ()) -> Batch:
    ts = T0_S + 300 * np.arange(1, DAYS * 288 + 1, dtype=np.int64)
    return inlets(ts, readings(swings(ts)), groups)


@pytest.fixture(scope="module")
def fitted() -> SharedFitted:
    return SharedLevel().fit(history())


def test_the_level_is_found_to_a_twentieth_of_a_degree_from_sensors_of_whole_degrees() -> None:
    batch = history()
    sensors, _ = learnt(batch.values, [""] * SERVERS)
    assert (sensors.step == 1.0).all()
    found = sensors.levels(np.arange(SERVERS), batch.values, 1)[0]
    off = found - swings(batch.ts)
    assert np.abs(off - off.mean()).mean() < 0.05


def test_a_sensor_that_stands_far_off_does_not_move_the_level() -> None:
    batch = history()
    sensors, _ = learnt(batch.values, [""] * SERVERS)
    good = sensors.levels(np.arange(SERVERS), batch.values[:, -50:], 1)
    values = batch.values[:, -50:].copy()
    values[3] += 25.0
    assert np.abs(sensors.levels(np.arange(SERVERS), values, 1) - good).max() < 0.1


def test_what_will_be_read_is_forecast_better_than_by_the_last_reading(fitted: SharedFitted) -> None:
    ts = T0_S + 300 * np.arange(1, (DAYS + 1) * 288 + 1, dtype=np.int64)
    whole = readings(swings(ts))
    ours, naive = [], []
    for origin in range(DAYS * 288, (DAYS + 1) * 288 - 3, 5):
        path = fitted.predict(inlets(ts[:origin], whole[:, :origin]), 3)
        ours.append(np.abs(path[:, 2] - whole[:, origin + 2]).mean())
        naive.append(np.abs(whole[:, origin - 1] - whole[:, origin + 2]).mean())
    assert np.mean(ours) < 0.4 * np.mean(naive)


def test_each_aisle_has_a_level_of_its_own() -> None:
    groups = ("east",) * 20 + ("west",) * 20
    batch = history(groups)
    values = batch.values.copy()
    values[20:] = readings(swings(batch.ts, phase=2.0))[20:]
    model = SharedLevel().fit(replace(batch, values=values))
    assert model.groups == ("east", "west")
    levels = model.sensors.levels(np.arange(SERVERS), values, 2)
    for level, phase in zip(levels, (0.0, 2.0), strict=True):
        assert np.corrcoef(level, swings(batch.ts, phase))[0, 1] > 0.999


def test_groups_that_are_not_the_series_are_refused() -> None:
    with pytest.raises(ValueError, match="3 groups for 40 series"):
        SharedLevel().fit(history(("a", "b", "c")))


def minutes(rise: Floats) -> tuple[Batch, Batch, Floats]:
    """The 300 s grid and the minutes after it, in which the level stands but for `rise`; and the levels."""
    ts = T0_S + 300 * np.arange(1, DAYS * 288 + 1, dtype=np.int64)
    flat = swings(ts)
    end = len(ts) - 1
    fine_ts = ts[end] + 60 * np.arange(1, len(rise) + 1, dtype=np.int64)
    level = flat[end] + rise
    grid = inlets(ts, readings(flat))
    return grid, inlets(fine_ts, readings(level)), level


def at(fitted: SharedFitted, rise: Floats, minute: int, lead_min: int = 15) -> tuple[float, float, float]:
    """The forecast level of the aisle `lead_min` after `minute`, how far its own course is followed, and the level now."""
    grid, fine, level = minutes(rise)
    known = replace(fine, ts=fine.ts[:minute], values=fine.values[:, :minute])
    path, follow = fitted.fresh(grid, known, np.array([fine.ts[minute - 1] + 60 * lead_min]))
    return float((path[:, 0] - OFFSETS_K).mean()), float(follow.max()), float(level[minute - 1])


def test_a_lost_air_handler_is_followed_within_minutes_and_not_far_overshot(fitted: SharedFitted) -> None:
    since = np.maximum(np.arange(120) - 89.0, 0.0)
    rise = 4.0 * (1.0 - np.exp(-since / 1.5))
    _, calm, before = at(fitted, rise, 85)
    path, follow, _ = at(fitted, rise, 96)
    assert calm == 0.0
    assert follow > 0.9
    assert abs(path - (before + 4.0)) < 1.0


def test_a_ramp_is_carried_on(fitted: SharedFitted) -> None:
    path, follow, now = at(fitted, 0.6 * np.maximum(np.arange(120) - 89.0, 0.0), 98)
    assert follow > 0.9
    assert 2.0 < path - now < 9.0


def test_what_comes_back_does_not_go_beyond_where_it_was(fitted: SharedFitted) -> None:
    k = np.arange(120.0)
    rise = np.where(k < 100, 0.8 * np.maximum(k - 84.0, 0.0), np.maximum(12.8 - 1.2 * (k - 100), 0.0))
    path, follow, now = at(fitted, rise, 106)
    _, _, home = at(fitted, rise, 80)
    assert follow > 0.9
    assert home - 0.5 < path < now - 3.0


def test_minutes_that_are_missing_give_no_opinion(fitted: SharedFitted) -> None:
    grid, fine, _ = minutes(np.zeros(90))
    values = fine.values.copy()
    values[:, -2] = np.nan
    path, _ = fitted.fresh(grid, replace(fine, values=values), np.array([fine.ts[-1] + 900]))
    assert np.isnan(path).all()
    path, _ = fitted.fresh(grid, replace(fine, ts=fine.ts[:0], values=values[:, :0]), np.array([fine.ts[-1] + 900]))
    assert np.isnan(path).all()


def test_drivers_stand_beside_the_inlets_at_their_times() -> None:
    batch = history()
    later = replace(batch, target="outside", names=("site",), ts=batch.ts[10:], values=np.full((1, len(batch.ts) - 10), 40.0))
    rows = replace(batch, target="power", names=("r1", "r2"), values=np.full((2, len(batch.ts)), 1_500.0))
    weather = Ahead(values=np.array([20.0, 10.0]), sigma=np.array([0.1, 0.2]))
    out = driven(batch, outside=later, weather=weather, power=rows)
    assert np.isnan(out.covariates[OUTSIDE][:10]).all()
    assert out.covariates[OUTSIDE][10] == 29.0
    assert out.covariates[OUTSIDE][-2:].tolist() == [20.0, 15.0]
    assert (out.covariates[POWER] == 3.0).all()
    with pytest.raises(ValueError, match="outside: a grid of 60 s beside one of 300 s"):
        driven(batch, outside=replace(later, step_s=60))


def test_a_driver_whose_future_is_known_is_used_and_one_that_is_all_doubt_is_not() -> None:
    rng = np.random.default_rng(2)
    ts = T0_S + 300 * np.arange(1, DAYS * 288 + 1, dtype=np.int64)
    outside = 20.0 + np.cumsum(rng.normal(0.0, 0.2, len(ts) + 12))
    batch = inlets(ts, readings(0.8 * outside[:-12] + 10.0))
    batch = replace(batch, covariates={"outside_c": outside})
    sure = SharedLevel().fit(batch)
    unsure = SharedLevel().fit(replace(batch, covariate_errors={"outside_c": np.full(12, 50.0)}))
    assert 0.7 < sure.foreseen[2, -1] < 0.9
    assert abs(unsure.foreseen[2, -1]) < 0.05
