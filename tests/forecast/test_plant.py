"""The plant is learnt from a plant with known coefficients, and from none."""

from dataclasses import dataclass

import msgspec
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.topology import Topology
from contracts.view import ServerPlant
from forecast.plant import Plant, fit
from tests.factories import make_topology
from tests.forecast.synthetic import T0_S, walk

TOPOLOGY = make_topology(servers_per_row=3)
NAMES = tuple(s.name for s in TOPOLOGY.servers)


@dataclass(frozen=True)
class Truth:
    """A site whose laws are known: its frames, and its inlet, temperature and power at any point."""

    frames: dict[str, pl.DataFrame]
    offset: NDArray[np.float64]
    slope: NDArray[np.float64]

    def inlet(self, outside: NDArray[np.float64], load: NDArray[np.float64]) -> NDArray[np.float64]:
        return 18 + 0.75 * (np.clip(outside, 15, 29) - 15) + 2.5 * load + self.offset[:, None]

    def gpu(self, inlet: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
        return 5 + 0.9 * inlet + self.slope[:, None] * power


def long(ts: NDArray[np.int64], values: NDArray[np.float64], names: tuple[str, ...]) -> pl.DataFrame:
    stamps = (np.tile(ts, len(names)) * 1_000_000).astype("datetime64[us]")
    return pl.DataFrame({"ts": stamps, "series": np.repeat(np.array(names), len(ts)), "value": values.ravel()})


def site(days: int = 8, outside_swing: float = 10.0) -> Truth:
    rng = np.random.default_rng(5)
    ts = T0_S + 300 * np.arange(1, days * 288 + 1, dtype=np.int64)
    hour = 2 * np.pi * (ts % 86_400) / 86_400
    outside = 22 + outside_swing * np.sin(hour - 1) + walk(rng, 1, len(ts), 0.99, 0.1)[0]
    power = np.clip(3_000 + 1_500 * np.sin(hour) + walk(rng, 6, len(ts), 0.9, 250), 620, 5_600)
    truth = Truth(frames={}, offset=rng.normal(0, 0.7, 6), slope=rng.normal(0.053, 0.005, 6) / 8)
    load = power.sum(axis=0) / power.max(axis=1).sum()
    inlet = truth.inlet(outside, load) + rng.normal(0, 0.1, power.shape)
    gpu = truth.gpu(inlet, power) + rng.normal(0, 0.3, power.shape)
    wall = 2_600 + 1.2 * power + 2e-5 * power**2 + rng.normal(0, 20, power.shape)
    air = (450 + 0.13 * (power - 616)).sum(axis=0)[None] * 0.9
    truth.frames.update(
        outside=long(ts, outside[None], ("site",)),
        inlet=long(ts, inlet, NAMES),
        gpu_temp=long(ts, gpu, NAMES),
        gpu_power=long(ts, power, NAMES),
        server_power=long(ts, wall, NAMES),
        airflow=long(ts, air, ("aisle-0",)),
    )
    return truth


@pytest.fixture(scope="module")
def truth() -> Truth:
    return site()


@pytest.fixture(scope="module")
def plant(truth: Truth) -> Plant:
    return fit(TOPOLOGY, truth.frames)


def test_a_plant_is_what_the_view_expects(plant: Plant) -> None:
    served: ServerPlant = plant
    assert served.peak_gpu_power_w().shape == (6,)
    assert plant.servers == NAMES


def test_inlet_is_found_over_the_range_that_was_seen(truth: Truth, plant: Plant) -> None:
    for outside in (13.0, 20.0, 25.0, 31.0):
        expected = truth.inlet(np.array([outside]), np.array([0.6]))[:, 0]
        np.testing.assert_allclose(plant.inlet_c(outside, 0.6), expected, atol=0.4)
    assert plant.state.errors["inlet_c"] < 0.2


def test_beyond_the_range_the_published_slopes_hold_and_the_error_grows() -> None:
    cool = fit(TOPOLOGY, site(outside_swing=2.0).frames)
    low, high = cool.state.outside_range_c
    assert high < 27
    assert cool.inlet_c(29.0, 0.6).mean() == pytest.approx(18 + 0.75 * 14 + 1.5, abs=1.5)
    assert abs(cool.inlet_c(45.0, 0.6).mean() - cool.inlet_c(29.0, 0.6).mean()) < 3.5
    assert cool.inlet_error_k(45.0) > cool.inlet_error_k((low + high) / 2) + 3


def test_gpu_temperature_is_learnt_per_server_and_inverts(truth: Truth, plant: Plant) -> None:
    inlet, power = np.full(6, 27.0), np.linspace(1_000, 5_000, 6)
    expected = truth.gpu(inlet[:, None], power[:, None])[:, 0]
    found = plant.gpu_c(inlet, power)
    np.testing.assert_allclose(found, expected, atol=0.6)
    np.testing.assert_allclose(plant.gpu_power_at_c(inlet, found), power, rtol=1e-9)
    assert plant.state.errors["gpu_c"] < 0.5


def test_power_and_airflow_are_found(plant: Plant) -> None:
    power = np.full(6, 4_000.0)
    np.testing.assert_allclose(plant.server_power_w(power), 2_600 + 4_800 + 320, rtol=0.01)
    np.testing.assert_allclose(plant.airflow_cfm(power).sum(), 6 * (450 + 0.13 * 3_384) * 0.9, rtol=0.03)
    assert (plant.airflow_cfm(np.zeros(6)) >= 450).all()


def test_a_fault_in_the_history_does_not_bend_the_model(truth: Truth, plant: Plant) -> None:
    hot = truth.frames["inlet"].with_columns(
        value=pl.when(pl.int_range(pl.len()) % 2_304 < 48).then(pl.col("value") + 15).otherwise(pl.col("value"))
    )
    again = fit(TOPOLOGY, {**truth.frames, "inlet": hot})
    np.testing.assert_allclose(again.inlet_c(25.0, 0.6), plant.inlet_c(25.0, 0.6), atol=0.15)


def test_peaks_are_the_histories_after_a_week_and_the_data_sheets_before(truth: Truth, plant: Plant) -> None:
    np.testing.assert_allclose(plant.peak_gpu_power_w(), [5_600] * 6, rtol=0.1)
    first = truth.frames["inlet"]["ts"].min()
    young = fit(TOPOLOGY, {k: frame.filter(pl.col("ts") < first + pl.duration(days=5)) for k, frame in truth.frames.items()})
    np.testing.assert_array_equal(young.peak_gpu_power_w(), [5_600.0] * 6)


def test_without_history_the_published_values_stand_and_no_error_is_claimed() -> None:
    bare = fit(TOPOLOGY, {})
    assert bare.state.errors == {}
    np.testing.assert_allclose(bare.inlet_c(10.0, 0.0), 18.0)
    np.testing.assert_allclose(bare.gpu_c(np.full(6, 21.0), np.full(6, 8 * 700.0)), 2.6 + 0.96 * 21 + 0.053 * 700)
    np.testing.assert_allclose(bare.server_power_w(np.full(6, 5_600.0)), 10_200)
    assert not bare.state.clocks.learnt


def test_clock_share_is_the_published_one_until_clocks_were_held(plant: Plant) -> None:
    clocks = np.full(6, 990.0)
    full = np.full(6, 1_980.0)
    np.testing.assert_allclose(plant.clock_power_share(clocks, full), 0.25 + 0.75 * 0.5**1.05)
    rng = np.random.default_rng(2)
    ts = T0_S + 300 * np.arange(1, 601, dtype=np.int64)
    held = rng.choice([800.0, 1_200.0, 1_600.0, 1_980.0], (6, 600))
    power = 5_000 * (0.4 + 0.6 * (held / 1_980) ** 1.05)
    learnt = fit(TOPOLOGY, {"clock": long(ts, held, NAMES), "gpu_power": long(ts, power, NAMES)})
    assert learnt.state.clocks.learnt
    assert learnt.state.clocks.floor == pytest.approx(0.4, abs=0.02)


def test_a_plant_travels_as_json(plant: Plant) -> None:
    back = Plant.from_json(plant.to_json())
    assert back.state == plant.state
    np.testing.assert_array_equal(back.inlet_c(30.0, 0.5), plant.inlet_c(30.0, 0.5))


def test_what_is_no_plant_is_refused_in_one_line(plant: Plant) -> None:
    with pytest.raises(InputError, match="plant"):
        Plant.from_json(b"{}")
    with pytest.raises(InputError, match="gpu needs 6 x 3 numbers"):
        Plant(msgspec.structs.replace(plant.state, gpu=plant.state.gpu[:2]))
    unknown: Topology = msgspec.structs.replace(TOPOLOGY, hardware=())
    with pytest.raises(InputError, match="dgx-h100"):
        fit(unknown, {})


def test_a_server_that_was_never_seen_takes_its_classes_values(truth: Truth, plant: Plant) -> None:
    frames = {
        name: frame.filter((pl.col("series") != NAMES[2]) | (name in ("outside", "airflow")))
        for name, frame in truth.frames.items()
    }
    found = fit(TOPOLOGY, frames)
    others = [s for s in range(6) if s != 2]
    assert found.inlet_c(25.0, 0.6)[2] == pytest.approx(found.inlet_c(25.0, 0.6)[others].mean(), abs=0.3)
    np.testing.assert_allclose(found.inlet_c(25.0, 0.6)[others], plant.inlet_c(25.0, 0.6)[others], atol=0.3)
    assert found.peak_gpu_power_w()[2] == 5_600.0


def test_a_server_that_fell_silent_early_is_no_error(truth: Truth) -> None:
    first = truth.frames["inlet"]["ts"].min()
    silent = truth.frames["inlet"].filter((pl.col("series") != NAMES[1]) | (pl.col("ts") < first + pl.duration(days=3)))
    found = fit(TOPOLOGY, {**truth.frames, "inlet": silent})
    assert np.isfinite(found.inlet_c(25.0, 0.6)).all()
    assert found.state.errors["inlet_c"] < 0.2
