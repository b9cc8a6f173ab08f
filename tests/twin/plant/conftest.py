"""Sites of drawn H100 or A100 servers, and cooling that suffices for them."""

from collections.abc import Callable

import numpy as np
import pytest

from twin import calibration as c
from twin import hardware
from twin.plant import Supply, Units


def units(kind: str = "h100", rows: int = 2, per_row: int = 4, seed: int = 1, gpus: int = 8) -> Units:
    """Servers of one profile, two rows an aisle, each GPU with its own resistance and power factor."""
    p = hardware.load(kind)
    rng = np.random.default_rng(seed)
    servers = rows * per_row
    row = np.repeat(np.arange(rows), per_row)
    relative = np.clip(rng.normal(1.0, p.heat.resistance_sd / p.heat.resistance_mean, (servers, gpus)), 0.6, 1.5)

    def each(value: float) -> np.ndarray:
        return np.full(servers, value)

    return Units(
        row=row,
        aisle=row // 2,
        tdp_w=each(p.sheet.gpu_tdp_w),
        max_mhz=each(p.sheet.max_clock_mhz),
        slowdown_mhz=each(p.heat.slowdown_mhz),
        overhead_w=each(p.power.overhead_w),
        fans_w=each(p.power.fans_w),
        psu_share=each(p.power.psu_share),
        cfm_full=each(p.fans.cfm_full),
        idle_duty=each(p.fans.idle_duty),
        fan_hot_c=each(p.fans.hot_c),
        fan_hot_duty=each(p.fans.hot_duty),
        fan_per_k=each(p.fans.per_k),
        slowdown_c=each(p.sheet.slowdown_c),
        slowdown_hysteresis_c=each(p.heat.slowdown_hysteresis_c),
        shutdown_c=each(p.sheet.shutdown_c),
        inlet_offset_c=rng.normal(1.0, c.SERVER_SD_C, servers),
        air_offset_c=each(p.heat.air_offset_c),
        air_slope=each(p.heat.air_slope),
        die_j_per_k=each(p.heat.die_j_per_k),
        sink_j_per_k=each(p.heat.sink_j_per_k),
        leakage_per_k=each(p.power.leakage_per_k),
        leakage_at_c=each(p.power.leakage_at_c),
        r_die=p.heat.die_k_per_w * relative,
        r_sink=p.heat.sink_k_per_w * relative,
        position_k_per_w=np.tile(np.resize(p.heat.position_c, gpus) / (gpus * p.heat.position_at_w), (servers, 1)),
        power_factor=rng.normal(1.0, p.power.gpu_sd, (servers, gpus)),
    )


def supply(u: Units, air: float = 0.8, capacity: float = 1.1) -> Supply:
    """Air for this duty of all fans in every aisle, and cooling for so many times full load."""
    aisles = int(u.aisle.max()) + 1
    most_w = float(((u.tdp_w * u.r_die.shape[1] + u.overhead_w + u.fans_w) / u.psu_share).sum())
    return Supply(
        aisle_cfm=np.asarray(air * np.bincount(u.aisle, u.cfm_full, aisles), dtype=np.float64),
        recirculation=c.OVERDRAW_C * np.eye(aisles),
        cooling_share=np.ones(1),
        chiller_share=np.ones(1),
        capacity_w=np.array([capacity * most_w]),
    )


@pytest.fixture(scope="session")
def make_units() -> Callable[..., Units]:
    return units


@pytest.fixture(scope="session")
def make_supply() -> Callable[..., Supply]:
    return supply
