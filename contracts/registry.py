"""Finding implementations by name: a dict per kind, filled by one-line entries (no import-time side effects)."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from contracts.errors import ConfigError

EXPORTERS: Mapping[str, str] = {
    "nvml": "ingest.exporters.nvml:NvmlExporter",
    "redfish": "ingest.exporters.redfish:RedfishExporter",
    "request_log": "ingest.exporters.request_log:RequestLogExporter",
    "request_http": "ingest.exporters.request_http:RequestHttpExporter",
    "serving": "ingest.exporters.serving:ServingExporter",
    "replay": "ingest.exporters.replay:ReplayExporter",
}
FORECASTERS: Mapping[str, str] = {
    "persistence": "forecast.models.persistence:Persistence",
    "seasonal_naive": "forecast.models.seasonal_naive:SeasonalNaive",
    "weekly_naive": "forecast.models.seasonal_naive:WeeklyNaive",
    "seasonal_mean": "forecast.models.seasonal_mean:SeasonalMean",
    "ridge": "forecast.models.ridge:Ridge",
    "autoreg": "forecast.models.autoreg:AutoRegFourier",
    "arx": "forecast.models.arx:Arx",
    "arx_robust": "forecast.models.arx:robust_arx",
    "ets": "forecast.models.ets:Ets",
    "components": "forecast.models.components:Components",
    "boosted": "forecast.models.boosted:Boosted",
    "kalman": "forecast.models.kalman:KalmanNode",
    "prophet": "forecast.models.prophet_model:ProphetModel",
}
NEEDS: Mapping[str, str] = {"boosted": "lightgbm"}
"""implementations of an optional extra: name -> the package that they import"""
POLICIES: Mapping[str, str] = {
    "caps": "policies.caps:Caps",
    "thermal": "policies.thermal:Thermal",
    "routing": "policies.routing:Routing",
    "emergency": "policies.emergency:Emergency",
    "alerts": "policies.alerts:Alerts",
}
ACTUATORS: Mapping[str, str] = {
    "nvml": "actuators.nvml:NvmlClocks",
    "haproxy": "actuators.haproxy:HaproxyWeights",
    "alertmanager": "actuators.alertmanager:Alertmanager",
    "dry_run": "actuators.dry_run:DryRun",
}


def load(kinds: Mapping[str, str], name: str) -> Any:
    """Import and return the implementation registered under `name`; ConfigError lists what there is."""
    try:
        path = kinds[name]
    except KeyError:
        raise ConfigError(f"unknown name {name!r}: allowed are {', '.join(sorted(kinds))}") from None
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def installed(kinds: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names whose packages are there, in their order: all but those of an extra that was not installed."""
    return tuple(name for name in kinds if name not in NEEDS or find_spec(NEEDS[name]) is not None)
