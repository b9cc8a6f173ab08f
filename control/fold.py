"""The fold of observations into the View: newest value per thing, whatever the order in which batches come.

The same code folds the live log and the history. NULL never overwrites a value, except for a GPU that is lost.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.control import Action, Mode, Outcome, Revert
from contracts.forecasts import Forecast
from contracts.topology import Topology
from contracts.view import Index, ServerPlant, View
from control import index as positions
from control.newest import Newest

METER_SILENT_S = 30.0
"""a row meter older than this is replaced by the sum of its servers"""

_GPU = {"power_w": "gpu_power_w", "temp_c": "gpu_temp_c", "sm_clock_mhz": "gpu_clock_mhz", "clock_event_reasons": "gpu_reasons"}
_SERVER = {"inlet_c": "inlet_c", "power_w": "server_power_w"}
_ENDPOINT = {name: name for name in ("running", "waiting", "requests_rps", "slo_ok_pct")}
_ROW = {"power_w": "row_power_w", "power_max_w": "row_power_max_w"}


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
        self._forecasts: dict[tuple[str, str], Forecast] = {}
        self._actions: dict[str, Action] = {}
        self._outcomes: dict[str, Outcome] = {}
        self.modes: Mapping[str, Mode] = {}
        self.plant: ServerPlant | None = None

    def observe(self, topic: str, frame: pl.DataFrame) -> None:
        """Fold rows of a columnar topic (validated, columns of its schema). Unknown names and topics are passed over."""
        if "backfilled" in frame.columns:
            frame = frame.filter(~pl.col("backfilled").fill_null(value=False))
        if frame.is_empty():
            return
        match topic:
            case "gpu":
                self._observe_gpus(frame)
            case "server":
                self._server.fold(frame, self._at(frame, "node", self.index.server))
            case "endpoints":
                self._endpoint.fold(frame, self._at(frame, "node", self.index.server))
            case "facility":
                self._observe_facility(frame)
            case "forecasts":
                self._observe_forecasts(frame)

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
        at = now.astimezone(UTC).replace(tzinfo=None)
        server_power = self._server.values("power_w")
        row_power, row_age, measured = self._rows(at, server_power)
        return View(
            now=now,
            topology=self.topology,
            index=self.index,
            gpu_reasons=np.nan_to_num(self._gpu.values("clock_event_reasons")).astype(np.int64),
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
            forecasts=dict(self._forecasts),
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

    def _rows(
        self, at: datetime, server_power: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Row power, its age, and whether a meter told it: a silent meter is replaced by the sum of the row's servers."""
        power, age = self._row.values("power_w"), self._row.age_s(at)
        metered = self._row.values("metered") > 0
        rows = len(power)
        sums = np.bincount(self.index.server_row, weights=server_power, minlength=rows)  # NaN where a server is unknown
        server_age = self._server.age_s(at)
        oldest = np.zeros(rows)
        np.maximum.at(oldest, self.index.server_row, server_age)
        silent = np.isnan(power) | ((age > METER_SILENT_S) & (oldest < age))
        return np.where(silent, sums, power), np.where(silent, oldest, age), metered & ~silent

    def _observe_gpus(self, frame: pl.DataFrame) -> None:
        server = self._at(frame, "node", self.index.server)
        gpu = frame["gpu"].cast(pl.Int64).to_numpy()
        first = self.index.gpu_first
        inside = (server >= 0) & (gpu < np.diff(first)[server])
        where = np.where(inside, first[server] + gpu, -1)
        self._gpu.fold(frame, where)
        lost = frame["state"].fill_null("ok").to_numpy() == "lost"
        if lost.any():
            ts = frame["ts"].cast(pl.Datetime("us")).to_physical().to_numpy()
            self._gpu.forget(where[lost & inside], ts[lost & inside])

    def _observe_facility(self, frame: pl.DataFrame) -> None:
        for (kind,), part in frame.group_by(["kind"], maintain_order=True):
            match kind:
                case "row":
                    part = part.with_columns(metered=(pl.col("source").fill_null("meter") != "sum").cast(pl.Float64))
                    self._row.fold(part, self._at(part, "unit", self.index.row))
                case "aisle":
                    self._aisle.fold(part, self._at(part, "unit", self.index.aisle))
                case "ups" | "ahu":
                    names, newest = (self.index.ups, self._ups) if kind == "ups" else (self.index.ahu, self._ahu)
                    part = part.with_columns(lost=(pl.col("state") == "lost").cast(pl.Float64))
                    newest.fold(part, self._at(part, "unit", names))
                case "site":
                    self._site.fold(part, np.zeros(part.height, dtype=np.int64))

    def _observe_forecasts(self, frame: pl.DataFrame) -> None:
        for row in frame.filter(pl.col("champion")).iter_rows(named=True):
            key = (row["target"], row["series"])
            known = self._forecasts.get(key)
            issued_at = row["ts"].replace(tzinfo=UTC)
            if known is None or issued_at >= known.issued_at:
                self._forecasts[key] = forecast_of(row)

    @staticmethod
    def _at(frame: pl.DataFrame, column: str, names: Mapping[str, int]) -> NDArray[np.int64]:
        """Positions of a name column; -1 = not in the topology."""
        if not names:
            return np.full(frame.height, -1, dtype=np.int64)
        mapped = frame[column].replace_strict(dict(names), default=-1, return_dtype=pl.Int64)
        return mapped.to_numpy()


def forecast_of(row: Mapping[str, Any]) -> Forecast:
    """Return the Forecast in a row of the `forecasts` table (naive UTC times, row-major values)."""
    levels = tuple(row["levels"])
    values = list(row["values"])
    width = len(levels)
    return msgspec.convert(
        {
            **{name: row[name] for name in ("forecast_id", "target", "series", "model", "champion", "unit")},
            "issued_at": row["ts"].replace(tzinfo=UTC),
            "data_until": row["data_until"].replace(tzinfo=UTC),
            "valid_at": tuple(at.replace(tzinfo=UTC) for at in row["valid_at"]),
            "levels": levels,
            "values": tuple(tuple(values[i : i + width]) for i in range(0, len(values), width)),
            "degradations": tuple(row["degradations"]),
        },
        Forecast,
    )


def forecast_row(forecast: Forecast) -> dict[str, object]:
    """Return the row of the `forecasts` table for a Forecast: the inverse of `forecast_of`."""
    return {
        "ts": forecast.issued_at,
        "forecast_id": forecast.forecast_id,
        "target": forecast.target,
        "series": forecast.series,
        "model": forecast.model,
        "champion": forecast.champion,
        "data_until": forecast.data_until,
        "unit": forecast.unit,
        "valid_at": list(forecast.valid_at),
        "levels": list(forecast.levels),
        "values": [value for step in forecast.values for value in step],
        "degradations": list(forecast.degradations),
    }
