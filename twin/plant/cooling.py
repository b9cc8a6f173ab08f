"""The cooling plant: what is not carried away warms the supply air of all aisles."""

from math import exp

from twin.compiled import seldom
from twin.plant.units import State, Supply

ROOM_J_PER_K_PER_W = 12.0
"""[A] thermal mass of the rooms per W of full cooling: nothing carried away of as much heat warms 5 K/min. Closed racks
have 4 to 99 K/min, by their mass [A]; a room has more mass than racks alone."""
DEVICE_LAG_S = 30.0  # [A] cooling devices: coils and fans run down and up
CHILLED_WATER_LAG_S = 120.0  # [A] the water in the pipes stays cold for a while, and is slow to become so
SUPPLY_LAG_S = 300.0  # [A] supply air back to normal, where the spare capacity suffices
MOST_K = 60.0  # [A] by then every server has shut down; walls and doors do the rest


@seldom
def supply_air(s: State, supply: Supply, heat_w: float, dt_s: float) -> None:
    """Move the supply air's warmth on under the heat (W) of all servers: all their power becomes heat.

    Warming is excess / thermal mass. It cools with a lag, never faster than the spare capacity allows nor below normal.
    """
    s.shares_lagged[0] += (supply.cooling_share[0] - s.shares_lagged[0]) * (1.0 - exp(-dt_s / DEVICE_LAG_S))
    s.shares_lagged[1] += (supply.chiller_share[0] - s.shares_lagged[1]) * (1.0 - exp(-dt_s / CHILLED_WATER_LAG_S))
    excess_w = heat_w - supply.capacity_w[0] * s.shares_lagged[0] * s.shares_lagged[1]
    change_k = excess_w * dt_s / (ROOM_J_PER_K_PER_W * supply.capacity_w[0])
    rise_k = s.supply_rise_c[0]
    if excess_w > 0.0:
        s.supply_rise_c[0] = min(MOST_K, rise_k + change_k)
    else:
        s.supply_rise_c[0] = rise_k + max(change_k, -rise_k * (1.0 - exp(-dt_s / SUPPLY_LAG_S)))
