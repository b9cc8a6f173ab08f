"""Sites of drawn H100 or A100 servers, and cooling that suffices for them."""

from collections.abc import Callable

import numpy as np
import pytest

from twin import calibration as c
from twin.plant import Supply, Units

# resistance die to air at 80 % duty (mean, sd), TDP, highest clock, slowdown, shutdown [F, S], air at 80 % [P], overhead [A]
KINDS = {
    "h100": (0.053, 0.006, 700.0, 1980.0, 87.0, 92.0, 1105.0, 2000.0),
    "a100": (0.090, 0.010, 400.0, 1410.0, 89.0, 92.0, 840.0, 1000.0),
}


def units(kind: str = "h100", rows: int = 2, per_row: int = 4, seed: int = 1, gpus: int = 8) -> Units:
    """Servers of one kind, two rows an aisle, each GPU with its own resistance and power factor."""
    mean, sd, tdp, mhz, slowdown, shutdown, cfm, overhead = KINDS[kind]
    rng = np.random.default_rng(seed)
    servers = rows * per_row
    row = np.repeat(np.arange(rows), per_row)
    relative = np.clip(rng.normal(1.0, sd / mean, (servers, gpus)), 0.6, 1.5) * mean / c.RESISTANCE_MEAN

    def each(value: float) -> np.ndarray:
        return np.full(servers, value)

    return Units(
        row=row,
        aisle=row // 2,
        tdp_w=each(tdp),
        max_mhz=each(mhz),
        slowdown_mhz=each(mhz / 2),
        overhead_w=each(overhead),
        fans_w=each(c.FANS_W),
        psu_share=each(c.PSU_SHARE),
        cfm_full=each(cfm / 0.8),
        idle_duty=each(c.IDLE_DUTY),
        fan_hot_c=each(c.FAN_HOT_C),
        fan_hot_duty=each(c.FAN_HOT_DUTY),
        fan_per_k=each(c.FAN_PER_K),
        slowdown_c=each(slowdown),
        slowdown_hysteresis_c=each(c.SLOWDOWN_HYSTERESIS_C),
        shutdown_c=each(shutdown),
        inlet_offset_c=rng.normal(1.0, c.SERVER_SD_C, servers),
        air_offset_c=each(c.AIR_OFFSET_C),
        air_slope=each(c.AIR_SLOPE),
        die_j_per_k=each(c.DIE_J_PER_K),
        sink_j_per_k=each(c.SINK_J_PER_K),
        leakage_per_k=each(c.LEAKAGE_PER_K),
        leakage_at_c=each(c.LEAKAGE_AT_C),
        r_die=c.DIE_K_PER_W * relative,
        r_sink=c.SINK_K_PER_W * relative,
        position_k_per_w=np.tile(np.resize(c.POSITION_C, gpus) / (gpus * c.POSITION_AT_W), (servers, 1)),
        power_factor=rng.normal(1.0, c.GPU_POWER_SD, (servers, gpus)),
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
