"""Learning the plant from history: per server, shrunk to its class, and the class to published or data-sheet values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from contracts.errors import InputError
from contracts.topology import Hardware, Topology
from contracts.view import Floats
from forecast.grids import Ints
from forecast.plant_drift import drifted
from forecast.plant_gpus import Gpus, fit_gpus
from forecast.plant_model import SHARE_EXPONENT, Clocks, Plant, PlantState, inlet_terms, load_share
from forecast.plant_readings import STEP_S, Collected, Narrow, Readings, collected
from forecast.plant_units import AIR_NOISE, INLET_NOISE_K, POWER_NOISE_W, Law, Learnt, learn, untold

__all__ = ["Clocks", "Plant", "PlantState", "drifted", "fit"]

INLET_PRIOR = (18.0, 0.0, 0.75, -0.75, 2.5)
"""18 degC up to 15 outside, .75 per degC to 29, level above; 2.5 K from no to full load (TAPAS Figs. 3 and 5)"""
INLET_CLASS_SD, INLET_UNIT_SD = (3.0, 0.15, 0.3, 0.4, 2.0), (1.4, 0.03, 0.06, 0.1, 0.6)
"""of an aisle around it [A: the spread of TAPAS Fig. 3's servers and sites]; of a server around its aisle (offset .7 K, racks
to 2 K)"""
POWER_CLASS_SD, POWER_UNIT_SD = (800.0, 0.25, 3e-5), (200.0, 0.04, 5e-6)
"""W, W/W, W/W^2 [A]: of hardware around its data sheet, of a server around its hardware"""
AIR_CLASS_SD, AIR_UNIT_SD = (0.5, 0.5), (0.1, 0.1)
"""of the data sheet's constant and slope, relative [A]"""
WEEK_S = 7 * 86_400
RANGES = {"gpu_power_w": "gpu_power", "inlet_c": "inlet"}


@dataclass(frozen=True)
class Sheet:
    """What data sheets say of S servers: where every fit begins."""

    group: Ints
    """[S] hardware"""
    aisle: Ints
    """[S]"""
    gpus: Ints
    """[S]"""
    full_w: Floats
    """[S] summed GPU power at TDP"""
    max_clock_mhz: Floats
    idle_cfm: Floats
    power: Floats
    """[S, 3] constant, per W of all GPUs, per W^2"""
    airflow: Floats
    """[S, 2] constant, per W of all GPUs"""


def fit(topology: Topology, frames: Mapping[str, Readings]) -> Plant:
    """Learn from means over 300 s by name: `inlet`, `gpu_temp` (hottest), `gpu_power` (all GPUs), `server_power` (series =
    server), `gpu_temp_each` (SERVER/3), `airflow` (aisle), `outside` (any series), and `clock` (server, MHz) where somebody
    kept it.

    Each is a long frame (ts = END, series, value), a Batch, or parts of either, one after the other: thousands of servers over
    weeks need never be in memory as one frame. What is absent or too short stays at the data sheet's or the published values;
    `errors` then lacks its name. Raises InputError where hardware is not described or readings are none.
    """
    sheet, servers = _sheet(topology), tuple(s.name for s in topology.servers)
    apart = ("airflow", "gpu_temp_each")
    first, last, wide = collected({name: frame for name, frame in frames.items() if name not in apart}, servers)
    power, outside = wide.get("gpu_power"), wide.get("outside")
    peak = sheet.full_w if power is None else _peaks(power, sheet.full_w)
    inlet = _inlet(wide, peak, sheet)
    wall = _server_power(wide, sheet)
    gpus = fit_gpus(servers, sheet.group, sheet.gpus, sheet.full_w, wide, frames.get("gpu_temp_each"), (first, last))
    air, air_errors = _airflow(topology, frames.get("airflow"), power, (first, last), sheet)
    learnt = {"inlet_c": inlet.errors, "gpu_c": gpus.hottest.errors, "server_power_w": wall.errors, "airflow_cfm": air_errors}
    learnt |= {} if gpus.each is None else {"gpu_each_c": gpus.each.errors.reshape(len(servers), -1)}
    points = {"inlet_c": inlet.points, "gpu_c": gpus.hottest.points, "server_power_w": wall.points}
    points |= {} if gpus.each is None else {"gpu_each_c": gpus.each.points}
    load = None if power is None else load_share(power, peak)
    state = PlantState(
        version=2,
        servers=servers,
        inlet=_rows(inlet.coefficients),
        gpu=_rows(gpus.curve[:, :3]),
        power=_rows(wall.coefficients),
        airflow=_rows(air),
        airflow_idle_cfm=_row(sheet.idle_cfm),
        peak_gpu_w=_row(peak),
        clocks=_clocks(wide, sheet.max_clock_mhz),
        errors={name: float(np.nanmedian(errors)) for name, errors in learnt.items() if np.isfinite(errors).any()},
        outside_range_c=(0.0, 0.0) if outside is None else (float(np.nanmin(outside)), float(np.nanmax(outside))),
        points={name: count for name, count in points.items() if count},
        load_range=None if load is None else (float(np.nanmin(load)), float(np.nanmax(load))),
        ranges={name: _spans(wide[of]) for name, of in RANGES.items() if of in wide},
        groups=tuple(sheet.group.tolist()),
    )
    state = _with_gpus(state, gpus, sheet)
    return Plant(_with_errors(state, learnt, wall.shares))


def _sheet(topology: Topology) -> Sheet:
    """Raises InputError when a server's hardware is not described."""
    kinds = {h.name: h for h in topology.hardware}
    try:
        hardware = [kinds[s.hardware] for s in topology.servers]
    except KeyError as unknown:
        raise InputError(f"topology: hardware {unknown} is not described; add it to `hardware`") from None

    def of(value: Callable[[Hardware], float]) -> Floats:
        return np.array([value(h) for h in hardware], dtype=np.float64)

    full_w, idle_cfm = of(lambda h: h.gpus * h.gpu_tdp_w), of(lambda h: h.airflow_idle_cfm)
    idle_gpu_w = 0.11 * full_w  # an idle H100 draws 75 W of 700
    per_w = of(lambda h: h.max_power_w - h.idle_power_w) / (full_w - idle_gpu_w)
    cfm_per_w = (of(lambda h: h.airflow_max_cfm) - idle_cfm) / (full_w - idle_gpu_w)
    aisle_of = {row.name: row.aisle for row in topology.rows}
    aisles = {aisle.name: a for a, aisle in enumerate(topology.aisles)}
    return Sheet(
        group=np.array([list(kinds).index(h.name) for h in hardware], dtype=np.int64),
        aisle=np.array([aisles.get(aisle_of.get(s.row, ""), -1) for s in topology.servers], dtype=np.int64),
        gpus=np.array([h.gpus for h in hardware], dtype=np.int64),
        full_w=full_w,
        max_clock_mhz=of(lambda h: h.max_clock_mhz),
        idle_cfm=idle_cfm,
        power=np.stack([of(lambda h: h.idle_power_w) - per_w * idle_gpu_w, per_w, 0.0 * per_w], axis=1),
        airflow=np.stack([idle_cfm - cfm_per_w * idle_gpu_w, cfm_per_w], axis=1),
    )


def _rows(table: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(_row(row) for row in table)


def _row(values: Floats) -> tuple[float, ...]:
    """Eight digits: a site's JSON must pass through the log as one record."""
    return tuple(float(f"{value:.8g}") for value in values.tolist())


def _spans(values: Narrow) -> tuple[tuple[float, float] | None, ...]:
    seen = np.isfinite(values)
    low, high = np.where(seen, values, np.inf).min(axis=1), np.where(seen, values, -np.inf).max(axis=1)
    return tuple((round(a, 3), round(b, 3)) if a <= b else None for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _with_gpus(state: PlantState, gpus: Gpus, sheet: Sheet) -> PlantState:
    """Return the state with the curves of its GPUs, in W of all GPUs of a server."""
    own = msgspec.structs.replace(
        state, gpu_full_w=_row(sheet.full_w), gpu_knots_w=_rows(gpus.knots_w), gpu_bends=_rows(gpus.curve[:, 3:])
    )
    if gpus.offsets is None:
        return own
    each = tuple(_rows(pairs[:count]) for pairs, count in zip(gpus.offsets, sheet.gpus.tolist(), strict=True))
    return msgspec.structs.replace(own, gpu_each=each, each_read=tuple(gpus.read.tolist()))


def _with_errors(state: PlantState, learnt: Mapping[str, Floats], shares: Floats) -> PlantState:
    """Return the state with each server's own errors; of its GPUs the mean."""
    own = {name: errors if errors.ndim == 1 else _mean_of(errors) for name, errors in learnt.items()} | {
        "server_power_share": shares
    }
    told = {name: tuple(None if np.isnan(e) else float(f"{e:.4g}") for e in errors.tolist()) for name, errors in own.items()}
    return msgspec.structs.replace(
        state, unit_errors={name: errors for name, errors in told.items() if any(e is not None for e in errors)}
    )


def _mean_of(errors: Floats) -> Floats:
    count = np.isfinite(errors).sum(axis=1)
    return np.where(count > 0, np.nansum(errors, axis=1) / np.maximum(count, 1), np.nan)


def _peaks(gpu_power: Narrow, full: Floats) -> Floats:
    """Return the highest 5 min GPU power; `full` where less than a week (or half of it in points) was seen."""
    seen = np.isfinite(gpu_power)
    first, last = np.argmax(seen, axis=1), seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
    enough = ((last - first) * STEP_S >= 0.99 * WEEK_S) & (seen.sum(axis=1) * STEP_S >= 0.5 * WEEK_S)
    return np.where(enough, np.where(seen, gpu_power, 0.0).max(axis=1), full)


def _inlet(wide: Mapping[str, Narrow], peak: Floats, sheet: Sheet) -> Learnt:
    law = Law(
        published=np.tile(INLET_PRIOR, (len(peak), 1)),
        class_sd=np.array(INLET_CLASS_SD),
        unit_sd=np.array(INLET_UNIT_SD),
        noise=INLET_NOISE_K,
        group=sheet.aisle,
    )
    inlet, outside, power = wide.get("inlet"), wide.get("outside"), wide.get("gpu_power")
    if inlet is None or outside is None:
        return untold(law)
    load = np.full(inlet.shape[1], 0.5) if power is None else load_share(power, peak)
    terms = inlet_terms(outside[0].astype(np.float64), load).T[None]
    return learn(lambda some: (terms, inlet[some].astype(np.float64)), inlet.shape[1], law)


def _server_power(wide: Mapping[str, Narrow], sheet: Sheet) -> Learnt:
    law = Law(
        published=sheet.power,
        class_sd=np.array(POWER_CLASS_SD),
        unit_sd=np.array(POWER_UNIT_SD),
        noise=POWER_NOISE_W,
        group=sheet.group,
    )
    wall, power = wide.get("server_power"), wide.get("gpu_power")
    if wall is None or power is None:
        return untold(law)

    def points(some: slice) -> tuple[Floats, Floats]:
        p = power[some].astype(np.float64)
        return np.stack([np.ones_like(p), p, np.square(p)], axis=1), wall[some].astype(np.float64)

    return learn(points, wall.shape[1], law)


def _airflow(
    topology: Topology, readings: Readings | None, power: Narrow | None, span: tuple[int, int], sheet: Sheet
) -> tuple[Floats, Floats]:
    """Scale the data sheet's line to each aisle's measured air: one factor for its constant, one for its slope; return the
    servers' lines [S, 2] and [S] the error of their aisle in CFM. The fans of a single server are measured nowhere."""
    aisles = [aisle.name for aisle in topology.aisles]
    air = Collected(aisles)
    if readings is not None:
        air.read(readings)
    measured = air.within(*span).astype(np.float64)
    if power is None or not np.isfinite(measured).any():
        return sheet.airflow, np.full(len(sheet.airflow), np.nan)
    member = (sheet.aisle[None, :] == np.arange(len(aisles))[:, None]).astype(np.float64)
    size = np.maximum(member @ sheet.airflow[:, 0], 1e-9)
    lost = member @ np.isnan(power) > 0
    rise = np.where(lost, np.nan, (member * sheet.airflow[:, 1]) @ np.nan_to_num(power))
    base = (member @ sheet.airflow[:, 0])[:, None] + 0.0 * rise
    law = Law(
        published=np.ones((len(aisles), 2)),
        class_sd=np.array(AIR_CLASS_SD),
        unit_sd=np.array(AIR_UNIT_SD),
        noise=AIR_NOISE,
        group=np.zeros(len(aisles), dtype=np.int64),
    )
    terms = np.stack([base, rise], axis=1) / size[:, None, None]
    learnt = learn(lambda some: (terms[some], measured[some] / size[some, None]), measured.shape[1], law)
    factor, errors = learnt.coefficients[sheet.aisle], (learnt.errors * size)[sheet.aisle]
    stands = sheet.aisle >= 0
    return np.where(stands[:, None], sheet.airflow * factor, sheet.airflow), np.where(stands, errors, np.nan)


def _clocks(wide: Mapping[str, Narrow], max_clock_mhz: Floats) -> Clocks:
    """Learn the floor of the power by clock where clocks below 90 % were held; else the published values.

    Busy power at full clock = the 95th percentile of the server's points there; the highest tenth at each lower clock counts.
    """
    clock, power = wide.get("clock"), wide.get("gpu_power")
    if clock is None or power is None:
        return Clocks()
    ratio = clock / max_clock_mhz[:, None]
    top = np.array(
        [np.nanpercentile(p[r > 0.97], 95) if (r > 0.97).sum() >= 12 else np.nan for p, r in zip(power, ratio, strict=True)]
    )
    share = power / top[:, None]
    shares, ratios = [], []
    for low in np.arange(0.3, 0.9, 0.1):
        inside = (ratio >= low) & (ratio < low + 0.1) & np.isfinite(share)
        if inside.sum() >= 12:
            shares.append(float(np.percentile(share[inside], 90)))
            ratios.append(float(np.median(ratio[inside])))
    if len(shares) < 2:
        return Clocks()
    x = 1.0 - np.array(ratios) ** SHARE_EXPONENT
    drop = float(np.sum((1.0 - np.array(shares)) * x) / np.sum(x * x))  # 1 - share = (1 - floor)(1 - ratio^e)
    return Clocks(floor=float(np.clip(1.0 - drop, 0.05, 0.9)), exponent=SHARE_EXPONENT, learnt=True)
