"""TAPAS's temperature curves (Figs. 3, 5, 7, 9 and 16, read off the figures) against the twin's air and servers.

The paper gives lines of single servers and names neither their places nor their load, so that one offset is fitted for each
line; what is held against the paper is the shape. Servers are settled by the twin's own plant.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin import fleet as fleets
from twin import hardware
from twin.plant.air import inlet_base
from twin.validate.agreement import Agreement, bounded, check, reported
from twin.validate.settled import average, servers, settle

Floats = NDArray[np.float64]

CURVE_MAE_C = 1.0
OUTSIDE_C = np.array([7, 10, 13, 15, 17, 20, 22, 24, 25, 26, 27, 28, 29, 30], dtype=np.float64)
FIG3_INLET_C = {
    "server1": np.array([20.3, 20.1, 20.3, 20.7, 21.6, 23.7, 25.3, 27.2, 27.8, 28.8, 29.7, 30.2, 31.0, 30.7]),
    "server2": np.array([18.0, 17.8, 17.6, 18.0, 19.1, 21.6, 23.4, 24.9, 24.9, 26.9, 28.7, 28.9, 28.8, 28.8]),
    "server3": np.array([18.0, 18.0, 18.1, 18.6, 19.4, 21.9, 23.6, 25.7, 26.9, 27.6, 29.3, 30.1, 30.9, 34.5]),
}
HALF_LOAD = 0.5
"""[A] share of TDP behind Fig. 3"""
FIG5_OUTSIDE_C = (21.0, 49.0)
FIG5_LOADS = (0.0, 0.25, 0.5, 0.75, 1.0)  # [A] very low, low, medium, high, very high
FIG5_INLET_C = np.array([[23.4, 29.3], [23.3, 29.6], [24.0, 30.5], [26.2, 31.2], [27.2, 30.9]])
FIG7_W = np.arange(0.0, 751.0, 50.0)
FIG7_C = {21.0: (22.8, 62.5), 31.0: (32.4, 72.2)}
"""inlet: GPU temperature at 0 and at 750 W"""
FIG9_C = np.array([67.2, 62.8, 65.7, 64.0, 66.6, 62.0, 65.6, 63.5])
FIG9_INLET_C = 25.0  # [A] of "similar inlets"
HIGH_LOAD = 640.0 / 700.0  # [A] share of TDP of "high load"
FIG9_SERVERS = 400
"""3,200 GPUs; the paper has more than 3,000"""
WITHIN_SERVER_C, ACROSS_C = 10.0, 20.0
"""up to so much between the GPUs of a server; more than so much across all"""
FIG16 = {"idle": (52.0, 32.0), "prefill": (406.0, 66.0), "decode": (244.0, 47.0)}
"""A100, W per GPU and its degC"""
FIG16_INLET_C = 22.0  # [A]
REGION_Z = 2.576
"""99 % of a normal distribution"""


def _off(measured: Floats, published: Floats) -> tuple[float, float]:
    """Return (mean absolute error after the best one offset, that offset: published less measured)."""
    offset = float(np.median(published - measured))
    return float(np.abs(measured + offset - published).mean()), offset


def _base(outside_c: Floats, load: float) -> Floats:
    return np.array([inlet_base(float(outside), load) for outside in outside_c])


@check("tapas.inlet")
def inlet(_: Path | None) -> list[Agreement]:
    """Inlet against the weather (Fig. 3) and the site's load (Fig. 5)."""
    base_c = _base(OUTSIDE_C, HALF_LOAD)
    found = []
    for name, line_c in FIG3_INLET_C.items():
        mae_c, offset_c = _off(base_c, line_c)
        what = f"Fig. 3, {name}: inlet against outside temperature, mean absolute error"
        found.append(_curve(f"tapas.inlet.{name}", what, mae_c, f"offset {offset_c:+.2f} degC to an average position"))
    by_load_c = np.array([_base(np.array(FIG5_OUTSIDE_C), load) for load in FIG5_LOADS])
    mae_c, offset_c = _off(by_load_c, FIG5_INLET_C)
    what = "Fig. 5: inlet at five loads of the site, at 21 and 49 degC outside, mean absolute error"
    found.append(_curve("tapas.inlet.load", what, mae_c, f"one offset {offset_c:+.2f} degC"))
    drawn_c = float(fleets.build(servers("h100", 10, 40), 1).inlet_offset_c.mean())
    found.append(
        reported(
            "tapas.inlet.level",
            "mean inlet over Fig. 3's weather, positions as drawn",
            float(base_c.mean()) + drawn_c,
            published=float(np.mean([line_c.mean() for line_c in FIG3_INLET_C.values()])),
            unit="degC",
            kind="checked",
            detail=f"at half load [A], positions {drawn_c:+.2f} degC in the mean; published: the figure's three servers",
        )
    )
    return found


def _curve(name: str, what: str, mae_c: float, detail: str) -> Agreement:
    return bounded(name, what, mae_c, high=CURVE_MAE_C, unit="degC", kind="fitted", detail=detail)


@check("tapas.gpu")
def gpu(_: Path | None) -> list[Agreement]:
    """GPU temperature against power (Fig. 7) and by place in the server (Fig. 9), and how GPUs differ."""
    u = average("h100")
    gpus = u.r_die.shape[1]
    inlet_c = np.repeat(np.array(list(FIG7_C)), len(FIG7_W))
    watts = np.tile(FIG7_W, len(FIG7_C))
    line_c = np.concatenate([cold + (hot - cold) * FIG7_W / FIG7_W[-1] for cold, hot in FIG7_C.values()])
    which = np.zeros(len(watts), dtype=np.int64)
    place = int(np.argmin(u.position_k_per_w[0]))
    curve = settle(u, which, inlet_c, np.repeat(watts[:, None], gpus, axis=1), drawn=True)
    mae_c, offset_c = _off(curve.gpu_c[:, place], line_c)
    what = "Fig. 7: GPU temperature against power at 21 and 31 degC inlet, mean absolute error"
    detail = f"GPU {place + 1}, the coolest place (the paper names none), one offset {offset_c:+.2f} degC"
    found = [_curve("tapas.gpu.power", what, mae_c, detail)]

    busy = np.full((1, gpus), HIGH_LOAD * u.tdp_w[0])
    medians = settle(u, which[:1], np.array([FIG9_INLET_C]), busy, drawn=True).gpu_c[0]
    what = "Fig. 9: medians of the eight places at high load, mean absolute error"
    detail = f"at {FIG9_INLET_C:g} degC inlet and {busy[0, 0]:.0f} W [A], no offset; mean {medians.mean() - FIG9_C.mean():+.2f}"
    found.append(_curve("tapas.gpu.places", what, float(np.abs(medians - FIG9_C).mean()), detail))
    return [*found, *_spread("h100"), *_spread("a100")]


def _spread(kind: str) -> list[Agreement]:
    """How GPUs differ at equal load and inlet: within a server and across more than 3,000."""
    u = fleets.units(fleets.build(servers(kind, 10, FIG9_SERVERS // 10), 1))
    count, gpus = u.r_die.shape
    watts = np.repeat(HIGH_LOAD * u.tdp_w[:, None], gpus, axis=1)
    gpu_c = settle(u, np.arange(count), np.full(count, FIG9_INLET_C), watts).gpu_c
    within = np.ptp(gpu_c, axis=1)
    return [
        bounded(
            f"tapas.{kind}.within_server",
            "between the GPUs of one server at equal load: the median server's range (published: up to 10)",
            float(np.median(within)),
            published=WITHIN_SERVER_C,
            high=WITHIN_SERVER_C,
            unit="degC",
            kind="checked",
            detail=f"95 % of servers stay below {np.quantile(within, 0.95):.1f} degC",
        ),
        bounded(
            f"tapas.{kind}.across",
            f"across {gpu_c.size} GPUs at equal load and inlet: range (published: more than 20)",
            float(np.ptp(gpu_c)),
            published=30.0,
            low=ACROSS_C,
            unit="degC",
            kind="fitted",
            detail=f"{gpu_c.min():.0f} to {gpu_c.max():.0f} degC; published: about 45 to 75",
        ),
    ]


@check("tapas.a100")
def a100(_: Path | None) -> list[Agreement]:
    """The A100's three points of Fig. 16: slopes from idle inside the drawn resistance, and how far the points are off."""
    u = average("a100")
    watts, published_c = (np.array(values) for values in zip(*FIG16.values(), strict=True))
    which = np.zeros(len(watts), dtype=np.int64)
    inlet_c = np.full(len(watts), FIG16_INLET_C)
    gpu_c = settle(u, which, inlet_c, np.repeat(watts[:, None], u.r_die.shape[1], axis=1), drawn=True).gpu_c
    temp_c = gpu_c[:, int(np.argmin(u.position_k_per_w[0]))]
    mae_c, offset_c = _off(temp_c, published_c)
    best = np.polyval(np.polyfit(watts, published_c, 1), watts)
    found = [
        reported(
            "tapas.a100.points",
            "Fig. 16: idle, prefill and decode of Llama-2-70B at TP8, mean absolute error",
            mae_c,
            unit="degC",
            kind="fitted",
            detail=f"one offset {offset_c:+.2f} degC; the best straight line is off by {np.abs(best - published_c).mean():.2f}:"
            " prefill and decode do not lie on one line",
        )
    ]
    sd = hardware.load("a100").heat.resistance_sd
    for k, name in enumerate(FIG16):
        if name == "idle":
            continue
        published = (published_c[k] - published_c[0]) / (watts[k] - watts[0])
        found.append(
            bounded(
                f"tapas.a100.slope.{name}",
                f"Fig. 16: K/W from idle to {name}; the paper's GPU within 99 % of what is drawn",
                float((temp_c[k] - temp_c[0]) / (watts[k] - watts[0])),
                published=float(published),
                low=float(published) - REGION_Z * sd,
                high=float(published) + REGION_Z * sd,
                unit="K/W",
                kind="fitted",
            )
        )
    return found
