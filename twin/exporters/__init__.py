"""The twin's instruments: one frame per topic for the whole site. Each reads the world under its lock."""

from typing import Annotated

import msgspec

from twin.exporters.base import TwinExporter
from twin.exporters.endpoints import EndpointsExporter
from twin.exporters.facility import FacilityExporter
from twin.exporters.hardware import GpuExporter, ServerExporter
from twin.exporters.instruments import Sensors
from twin.exporters.requests import RequestsExporter
from twin.world import World

__all__ = ["ExporterSettings", "TwinExporter", "exporters"]

Period = Annotated[float, msgspec.Meta(ge=1, le=3600)]


class ExporterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Periods in seconds of run time."""

    gpu_period_s: Period = 2.0
    server_period_s: Period = 5.0
    facility_period_s: Period = 2.0
    requests_period_s: Period = 2.0
    endpoints_period_s: Period = 5.0
    request_sample: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 8
    """one request in so many becomes a row, and says so in `weight`"""


def exporters(world: World, settings: ExporterSettings | None = None) -> list[TwinExporter]:
    """Return the twin's exporters: gpu, server, facility, requests, endpoints."""
    s, sensors = settings or ExporterSettings(), Sensors(world)
    return [
        GpuExporter(world, sensors, s.gpu_period_s),
        ServerExporter(world, sensors, s.server_period_s),
        FacilityExporter(world, sensors, s.facility_period_s),
        RequestsExporter(world, sensors, s.requests_period_s, s.request_sample),
        EndpointsExporter(world, sensors, s.endpoints_period_s),
    ]
