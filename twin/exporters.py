"""The twin's instruments: one frame per topic for the whole site. Each reads the world under its lock."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.ports import Collected
from twin import calibration as c
from twin.finished import Finished, joined
from twin.sensors import degrees
from twin.world import World

Period = Annotated[float, msgspec.Meta(ge=1, le=3600)]

REASON_IDLE, REASON_CAP, REASON_POWER, REASON_SLOWDOWN, REASON_HEAT, REASON_BRAKE = 0x1, 0x2, 0x4, 0x8, 0x40, 0x80
"""NVML's clock event reasons: idle, clocks set by somebody, power limit, hardware slowdown, by heat, by power brake"""


class ExporterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Periods in seconds of run time."""

    gpu_period_s: Period = 2.0
    server_period_s: Period = 5.0
    facility_period_s: Period = 2.0
    requests_period_s: Period = 2.0
    endpoints_period_s: Period = 5.0
    request_sample: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 8
    """one request in so many becomes a row, and says so in `weight`"""


def exporters(world: World, settings: ExporterSettings | None = None) -> "list[TwinExporter]":
    """Return the twin's exporters: gpu, server, facility, requests, endpoints."""
    s = settings or ExporterSettings()
    return [
        GpuExporter(world, "twin_gpu", s.gpu_period_s),
        ServerExporter(world, "twin_server", s.server_period_s),
        FacilityExporter(world, "twin_facility", s.facility_period_s),
        RequestsExporter(world, "twin_requests", s.requests_period_s, s.request_sample),
        EndpointsExporter(world, "twin_endpoints", s.endpoints_period_s),
    ]


class TwinExporter(ABC):
    """What the five share: nothing to say until the world has moved on."""

    def __init__(self, world: World, name: str, period_s: float) -> None:
        """Rows describe the time since the call before; the first call, since now."""
        self.name, self.period_s = name, period_s
        self._world = world
        self._last = world.second

    def collect(self, now: datetime) -> Sequence[Collected]:  # noqa: ARG002 - the world has its own time, which rows carry
        """Read once; ts = the world's present moment. Empty while that has not moved."""
        with self._world.lock:
            if self._world.second <= self._last:
                return ()
            frame = self._read()
            self._last = self._world.second
        return (frame,)

    def close(self) -> None:  # noqa: B027 - nothing is held; no exporter needs to say so again
        """Nothing is held."""

    @abstractmethod
    def _read(self) -> Collected:
        """The frame of (self._last, world.second]."""

    def _ts(self, rows: int) -> NDArray[np.datetime64]:
        return np.full(rows, np.datetime64(self._world.now.astimezone(UTC).replace(tzinfo=None), "us"))


class GpuExporter(TwinExporter):
    """Every GPU: power, temperatures, clocks, reasons."""

    def _read(self) -> Collected:
        w, s = self._world, self._world.state
        down = s.down.ravel()
        names = [server.name for server in w.topology.servers]
        temp = degrees(s.die_c, w.fleet.temp_bias_c)
        loaded = np.where(w.fleet.endpoint >= 0, 60_000.0, 40_000.0)[:, None]  # MiB of 81,559 [A]

        def known(values: NDArray[Any]) -> NDArray[Any] | list[Any]:
            flat = values.ravel()
            return flat if not down.any() else [None if lost else v for v, lost in zip(flat.tolist(), down, strict=True)]

        return Collected(
            topic="gpu",
            columns={
                "ts": self._ts(len(down)),
                "node": [name for name in names for _ in range(c.GPUS)],
                "gpu": np.tile(np.arange(c.GPUS), len(names)),
                "uuid": [f"GPU-{name}-{g}" for name in names for g in range(c.GPUS)],
                "state": np.where(down, "lost", "ok").tolist(),
                "power_w": known(s.gpu_w),
                "temp_c": known(temp),
                "mem_temp_c": known(degrees(s.die_c, w.fleet.memory_offset_c)),
                "sm_clock_mhz": known(s.clock_mhz),
                "mem_clock_mhz": known(np.full(s.die_c.shape, 2619.0)),
                "util_pct": known(np.broadcast_to(100.0 * s.util[:, None], s.die_c.shape)),
                "mem_used_mib": known(np.broadcast_to(loaded, s.die_c.shape)),
                "energy_j": known(s.energy_j),
                "clock_event_reasons": known(self._reasons()),
            },
        )

    def _reasons(self) -> NDArray[np.int64]:
        w, s = self._world, self._world.state
        flags = (
            (np.broadcast_to(s.util[:, None] <= 0.0, s.slow.shape), REASON_IDLE),
            ((w.caps.mhz < c.MAX_MHZ) & (w.caps.mhz > c.BRAKE_MHZ), REASON_CAP),
            (s.gpu_w >= c.TDP_W, REASON_POWER),
            (s.slow, REASON_SLOWDOWN | REASON_HEAT),
            (w.caps.mhz <= c.BRAKE_MHZ, REASON_SLOWDOWN | REASON_BRAKE),
        )
        reasons = np.zeros(s.slow.shape, dtype=np.int64)
        for where, bits in flags:
            reasons[where] |= bits
        return reasons


class ServerExporter(TwinExporter):
    """Every server: inlet, power at the wall, fans."""

    def _read(self) -> Collected:
        w, s = self._world, self._world.state
        servers = w.topology.servers
        return Collected(
            topic="server",
            columns={
                "ts": self._ts(len(servers)),
                "node": [server.name for server in servers],
                "inlet_c": degrees(s.inlet_c, w.fleet.inlet_bias_c),
                "power_w": s.server_w.copy(),
                "fan_pct": 100.0 * s.duty,
                "gpu_power_w": s.gpu_w.sum(axis=1),
                "gpu_max_c": degrees(s.die_c, w.fleet.temp_bias_c).max(axis=1),
            },
        )


class FacilityExporter(TwinExporter):
    """Row meters (mean and highest 1 s power since the call before), UPS and AHU state, aisle air, outside temperature."""

    def _read(self) -> Collected:
        w, s = self._world, self._world.state
        topology = w.topology
        power = np.array([row_w for second, row_w in w.row_power if second > self._last])
        feeding = max(1, int((~w.ups_lost).sum()))
        rows: list[dict[str, Any]] = [
            {
                "kind": "row",
                "unit": row.name,
                "power_w": float(power[:, r].mean()),
                "power_max_w": float(power[:, r].max()),
                "source": "meter",
            }
            for r, row in enumerate(topology.rows)
        ]
        rows += [
            {
                "kind": "ups",
                "unit": ups.name,
                "state": "lost" if lost else "ok",
                "power_w": 0.0 if lost else float(power.sum(axis=1).mean()) / feeding,
                "power_max_w": 0.0 if lost else float(power.sum(axis=1).max()) / feeding,
            }
            for ups, lost in zip(topology.upses, w.ups_lost.tolist(), strict=True)
        ]
        ahus = [name for aisle in topology.aisles for name in aisle.ahus]
        rows += [
            {"kind": "ahu", "unit": name, "state": "lost" if lost else "ok"}
            for name, lost in zip(ahus, w.ahu_lost.tolist(), strict=True)
        ]
        rows += [
            {"kind": "aisle", "unit": aisle.name, "airflow_cfm": float(s.airflow_cfm[a])}
            for a, aisle in enumerate(topology.aisles)
        ]
        rows.append({"kind": "site", "unit": topology.site, "outside_c": w.outside_c()})
        names = ("kind", "unit", "state", "power_w", "power_max_w", "airflow_cfm", "outside_c", "source")
        return Collected(
            topic="facility",
            columns={"ts": self._ts(len(rows)), **{name: [row.get(name) for row in rows] for name in names}},
        )


def _since(world: World, last: int) -> Finished:
    """The requests that ended after second `last`."""
    return joined(finished for second, finished in world.finished if second > last)


class RequestsExporter(TwinExporter):
    """One finished request in `sample`, counted through, so that the weights add up to all of them."""

    def __init__(self, world: World, name: str, period_s: float, sample: int) -> None:
        """`sample` >= 1."""
        super().__init__(world, name, period_s)
        self._sample = sample
        self._seen = 0

    def _read(self) -> Collected:
        w = self._world
        f = _since(w, self._last)
        picked = np.arange((-self._seen) % self._sample, len(f.instance), self._sample)
        numbers = self._seen + picked
        self._seen += len(f.instance)
        servers, endpoints = w.topology.servers, w.topology.endpoints
        start = np.datetime64(w.scenario.start.astimezone(UTC).replace(tzinfo=None), "us")
        ended = np.isfinite(f.first_s[picked])
        output = f.output[picked]
        ttft_s = f.first_s[picked] - f.arrival_s[picked]
        tbt_s = (f.end_s[picked] - f.first_s[picked]) / np.maximum(1, output - 1)

        def known(values: NDArray[np.float64], valid: NDArray[np.bool_]) -> list[float | None]:
            return [v if ok else None for v, ok in zip(values.tolist(), valid.tolist(), strict=True)]

        return Collected(
            topic="requests",
            columns={
                "ts": start + (f.end_s[picked] * 1e6).astype("timedelta64[us]"),
                "request_id": [f"{w.scenario.name}-{w.seed}-{n}" for n in numbers.tolist()],
                "endpoint": [endpoints[e].name for e in w.fleet.instance_endpoint[f.instance[picked]]],
                "model": [endpoints[e].model for e in w.fleet.instance_endpoint[f.instance[picked]]],
                "node": [servers[i].name for i in w.fleet.instance_server[f.instance[picked]]],
                "received_at": start + (f.arrival_s[picked] * 1e6).astype("timedelta64[us]"),
                "status": np.where(ended, "ok", "rejected").tolist(),
                "prompt_tokens": f.prompt[picked],
                "output_tokens": np.where(ended, output, 0),
                "ttft_s": known(ttft_s, ended),
                "tbt_s": known(tbt_s, ended & (output > 1)),
                "e2e_s": known(f.end_s[picked] - f.arrival_s[picked], ended),
                "weight": np.full(len(picked), float(self._sample)),
            },
        )


class EndpointsExporter(TwinExporter):
    """Every instance's gauges, and the latencies of all its requests that ended since the call before."""

    def __init__(self, world: World, name: str, period_s: float) -> None:
        """Counters are read as differences."""
        super().__init__(world, name, period_s)
        self._before = self._counters()

    def _counters(self) -> NDArray[np.int64]:
        k = self._world.work
        return np.stack([k.arrived, k.prompt_tokens, k.output_tokens])

    def _read(self) -> Collected:
        w = self._world
        elapsed_s = w.second - self._last
        counters = self._counters()
        arrived, prompt, output = (counters - self._before) / elapsed_s
        self._before = counters
        fleet, servers, endpoints = w.fleet, w.topology.servers, w.topology.endpoints
        ttft, tbt, ok = self._latencies(_since(w, self._last))
        return Collected(
            topic="endpoints",
            columns={
                "ts": self._ts(len(fleet.instance_server)),
                "endpoint": [endpoints[e].name for e in fleet.instance_endpoint],
                "node": [servers[i].name for i in fleet.instance_server],
                "running": w.serving.running.astype(np.float64),
                "waiting": w.serving.waiting.astype(np.float64),
                "kv_cache_pct": np.minimum(100.0, 100.0 * w.serving.context / c.KV_TOKENS),
                "requests_rps": arrived,
                "prompt_tok_s": prompt,
                "output_tok_s": output,
                "ttft_p99_s": ttft,
                "tbt_p99_s": tbt,
                "slo_ok_pct": ok,
            },
        )

    def _latencies(self, f: Finished) -> tuple[list[float | None], list[float | None], list[float | None]]:
        """Per instance: P99 of TTFT and TBT, share within the objectives; None where nothing ended. Rejected = missed."""
        ttft_s = f.first_s - f.arrival_s
        tbt_s = (f.end_s - f.first_s) / np.maximum(1, f.output - 1)
        ttft: list[float | None] = []
        tbt: list[float | None] = []
        ok: list[float | None] = []
        order = np.argsort(f.instance, kind="stable")
        bounds = np.searchsorted(f.instance[order], np.arange(len(self._world.fleet.instance_server) + 1))
        for low, high in pairwise(bounds.tolist()):
            mine = order[low:high]
            served = mine[np.isfinite(f.first_s[mine])]
            steps = served[f.output[served] > 1]
            ttft.append(float(np.quantile(ttft_s[served], 0.99)) if len(served) else None)
            tbt.append(float(np.quantile(tbt_s[steps], 0.99)) if len(steps) else None)
            ok.append(100.0 * float(f.ok[mine].mean()) if len(mine) else None)
        return ttft, tbt, ok
