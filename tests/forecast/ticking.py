"""A tick's forecasts one by one, as the tests look at them."""

from typing import Any

from contracts.forecasts import Forecast
from forecast import produce
from forecast.produce import State


def tick(*given: Any) -> tuple[list[Forecast], State]:
    """`forecast.produce.tick`, its blocks taken apart."""
    blocks, state = produce.tick(*given)
    return [forecast for block in blocks for forecast in block.forecasts()], state
