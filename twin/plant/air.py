"""Air: inlets from the weather, the site's load and the aisle; what aisles draw, and how they warm when that is too much."""

from math import exp

from twin import calibration as c
from twin.compiled import seldom
from twin.plant.units import State, Supply, Units

OVERDRAW_MOST = 10.0  # [A] keeps an aisle without any air finite: about 100 K/min, the fastest published rise of a closed rack


@seldom
def inlet_base(outside_c: float, site_load: float) -> float:
    """Inlet temperature (degC) of an average position while all cooling works; site_load = share of the GPUs' TDP.

    [P] TAPAS Fig. 3: held at 18 below 15 outside, +.80 per degree up to 29, flat above; warmer by up to 3 with the load.
    """
    outside = min(max(outside_c, c.OUTSIDE_COLD_C), c.OUTSIDE_FLAT_C)
    return c.INLET_COLD_C + c.INLET_PER_C * (outside - c.OUTSIDE_COLD_C) + c.INLET_LOAD_C * site_load


@seldom
def inlets(u: Units, s: State, outside_c: float) -> None:
    """Set the inlets, and the air that the summed GPU power of a server leaves at each GPU."""
    base_c = inlet_base(outside_c, s.site_load_lagged[0]) + s.supply_rise_c[0]
    for i in range(len(s.inlet_c)):
        s.inlet_c[i] = base_c + u.inlet_offset_c[i] + s.rise_c[u.aisle[i]]
        front_c = u.air_offset_c[i] + u.air_slope[i] * s.inlet_c[i]
        watts = s.gpus_w[i]
        for g in range(s.air_c.shape[1]):
            s.air_c[i, g] = front_c + u.position_k_per_w[i, g] * watts


@seldom
def overdraw(drawn_cfm: float, supplied_cfm: float) -> float:
    """Air drawn beyond the supply, relative to it; at most OVERDRAW_MOST."""
    if drawn_cfm <= supplied_cfm:
        return 0.0
    return min(OVERDRAW_MOST, drawn_cfm / supplied_cfm - 1.0)


@seldom
def aisles(s: State, supply: Supply, dt_s: float) -> None:
    """Let the inlets of each aisle follow what comes back of the warm air, from the air that aisles draw."""
    share = 1.0 - exp(-dt_s / c.OVERDRAW_LAG_S)
    for a in range(len(s.rise_c)):
        want_c = 0.0
        for b in range(len(s.rise_c)):
            want_c += supply.recirculation[a, b] * overdraw(s.airflow_cfm[b], supply.aisle_cfm[b])
        s.rise_c[a] += (want_c - s.rise_c[a]) * share


@seldom
def site_load(s: State, share: float, dt_s: float) -> None:
    """Let the lagged load of the site follow its load (share of the GPUs' TDP)."""
    s.site_load_lagged[0] += (share - s.site_load_lagged[0]) * (1.0 - exp(-dt_s / c.SITE_LOAD_LAG_S))
