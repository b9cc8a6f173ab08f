"""Learning the plant from history: per server, shrunk to its class, and the class to published or data-sheet values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.topology import Hardware, Topology
from contracts.view import Floats
from forecast.plant_model import SHARE_EXPONENT, Clocks, Plant, PlantState, inlet_terms

__all__ = ["Clocks", "Plant", "PlantState", "fit"]

INLET_PRIOR = (18.0, 0.0, 0.75, -0.75, 2.5)
"""18 degC up to 15 outside, .75 per degC to 29, level above; 2.5 K from no to full load (TAPAS Figs. 3 and 5)"""
GPU_PRIOR = (2.6, 0.96, 0.053)
"""hottest GPU: 2.6 + .96 inlet + .053 K per W of one GPU (TAPAS Fig. 7)"""
CLASS_PSEUDO = 20.0
"""weight of the published values against a class's points"""
SERVER_PSEUDO = 100.0
"""weight of the class's coefficients against a server's points"""
WEEK_S = 7 * 86_400
HELD_OUT = 0.2
OUTLIER = 5.0
"""robust sigmas from which a point (a cooling fault, a bad sensor) does not count"""


@dataclass(frozen=True)
class _Wide:
    """Values [S, T] of the servers at common times; NaN = absent."""

    ts: NDArray[np.int64]
    values: dict[str, Floats]

    def get(self, name: str) -> Floats | None:
        return self.values.get(name)


@dataclass(frozen=True)
class _Sheet:
    """What data sheets and publications say of S servers: where every fit begins."""

    group: NDArray[np.int64]
    """[S] hardware"""
    full_w: Floats
    """[S] summed GPU power at TDP"""
    max_clock_mhz: Floats
    idle_cfm: Floats
    inlet: Floats
    """[S, 5] of inlet_terms"""
    gpu: Floats
    """[S, 3] constant, per degC of inlet, per W of all GPUs"""
    power: Floats
    """[S, 3] constant, per W of all GPUs, per W^2"""
    airflow: Floats
    """[S, 2] constant, per W of all GPUs"""


@dataclass(frozen=True)
class _Learnt:
    """Coefficients [S, F]; their error on the newest fifth (NaN = unknown); points that they rest on."""

    coefficients: Floats
    error: float
    points: int


def fit(topology: Topology, frames: Mapping[str, pl.DataFrame]) -> Plant:
    """Learn from long frames (ts, series, value; means over 300 s) by name: `inlet`, `gpu_temp`, `gpu_power`, `server_power`
    (series = server), `airflow` (aisle), `outside` (any series), and `clock` (server, MHz) where somebody kept it.

    What is absent or too short stays at the data sheet's or the published values; `errors` then lacks its name.
    """
    sheet, servers = _sheet(topology), tuple(s.name for s in topology.servers)
    wide = _wide({name: frame for name, frame in frames.items() if name != "airflow"}, servers)
    gpu_power, outside = wide.get("gpu_power"), wide.get("outside")
    peak = sheet.full_w if gpu_power is None else _peaks(gpu_power, wide.ts, sheet.full_w)
    learnt = {
        "inlet_c": _regress(_inlet_terms(wide, peak), wide.get("inlet"), sheet.inlet, sheet.group),
        "gpu_c": _regress(_gpu_terms(wide), wide.get("gpu_temp"), sheet.gpu, sheet.group),
        "server_power_w": _regress(_power_terms(gpu_power), wide.get("server_power"), sheet.power, sheet.group),
    }
    gpu = learnt["gpu_c"].coefficients.copy()
    gpu[:, 2] = np.clip(gpu[:, 2], 0.2 * sheet.gpu[:, 2], 5.0 * sheet.gpu[:, 2])  # invertible, whatever the sensors say
    air, air_error = _airflow(topology, frames.get("airflow"), wide, sheet.airflow)
    errors = {name: one.error for name, one in learnt.items() if one.points}
    return Plant(
        PlantState(
            servers=servers,
            inlet=_rows(learnt["inlet_c"].coefficients),
            gpu=_rows(gpu),
            power=_rows(learnt["server_power_w"].coefficients),
            airflow=_rows(air),
            airflow_idle_cfm=tuple(sheet.idle_cfm.tolist()),
            peak_gpu_w=tuple(peak.tolist()),
            clocks=_clocks(wide, sheet.max_clock_mhz),
            errors=errors if air_error is None else errors | {"airflow_cfm": air_error},
            outside_range_c=(0.0, 0.0) if outside is None else (float(np.nanmin(outside)), float(np.nanmax(outside))),
            points={name: one.points for name, one in learnt.items() if one.points},
        )
    )


def _sheet(topology: Topology) -> _Sheet:
    """Raises InputError when a server's hardware is not described."""
    kinds = {h.name: h for h in topology.hardware}
    try:
        hardware = [kinds[s.hardware] for s in topology.servers]
    except KeyError as unknown:
        raise InputError(f"topology: hardware {unknown} is not described; add it to `hardware`") from None

    def of(value: Callable[[Hardware], float]) -> Floats:
        return np.array([value(h) for h in hardware], dtype=np.float64)

    ones, full_w, idle_cfm = np.ones(len(hardware)), of(lambda h: h.gpus * h.gpu_tdp_w), of(lambda h: h.airflow_idle_cfm)
    idle_gpu_w = 0.11 * full_w  # an idle H100 draws 75 W of 700
    per_w = of(lambda h: h.max_power_w - h.idle_power_w) / (full_w - idle_gpu_w)
    cfm_per_w = (of(lambda h: h.airflow_max_cfm) - idle_cfm) / (full_w - idle_gpu_w)
    constant, per_inlet, per_gpu_w = GPU_PRIOR
    return _Sheet(
        group=np.array([list(kinds).index(h.name) for h in hardware], dtype=np.int64),
        full_w=full_w,
        max_clock_mhz=of(lambda h: h.max_clock_mhz),
        idle_cfm=idle_cfm,
        inlet=np.tile(INLET_PRIOR, (len(hardware), 1)),
        gpu=np.stack([constant * ones, per_inlet * ones, per_gpu_w / of(lambda h: h.gpus)], axis=1),
        power=np.stack([of(lambda h: h.idle_power_w) - per_w * idle_gpu_w, per_w, 0.0 * ones], axis=1),
        airflow=np.stack([idle_cfm - cfm_per_w * idle_gpu_w, cfm_per_w], axis=1),
    )


def _rows(table: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())


def _wide(frames: Mapping[str, pl.DataFrame], servers: Sequence[str]) -> _Wide:
    """Put the frames on the union of their times; `outside` becomes one row [1, T]."""
    filled = {name: frame for name, frame in frames.items() if not frame.is_empty()}
    if not filled:
        return _Wide(ts=np.zeros(0, dtype=np.int64), values={})
    stamps = {name: frame["ts"].cast(pl.Datetime("us")).to_physical().to_numpy() // 1_000_000 for name, frame in filled.items()}
    ts = np.unique(np.concatenate(list(stamps.values())))
    where = {name: i for i, name in enumerate(servers)}
    values = {}
    for name, frame in filled.items():
        single = name == "outside"
        series = frame["series"].cast(pl.String)
        row = (
            np.zeros(frame.height, np.int64)
            if single
            else series.replace_strict(where, default=-1, return_dtype=pl.Int64).to_numpy()
        )
        value = frame["value"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        ok = (row >= 0) & np.isfinite(value)
        size = (1 if single else len(servers), len(ts))
        flat = row[ok] * len(ts) + np.searchsorted(ts, stamps[name][ok])
        count = np.bincount(flat, minlength=size[0] * size[1])
        total = np.bincount(flat, weights=value[ok], minlength=size[0] * size[1])
        values[name] = np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(size)
    return _Wide(ts=ts, values={name: v for name, v in values.items() if np.isfinite(v).any()})


def _peaks(gpu_power: Floats, ts: NDArray[np.int64], full: Floats) -> Floats:
    """Return the highest 5 min GPU power; `full` where less than a week (or half of it in points) was seen."""
    seen = np.isfinite(gpu_power)
    first = np.where(seen.any(axis=1), ts[np.argmax(seen, axis=1)], ts[-1])
    last = np.where(seen.any(axis=1), ts[seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)], ts[-1])
    step = int(np.median(np.diff(ts))) if len(ts) > 1 else 300
    enough = (last - first >= 0.99 * WEEK_S) & (seen.sum(axis=1) * step >= 0.5 * WEEK_S)
    return np.where(enough, np.max(np.where(seen, gpu_power, 0.0), axis=1), full)


def _inlet_terms(wide: _Wide, peak: Floats) -> Floats | None:
    """Return [1, T, 5]: the same for all servers."""
    outside = wide.get("outside")
    if outside is None:
        return None
    power = wide.get("gpu_power")
    load = np.full(len(wide.ts), np.nan)
    if power is not None:  # the share of those that are known
        known = np.where(np.isfinite(power), peak[:, None], 0.0).sum(axis=0)
        load = np.divide(np.nansum(power, axis=0), known, out=np.full(len(wide.ts), np.nan), where=known > 0)
    load = np.where(np.isnan(load), 0.5, load)
    return inlet_terms(outside[0], np.clip(load, 0.0, 1.2))[None]


def _gpu_terms(wide: _Wide) -> Floats | None:
    inlet, power = wide.get("inlet"), wide.get("gpu_power")
    return None if inlet is None or power is None else np.stack([np.ones_like(inlet), inlet, power], axis=2)


def _power_terms(power: Floats | None) -> Floats | None:
    return None if power is None else np.stack([np.ones_like(power), power, np.square(power)], axis=2)


def _regress(terms: Floats | None, values: Floats | None, prior: Floats, group: NDArray[np.int64]) -> _Learnt:
    """Fit, and score a fit on the older four fifths on the newest one; the prior where nothing was recorded."""
    if terms is None or values is None:
        return _Learnt(prior, float("nan"), 0)
    columns = values.shape[1]
    early = np.arange(columns) < columns * (1 - HELD_OUT)
    trial = _fit(terms[:, early], values[:, early], prior, group)
    late = np.abs(
        values[:, ~early] - np.einsum("stf,sf->st", np.broadcast_to(terms, (*values.shape, terms.shape[2]))[:, ~early], trial)
    )
    own = [float(np.mean(row[np.isfinite(row)])) for row in late if np.isfinite(row).any()]
    error = float(np.median(own)) if own else float("nan")
    count = int(np.isfinite(values).sum())
    return _Learnt(_fit(terms, values, prior, group), error, count if np.isfinite(error) else 0)


def _fit(terms: Floats, values: Floats, prior: Floats, group: NDArray[np.int64]) -> Floats:
    """Fit the class to the prior, each server to the class; then once more without outliers."""
    terms = np.broadcast_to(terms, (*values.shape, terms.shape[2]))
    seen = np.isfinite(values) & np.isfinite(terms).all(axis=2)
    size = np.sqrt(np.maximum(np.mean(np.square(np.where(seen[:, :, None], terms, 0.0)), axis=(0, 1)), 1e-12))
    x, goal = np.where(seen[:, :, None], terms / size, 0.0), np.where(seen, values, 0.0)
    start = prior * size
    use = seen
    out = start
    for _ in range(2):
        out = _shrunk(x, goal, use, start, group)
        rest = np.abs(goal - np.einsum("stf,sf->st", x, out))
        sigma = 1.4826 * np.array([np.median(r[u]) if u.any() else np.inf for r, u in zip(rest, use, strict=True)])
        use = seen & (rest <= np.maximum(OUTLIER * sigma, 1e-9)[:, None])
    return np.asarray(out / size, dtype=np.float64)


def _shrunk(x: Floats, goal: Floats, use: NDArray[np.bool_], prior: Floats, group: NDArray[np.int64]) -> Floats:
    weighted = (x * use[:, :, None]).transpose(0, 2, 1)
    gram, right = weighted @ x, (weighted @ goal[:, :, None])[:, :, 0]
    eye = np.eye(x.shape[2])
    out = np.empty_like(prior)
    for kind in np.unique(group):
        mine = group == kind
        start = prior[mine].mean(axis=0)
        own = np.linalg.solve(gram[mine].sum(axis=0) + CLASS_PSEUDO * eye, right[mine].sum(axis=0) + CLASS_PSEUDO * start)
        out[mine] = np.linalg.solve(gram[mine] + SERVER_PSEUDO * eye, (right[mine] + SERVER_PSEUDO * own)[:, :, None])[:, :, 0]
    return out


def _airflow(topology: Topology, frame: pl.DataFrame | None, wide: _Wide, sheet: Floats) -> tuple[Floats, float | None]:
    """Scale the data sheet's line to the aisles' measured air: one factor for its constant, one for its slope."""
    power = wide.get("gpu_power")
    if frame is None or frame.is_empty() or power is None:
        return sheet, None
    aisle_of = {row.name: row.aisle for row in topology.rows}
    aisles = [a.name for a in topology.aisles]
    member = np.array([[aisle_of[s.row] == a for s in topology.servers] for a in aisles], dtype=np.float64)
    air = _wide({"airflow": frame}, aisles)
    measured = air.get("airflow")
    common, mine, theirs = np.intersect1d(wide.ts, air.ts, return_indices=True)
    if measured is None or not len(common):
        return sheet, None
    base = (member * sheet[:, 0]) @ np.ones((len(sheet), len(common)))
    rise = (member * sheet[:, 1]) @ power[:, mine]
    y = measured[:, theirs]
    ok = np.isfinite(y) & np.isfinite(rise)
    if ok.sum() < 2:
        return sheet, None
    x = np.stack([base[ok], rise[ok]], axis=1)
    weight = CLASS_PSEUDO * np.mean(np.square(x), axis=0)
    factor = np.linalg.solve(x.T @ x + np.diag(weight), x.T @ y[ok] + weight)
    return sheet * factor, float(np.mean(np.abs(y[ok] - x @ factor)))


def _clocks(wide: _Wide, max_clock_mhz: Floats) -> Clocks:
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
