"""Single GPUs, errors and ranges per server, drift, old states; on a plant with known coefficients."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.ports import Batch
from forecast.plant import Plant, drifted, fit
from forecast.plant_readings import Collected, collected
from forecast.plant_units import held_out
from tests.factories import make_topology
from tests.forecast.synthetic import T0_S, walk

Floats = NDArray[np.float64]
TOPOLOGY = make_topology(servers_per_row=3)
NAMES = tuple(s.name for s in TOPOLOGY.servers)
GPUS = tuple(f"{name}/{g}" for name in NAMES for g in range(8))
DAYS = 15
OLD = (
    b'{"servers":["a","b"],"inlet":[[18.0,0.0,0.75,-0.75,2.5],[19.0,0.0,0.75,-0.75,2.5]],"gpu":[[2.6,0.96,0.006625],'
    b'[4.6,0.96,0.006625]],"power":[[2334.8,1.4,0.0],[2334.8,1.4,0.0]],"airflow":[[369.0,0.131],[369.0,0.131]],'
    b'"airflow_idle_cfm":[450.0,450.0],"peak_gpu_w":[5600.0,5600.0],"clocks":{"floor":0.25,"exponent":1.05,"learnt":false},'
    b'"errors":{"inlet_c":0.3,"gpu_c":0.4},"outside_range_c":[10.0,30.0],"points":{"inlet_c":4000,"gpu_c":4000}}'
)
"""a state as it was published before single GPUs were learnt"""


def place(power: Floats) -> Floats:
    """[8, S, T] what each GPU lies beside 5 + .9 inlet: odd places hotter, each server's own spread; fans bend it above 3
    kW."""
    rng = np.random.default_rng(8)
    offset = np.where(np.arange(8) % 2 == 0, 4.0, 0.0)[:, None] + rng.normal(0, 0.7, (8, 6))
    slope = rng.normal(0.05, 0.002, (8, 6)) / 8
    bent = power - 0.2 * np.maximum(0.0, power - 3_000)
    return offset[:, :, None] + slope[:, :, None] * bent


def sensors(days: int = DAYS) -> dict[str, Batch]:
    """Readings in whole degrees."""
    rng = np.random.default_rng(6)
    ts = T0_S + 300 * np.arange(1, days * 288 + 1, dtype=np.int64)
    hour = 2 * np.pi * (ts % 86_400) / 86_400
    outside = 22 + 8 * np.sin(hour - 1) + walk(rng, 1, len(ts), 0.99, 0.1)[0]
    power = np.clip(3_000 + 1_500 * np.sin(hour) + walk(rng, 6, len(ts), 0.9, 250), 620, 5_600)
    inlet = 18 + 0.75 * (np.clip(outside, 15, 29) - 15) + 2.5 * power.mean(axis=0) / 5_000 + rng.normal(0, 0.7, (6, 1))
    each = np.rint(5 + 0.9 * inlet + place(power) + rng.normal(0, 0.2, (8, 6, len(ts))))
    wall = 2_600 + 1.2 * power + rng.normal(0, 20, power.shape)
    values = {
        "inlet": np.rint(inlet),
        "gpu_power": power,
        "server_power": wall,
        "gpu_temp": each.max(axis=0),
        "outside": outside[None],
    }
    names = dict.fromkeys(("inlet", "gpu_power", "server_power", "gpu_temp"), NAMES) | {"outside": ("site",)}
    made = {name: Batch(target=name, step_s=300, ts=ts, names=names[name], values=v) for name, v in values.items()}
    gpus = each.transpose(1, 0, 2).reshape(48, -1)
    return made | {"gpu_temp_each": Batch(target="gpu_temp_each", step_s=300, ts=ts, names=GPUS, values=gpus)}


def part(frames: dict[str, Batch], first: int, last: int | None = None) -> dict[str, Batch]:
    return {name: replace(b, ts=b.ts[first:last], values=b.values[:, first:last]) for name, b in frames.items()}


@pytest.fixture(scope="module")
def frames() -> dict[str, Batch]:
    return sensors()


@pytest.fixture(scope="module")
def plant(frames: dict[str, Batch]) -> Plant:
    return fit(TOPOLOGY, frames)


@pytest.fixture(scope="module")
def before(frames: dict[str, Batch]) -> Plant:
    """The plant of three days ago."""
    return fit(TOPOLOGY, part(frames, 0, -864))


def test_single_gpus_are_found_though_fans_bend_the_line(plant: Plant) -> None:
    assert plant.each_read().all()
    for watts in (1_500.0, 3_000.0, 4_200.0):
        inlet, power = np.full(6, 27.0), np.full(6, watts)
        expected = 5 + 0.9 * 27 + place(power[:, None])[:, :, 0].T
        np.testing.assert_allclose(plant.gpu_each_c(inlet, power), expected, atol=1.0)
        assert np.abs(plant.gpu_each_c(inlet, power) - expected).mean() < 0.35
    assert plant.state.errors["gpu_each_c"] < 0.5


def test_the_hottest_is_the_highest_of_them_and_its_inverse_is_exact(plant: Plant) -> None:
    inlet = np.linspace(18, 32, 6)
    for watts in np.linspace(0, 6_500, 14):
        power = np.full(6, watts)
        hottest = plant.gpu_c(inlet, power)
        np.testing.assert_array_equal(hottest, plant.gpu_each_c(inlet, power).max(axis=1))
        np.testing.assert_allclose(plant.gpu_power_at_c(inlet, hottest), power, rtol=1e-9, atol=1e-6)
    assert (plant.gpu_power_at_c(inlet, np.zeros(6)) == 0).all()


def test_every_gpu_warms_with_power(plant: Plant) -> None:
    inlet = np.full(6, 25.0)
    path = np.stack([plant.gpu_each_c(inlet, np.full(6, w)) for w in np.linspace(0, 7_000, 50)])
    assert (np.diff(path, axis=0) > 0).all()


def test_without_single_readings_only_the_hottest_is_learnt_and_that_is_said(frames: dict[str, Batch], plant: Plant) -> None:
    only = fit(TOPOLOGY, {name: batch for name, batch in frames.items() if name != "gpu_temp_each"})
    assert not only.each_read().any()
    assert "gpu_each_c" not in only.state.errors
    inlet, power = np.full(6, 25.0), np.full(6, 3_500.0)
    assert only.gpu_each_c(inlet, power).shape == (6, 1)
    np.testing.assert_allclose(only.gpu_c(inlet, power), plant.gpu_c(inlet, power), atol=0.3)


def test_a_server_whose_gpus_were_not_read_takes_its_classes_places(frames: dict[str, Batch]) -> None:
    each = frames["gpu_temp_each"]
    some = replace(each, names=each.names[:40], values=each.values[:40])
    plant = fit(TOPOLOGY, {**frames, "gpu_temp_each": some})
    assert plant.each_read().tolist() == [True] * 5 + [False]
    inlet, power = np.full(6, 25.0), np.full(6, 3_000.0)
    last = plant.gpu_each_c(inlet, power)[5]
    assert last.max() == pytest.approx(float(5 + 0.9 * 25 + place(power[:, None])[:, 5, 0].max()), abs=0.7)
    assert last[::2].mean() > last[1::2].mean() + 3


def test_each_server_has_errors_of_its_own_on_what_was_held_out(frames: dict[str, Batch], plant: Plant) -> None:
    noisy = frames["server_power"].values.copy()
    noisy[2, -864:] += np.random.default_rng(1).normal(0, 300, 864)
    found = fit(TOPOLOGY, {**frames, "server_power": replace(frames["server_power"], values=noisy)})
    assert found.errors_of(NAMES[2])["server_power_w"] > 5 * found.errors_of(NAMES[0])["server_power_w"]
    assert 0.001 < plant.errors_of(NAMES[0])["server_power_share"] < 0.01
    assert set(plant.errors_of(NAMES[0])) == {"inlet_c", "gpu_c", "gpu_each_c", "server_power_w", "server_power_share"}
    with pytest.raises(InputError, match="no server"):
        plant.errors_of("nobody")


def test_the_claimed_error_is_that_of_days_not_seen(frames: dict[str, Batch], before: Plant) -> None:
    plant = before
    late = part(frames, -864)
    inlet, power = late["inlet"].values, late["gpu_power"].values
    rest = np.stack([plant.gpu_c(i, w) for i, w in zip(inlet.T, power.T, strict=True)], axis=1) - late["gpu_temp"].values
    assert np.abs(rest).mean() == pytest.approx(plant.state.errors["gpu_c"], rel=0.25)


@pytest.mark.parametrize(("name", "inside", "beyond"), [("inlet_c", 24.0, 60.0), ("gpu_power_w", 3_000.0, 9_000.0),
                                                        ("outside_c", 20.0, 60.0), ("load_share", 0.6, 1.5)])  # fmt: skip
def test_doubt_is_nothing_inside_and_grows_with_the_distance(plant: Plant, name: str, inside: float, beyond: float) -> None:
    assert (plant.trust(name, inside) == 0).all()
    doubts = np.stack([plant.trust(name, x) for x in np.linspace(inside, beyond, 40)])
    assert (np.diff(doubts, axis=0) >= 0).all()
    assert (doubts[-1] > 0.3).all()
    with pytest.raises(InputError, match="no input"):
        plant.trust("weather", 1.0)


def test_doubt_covers_what_a_plant_says_beyond_what_it_has_seen(frames: dict[str, Batch]) -> None:
    power = frames["gpu_power"].values
    high = power > 3_000
    mild = {n: replace(b, values=np.where(high, np.nan, b.values)) for n, b in frames.items() if b.names == NAMES}
    plant = fit(TOPOLOGY, {**mild, "outside": frames["outside"]})
    inlet, watts = np.full(6, 27.0), np.full(6, 5_500.0)
    expected = 5 + 0.9 * 27 + place(watts[:, None])[:, :, 0].max(axis=0)
    error = np.abs(plant.gpu_c(inlet, watts) - expected)
    assert (plant.gpu_error_k(inlet, watts) > plant.gpu_error_k(inlet, np.full(6, 2_000.0)) + 1.5).all()
    assert error.mean() < 2.5 * plant.gpu_error_k(inlet, watts).mean()  # here the fans bend the line just where it was not seen
    assert (plant.power_error_w(watts) > plant.power_error_w(np.full(6, 2_000.0)) + 200).all()


def test_nothing_drifts_where_nothing_changed(frames: dict[str, Batch], before: Plant) -> None:
    for day in range(3):
        assert drifted(before, part(frames, -864 + 288 * day, -576 + 288 * day or None)) == ()


def test_a_fit_is_judged_on_a_week_or_on_a_fifth() -> None:
    assert held_out(28 * 288) == 2_016
    assert held_out(21 * 288 - 5) == 1_209
    assert held_out(504 * 3, per=4.0) == 504


def changed(frames: dict[str, Batch], days: int) -> dict[str, Batch]:
    """Return the readings with a new heat sink on the second server for the newest days: 5 K cooler."""
    out = {}
    for name, rows in (("gpu_temp", slice(1, 2)), ("gpu_temp_each", slice(8, 16))):
        values = frames[name].values.copy()
        values[rows, -288 * days :] -= 5.0
        out[name] = replace(frames[name], values=values)
    return {**frames, **out}


def test_a_new_heat_sink_is_named_and_the_next_fit_follows_it(frames: dict[str, Batch], before: Plant) -> None:
    after = changed(frames, 2)
    assert drifted(before, part(after, -288)) == (NAMES[1],)
    again = fit(TOPOLOGY, after)
    assert drifted(again, part(after, -288)) == ()
    inlet, power = np.full(6, 26.0), np.full(6, 3_000.0)
    moved = again.gpu_c(inlet, power) - before.gpu_c(inlet, power)
    assert moved[1] == pytest.approx(-5.0, abs=0.7)
    assert np.abs(np.delete(moved, 1)).max() < 0.4


def test_a_class_that_is_off_together_is_named_but_not_learnt_from_a_day_alone(frames: dict[str, Batch], before: Plant) -> None:
    hot = frames["inlet"].values.copy()
    hot[:, -288:] += 6.0  # an air handler lost
    after = {**frames, "inlet": replace(frames["inlet"], values=hot)}
    assert set(drifted(before, part(after, -288))) == set(NAMES)
    found = fit(TOPOLOGY, after)
    np.testing.assert_allclose(found.inlet_c(22.0, 0.6), before.inlet_c(22.0, 0.6), atol=0.3)


def test_a_plant_without_errors_of_its_own_names_nobody(frames: dict[str, Batch]) -> None:
    assert drifted(fit(TOPOLOGY, {}), part(frames, -288)) == ()
    assert drifted(fit(TOPOLOGY, frames), {}) == ()


def test_an_older_state_still_loads() -> None:
    old = Plant.from_json(OLD)
    assert old.state.version == 1
    inlet, power = np.full(2, 21.0), np.full(2, 4_000.0)
    np.testing.assert_allclose(old.gpu_c(inlet, power), [2.6 + 0.96 * 21 + 26.5, 4.6 + 0.96 * 21 + 26.5])
    np.testing.assert_allclose(old.gpu_power_at_c(inlet, old.gpu_c(inlet, power)), power)
    np.testing.assert_allclose(old.gpu_error_k(inlet, power), 0.4)
    np.testing.assert_allclose(old.inlet_errors_k(34.0, 0.5), 0.3 + 0.25 * 4)
    assert old.gpu_each_c(inlet, power).shape == (2, 1)
    assert old.errors_of("a") == {}


def test_a_state_of_two_travels_whole(plant: Plant) -> None:
    back = Plant.from_json(plant.to_json())
    assert back.state == plant.state
    assert back.state.version == 2
    inlet, power = np.full(6, 26.0), np.full(6, 4_000.0)
    np.testing.assert_array_equal(back.gpu_each_c(inlet, power), plant.gpu_each_c(inlet, power))


def test_frames_batches_and_parts_say_the_same(frames: dict[str, Batch]) -> None:
    batch = frames["inlet"]
    stamps = (np.tile(batch.ts, 6) * 1_000_000).astype("datetime64[us]")
    long = pl.DataFrame({"ts": stamps, "series": np.repeat(np.array(NAMES), len(batch.ts)), "value": batch.values.ravel()})
    _, _, whole = collected({"inlet": batch}, NAMES)
    parts = [replace(batch, names=(name,), values=batch.values[i : i + 1]) for i, name in enumerate(NAMES)]
    for same in (long, long.sample(fraction=1.0, shuffle=True, seed=1), iter(parts)):
        _, _, found = collected({"inlet": same}, NAMES)
        np.testing.assert_allclose(found["inlet"], whole["inlet"], rtol=1e-6)


def test_times_that_cannot_be_are_refused(frames: dict[str, Batch]) -> None:
    wild = replace(frames["inlet"], ts=frames["inlet"].ts[:2] * np.array([1, 3]), values=frames["inlet"].values[:, :2])
    with pytest.raises(InputError, match="check the clocks"):
        Collected(NAMES).read(wild)
    with pytest.raises(InputError, match="300 s"):
        fit(TOPOLOGY, {"inlet": replace(frames["inlet"], step_s=60)})
