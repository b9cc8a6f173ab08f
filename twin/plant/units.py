"""What the plant's kernels work on: the hidden constants of its units, its cooling, and its state.

S servers with G GPUs each (one G per site), R rows, A aisles. All arrays are C-contiguous; float64, int64 or bool."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Units(NamedTuple):
    """How servers and GPUs are made. Hidden from policies, constant through a run."""

    row: Ints
    """[S]"""
    aisle: Ints
    tdp_w: Floats
    """[S] power limit of each GPU of this server"""
    max_mhz: Floats
    slowdown_mhz: Floats
    """[S] clock in hardware slowdown"""
    overhead_w: Floats
    """[S] server = (summed GPU power + overhead + fans duty^3) / psu_share"""
    fans_w: Floats
    psu_share: Floats
    cfm_full: Floats
    """[S] air at duty 1; linear in duty"""
    idle_duty: Floats
    """[S] lowest duty; duty = fan_hot_duty + fan_per_k (hottest GPU - fan_hot_c), at most 1"""
    fan_hot_c: Floats
    fan_hot_duty: Floats
    fan_per_k: Floats
    slowdown_c: Floats
    slowdown_hysteresis_c: Floats
    shutdown_c: Floats
    inlet_offset_c: Floats
    """[S] of this position"""
    air_offset_c: Floats
    """[S] air at a GPU = air_offset + air_slope inlet + position_k_per_w summed GPU power"""
    air_slope: Floats
    die_j_per_k: Floats
    sink_j_per_k: Floats
    leakage_per_k: Floats
    leakage_at_c: Floats
    """[S] die temperature at which nominal power is meant"""
    r_die: Floats
    """[S, G] K/W from die to sink"""
    r_sink: Floats
    """[S, G] K/W; sink to air = r_sink / (.25 + .75 duty)"""
    position_k_per_w: Floats
    """[S, G]"""
    power_factor: Floats
    """[S, G] board power relative to nominal"""


class Supply(NamedTuple):
    """The site's cooling; failures change it."""

    aisle_cfm: Floats
    """[A] what its AHUs supply now"""
    recirculation: Floats
    """[A, A] K of inlet rise in the first aisle per unit of overdraw in the second"""
    cooling_share: Floats
    """[1] share of the cooling devices' capacity left"""
    chiller_share: Floats
    """[1] share of chilled water capacity now (0 = off)"""
    capacity_w: Floats
    """[1] heat that the full cooling carries away"""


class State(NamedTuple):
    """What changes with time."""

    die_c: Floats
    """[S, G]"""
    sink_c: Floats
    gpu_w: Floats
    """[S, G] mean of the last step"""
    clock_mhz: Floats
    """[S, G] in force"""
    energy_j: Floats
    """[S, G] counts up"""
    slow: Bools
    """[S, G] hardware slowdown"""
    down: Bools
    """[S, G] shut down by heat; stays so until somebody clears it"""
    duty: Floats
    """[S] of the fans, whole percents"""
    inlet_c: Floats
    """[S]"""
    server_w: Floats
    """[S] at the wall"""
    util: Floats
    """[S] share of the last step with a kernel running; whoever knows the load writes it, the plant does not"""
    row_w: Floats
    """[R]"""
    airflow_cfm: Floats
    """[A] air drawn"""
    rise_c: Floats
    """[A] of the inlets by recirculation"""
    site_load_lagged: Floats
    """[1] share of the GPUs' TDP"""
    supply_rise_c: Floats
    """[1] warmth of the supply air above normal"""
    # The rest is private to the plant.
    coef: Floats
    """[6, S, G] propagator of the two nodes, see `heat`; holds for `coef_duty` and `coef_dt_s`"""
    coef_duty: Floats
    """[S]"""
    coef_dt_s: Floats
    """[1]"""
    fan_wish: Floats
    """[S] duty that the controller wants, lagged"""
    fan_wait_s: Floats
    """[1] since the controllers last looked"""
    air_c: Floats
    """[S, G] at the sink"""
    next_c: Floats
    """[S, G] dies at the end of the step"""
    gpus_w: Floats
    """[S] summed GPU power"""
    shares_lagged: Floats
    """[2] cooling devices, chilled water: share of the capacity in force"""


START_C = 30.0


def state(u: Units, rows: int, aisles: int) -> State:
    """Return a cold site that draws nothing yet, all clocks at their highest; ValueError names the unit that cannot be."""
    check(u, rows, aisles)
    shape = u.r_die.shape
    servers = shape[0]
    return State(
        die_c=np.full(shape, START_C),
        sink_c=np.full(shape, START_C),
        gpu_w=np.zeros(shape),
        clock_mhz=np.repeat(u.max_mhz, shape[1]).reshape(shape),
        energy_j=np.zeros(shape),
        slow=np.zeros(shape, dtype=np.bool_),
        down=np.zeros(shape, dtype=np.bool_),
        duty=u.idle_duty.copy(),
        inlet_c=np.full(servers, 25.0),
        server_w=np.zeros(servers),
        util=np.zeros(servers),
        row_w=np.zeros(rows),
        airflow_cfm=np.zeros(aisles),
        rise_c=np.zeros(aisles),
        site_load_lagged=np.zeros(1),
        supply_rise_c=np.zeros(1),
        coef=np.zeros((6, *shape)),
        coef_duty=np.full(servers, -1.0),
        coef_dt_s=np.zeros(1),
        fan_wish=u.idle_duty.copy(),
        fan_wait_s=np.zeros(1),
        air_c=np.full(shape, 25.0),
        next_c=np.zeros(shape),
        gpus_w=np.zeros(servers),
        shares_lagged=np.ones(2),
    )


PER_GPU = ("r_die", "r_sink", "position_k_per_w", "power_factor")
POSITIVE = ("tdp_w", "max_mhz", "psu_share", "idle_duty", "die_j_per_k", "sink_j_per_k", "r_die", "r_sink", "power_factor")


def check(u: Units, rows: int, aisles: int) -> None:
    """Raise ValueError where shapes differ, a place does not exist, or a constant cannot be: the kernels look at nothing."""
    servers = len(u.row)
    for name, values in u._asdict().items():
        shape = u.r_die.shape if name in PER_GPU else (servers,)
        if values.shape != shape or shape[0] != servers or not values.flags.c_contiguous:
            raise ValueError(f"{name}: shape {values.shape}, must be {shape}, C-contiguous")
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: must be finite")
    for name in POSITIVE:
        _refuse(name, getattr(u, name) <= 0.0, "must be positive")
    _refuse("row", (u.row < 0) | (u.row >= rows), f"must be 0 to {rows - 1}")
    _refuse("aisle", (u.aisle < 0) | (u.aisle >= aisles), f"must be 0 to {aisles - 1}")
    _refuse("idle_duty", u.idle_duty > 1.0, "must be at most 1")
    _refuse("shutdown_c", u.shutdown_c < u.slowdown_c, "must not be below slowdown_c")
    _refuse("slowdown_hysteresis_c", u.slowdown_hysteresis_c < 0.0, "must not be negative")


def _refuse(name: str, bad: Bools, why: str) -> None:
    if bad.any():
        raise ValueError(f"{name} of server {int(np.argwhere(bad)[0, 0])}: {why}")
