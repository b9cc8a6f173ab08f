"""The service's core on a small site: two endpoints, six servers, two rows; four days of past, then minutes."""

import pickle
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.forecasts import ROW_POWER_LEVELS, UNITS, Forecast
from contracts.ports import Batch
from forecast.grids import recent
from forecast.plant import Plant, fit
from forecast.produce import CHALLENGER_S, HORIZONS_S, PATH_S, State, refit, refit_daily
from tests.factories import make_topology
from tests.forecast.synthetic import T0_S, at, walk
from tests.forecast.ticking import tick

DAYS = 4
TOPOLOGY = make_topology(servers_per_row=3)
SERVERS = tuple(s.name for s in TOPOLOGY.servers)
NAMES = {"load": ("chat", "code"), "power": ("row-0", "row-1")}
LIMITS = {"row-0": 26_000.0}
PAST = DAYS * 1_440


@dataclass(frozen=True)
class Site:
    """Everything by the minute [series, minutes]."""

    values: dict[str, NDArray[np.float64]]

    def batches(self, minute: int, *, targets: tuple[str, ...] = ("load", "inlet", "power", "gpu_power")) -> list[Batch]:
        """The 300 s grid until `minute`."""
        n = minute // 5
        ts = T0_S + 300 * np.arange(1, n + 1, dtype=np.int64)
        return [
            Batch(
                target=t,
                step_s=300,
                ts=ts,
                names=NAMES.get(t, SERVERS),
                values=v[:, : n * 5].reshape(len(v), n, 5).mean(axis=2),
            )
            for t, v in self.values.items()
            if t in targets
        ]

    def minutes(self, minute: int, count: int = 60) -> list[Batch]:
        """The newest minutes."""
        ts = T0_S + 60 * np.arange(minute - count + 1, minute + 1, dtype=np.int64)
        return [
            Batch(target=t, step_s=60, ts=ts, names=NAMES.get(t, SERVERS), values=v[:, minute - count : minute])
            for t, v in self.values.items()
        ]


def make_site() -> Site:
    rng = np.random.default_rng(11)
    minutes = PAST + 240
    hour = 2 * np.pi * (np.arange(minutes) % 1_440) / 1_440
    load = np.array([[6.0], [2.0]]) * np.exp(0.5 * np.sin(hour) + walk(rng, 2, minutes, 0.98, 0.01))
    inlet = 24 + 2 * np.sin(hour) + rng.normal(0, 0.5, (6, 1)) + walk(rng, 6, minutes, 0.98, 0.02)
    power = 20_000 * (1 + 0.15 * np.sin(hour)) + walk(rng, 2, minutes, 0.98, 60)
    gpu_power = 3_000 * (1 + 0.3 * np.sin(hour)) + walk(rng, 6, minutes, 0.95, 30)
    gpu_temp = 2.6 + 0.96 * inlet + 0.053 / 8 * gpu_power + 3.0
    return Site({"load": load, "inlet": inlet, "power": power, "gpu_power": gpu_power, "gpu_temp": gpu_temp})


@pytest.fixture(scope="module")
def site() -> Site:
    return make_site()


@pytest.fixture(scope="module")
def learnt(site: Site) -> State:
    return refit(State(), site.batches(PAST), now_at(PAST))


@pytest.fixture(scope="module")
def plant() -> Plant:
    bare = fit(TOPOLOGY, {})
    return Plant(msgspec.structs.replace(bare.state, errors={"gpu_c": 0.5}))


def now_at(minute: int) -> datetime:
    return at(minute * 60)


def run(site: Site, state: State, plant: Plant | None, minute: int, count: int = 60) -> tuple[list[Forecast], State]:
    coarse = [recent(b, 8 * 288) for b in site.batches(minute)]
    return tick(state, coarse, site.minutes(minute, count), plant, LIMITS, now_at(minute), minute)


def champion(forecasts: list[Forecast], target: str, series: str) -> Forecast:
    (found,) = [f for f in forecasts if f.champion and f.target == target and f.series == series]
    return found


def test_every_series_gets_a_champion_with_ordered_bands_and_its_provenance(site: Site, learnt: State, plant: Plant) -> None:
    forecasts, state = run(site, learnt, plant, PAST)
    expected = {("load", n) for n in NAMES["load"]} | {("power", n) for n in NAMES["power"]} | {("headroom", "row-0")}
    expected |= {(target, name) for name in SERVERS for target in ("inlet", "gpu_temp")}
    champions = [f for f in forecasts if f.champion]
    assert {(f.target, f.series) for f in champions} == expected
    assert len(champions) == len(expected)
    assert len({f.forecast_id for f in forecasts}) == len(forecasts)
    for f in forecasts:
        values = np.array(f.values)
        assert values.shape == (len(f.valid_at), len(f.levels))
        assert (np.diff(values, axis=1) >= 0).all()
        assert np.isfinite(values).all()
        assert f.valid_at[0] > f.issued_at >= f.data_until
        assert f.unit == UNITS[f.target]
    assert dict(state.without) == {"headroom/row-1": "no limit is known for it"}


def test_full_paths_and_challengers_come_every_quarter_of_an_hour(site: Site, learnt: State, plant: Plant) -> None:
    forecasts, state = run(site, learnt, plant, PAST)
    ahead = [(t - now_at(PAST)).total_seconds() for t in champion(forecasts, "load", "chat").valid_at]
    assert ahead == [float(s) for s in PATH_S]
    challengers = [f for f in forecasts if not f.champion and f.series == "chat"]
    spoke = {f.model for f in challengers} | {champion(forecasts, "load", "chat").model}
    assert spoke >= {"persistence", "seasonal_naive", "ridge", "autoreg", "kalman"}
    assert {(t - now_at(PAST)).total_seconds() for f in challengers for t in f.valid_at} == set(CHALLENGER_S)
    for minute in range(PAST + 1, PAST + 15):
        forecasts, state = run(site, state, plant, minute)
        assert all(f.champion for f in forecasts)
        assert len(champion(forecasts, "load", "chat").valid_at) == len(HORIZONS_S)
    forecasts, _ = run(site, state, plant, PAST + 15)
    assert len(champion(forecasts, "load", "chat").valid_at) == len(PATH_S)


def test_row_power_carries_the_breakers_level_and_headroom_mirrors_it(site: Site, learnt: State, plant: Plant) -> None:
    forecasts, _ = run(site, learnt, plant, PAST)
    power, headroom = champion(forecasts, "power", "row-0"), champion(forecasts, "headroom", "row-0")
    assert power.levels == ROW_POWER_LEVELS
    assert headroom.levels[0] == pytest.approx(0.001)
    np.testing.assert_allclose(np.array(headroom.values), LIMITS["row-0"] - np.array(power.values)[:, ::-1])


def test_gpu_temperature_starts_from_what_is_measured(site: Site, learnt: State, plant: Plant) -> None:
    forecasts, _ = run(site, learnt, plant, PAST)
    for s, name in enumerate(SERVERS):
        forecast = champion(forecasts, "gpu_temp", name)
        assert forecast.values[0][3] == pytest.approx(site.values["gpu_temp"][s, PAST - 5 : PAST].mean(), abs=0.5)
        assert forecast.valid_at[-1] - forecast.issued_at == timedelta(hours=24)
        assert forecast.model.startswith("plant/")


def test_bands_cover_the_minutes_that_follow(site: Site, learnt: State, plant: Plant) -> None:
    inside, state = [], learnt
    for minute in range(PAST, PAST + 180, 3):
        forecasts, state = run(site, state, plant, minute)
        for s, name in enumerate(SERVERS):
            row = champion(forecasts, "inlet", name).values[4]
            inside.append(row[1] <= site.values["inlet"][s, minute + 14] <= row[5])
    assert np.mean(inside) > 0.8


def test_a_jump_of_row_power_is_followed_within_two_minutes(learnt: State, plant: Plant) -> None:
    site = make_site()
    site.values["power"][0, PAST + 2 :] += 4_000
    state = learnt
    for minute in range(PAST, PAST + 5):
        forecasts, state = run(site, state, plant, minute)
    forecast = champion(forecasts, "power", "row-0")
    assert forecast.values[2][3] == pytest.approx(site.values["power"][0, PAST + 9], rel=0.05)
    assert any("shifted" in note for note in forecast.degradations)
    assert forecast.model.startswith("kalman+")
    assert champion(forecasts, "power", "row-1").degradations == ()


def test_a_lost_air_handler_is_seen_ahead_and_stays(learnt: State, plant: Plant) -> None:
    site = make_site()
    since = np.arange(240) - 2
    site.values["inlet"][:3, PAST:] += np.where(since > 0, 6 * (1 - np.exp(-since / 3.0)), 0.0)
    state, medians = learnt, {}
    for minute in range(PAST, PAST + 61):
        forecasts, state = run(site, state, plant, minute, count=min(60, minute - PAST + 1))
        medians[minute - PAST] = champion(forecasts, "inlet", SERVERS[0]).values[4][3]
    truth = site.values["inlet"][0]
    assert medians[5] > truth[PAST + 4] + 0.5, "the rise that is still to come"
    assert abs(medians[8] - truth[PAST + 22]) < 1.5
    assert abs(medians[60] - truth[PAST + 74]) < 1.0


def test_stale_and_gappy_input_widens_the_band_and_is_named(site: Site, learnt: State, plant: Plant) -> None:
    fresh, _ = run(site, learnt, plant, PAST)
    coarse = [replace(b, values=b.values.copy()) for b in site.batches(PAST)]
    coarse[1].values[0, -12:] = np.nan
    coarse[1].values[1, -200:-20:2] = np.nan
    fine = [b for b in site.minutes(PAST) if b.target != "inlet"]
    poor, _ = tick(learnt, coarse, fine, plant, LIMITS, now_at(PAST), 1)
    stale, gappy = champion(poor, "inlet", SERVERS[0]), champion(poor, "inlet", SERVERS[1])
    assert "stale: newest inlet is 60 min old" in stale.degradations
    assert stale.data_until == now_at(PAST) - timedelta(minutes=60)
    assert any(note.startswith("gaps: 3") for note in gappy.degradations)
    assert "coarse: no minute data" in gappy.degradations

    def width(forecasts: list[Forecast], name: str) -> float:
        row = champion(forecasts, "inlet", name).values[4]
        return row[5] - row[1]

    assert width(poor, SERVERS[0]) > 1.3 * width(fresh, SERVERS[0])
    assert width(poor, SERVERS[1]) > width(fresh, SERVERS[1])


def test_a_new_series_gets_the_classes_band_and_a_silent_one_a_reason(site: Site, learnt: State, plant: Plant) -> None:
    (load,) = site.batches(PAST, targets=("load",))
    new = replace(load, names=("new", "chat", "gone"), values=np.stack([load.values[1], load.values[0], load.values[0]]))
    new.values[0, :-3] = np.nan
    new.values[2] = np.nan
    forecasts, state = tick(learnt, [new], [], plant, LIMITS, now_at(PAST), 1)
    fresh = champion(forecasts, "load", "new")
    assert fresh.model == "persistence"
    assert any(note.startswith("pooled") for note in fresh.degradations)
    assert champion(forecasts, "load", "chat").model != "persistence"
    assert ("load/gone", "nothing observed ever") in state.without


def test_nothing_learnt_is_a_reason_and_no_error(site: Site, plant: Plant) -> None:
    forecasts, state = run(site, State(), plant, PAST)
    assert forecasts == []
    assert ("load/chat", "nothing learnt yet: refit first") in state.without
    young = refit(State(), [recent(b, 6) for b in site.batches(PAST)], now_at(PAST))
    forecasts, state = tick(
        young, [recent(b, 6) for b in site.batches(PAST, targets=("load",))], [], plant, {}, now_at(PAST), 1
    )
    assert forecasts == []
    assert all("too few past errors" in why for _, why in state.without)


def test_without_a_plant_the_rest_goes_on(site: Site, learnt: State) -> None:
    forecasts, state = run(site, learnt, None, PAST)
    assert {f.target for f in forecasts} == {"load", "inlet", "power", "headroom"}
    assert (f"gpu_temp/{SERVERS[0]}", "no plant learnt yet") in state.without


def test_who_won_and_why_is_data(learnt: State) -> None:
    choices = learnt.choices()
    assert {(c.target, c.band) for c in choices if c.target == "load"} == {("load", b) for b in ("short", "hour", "day")}
    for choice in choices:
        assert choice.errors["persistence"] == 1.0
        assert choice.model in choice.errors
        assert choice.at == now_at(PAST)


def test_prophet_joins_once_a_day_and_is_judged_with_the_others(site: Site, learnt: State) -> None:
    state = refit_daily(learnt, site.batches(PAST, targets=("load",)), now_at(PAST))
    assert set(state.calendars) == {"load"}
    hour = next(c for c in state.choices() if (c.target, c.band) == ("load", "hour"))
    assert "prophet" in hour.errors
    later = refit(state, site.batches(PAST + 60, targets=("load",)), now_at(PAST + 60))
    assert "prophet" in later.classes["load"].tables
    forecasts, _ = run(site, later, None, PAST + 60)
    assert any(f.model == "prophet" and not f.champion for f in forecasts)


def test_the_state_survives_a_pickle_and_gives_the_same_forecasts(site: Site, learnt: State, plant: Plant) -> None:
    again = pickle.loads(pickle.dumps(learnt))  # noqa: S301 - our own bytes
    assert run(site, again, plant, PAST)[0] == run(site, learnt, plant, PAST)[0]
