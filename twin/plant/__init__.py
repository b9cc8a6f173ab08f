"""Power, heat, air, cooling and protection of a site: `state()` makes a cold one, `step()` moves it on (numba)."""

from twin.plant.protect import clocks
from twin.plant.step import step
from twin.plant.units import State, Supply, Units, state

__all__ = ["State", "Supply", "Units", "clocks", "state", "step"]
