"""What follows from forecasts: headroom from row power, GPU temperature from inlet and power through the learnt plant."""

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from contracts.forecasts import LEVELS
from contracts.ports import Batch
from forecast.grids import Floats, Ints, carried, newest
from forecast.outlook import Outlook
from forecast.plant import Plant
from forecast.rolling import volatility
from forecast.state import GPU_POWER, ClassState

HOUR_S = 3_600
OFFSET_STEPS = 5
OLDEST_STEPS = 10
"""a GPU power older than this many minutes is not the present one"""


def headroom(power: Outlook, limits: Mapping[str, float], without: list[tuple[str, str]]) -> Outlook:
    """Return limit minus power: level p of it is level 1 - p of the power. `without` names the rows that have no limit."""
    known = [s for s, name in enumerate(power.names) if name in limits]
    without += [(f"headroom/{name}", "no limit is known for this row") for name in power.names if name not in limits]
    limit = np.array([limits[power.names[s]] for s in known])
    return Outlook(
        names=tuple(power.names[s] for s in known),
        seconds=power.seconds,
        levels=tuple(round(1.0 - level, 6) for level in reversed(power.levels)),
        values=limit[:, None, None] - power.values[known][:, :, ::-1],
        data_until_s=power.data_until_s[known],
        models=tuple(power.models[s] for s in known),
        notes=tuple(power.notes[s] for s in known),
    )


def gpu_temperatures(
    inlet: Outlook,
    plant: Plant | None,
    fine: Mapping[str, Batch],
    power_class: ClassState | None,
    without: list[tuple[str, str]],
) -> Outlook | None:
    """Return the hottest GPU's temperature per server for the next hour: the inlet's quantiles through the plant, at present
    GPU power. The band joins in quadrature the inlet's, what GPU power may do (its restlessness times persistence's errors) and
    the plant's own error; the plant is moved to the temperature that is measured now.

    Further than an hour it would be the load's forecast that decides, so it ends there. None without plant or GPU power.
    """
    if plant is None or GPU_POWER not in fine:
        missing = "no plant learnt yet" if plant is None else "no GPU power in the last hour"
        without += [(f"gpu_temp/{name}", missing) for name in inlet.names]
        return None
    names = plant.servers
    keep = inlet.seconds <= HOUR_S
    where = _rows(inlet.names, names)
    quantiles = np.where((where >= 0)[:, None, None], inlet.values[where][:, keep], np.nan)
    power_w = _present(fine[GPU_POWER], names)
    flat = quantiles.reshape(len(names), -1)
    hot = np.stack([plant.gpu_c(column, power_w) for column in flat.T], axis=1).reshape(quantiles.shape)
    middle = hot[:, :, LEVELS.index(0.5)][:, :, None]
    slope = plant.gpu_c(np.zeros(len(names)), np.ones(len(names))) - plant.gpu_c(np.zeros(len(names)), np.zeros(len(names)))
    seconds = inlet.seconds[keep].astype(np.float64)
    swing, known = _power_swing(fine[GPU_POWER], power_class, names, seconds)
    normal = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    own = normal * 1.2533 * plant.state.errors.get("gpu_c", 2.0)
    width = np.sqrt(np.square(hot - middle) + np.square(slope[:, None, None] * swing) + np.square(own))
    offset = _offset(plant, fine, names)
    values = middle + offset[:, None, None] + np.sign(np.asarray(LEVELS) - 0.5) * width
    notes = [("GPU power's spread is not learnt",)] if not known else [()]
    return Outlook(
        names=names,
        seconds=inlet.seconds[keep],
        levels=LEVELS,
        values=np.maximum.accumulate(values, axis=2),
        data_until_s=np.minimum(
            np.where(where >= 0, inlet.data_until_s[where], -1), _aligned(newest(fine[GPU_POWER]), fine[GPU_POWER], names)
        ),
        models=tuple("plant/" + inlet.models[r] if r >= 0 else "plant" for r in where),
        notes=tuple((*(inlet.notes[r] if r >= 0 else ()), *notes[0]) for r in where),
    )


def _rows(names: tuple[str, ...], wanted: tuple[str, ...]) -> Ints:
    position = {name: i for i, name in enumerate(names)}
    return np.array([position.get(name, -1) for name in wanted], dtype=np.int64)


def _aligned(values: Ints, batch: Batch, names: tuple[str, ...]) -> Ints:
    row = _rows(batch.names, names)
    return np.where(row >= 0, values[row], -1)


def _present(batch: Batch, names: tuple[str, ...]) -> Floats:
    """Return the newest value of the last minutes in the order of `names`; NaN where there is none."""
    row = _rows(batch.names, names)
    last = carried(batch.values[:, -OLDEST_STEPS:])[:, -1]
    return np.where(row >= 0, last[row], np.nan)


def _power_swing(batch: Batch, power_class: ClassState | None, names: tuple[str, ...], seconds: Floats) -> tuple[Floats, bool]:
    """Return [S, H, L] W by which GPU power may move until each horizon, and whether that has been learnt."""
    table = None if power_class is None else power_class.tables.get("persistence")
    if table is None or not len(batch.ts):
        return np.zeros((len(names), len(seconds), len(LEVELS))), False
    row = _rows(batch.names, names)
    restless = volatility(batch.values, batch.step_s, np.array([len(batch.ts) - 1]))[0]
    restless = restless * np.sqrt(table.horizons_s[0] / batch.step_s)  # from one minute's step to that of five
    return np.where(row >= 0, restless[row], 0.0)[:, None, None] * table.quantiles(seconds)[None], True


def _offset(plant: Plant, fine: Mapping[str, Batch], names: tuple[str, ...]) -> Floats:
    """Return [S] measured minus modelled GPU temperature over the last minutes; 0 where it is not measured."""
    if any(name not in fine for name in ("gpu_temp", "inlet", GPU_POWER)):
        return np.zeros(len(names))

    def last(target: str) -> Floats:
        batch = fine[target]
        row = _rows(batch.names, names)
        tail = batch.values[:, -OFFSET_STEPS:]
        count = (~np.isnan(tail)).sum(axis=1)
        mean = np.where(count > 0, np.nansum(tail, axis=1) / np.maximum(count, 1), np.nan)
        return np.where(row >= 0, mean[row], np.nan)

    return np.nan_to_num(last("gpu_temp") - plant.gpu_c(last("inlet"), last(GPU_POWER)))
