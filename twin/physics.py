"""Power and heat: what a unit draws, how warm it gets, how much air it asks for. Formulas first, then one second of the site.

Every constant and its source stands in `twin.calibration`. All formulas are compiled; scalars in, scalar out."""

from math import exp, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin import calibration as c
from twin.compiled import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Units(NamedTuple):
    """The constants of S servers: where they stand and how they differ (see `twin.fleet.Fleet`)."""

    row: Ints
    aisle: Ints
    instance: Ints
    resistance: Floats
    power_factor: Floats
    inlet_offset_c: Floats


class State(NamedTuple):
    """What changes with time, over S servers with 8 GPUs each, R rows, A aisles."""

    die_c: Floats
    """[S, 8]"""
    sink_c: Floats
    gpu_w: Floats
    """[S, 8] mean over the last second"""
    clock_mhz: Floats
    """[S, 8] clock in force"""
    slow: Bools
    """[S, 8] hardware slowdown"""
    down: Bools
    """[S, 8] shut down by heat; stays so"""
    util: Floats
    """[S] share of the last second with a kernel running"""
    duty: Floats
    """[S] fans"""
    inlet_c: Floats
    server_w: Floats
    row_w: Floats
    """[R]"""
    airflow_cfm: Floats
    """[A] air drawn"""
    rise_c: Floats
    """[A] by recirculation"""
    site_load: Floats
    """[1] lagged share of the GPUs' TDP"""
    energy_j: Floats
    """[S, 8] counter since the start"""


def state(servers: int, rows: int, aisles: int) -> State:
    """Return a cold, idle site."""

    def per_gpu(value: float) -> Floats:
        return np.full((servers, c.GPUS), value)

    return State(
        die_c=per_gpu(30.0),
        sink_c=per_gpu(30.0),
        gpu_w=per_gpu(c.LOADED_W),
        clock_mhz=per_gpu(c.MAX_MHZ),
        slow=np.zeros((servers, c.GPUS), dtype=np.bool_),
        down=np.zeros((servers, c.GPUS), dtype=np.bool_),
        util=np.zeros(servers),
        duty=np.full(servers, c.IDLE_DUTY),
        inlet_c=np.full(servers, 25.0),
        server_w=np.zeros(servers),
        row_w=np.zeros(rows),
        airflow_cfm=np.zeros(aisles),
        rise_c=np.zeros(aisles),
        site_load=np.zeros(1),
        energy_j=np.zeros((servers, c.GPUS)),
    )


@kernel
def clock_power(mhz: float) -> float:
    """Busy power at a clock relative to the highest clock."""
    return c.CLOCK_POWER_FLOOR + (1.0 - c.CLOCK_POWER_FLOOR) * float((mhz / c.MAX_MHZ) ** c.CLOCK_POWER_EXPONENT)


@kernel
def saas_power(prefill_s: float, decode_s: float, decode_load_s: float, mhz: float) -> float:
    """W of a GPU of an instance over one second of which so much is prefill and decode (the rest waits, model loaded)."""
    busy_j = c.PREFILL_W * prefill_s + c.DECODE_BASE_W * decode_s + c.DECODE_SPAN_W * decode_load_s
    return busy_j * clock_power(mhz) + c.LOADED_W * max(0.0, 1.0 - prefill_s - decode_s)


@kernel
def iaas_power(level: float, mhz: float) -> float:
    """W of a GPU of an opaque tenant at a load level (0 = idle, 1 = TDP at the highest clock)."""
    return c.LOADED_W + (c.TDP_W * clock_power(mhz) - c.LOADED_W) * level


@kernel
def board_power(nominal_w: float, factor: float, die_c: float) -> float:
    """W that the board draws: its own factor, leakage with temperature, never above TDP (the board's power limit)."""
    leakage = 1.0 + c.LEAKAGE_PER_K * (die_c - c.LEAKAGE_AT_C)
    return min(c.TDP_W, nominal_w * factor * leakage)


@kernel
def server_power(gpu_w: float, duty: float) -> float:
    """W at the wall from the summed GPU power and the fans' duty."""
    return (gpu_w + c.OVERHEAD_W + c.FANS_W * duty**3) / c.PSU_SHARE


@kernel
def sink_resistance(duty: float) -> float:
    """K/W from sink to air."""
    return c.SINK_K_PER_W / (0.25 + 0.75 * duty)


@kernel
def air_at(inlet_c: float, position: int, server_gpu_w: float) -> float:
    """Temperature of the air at a GPU's sink: inlet, and what stands upstream of it."""
    upstream_k = float(c.POSITION_C[position]) * server_gpu_w / (c.GPUS * c.POSITION_AT_W)
    return c.AIR_OFFSET_C + c.AIR_SLOPE * inlet_c + upstream_k


@kernel
def fan_target(hottest_c: float) -> float:
    """Duty that the fan controller wants for the server's hottest GPU."""
    return min(1.0, max(c.IDLE_DUTY, c.FAN_HOT_DUTY + c.FAN_PER_K * (hottest_c - c.FAN_HOT_C)))


@kernel
def inlet_base(outside_c: float, site_load: float) -> float:
    """Inlet temperature of an average position before recirculation."""
    outside = min(max(outside_c, c.OUTSIDE_COLD_C), c.OUTSIDE_FLAT_C)
    return c.INLET_COLD_C + c.INLET_PER_C * (outside - c.OUTSIDE_COLD_C) + c.INLET_LOAD_C * site_load


@kernel
def overdraw_rise(drawn_cfm: float, supplied_cfm: float) -> float:
    """Kelvin by which inlets rise in the end where more air is drawn than supplied."""
    return c.OVERDRAW_C * max(0.0, drawn_cfm / supplied_cfm - 1.0)


@kernel
def clocks(s: State, cap_mhz: Floats) -> None:
    """Set the clock in force of every GPU from caps [S, 8] (the tenants' choice is the highest clock), slowdown, shutdown."""
    for i in range(s.die_c.shape[0]):
        for g in range(c.GPUS):
            if s.down[i, g]:
                s.clock_mhz[i, g] = 0.0
            else:
                mhz = min(c.MAX_MHZ, cap_mhz[i, g])
                s.clock_mhz[i, g] = min(mhz, c.SLOWDOWN_MHZ) if s.slow[i, g] else mhz


@kernel
def second(u: Units, s: State, prefill_s: Floats, decode_s: Floats, decode_load_s: Floats, level: Floats,
           outside_c: float, supplied_cfm: Floats) -> None:  # fmt: skip
    """Advance power and heat by one second in which the instances [I] worked so much and tenants [S] kept this level."""
    servers = s.die_c.shape[0]
    s.row_w[:] = 0.0
    s.airflow_cfm[:] = 0.0
    total_w = 0.0
    base_c = inlet_base(outside_c, s.site_load[0])
    for i in range(servers):
        k = u.instance[i]
        mhz = s.clock_mhz[i].min()
        nominal_w = 0.0
        s.util[i] = level[i]
        if k >= 0:
            nominal_w = saas_power(prefill_s[k], decode_s[k], decode_load_s[k], mhz) if mhz > 0.0 else c.LOADED_W
            s.util[i] = min(1.0, prefill_s[k] + decode_s[k])
        gpu_w = 0.0
        for g in range(c.GPUS):
            own_w = nominal_w if k >= 0 else iaas_power(level[i], s.clock_mhz[i, g])
            s.gpu_w[i, g] = 0.0 if s.down[i, g] else board_power(own_w, u.power_factor[i, g], s.die_c[i, g])
            gpu_w += s.gpu_w[i, g]
        s.inlet_c[i] = base_c + u.inlet_offset_c[i] + s.rise_c[u.aisle[i]]
        hottest_c = _heat(u, s, i, gpu_w)
        s.duty[i] += (fan_target(hottest_c) - s.duty[i]) * (1.0 - exp(-1.0 / c.FAN_LAG_S))
        s.server_w[i] = server_power(gpu_w, s.duty[i])
        s.row_w[u.row[i]] += s.server_w[i]
        s.airflow_cfm[u.aisle[i]] += s.duty[i] * c.CFM_AT_FULL_DUTY
        total_w += gpu_w
    for a in range(len(s.rise_c)):
        want_c = overdraw_rise(s.airflow_cfm[a], supplied_cfm[a])
        s.rise_c[a] += (want_c - s.rise_c[a]) * (1.0 - exp(-1.0 / c.OVERDRAW_LAG_S))
    share = total_w / (servers * c.GPUS * c.TDP_W)
    s.site_load[0] += (share - s.site_load[0]) * (1.0 - exp(-1.0 / c.SITE_LOAD_LAG_S))


@kernel
def two_nodes(die_c: float, sink_c: float, air_c: float, power_w: float, r_die: float, r_sink: float) -> tuple[float, float]:
    """Return die and sink temperature one second later, exactly, for constant power, air and resistances.

    C_d T_d' = P - (T_d - T_s)/R_d and C_s T_s' = (T_d - T_s)/R_d - (T_s - T_air)/R_s; the deviation from the settled state is
    multiplied by exp(M t) = e^(m t) (cosh(q t) + sinh(q t)/q (M - m)), m half the trace, q^2 = m^2 - det.
    """
    settled_sink = air_c + r_sink * power_w
    settled_die = settled_sink + r_die * power_w
    x, y = die_c - settled_die, sink_c - settled_sink
    a = 1.0 / (c.DIE_J_PER_K * r_die)
    d = (1.0 / r_die + 1.0 / r_sink) / c.SINK_J_PER_K
    e = 1.0 / (c.SINK_J_PER_K * r_die)
    m = -(a + d) / 2.0
    q = sqrt(((d - a) / 2.0) ** 2 + a * e)
    grow, shrink = exp(m + q), exp(m - q)
    cosh_t, sinh_t = (grow + shrink) / 2.0, (grow - shrink) / (2.0 * q)
    return (
        settled_die + cosh_t * x + sinh_t * ((-a - m) * x + a * y),
        settled_sink + cosh_t * y + sinh_t * (e * x + (-d - m) * y),
    )


@kernel
def _heat(u: Units, s: State, i: int, gpu_w: float) -> float:
    """One second of the two nodes of each GPU of server i; return the hottest die."""
    hottest_c = -100.0
    for g in range(c.GPUS):
        s.die_c[i, g], s.sink_c[i, g] = two_nodes(
            s.die_c[i, g],
            s.sink_c[i, g],
            air_at(s.inlet_c[i], g, gpu_w),
            s.gpu_w[i, g],
            c.DIE_K_PER_W * u.resistance[i, g],
            sink_resistance(s.duty[i]) * u.resistance[i, g],
        )
        s.energy_j[i, g] += s.gpu_w[i, g]
        hottest_c = max(hottest_c, s.die_c[i, g])
        _protect(s, i, g)
    return hottest_c


@kernel
def _protect(s: State, i: int, g: int) -> None:
    """Hardware slowdown with hysteresis, and shutdown."""
    if s.die_c[i, g] >= c.SHUTDOWN_C:
        s.down[i, g] = True
    if s.die_c[i, g] >= c.SLOWDOWN_C:
        s.slow[i, g] = True
    elif s.die_c[i, g] <= c.SLOWDOWN_C - c.SLOWDOWN_HYSTERESIS_C:
        s.slow[i, g] = False
