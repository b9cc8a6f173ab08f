"""What meters and the building tell: rows, PDUs, UPSes, air handlers, aisles, cooling devices, chillers, the weather."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from twin.events import Down
from twin.exporters.base import TwinExporter
from twin.exporters.instruments import Column, Sensors, numbers, text
from twin.world import World

Floats = NDArray[np.float64]

WEATHER_S = 60
"""a weather station tells so often"""


class FacilityExporter(TwinExporter):
    """Power as mean and highest 1 s mean since the last frame; what stands still; the aisles' air; outside temperature.

    A PDU or UPS carries the share of each row that the power tree gives it now; one that is lost carries nothing.
    """

    topic: ClassVar[str] = "facility"

    def __init__(self, world: World, sensors: Sensors, period_s: float) -> None:
        """Rows of the frame: rows, PDUs, UPSes, AHUs, aisles, cooling devices, chillers, site."""
        super().__init__(world, sensors, period_s)
        t = world.topology
        units = {
            "row": [r.name for r in t.rows],
            "pdu": [p.name for p in t.pdus],
            "ups": [u.name for u in t.upses],
            "ahu": [name for aisle in t.aisles for name in aisle.ahus],
            "aisle": [a.name for a in t.aisles],
            "cooling": list(t.cooling_devices),
            "chiller": list(t.chillers),
            "site": [t.site],
        }
        kinds = [kind for kind, names in units.items() for _ in names]
        self._kind, self._unit = text(kinds), text([name for names in units.values() for name in names])
        self._source = text(["meter" if kind == "row" else None for kind in kinds])
        self._down, self._state = world.down, self._state_of(world.down)
        self._outside = (-WEATHER_S, np.nan)
        self._rows = len(kinds)

    def _read(self) -> dict[str, Column]:
        w = self._world
        if w.down is not self._down:
            self._down, self._state = w.down, self._state_of(w.down)
        rows = w.row_power(self._last)
        carried = np.concatenate([rows, rows @ w.ledger.part_share.T], axis=1)
        mean_w, max_w, air = np.full((3, self._rows), np.nan)
        mean_w[: carried.shape[1]] = np.add.reduce(carried) / len(carried)
        max_w[: carried.shape[1]] = np.maximum.reduce(carried)
        first = carried.shape[1] + len(w.down.ahus)
        air[first : first + len(w.state.airflow_cfm)] = w.state.airflow_cfm
        return {
            "ts": self._ts(self._rows),
            "kind": self._kind,
            "unit": self._unit,
            "state": self._state,
            "power_w": numbers(mean_w, np.float64),
            "power_max_w": numbers(max_w, np.float64),
            "airflow_cfm": numbers(air, np.float64),
            "outside_c": self._weather(),
            "source": self._source,
        }

    def _weather(self) -> Column:
        if self._world.second - self._outside[0] >= WEATHER_S:
            self._outside = (self._world.second, self._world.outside_c())
        outside = np.full(self._rows, np.nan)
        outside[-1] = self._outside[1]
        return numbers(outside)

    def _state_of(self, d: Down) -> Column:
        """Rows, aisles and the site have none."""
        t, units = self._world.topology, (d.pdus, d.upses, d.ahus, d.cooling_devices, d.chillers)
        pdus, upses, ahus, devices, chillers = (["lost" if lost else "ok" for lost in flags] for flags in units)
        none: list[str | None] = [None]
        return text(none * len(t.rows) + pdus + upses + ahus + none * len(t.aisles) + devices + chillers + none)
