"""What follows from forecasts: headroom from row power, GPU temperature from inlet and power through the learnt plant."""

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from contracts.forecasts import LEVELS
from contracts.ports import Batch
from forecast.grids import Floats, Ints
from forecast.outlook import Outlook
from forecast.plant import Plant
from forecast.state import GPU_POWER

OFFSET_STEPS = 5
"""minutes over which the plant is compared with what is measured"""


def headroom(power: Outlook, limits: Mapping[str, float], without: list[tuple[str, str]]) -> Outlook:
    """Return limit minus power, of rows or UPSes: level p of it is level 1 - p of the power. `without` names those that have no
    limit."""
    known = [s for s, name in enumerate(power.names) if name in limits]
    without += [(f"headroom/{name}", "no limit is known for it") for name in power.names if name not in limits]
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
    inlet: Outlook, power: Outlook, plant: Plant, fine: Mapping[str, Batch], *, each: bool
) -> tuple[Outlook, Outlook | None]:
    """Return the hottest GPU's temperature per server (in the plant's order), and with `each` every GPU's ("SERVER/gpu3").

    The medians of inlet and GPU power (`power`: a server's sum, same `seconds`) through the learnt plant. The band joins in
    quadrature what the inlet's and the power's quantiles do to it, and the plant's own error, which grows beyond the range that
    a server has shown. All is moved by what is measured now beyond what the plant says of now.
    """
    names = plant.servers
    air, watts = (_aligned_values(outlook, names) for outlook in (inlet, power))
    half = LEVELS.index(0.5)
    middle = np.stack([plant.gpu_c(i, w) for i, w in zip(air[:, :, half].T, watts[:, :, half].T, strict=True)], axis=1)
    swings = [_by_inlet(plant, air, watts, middle), _by_power(plant, air, watts, middle), _by_plant(plant, air, watts)]
    width = np.sqrt(sum(np.square(swing) for swing in swings))
    values = middle[:, :, None] + _offset(plant, fine, names)[:, None, None] + np.sign(np.asarray(LEVELS) - 0.5) * width
    of = [_rows(outlook.names, names) for outlook in (inlet, power)]
    until = [np.where(row >= 0, o.data_until_s[row], -1) for row, o in zip(of, (inlet, power), strict=True)]
    hottest = Outlook(
        names=names,
        seconds=inlet.seconds,
        levels=LEVELS,
        values=np.maximum.accumulate(values, axis=2),
        data_until_s=np.minimum(*until),
        models=tuple("plant/" + inlet.models[r] if r >= 0 else "plant" for r in of[0]),
        notes=tuple(
            tuple(dict.fromkeys((*(inlet.notes[i] if i >= 0 else ()), *(power.notes[p] if p >= 0 else ()))))
            for i, p in zip(*of, strict=True)
        ),
    )
    if not each or not plant.each_read().any():
        return hottest, None
    return hottest, _each(hottest, plant, air[:, :, half], watts[:, :, half], middle)


def _aligned_values(outlook: Outlook, names: tuple[str, ...]) -> Floats:
    """Return the outlook's values [S, H, L] in the order of `names`; NaN where it has none."""
    row = _rows(outlook.names, names)
    return np.where((row >= 0)[:, None, None], outlook.values[row], np.nan)


def _by_inlet(plant: Plant, air: Floats, watts: Floats, middle: Floats) -> Floats:
    """Return [S, H, L] by how much the inlet's quantiles move the temperature: the law is linear in the inlet."""
    half = LEVELS.index(0.5)
    slope = np.stack([plant.gpu_c(i + 1.0, w) for i, w in zip(air[:, :, half].T, watts[:, :, half].T, strict=True)], axis=1)
    return np.asarray((slope - middle)[:, :, None] * (air - air[:, :, half, None]), dtype=np.float64)


def _by_power(plant: Plant, air: Floats, watts: Floats, middle: Floats) -> Floats:
    """Return [S, H, L] by how much GPU power's quantiles move the temperature."""
    half = LEVELS.index(0.5)
    moved = [
        np.stack([plant.gpu_c(air[:, h, half], watts[:, h, k]) for k in range(len(LEVELS))], axis=1) - middle[:, h, None]
        for h in range(middle.shape[1])
    ]
    return np.stack(moved, axis=1)


def _by_plant(plant: Plant, air: Floats, watts: Floats) -> Floats:
    """Return [S, H, L] the quantiles of the plant's own error, taken as a normal's."""
    half = LEVELS.index(0.5)
    normal = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    own = np.stack(
        [plant.gpu_error_k(i, w) for i, w in zip(air[:, :, half].T, watts[:, :, half].T, strict=True)], axis=1
    )  # a normal's mean absolute error is 1 / 1.2533 of its sigma
    return np.asarray(1.2533 * own[:, :, None] * normal, dtype=np.float64)


def _each(hottest: Outlook, plant: Plant, air: Floats, watts: Floats, middle: Floats) -> Outlook:
    """Return every GPU's outlook: the hottest's, moved by how far the plant has it below."""
    below = np.stack([plant.gpu_each_c(i, w) for i, w in zip(air.T, watts.T, strict=True)], axis=2) - middle[:, None, :]
    servers, gpus = np.nonzero(~np.isnan(plant.gpu_each_c(np.full(len(plant.servers), 25.0), plant.peak_gpu_power_w())))
    own = plant.each_read()
    notes = [("places of its class: its GPUs were not read one by one",) if not ok else () for ok in own]
    return Outlook(
        names=tuple(f"{plant.servers[s]}/gpu{g}" for s, g in zip(servers, gpus, strict=True)),
        seconds=hottest.seconds,
        levels=hottest.levels,
        values=hottest.values[servers] + below[servers, gpus][:, :, None],
        data_until_s=hottest.data_until_s[servers],
        models=tuple(hottest.models[s] for s in servers),
        notes=tuple((*hottest.notes[s], *notes[s]) for s in servers),
    )


def _rows(names: tuple[str, ...], wanted: tuple[str, ...]) -> Ints:
    position = {name: i for i, name in enumerate(names)}
    return np.array([position.get(name, -1) for name in wanted], dtype=np.int64)


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
