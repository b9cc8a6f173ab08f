"""A forecast: a calibrated distribution over time for one series, with its provenance."""

from datetime import datetime
from typing import Literal

import msgspec

Target = Literal["load", "inlet", "power", "gpu_temp", "airflow", "headroom"]

LEVELS: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
ROW_POWER_LEVELS: tuple[float, ...] = (*LEVELS, 0.999)

UNITS: dict[Target, str] = {
    "load": "1/s",
    "inlet": "degC",
    "power": "W",
    "gpu_temp": "degC",
    "airflow": "CFM",
    "headroom": "W",
}


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """One series' future. Times aware UTC, run clock; `values[t][q]` belongs to `valid_at[t]` and `levels[q]`."""

    forecast_id: str
    target: Target
    series: str
    """load: endpoint; inlet, gpu_temp (hottest GPU): server; power, headroom: row; airflow: aisle"""
    model: str
    champion: bool
    issued_at: datetime
    data_until: datetime
    unit: str
    valid_at: tuple[datetime, ...]
    levels: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    degradations: tuple[str, ...] = ()
