"""TAPAS 2.3: what 100,000 random placements of 80 virtual machines in two rows of 40 do to peak power and hottest GPU.

A machine is a day of power in 10 min means; a server is what the fleet draws. Machines do not touch each other's air (the aisle
is supplied), so that the hottest GPU of each machine on each server is settled once, by the twin's own plant, and a
placement only looks it up. Row power adds what the machines of a row draw, fans and all, times their servers' power factors.
The paper's two rows are one site; the twin draws several, since a single one may hold a hot server or not.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin import fleet as fleets
from twin import hardware, plant
from twin.plant.air import inlet_base
from twin.validate.agreement import Agreement, Kind, bounded, check
from twin.validate.settled import average, servers, settle

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KIND = "a100"
"""the paper's two rows hold A100s"""
PLACEMENTS, CHUNK = 100_000, 10_000
SITES = range(1, 6)
"""seeds of servers, machines and placements"""
ROWS, PER_ROW = 2, 40
BINS = 144
"""10 min means of a day"""
OUTSIDE_C = 25.0  # [A] a summer's day: the paper's months are July and August

# What a machine's GPUs draw, as a level between idle (0) and TDP (1). That opaque tenants' GPUs stand anywhere between idle and
# TDP and that services follow the day's curve is published; shares and ranges are not.
BUSY_SHARE = 0.3  # [F] to the +27 % of peak row power; the others hardly work
REST_LEVEL = (0.0, 0.02)  # [F] likewise; no model loaded
IAAS_LEVEL = (0.65, 1.0)  # [A] steady: from decoding (.59 to .73 of TDP) to training at TDP
IAAS_RARE = 3  # [F] the higher the rarer: u^3; towards the typical placement's 72 degC
SAAS_LEVEL = (0.65, 0.75)  # [A] of the day's peak hour: decoding and its prompts
PEAK_TO_VALLEY = 3.3  # [P] DynamoLLM, conversation
PEAK_AT, PEAK_SD = 0.6, 0.03  # [A] of the day
WANDER_SD = 0.02  # [A] level, from one mean to the next

PUBLISHED_SPREAD, SPREAD_WITHIN = 0.27, 0.05
TYPICAL_C, WORST_C, ABOUT_C = 72.0, 85.0, 3.0
"""ABOUT_C is our reading of "about" """
NO_CORRELATION = 0.1
ROW_SHARES = {0.50: 0.72, 0.75: 0.82, 0.90: 0.90}
"""of 100 rows: quantile and its share of the hungriest row's P99"""
MANY_ROWS, SHARE_WITHIN = 100, 0.05
GROUP = 2.5
"""[F] mean number of neighbours of one tenant that are busy together: to the median row"""


class Machines(NamedTuple):
    """V machines over a day."""

    gpu_w: Floats
    """[V, BINS] nominal W of each GPU"""
    server_w: Floats
    """[V, BINS] at the wall of an average server"""


class Found(NamedTuple):
    """K placements on one site."""

    peak_w: Floats
    """[K] highest row power of the day"""
    hottest_c: Floats
    """[K]"""


def levels(saas: NDArray[np.bool_], group: Ints, rng: np.random.Generator) -> Floats:
    """Return [V, BINS] levels of machines; those of one group are busy together, and follow one curve."""
    groups = int(group.max()) + 1
    busy = (rng.permutation(groups) < round(BUSY_SHARE * groups))[group]
    span = np.where(saas[:, None], np.array([SAAS_LEVEL]), np.array([IAAS_LEVEL]))
    low, high = np.where(busy[:, None], span, np.array([REST_LEVEL])).T
    drawn = rng.random(groups)[group]
    peak = low + (high - low) * np.where(saas | ~busy, drawn, drawn**IAAS_RARE)
    phase = (PEAK_AT + rng.normal(0.0, PEAK_SD, groups))[group]
    day = (np.arange(BINS) + 0.5) / BINS
    depth = np.where(saas, 1.0 - 1.0 / PEAK_TO_VALLEY, 0.0)
    curve = 1.0 - depth[:, None] * 0.5 * (1.0 - np.cos(2 * np.pi * (day[None] - phase[:, None])))
    level: Floats = np.clip(peak[:, None] * curve + rng.normal(0.0, WANDER_SD, (len(group), BINS)), 0.0, 1.0)
    return level


def machines(saas: NDArray[np.bool_], group: Ints, seed: int) -> Machines:
    """Return the machines of a site: `saas` [V] of them are services, those of one `group` [V] alike."""
    profile = hardware.load(KIND)
    idle_w, tdp_w = profile.power.idle_w, profile.sheet.gpu_tdp_w
    gpu_w = idle_w + (tdp_w - idle_w) * levels(saas, group, np.random.Generator(np.random.PCG64([seed, 5])))
    # Power at the wall is a smooth function of GPU power: settled at some, read off between them.
    at_w = np.linspace(idle_w, tdp_w, 41)
    inlet_c = np.full(len(at_w), inlet_base(OUTSIDE_C, 0.5))
    every = np.repeat(at_w[:, None], profile.sheet.gpus, axis=1)
    wall_w = settle(average(KIND), np.zeros(len(at_w), dtype=np.int64), inlet_c, every).server_w
    return Machines(gpu_w, np.interp(gpu_w, at_w, wall_w))


def hottest(u: plant.Units, gpu_w: Floats) -> Floats:
    """Return [V, S] the hottest GPU of each machine's highest mean on each server, at the site's load of that moment."""
    count, gpus = u.r_die.shape
    peak_bin = gpu_w.argmax(axis=1)
    load = gpu_w.mean(axis=0)[peak_bin] / u.tdp_w[0]
    base_c = np.array([inlet_base(OUTSIDE_C, float(each)) for each in load])
    inlet_c = base_c[:, None] + u.inlet_offset_c[None]
    which = np.tile(np.arange(count), len(gpu_w))
    watts = np.repeat(gpu_w.max(axis=1), count)
    gpu_c = settle(u, which, inlet_c.ravel(), np.repeat(watts[:, None], gpus, axis=1)).gpu_c
    table: Floats = gpu_c.max(axis=1).reshape(len(gpu_w), count)
    return table


def place(u: plant.Units, many: Machines, table_c: Floats, row: Ints, placements: int, seed: int) -> Found:
    """Return peak row power and hottest GPU of random placements of the machines on as many servers."""
    rng = np.random.Generator(np.random.PCG64([seed, 6]))
    count = len(row)
    factor = u.power_factor.mean(axis=1)
    machine = np.arange(count)[None]
    peak_w, hottest_c = np.empty(placements), np.empty(placements)
    for start in range(0, placements, CHUNK):
        here = slice(start, min(start + CHUNK, placements))
        server = rng.random((here.stop - start, count)).argsort(axis=1)
        hottest_c[here] = table_c[machine, server].max(axis=1)
        peak_w[here] = 0.0
        for r in range(int(row.max()) + 1):
            weight = np.where(row[server] == r, factor[server], 0.0)
            peak_w[here] = np.maximum(peak_w[here], (weight @ many.server_w).max(axis=1))
    return Found(peak_w, hottest_c)


def run(seed: int, placements: int = PLACEMENTS) -> Found:
    """Place 80 machines, half of them services, on the drawn servers of two rows, `placements` times."""
    u = fleets.units(fleets.build(servers(KIND, ROWS, PER_ROW), seed))
    one = np.arange(ROWS * PER_ROW)
    many = machines(one % 2 == 0, one, seed)
    return place(u, many, hottest(u, many.gpu_w), u.row, placements, seed)


@check("placements")
def placements(_: Path | None) -> list[Agreement]:
    """Random placements: how far apart peak power lies, how hot the hottest GPU gets, and whether the two go together."""
    sites = [run(seed) for seed in SITES]
    spread = np.array([each.peak_w.max() / each.peak_w.min() - 1.0 for each in sites])
    together = np.array([np.corrcoef(each.hottest_c, each.peak_w)[0, 1] for each in sites])
    return [
        bounded(
            "placements.peak_power",
            f"{PLACEMENTS} random placements of 80 machines in two rows: worst peak row power over the best, less one",
            float(spread.mean()),
            published=PUBLISHED_SPREAD,
            low=PUBLISHED_SPREAD - SPREAD_WITHIN,
            high=PUBLISHED_SPREAD + SPREAD_WITHIN,
            kind="fitted",
            detail=f"mean of {len(sites)} sites, {spread.min():.3f} to {spread.max():.3f}; share of busy machines fitted",
        ),
        _about("typical", "median placement", [float(np.median(each.hottest_c)) for each in sites], TYPICAL_C, "fitted"),
        _about("worst", "worst placement", [float(each.hottest_c.max()) for each in sites], WORST_C, "checked"),
        bounded(
            "placements.correlation",
            "correlation of hottest GPU and peak row power (published: none); the site where it is strongest",
            float(together[np.abs(together).argmax()]),
            published=0.0,
            low=-NO_CORRELATION,
            high=NO_CORRELATION,
            kind="checked",
        ),
    ]


def _about(name: str, which: str, of_sites: list[float], published: float, kind: Kind) -> Agreement:
    return bounded(
        f"placements.{name}",
        f"hottest GPU of the {which}",
        float(np.mean(of_sites)),
        published=published,
        low=published - ABOUT_C,
        high=published + ABOUT_C,
        unit="degC",
        kind=kind,
        detail=f"mean of {len(of_sites)} sites, {min(of_sites):.1f} to {max(of_sites):.1f}; {OUTSIDE_C:g} degC outside [A]",
    )


@check("placements.rows")
def rows(_: Path | None) -> list[Agreement]:
    """How 100 rows differ whose tenants come in small groups and fill rows as they come; the median is fitted, the tail not."""
    shares = np.array([row_shares(seed) for seed in SITES])
    return [
        bounded(
            f"placements.rows.p{100 * quantile:.0f}",
            f"P99 power of {MANY_ROWS} rows: {100 * quantile:.0f} % of them stay below this share of the hungriest",
            float(np.quantile(shares, quantile, axis=1).mean()),
            published=published,
            low=published - SHARE_WITHIN,
            high=published + SHARE_WITHIN,
            kind="fitted" if quantile == 0.5 else "checked",
            detail=f"mean of {len(shares)} sites; groups of {GROUP:g} neighbours in the mean",
        )
        for quantile, published in ROW_SHARES.items()
    ]


def row_shares(seed: int) -> Floats:
    """Return [MANY_ROWS] P99 of the day's row power relative to the hungriest row's."""
    rng = np.random.Generator(np.random.PCG64([seed, 8]))
    count = MANY_ROWS * PER_ROW
    group = np.repeat(np.arange(count), rng.geometric(1.0 / GROUP, count))[:count]
    saas = (rng.random(count) < 0.5)[group]
    row_w = machines(saas, group, seed).server_w.reshape(MANY_ROWS, PER_ROW, BINS).sum(axis=1)
    high_w = np.quantile(row_w, 0.99, axis=1)
    share: Floats = high_w / high_w.max()
    return share
