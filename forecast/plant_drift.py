"""Who has left its family: servers whose newest day no longer follows what was learnt of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast.grids import Floats, Ints
from forecast.plant_model import Plant, load_share
from forecast.plant_readings import Readings, collected
from forecast.plant_units import DAY, GPU_NOISE_K, INLET_NOISE_K, POWER_NOISE_W, drift_of

NOISE = {"inlet_c": INLET_NOISE_K, "gpu_c": GPU_NOISE_K, "server_power_w": POWER_NOISE_W}


@dataclass(frozen=True)
class _Said:
    """What the plant says of one reading [S, T], and how far beyond its range it may be off there."""

    shown: Floats
    value: Floats
    doubt: Floats


def drifted(plant: Plant, frames: Mapping[str, Readings]) -> tuple[str, ...]:
    """Return the servers whose inlet, hottest GPU or power has left its family by the newest day (at least 4 h) of `frames`.

    `frames` as for `plant.fit`. A server is off where the median of its errors lies more than three mean absolute errors off
    its class's; all of a class are off where the class's median is.
    What lies beyond the learnt range may be as far off as `trust` doubts it. A plant without errors of its own names nobody.
    """
    names = ("inlet", "gpu_temp", "gpu_power", "server_power", "outside")
    _, _, narrow = collected({name: frames[name] for name in names if name in frames}, plant.servers)
    state, group = plant.state, np.array(plant.state.groups, dtype=np.int64)
    odd = np.zeros(len(plant.servers), dtype=np.bool_)
    for name, said in _said(plant, {name: values[:, -DAY:].astype(np.float64) for name, values in narrow.items()}).items():
        errors = np.array(state.unit_errors.get(name, (None,) * len(odd)), dtype=np.float64)
        if np.isfinite(errors).any():
            odd |= _left(said, errors, NOISE[name], group)
    return tuple(name for name, is_odd in zip(plant.servers, odd, strict=True) if is_odd)


def _left(said: _Said, errors: Floats, noise: float, group: Ints) -> NDArray[np.bool_]:
    rest = said.shown - said.value
    own, common = drift_of(np.sign(rest) * np.maximum(np.abs(rest) - said.doubt, 0.0), errors, noise, group)
    return np.logical_and(own | common, np.isfinite(errors))


def _said(plant: Plant, wide: Mapping[str, Floats]) -> dict[str, _Said]:
    """Return the laws whose inputs and readings are there."""
    out: dict[str, _Said] = {}
    power, inlet = wide.get("gpu_power"), wide.get("inlet")
    if power is None:
        return out
    if inlet is not None and "outside" in wide:
        pairs = list(zip(wide["outside"][0].tolist(), load_share(power, plant.peak_gpu_power_w()).tolist(), strict=True))
        value = np.stack([plant.inlet_c(outside, load) for outside, load in pairs], axis=1)
        doubts = [plant.trust("outside_c", outside) + plant.trust("load_share", load) for outside, load in pairs]
        out["inlet_c"] = _Said(inlet, value, np.stack(doubts, axis=1))
    if inlet is not None and "gpu_temp" in wide:
        moments = list(zip(inlet.T, power.T, strict=True))
        value = np.stack([plant.gpu_c(air, watts) for air, watts in moments], axis=1)
        doubt = np.stack([plant.trust("inlet_c", air) + plant.trust("gpu_power_w", watts) for air, watts in moments], axis=1)
        out["gpu_c"] = _Said(wide["gpu_temp"], value, doubt)
    if "server_power" in wide:
        value = np.stack([plant.server_power_w(watts) for watts in power.T], axis=1)
        out["server_power_w"] = _Said(wide["server_power"], value, np.zeros_like(value))
    return out
