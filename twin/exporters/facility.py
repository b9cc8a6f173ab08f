"""What meters and the building tell: rows, PDUs, UPSes, air handlers, aisles, cooling devices, chillers, the weather."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from twin.events import Down
from twin.exporters.base import TwinExporter
from twin.exporters.instruments import Column, Sensors, Somewhere, text
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
        self._outside: Column | None = None
        self._weather_second = world.second
        self._rows = rows = len(kinds)
        metered = sum(len(units[kind]) for kind in ("row", "pdu", "ups"))
        self._metered, self._station = Somewhere(rows, 0, metered), Somewhere(rows, rows - 1, 1)
        self._aired = Somewhere(rows, metered + len(units["ahu"]), len(t.aisles))

    def _read(self) -> dict[str, Column]:
        w = self._world
        if w.down is not self._down:
            self._down, self._state = w.down, self._state_of(w.down)
        rows = w.row_power(self._last)
        carried = np.concatenate([rows, rows @ w.ledger.part_share.T], axis=1)
        return {
            "ts": self._ts(self._rows),
            "kind": self._kind,
            "unit": self._unit,
            "state": self._state,
            "power_w": self._metered.numbers(np.add.reduce(carried) / len(carried)),
            "power_max_w": self._metered.numbers(np.maximum.reduce(carried)),
            "airflow_cfm": self._aired.numbers(w.state.airflow_cfm),
            "outside_c": self._weather(),
            "source": self._source,
        }

    def _weather(self) -> Column:
        if self._outside is None or self._world.second - self._weather_second >= WEATHER_S:
            self._weather_second = self._world.second
            self._outside = self._station.numbers(np.array([self._world.outside_c()]), np.float32)
        return self._outside

    def _state_of(self, d: Down) -> Column:
        """Rows, aisles and the site have none."""
        t, units = self._world.topology, (d.pdus, d.upses, d.ahus, d.cooling_devices, d.chillers)
        pdus, upses, ahus, devices, chillers = (["lost" if lost else "ok" for lost in flags] for flags in units)
        none: list[str | None] = [None]
        return text(none * len(t.rows) + pdus + upses + ahus + none * len(t.aisles) + devices + chillers + none)
