"""One step of the plant: power, air, fans, heat, protection, then what servers, rows, aisles and the site make of it."""

from twin.compiled import seldom
from twin.plant import air, cooling, fans, heat, power
from twin.plant.protect import protect
from twin.plant.units import Floats, State, Supply, Units


@seldom
def step(u: Units, s: State, nominal_w: Floats, outside_c: float, supply: Supply, dt_s: float) -> int:
    """Move the plant on by `dt_s` seconds of constant load, in place; return how many GPUs are in slowdown or shut down.

    nominal_w [S, G]: W that each GPU would draw at factor 1 and the leakage's reference temperature, clock already in it; 0
    for a lost GPU. Dies and sinks are exact for the power, air and duty of the step; power follows the last die
    temperature, air the last step's aisle and site. Clocks are not touched, see `clocks`.
    """
    power.boards(u, s, nominal_w, dt_s)
    air.inlets(u, s, outside_c)
    fans.control(u, s, dt_s)
    heat.refresh(u, s, dt_s)
    heat.advance(s)
    held = protect(u, s)
    site_w, load = power.servers(u, s)
    air.aisles(s, supply, dt_s)
    air.site_load(s, load, dt_s)
    cooling.supply_air(s, supply, site_w, dt_s)
    return held
