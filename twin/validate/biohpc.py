"""BioHPC's hosts (hourly GPU temperature and power over years, PCIe cards) against the twin's settled thermal structure.

Settled, two nodes in a row are one resistance: T = air + (die + sink / (.25 + .75 duty)) P, and the fans follow T. The room is
not recorded: it is inside `air`, and its wander is what the past 24 hours tell of it. The fan law but for the duty at rest, and
the die's share of the resistance, are those of the H100 profile; air, resistance and duty at rest are each host's own.

A host left out is held against what the twin would draw for it from the other hosts with the same card: their resistance with
the profile's spread between units, their air with the fleet's spread between positions. Only the A40 stands in two hosts.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import least_squares

from twin import calibration as c
from twin import hardware
from twin.validate.agreement import Agreement, bounded, check, data_file, reported

Floats = NDArray[np.float64]

FILE = "biohpc_gpu_hourly.parquet"
SECOND_HALF_RMSE_C, LEARNT_RMSE_C = 3.6, 2.2
"""what the second half may be off by, with the first half's air and with the past day's"""
PAST_S = 86_400.0
REGION_Z = 2.576
"""99 % of a normal distribution"""
HOURS_INSIDE = 0.95
"""share of a left-out host's hours that must lie in the 99 % band of what would be drawn for it"""
CARD_RESISTANCE = (0.1, 0.01, 0.5)
"""K/W: where the fit of a PCIe card begins, its lowest and its highest value [A]"""
TWIN = hardware.load("h100")
SPREAD = TWIN.heat.resistance_sd / TWIN.heat.resistance_mean
"""of the resistances that the twin draws, relative"""


class Host(NamedTuple):
    """One host's hours, in order; two GPUs are averaged by the source."""

    name: str
    gpu: str
    cards: int
    at_s: Floats
    power_w: Floats
    temp_c: Floats


class Law(NamedTuple):
    """What is fitted of a host: degC, K/W from die to air at 80 % duty, lowest fan duty."""

    air_c: float
    resistance: float
    idle_duty: float


class Line(NamedTuple):
    """T = intercept + slope P by least squares, and the rmse around it."""

    intercept_c: float
    slope: float
    rmse_c: float


def hosts(path: Path) -> list[Host]:
    """Return the hosts of BioHPC's table, by name."""
    columns = ["name", "gpu", "timestamp", "power_avg_w", "temp_avg_c"]
    table = pl.read_parquet(path, columns=columns).with_columns(pl.col("name", "gpu").cast(pl.String)).sort("name", "timestamp")
    found = []
    for (name,), rows in table.group_by("name", maintain_order=True):
        gpu = str(rows["gpu"][0])
        found.append(
            Host(
                name=str(name),
                gpu=gpu,
                cards=int(gpu.split("x", 1)[0]),
                at_s=rows["timestamp"].dt.epoch("s").cast(pl.Float64).to_numpy(),
                power_w=rows["power_avg_w"].cast(pl.Float64).to_numpy(),
                temp_c=rows["temp_avg_c"].cast(pl.Float64).to_numpy(),
            )
        )
    return found


def settled_c(law: Law, power_w: Floats) -> Floats:
    """Return the temperature at which the fans' duty and the heat agree (the quadratic of `twin.plant.fans.settled_duty`)."""
    fans, heat = TWIN.fans, TWIN.heat
    die = law.resistance * heat.die_k_per_w / heat.resistance_mean
    sink = law.resistance * heat.sink_k_per_w / heat.resistance_mean
    b = 0.25 + 0.75 * (fans.hot_duty + fans.per_k * (law.air_c + die * power_w - fans.hot_c))
    wanted = (0.5 * (b + np.sqrt(b * b + 3.0 * fans.per_k * sink * power_w)) - 0.25) / 0.75
    temp_c: Floats = law.air_c + power_w * (die + sink / (0.25 + 0.75 * np.clip(wanted, law.idle_duty, 1.0)))
    return temp_c


def fitted(power_w: Floats, temp_c: Floats) -> Law:
    """Return the law with the least squares over these hours."""
    first, low, high = CARD_RESISTANCE
    solved = least_squares(
        lambda x: settled_c(Law(*x), power_w) - temp_c,
        (float(temp_c.min()), first, 0.5),
        bounds=((-20.0, low, 0.1), (60.0, high, 1.0)),
    )
    return Law(*(float(value) for value in solved.x))


def past_mean(at_s: Floats, values: Floats, span_s: float = PAST_S) -> Floats:
    """Return for each hour the mean of `values` over the `span_s` seconds before it, without itself; 0 where there is none."""
    begin = np.searchsorted(at_s, at_s - span_s)
    here = np.arange(len(at_s))
    summed = np.concatenate([[0.0], np.cumsum(values)])
    mean: Floats = (summed[here] - summed[begin]) / np.maximum(here - begin, 1)
    return mean


def line(host: Host) -> Line:
    """Return the straight line through all hours of a host."""
    slope, intercept_c = np.polyfit(host.power_w, host.temp_c, 1)
    return Line(float(intercept_c), float(slope), _rms(host.temp_c - intercept_c - slope * host.power_w))


def _rms(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))


def second_half(host: Host) -> list[Agreement]:
    """Fit the first half of a host's hours and say how far off the second half is."""
    half = len(host.at_s) // 2
    law = fitted(host.power_w[:half], host.temp_c[:half])
    off = host.temp_c - settled_c(law, host.power_w)
    learnt = off - past_mean(host.at_s, off)
    what = f"{host.gpu}: rmse on the second half of {len(off)} hours"
    detail = f"air {law.air_c:.1f} degC, {law.resistance:.3f} K/W at 80 % duty, duty at rest {law.idle_duty:.2f}"
    name = f"biohpc.{host.name}"
    return [
        bounded(
            f"{name}.second_half", what, _rms(off[half:]), high=SECOND_HALF_RMSE_C, unit="degC", kind="checked", detail=detail
        ),
        bounded(
            f"{name}.learnt",
            f"{what}, air learnt from the past 24 h",
            _rms(learnt[half:]),
            high=LEARNT_RMSE_C,
            unit="degC",
            kind="checked",
            detail=detail,
        ),
    ]


def position_sd_c() -> float:
    """Return the spread of inlets between positions that the fleet draws: row, rack, server, some consistently hot."""
    hot = c.HOT_SERVER_C**2 * c.HOT_SERVER_SHARE * (1.0 - c.HOT_SERVER_SHARE)
    return float(np.sqrt(c.ROW_SPREAD_C**2 / 12.0 + c.RACK_SPREAD_C**2 / 12.0 + c.SERVER_SD_C**2 + hot))


def left_out(host: Host, others: list[Host]) -> list[Agreement]:
    """Hold a host against what would be drawn for it, knowing only `others` with the same card; z in standard deviations."""
    own, known = line(host), [line(other) for other in others]
    unsure = 1.0 + 1.0 / len(known)
    """the others' mean is itself drawn"""
    slope, air_c = float(np.mean([each.slope for each in known])), float(np.mean([each.intercept_c for each in known]))
    slope_sd = slope * SPREAD * np.sqrt(unsure / host.cards)
    air_sd_c = position_sd_c() * np.sqrt(unsure)
    wander_c = float(np.mean([each.rmse_c for each in known]))
    band_c = REGION_Z * np.sqrt(air_sd_c**2 + (slope_sd * host.power_w) ** 2 + wander_c**2)
    inside = float((np.abs(host.temp_c - air_c - slope * host.power_w) <= band_c).mean())
    name, who = f"biohpc.{host.name}", f"{host.gpu}, left out:"
    return [
        bounded(
            f"{name}.left_out.slope",
            f"{who} its K/W in standard deviations of what is drawn",
            (own.slope - slope) / slope_sd,
            low=-REGION_Z,
            high=REGION_Z,
            kind="checked",
            detail=f"{own.slope:.4f} K/W; drawn {slope:.4f} +- {slope_sd:.4f} (spread {SPREAD:.3f}, {host.cards} cards)",
        ),
        bounded(
            f"{name}.left_out.air",
            f"{who} its intercept in standard deviations of what is drawn",
            (own.intercept_c - air_c) / air_sd_c,
            low=-REGION_Z,
            high=REGION_Z,
            kind="checked",
            detail=f"{own.intercept_c:.2f} degC; drawn {air_c:.2f} +- {air_sd_c:.2f}",
        ),
        bounded(
            f"{name}.left_out.hours",
            f"{who} share of its hours in the 99 % band of what is drawn",
            inside,
            low=HOURS_INSIDE,
            kind="checked",
            detail=f"band +-{band_c.min():.1f} to {band_c.max():.1f} degC, room wander {wander_c:.1f} degC in it",
        ),
    ]


def alone(host: Host) -> Agreement:
    """Say how far a card that no other host has stands from the SXM profile: it needs a profile of its own."""
    own, heat = line(host), TWIN.heat
    away = (own.slope - heat.resistance_mean) / heat.resistance_sd
    return reported(
        f"biohpc.{host.name}.slope",
        f"{host.gpu}: K/W; no second host has this card, so that none can be left out",
        own.slope,
        published=heat.resistance_mean,
        unit="K/W",
        kind="checked",
        detail=f"beside it the H100 SXM profile's mean, {away:.1f} sd away: a PCIe card needs a profile of its own",
    )


@check("biohpc")
def biohpc(data: Path | None) -> list[Agreement]:
    """Every host's second half, and every host left out whose card stands in another host too."""
    every = hosts(data_file(data, FILE))
    found: list[Agreement] = []
    for host in every:
        found += second_half(host)
        others = [other for other in every if other.gpu == host.gpu and other is not host]
        found += left_out(host, others) if others else [alone(host)]
    return found
