"""Finding implementations by name: a dict per kind, filled by one-line entries (no import-time side effects)."""

from collections.abc import Mapping
from ctypes import CDLL
from importlib import import_module
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
    "shared": "forecast.models.shared:SharedLevel",
    "kalman": "forecast.models.kalman:KalmanNode",
    "prophet": "forecast.models.prophet_model:ProphetModel",
}
NEEDS: Mapping[str, str] = {"boosted": "libgomp.so.1"}
"""implementations whose package needs a library of the system: LightGBM's wheel does not bring OpenMP (Debian: libgomp1)"""
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
    """Return the names that can run here, in their order: all but those that miss a library of the system."""
    return tuple(name for name in kinds if name not in NEEDS or _loads(NEEDS[name]))


def _loads(library: str) -> bool:
    try:
        CDLL(library)
    except OSError:
        return False
    return True
