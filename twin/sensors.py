"""What instruments show of the truth: whole degrees, each with a bias of its own, and what is wrong with them for a while.

An inlet sensor is off by a share of its reading, a GPU's by a few tenths of a kelvin. NaN = shows nothing."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.events import Events, SensorDrift, SensorFault, SensorSilent, SensorStuck, drifted_k, sensor_faults

Floats = NDArray[np.float64]
Readings = Mapping[str, Floats]
"""quantity -> what its sensors show: [S] of servers, [S, G] of their GPUs"""
Memory = Mapping[SensorFault, Floats]
"""what each stuck sensor shows"""

DEGREES = ("inlet_c", "temp_c", "mem_temp_c")


class Fault(NamedTuple):
    """Something wrong with sensors now."""

    event: SensorFault
    server: int
    drift_k: float = 0.0


def degrees(true_c: Floats, bias_c: Floats | float, step_c: Floats | float = 1.0) -> Floats:
    """Readings of sensors with a resolution of `step_c`."""
    shown: Floats = true_c + bias_c
    if isinstance(step_c, float) and step_c == 1.0:
        return np.rint(shown, out=shown)
    return np.rint(shown / step_c) * step_c


def inlet(true_c: Floats, bias_share: Floats, step_c: Floats | float = 1.0) -> Floats:
    """Readings of inlet sensors, each off by a share of its reading."""
    return degrees(true_c, true_c * bias_share, step_c)


def faults_at(events: Events, servers: Mapping[str, int], at_s: float) -> tuple[Fault, ...]:
    """Return what is wrong at `at_s`; `servers` gives the positions of nodes."""
    return tuple(
        Fault(event, servers[event.node], drifted_k(event, at_s) if isinstance(event, SensorDrift) else 0.0)
        for event in sensor_faults(events, at_s)
    )


def apply(readings: Readings, faults: Sequence[Fault], memory: Memory, step_c: Floats | float = 1.0) -> tuple[Readings, Memory]:
    """Return what faulty sensors show, and what to remember for the next look.

    A sensor that drifts and is stuck shows what it showed when it got stuck: at the first look since then. Silence goes
    before both. `step_c` (one, or [S]) is the resolution of what drifts. Nothing given is changed.
    """
    if not faults:
        return readings, {}
    shown = {name: values.copy() for name, values in readings.items()}
    for fault in faults:
        if isinstance(fault.event, SensorDrift) and fault.event.quantity in shown:
            own_step_c = float(np.broadcast_to(step_c, len(shown[fault.event.quantity]))[fault.server])
            shown[fault.event.quantity][_where(fault)] += np.rint(fault.drift_k / own_step_c) * own_step_c
    kept = {fault.event: memory[fault.event] for fault in faults if fault.event in memory}
    for fault in faults:
        if isinstance(fault.event, SensorStuck) and fault.event.quantity in shown:
            values = shown[fault.event.quantity]
            kept.setdefault(fault.event, np.array(values[_where(fault)]))
            values[_where(fault)] = kept[fault.event]
    for fault in faults:
        if isinstance(fault.event, SensorSilent) and fault.event.quantity in shown:
            shown[fault.event.quantity][_where(fault)] = np.nan
    return shown, kept


def _where(fault: Fault) -> tuple[int, ...]:
    return (fault.server,) if fault.event.gpu is None else (fault.server, fault.event.gpu)
