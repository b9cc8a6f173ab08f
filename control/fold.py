"""The fold of observations into the View: newest value per thing, whatever the order in which batches come.

The same code folds the live log and the history. NULL never overwrites a value, except for a GPU that is lost.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.control import Action, Mode, Outcome, Revert
from contracts.forecasts import Forecasts
from contracts.schemas import SCHEMAS
from contracts.topology import Topology
from contracts.view import Index, ServerPlant, View
from control import index as positions
from control.columns import Columns, columns_of, is_text, micros
from control.forecasts import blocks_of
from control.newest import Floats, Newest, Times
from control.placed import Memory, Places, gpus, named, places, units

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
METER_SILENT_S = 30.0
"""a row meter older than this is replaced by the sum of its servers"""

_GPU = {"power_w": "gpu_power_w", "temp_c": "gpu_temp_c", "sm_clock_mhz": "gpu_clock_mhz", "clock_event_reasons": "gpu_reasons"}
_SERVER = {"inlet_c": "inlet_c", "power_w": "server_power_w"}
_ENDPOINT = {name: name for name in ("running", "waiting", "requests_rps", "slo_ok_pct")}
_ROW = {"power_w": "row_power_w", "power_max_w": "row_power_max_w"}

WANTED: Mapping[str, tuple[str, ...]] = {
    "gpu": ("ts", "node", "gpu", "state", *_GPU, "backfilled"),
    "server": ("ts", "node", *_SERVER, "backfilled"),
    "endpoints": ("ts", "node", *_ENDPOINT, "backfilled"),
    "facility": ("ts", "kind", "unit", "state", *_ROW, "airflow_cfm", "outside_c", "source", "backfilled"),
}
"""topic -> columns that are folded"""


class Fold:
    """Everything seen so far about one topology. Not thread-safe; one owner folds and views."""

    def __init__(self, topology: Topology) -> None:
        """Start from nothing seen."""
        self.topology = topology
        self.index: Index = positions.build(topology)
        servers, rows = len(topology.servers), len(topology.rows)
        self._gpu = Newest(len(self.index.gpu_server), tuple(_GPU))
        self._server = Newest(servers, tuple(_SERVER))
        self._endpoint = Newest(servers, tuple(_ENDPOINT))
        self._row = Newest(rows, (*_ROW, "metered"))
        self._aisle = Newest(len(topology.aisles), ("airflow_cfm",))
        self._ups = Newest(len(topology.upses), ("lost",))
        self._ahu = Newest(len(self.index.ahu), ("lost",))
        self._site = Newest(1, ("outside_c",))
        self._forecasts = Forecasts()
        self._actions: dict[str, Action] = {}
        self._outcomes: dict[str, Outcome] = {}
        self.modes: Mapping[str, Mode] = {}
        self.plant: ServerPlant | None = None
        self._memory = Memory()
        self._bits: tuple[Floats, NDArray[np.int64]] = (np.empty(0), np.empty(0, dtype=np.int64))

    def observe(self, topic: str, frame: pl.DataFrame | Columns) -> bool:
        """Fold rows of a columnar topic; True when they told of a row's power. Unknown names and topics are passed over.

        A data frame is one of the topic's schema, validated; columns are those of `WANTED` without backfilled rows.
        """
        if isinstance(frame, pl.DataFrame):
            if "backfilled" in frame.columns:
                frame = frame.filter(~pl.col("backfilled").fill_null(value=False))
            if topic == "forecasts":
                self._forecasts = self._forecasts.with_blocks(blocks_of(frame))
                return False
            if topic not in WANTED or frame.is_empty():
                return False
            return self._fold(topic, columns_of(frame, WANTED[topic]), Memory())
        return self._fold(topic, frame, self._memory)

    def _fold(self, topic: str, columns: Columns, memory: Memory) -> bool:
        """Fold columns; what `memory` made of the columns of names holds as long as the same come."""
        if not {"ts", *SCHEMAS[topic].keys[-1:]} <= columns.keys():
            return False
        match topic:
            case "gpu":
                self._observe_gpus(columns, memory)
            case "server" | "endpoints":
                newest, node = self._server if topic == "server" else self._endpoint, columns["node"]
                placed = memory.of("node", (node,), lambda: named(node, self.index.server))
                newest.fold(columns, Times.of(micros(columns["ts"])), placed)
            case "facility":
                return self._observe_facility(columns, memory)
        return False

    def action(self, action: Action) -> None:
        """Fold an action of the acting controller; a revert ends what was in force."""
        known = self._actions.get(action.target)
        if known is not None and (action.epoch, action.created_wall) < (known.epoch, known.created_wall):
            return
        self._actions[action.target] = action

    def outcome(self, outcome: Outcome) -> None:
        """Fold what became of an action."""
        known = self._outcomes.get(outcome.target)
        if known is None or outcome.at >= known.at:
            self._outcomes[outcome.target] = outcome

    def view(self, now: datetime, wall: datetime) -> View:
        """Return what is known at `now` (run time); `wall` decides which leases still live. Both aware UTC."""
        at = (now - EPOCH) / timedelta(microseconds=1)
        server_power = self._server.values("power_w")
        row_power, row_age, measured = self._rows(at, server_power)
        return View(
            now=now,
            topology=self.topology,
            index=self.index,
            gpu_reasons=self._reasons(),
            gpu_age_s=self._gpu.age_s(at),
            inlet_c=self._server.values("inlet_c"),
            server_power_w=server_power,
            server_age_s=self._server.age_s(at),
            endpoint_age_s=self._endpoint.age_s(at),
            row_power_w=row_power,
            row_power_max_w=np.where(measured, self._row.values("power_max_w"), np.nan),
            row_age_s=row_age,
            row_measured=measured,
            aisle_airflow_cfm=self._aisle.values("airflow_cfm"),
            ups_lost=self._ups.values("lost") > 0,
            ahu_lost=self._ahu.values("lost") > 0,
            outside_c=float(self._site.values("outside_c")[0]),
            forecasts=self._forecasts,
            actions=self._in_force(wall),
            outcomes=dict(self._outcomes),
            modes=self.modes,
            plant=self.plant,
            **{to: self._gpu.values(name) for name, to in _GPU.items() if to != "gpu_reasons"},
            **{to: self._endpoint.values(name) for name, to in _ENDPOINT.items()},
        )

    def _in_force(self, wall: datetime) -> dict[str, Action]:
        return {
            target: action
            for target, action in sorted(self._actions.items())
            if not isinstance(action.value, Revert) and action.created_wall + timedelta(seconds=action.lease_s) > wall
        }

    def _rows(self, at: float, server_power: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Row power, its age, and whether a meter told it: a silent meter is replaced by the sum of the row's servers."""
        power, age = self._row.values("power_w"), self._row.age_s(at)
        metered = self._row.values("metered") > 0
        unknown, old = np.isnan(power), age > METER_SILENT_S
        if not (unknown | old).any():
            return power, age, metered
        rows = len(power)
        sums = np.bincount(self.index.server_row, weights=server_power, minlength=rows)  # NaN where a server is unknown
        server_age = self._server.age_s(at)
        oldest = np.zeros(rows)
        np.maximum.at(oldest, self.index.server_row, server_age)
        silent = unknown | (old & (oldest < age))
        return np.where(silent, sums, power), np.where(silent, oldest, age), metered & ~silent

    def _reasons(self) -> NDArray[np.int64]:
        """Reasons as bits, none where nothing is known; the same array as long as nothing new came."""
        values = self._gpu.values("clock_event_reasons")
        if self._bits[0] is not values:
            bits = np.where(np.isnan(values), 0.0, values).astype(np.int64)
            bits.flags.writeable = False
            self._bits = (values, bits)
        return self._bits[1]

    def _observe_gpus(self, columns: Columns, memory: Memory) -> None:
        node, gpu, times = columns["node"], columns["gpu"], Times.of(micros(columns["ts"]))
        things, placed = memory.of("gpu", (node, gpu), lambda: self._gpu_places(node, gpu))
        self._gpu.fold(columns, times, placed)
        if (state := columns.get("state")) is not None:
            lost = memory.of("lost", (state,), lambda: np.flatnonzero(is_text(state, "lost")))
            if len(lost):
                lost = lost[things[lost] >= 0]
                self._gpu.forget(things[lost], times.each[lost])

    def _gpu_places(self, node: Any, gpu: Any) -> tuple[NDArray[np.int64], Places]:
        things = gpus(node, gpu, self.index)
        return things, places(things)

    def _observe_facility(self, columns: Columns, memory: Memory) -> bool:
        kind, unit, state, source = (columns.get(name) for name in ("kind", "unit", "state", "source"))
        found = memory.of("units", (kind, unit), lambda: units(kind, unit, self.index))
        times = Times.of(micros(columns["ts"]))
        if "row" in found:
            metered = memory.of("metered", (source, kind), lambda: _metered(source, len(times.each)))
            self._row.fold({**columns, "metered": metered}, times, found["row"])
        if state is not None:
            lost = {"lost": memory.of("state", (state,), lambda: _lost(state))}
            for name, newest in (("ups", self._ups), ("ahu", self._ahu)):
                if name in found:
                    newest.fold(lost, times, found[name])
        for name, newest in (("aisle", self._aisle), ("site", self._site)):
            if name in found:
                newest.fold(columns, times, found[name])
        return "row" in found


def _metered(source: Any, rows: int) -> Floats:
    """1 where a meter tells the power of a row, 0 where it is the sum of its servers."""
    return np.ones(rows) if source is None else np.where(is_text(source, "sum"), 0.0, 1.0)


def _lost(state: Any) -> Floats:
    """1 where something is lost, NaN where nothing is said."""
    return np.where(state.is_null().to_numpy(zero_copy_only=False), np.nan, is_text(state, "lost"))
