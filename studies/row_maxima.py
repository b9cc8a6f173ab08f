"""How often row power exceeds what its forecast maximum allows: the exact twin, several seeds, beside two simple peers.

    python -m studies.row_maxima --folder F [--data DIR] [--kinds week,spikes,mixed] [--seeds 3,4,5] [--from-day 2] [--report F]

`week`: the week's scenario with 8 rows of 20 servers. `spikes`: the same with jumps and crowds of single endpoints at random
times, about one in six hours. `mixed`: 4 rows, half of them opaque tenants. Four days each, 2 s power, kept in the folder.
Learnt every 6 h from the 48 h before, followed every 10 min, scored from an origin every 10 s. Intervals are 90 %, by bootstrap
over blocks of 6 h of one seed, all rows together, since rows share their load.
Peers: Gaussian around the newest sample, with mean and deviation of (maximum - newest) of the 48 h; and 5 min means, i.e. the
newest plus the empirical quantile of its change to the next, as if the mean were the maximum.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from forecast.grids import Floats, Ints
from forecast.maxima import LEVELS, WINDOWS_S, follow, learn
from forecast.trails import maxima
from ingest.workload import load as load_workload
from twin.events import Event, FlashCrowd, LoadSpike
from twin.scenario import Scenario, load
from twin.world import World

STEP_S, DAY_S, DAYS = 2, 86_400, 4
LEARN_S, REFIT_S, FOLLOW_S, ORIGIN_S, BACK_S = 2 * DAY_S, 21_600, 600, 10, 1_800
EPOCH_S = 1_783_900_800
ROW, DRAWS = 20, 1000
KINDS = ("week", "spikes", "mixed")
Sums = dict[str, list[Any]]


def scenario(kind: str, seed: int) -> Scenario:
    """Return the scenario of `kind`; of `spikes` the seed says when they come."""
    if kind == "mixed":
        return load("normal", rows=4, servers_per_row=ROW, row_limit_w=118_800, aisle_limit_cfm=22_250)
    site: dict[str, Any] = {"rows": 8, "servers_per_row": ROW, "row_limit_w": 166_300, "aisle_limit_cfm": 31_150}
    return load("azure-week", **site, **({"events": spikes(seed)} if kind == "spikes" else {}))


def spikes(seed: int) -> tuple[Event, ...]:
    """Return jumps and crowds of single endpoints, at least an hour apart, 6 h in the mean."""
    rng = np.random.default_rng([seed, 99])
    out: list[Event] = []
    at_s = float(rng.exponential(5 * 3600))
    while at_s < DAYS * DAY_S - 4000:
        endpoint = f"chat-{rng.integers(1, 11)}"
        if rng.random() < 0.5:
            lasts, factor = rng.uniform(300, 1200), rng.uniform(1.5, 2.5)
            out.append(LoadSpike(at_s=at_s, for_s=float(lasts), factor=float(factor), endpoint=endpoint))
        else:
            lasts, ramp, factor = rng.uniform(900, 3600), rng.uniform(60, 300), rng.uniform(1.5, 3)
            out.append(FlashCrowd(at_s=at_s, for_s=float(lasts), ramp_s=float(ramp), factor=float(factor), endpoint=endpoint))
        at_s += 3600 + float(rng.exponential(5 * 3600))
    return tuple(out)


def row_power(kind: str, seed: int, folder: Path, data: Path | None) -> Floats:
    """Return [R, T] 2 s means, from the folder where they have been made before."""
    kept = folder / f"{kind}-{seed}.npy"
    if not kept.exists():
        site = scenario(kind, seed)
        world = World(site, load_workload(data), seed, logged=False)
        parts = []
        for minute in range(30, DAYS * 1440 + 1, 30):
            before = world.second
            world.advance(site.start + timedelta(minutes=minute))
            parts.append(world.row_power(before))
        second_w = np.concatenate(parts)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(kept, second_w.reshape(len(second_w) // 2, 2, -1).mean(axis=1).T.astype(np.float32))
    return np.asarray(np.load(kept), dtype=np.float64)


def rolled(power_w: Floats, first_s: int, until_s: int) -> dict[str, Floats]:
    """Return, per forecaster, [blocks, W, L, 4] the `sums` of each block of 6 h."""
    out: dict[str, list[Floats]] = {}
    for at_s in range(first_s, until_s, REFIT_S):
        past = power_w[:, max(0, at_s - LEARN_S) // STEP_S : at_s // STEP_S]
        ours = learn(past, EPOCH_S + at_s, step_s=STEP_S)
        peers = {"gaussian": gaussian(past), "means": five_minute_means(past)}
        found: dict[str, list[Floats]] = {}
        for now_s in range(at_s, min(at_s + REFIT_S, until_s), FOLLOW_S):
            near = power_w[:, (now_s - BACK_S) // STEP_S : (now_s + FOLLOW_S + 302) // STEP_S]
            newest = BACK_S // STEP_S - 1
            ours = follow(ours, near[:, : newest + 1], EPOCH_S + now_s)
            origins = newest + np.arange(0, FOLLOW_S, ORIGIN_S, dtype=np.int64) // STEP_S
            came = np.stack([maxima(near, origins, int(-(-w // STEP_S))) for w in WINDOWS_S], axis=-1)
            level = near[:, origins[:, None] - np.arange(30)].mean(axis=2)
            said = {"ours": ours.at(near, origins)} | {name: peer(near, origins) for name, peer in peers.items()}
            for name, quantiles in said.items():
                found.setdefault(name, []).append(sums(quantiles, came, level))
        for name, parts in found.items():
            out.setdefault(name, []).append(np.sum(parts, axis=0))
    return {name: np.stack(blocks) for name, blocks in out.items()}


def sums(quantiles: Floats, came: Floats, level: Floats) -> Floats:
    """Return [W, L, 4]: windows above, windows, pinball loss, height above the newest minute's mean."""
    over = came[..., None] - quantiles
    known = ~np.isnan(over)
    loss = np.maximum(np.asarray(LEVELS) * over, (np.asarray(LEVELS) - 1.0) * over)
    height = np.where(known, quantiles - level[..., None, None], 0.0)
    parts = ((over > 0) & known, known, np.where(known, loss, 0.0), height)
    return np.stack([part.sum(axis=(0, 1)).astype(np.float64) for part in parts], axis=-1)


def gaussian(past: Floats) -> Callable[[Floats, Ints], Floats]:
    """Return the peer that sees a Gaussian around the newest sample, per row and window."""
    origins = np.arange(0, past.shape[1], ORIGIN_S // STEP_S, dtype=np.int64)
    z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    ahead = np.stack([maxima(past, origins, int(-(-w // STEP_S))) for w in WINDOWS_S], axis=-1) - past[:, origins][..., None]
    mean, sd = np.nanmean(ahead, axis=1), np.nanstd(ahead, axis=1)
    band = mean[..., None] + sd[..., None] * z
    return lambda power_w, at: power_w[:, at][..., None, None] + band[:, None]


def five_minute_means(past: Floats) -> Callable[[Floats, Ints], Floats]:
    """Return the peer that takes the quantile of the next 5 min mean for that of the maximum, whatever the window."""
    n = 300 // STEP_S
    total = np.cumsum(past, axis=1)
    means = (total[:, n:] - total[:, :-n]) / n
    band = np.quantile(means[:, n:] - means[:, :-n], LEVELS, axis=1).T
    back = np.arange(n)

    def said(power_w: Floats, at: Ints) -> Floats:
        newest = power_w[:, at[:, None] - back].mean(axis=2)
        return np.repeat((newest[..., None] + band[:, None])[:, :, None], len(WINDOWS_S), axis=2)

    return said


def interval(blocks: Floats) -> tuple[float, float]:
    """Return the 90 % interval of sum(blocks[:, 0]) / sum(blocks[:, 1]), [B, 2]."""
    rng = np.random.default_rng(1)
    drawn = blocks[rng.integers(0, len(blocks), (DRAWS, len(blocks)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.05, 0.95])
    return float(low), float(high)


def rows_of(kind: str, found: dict[int, dict[str, Floats]]) -> list[dict[str, Any]]:
    """Return one record per forecaster, window and level."""
    out = []
    for name in next(iter(found.values())):
        joined = np.concatenate([one[name] for one in found.values()])
        for w, window_s in enumerate(WINDOWS_S):
            for q, level in enumerate(LEVELS):
                own = joined[:, w, q]
                total = own.sum(axis=0)
                low, high = interval(own[:, :2])
                out.append(
                    {
                        "kind": kind,
                        "forecaster": name,
                        "window_s": window_s,
                        "beyond": round(1.0 - level, 6),
                        "observed": total[0] / total[1],
                        "low": low,
                        "high": high,
                        "by_seed": {seed: float(np.divide(*one[name][:, w, q, :2].sum(axis=0))) for seed, one in found.items()},
                        "by_block": (own[:, 0] / own[:, 1]).round(6).tolist(),
                        "windows": int(total[1]),
                        "pinball_w": total[2] / total[1],
                        "height_w": total[3] / total[1],
                    }
                )
    return out


def shown(record: dict[str, Any]) -> str:
    """Return a record as a line."""
    seeds = " ".join(f"{rate:.2e}" for rate in record["by_seed"].values())
    return (
        f"{record['kind']:7}{record['forecaster']:9}{record['window_s']:5.0f} s  beyond {record['beyond']:<7g} observed "
        f"{record['observed']:.2e} ({record['low']:.1e} to {record['high']:.1e})  by seed {seeds}  "
        f"pinball {record['pinball_w']:8.3f} W  height {record['height_w']:7.0f} W"
    )


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Roll through all sets."""
    out = []
    for kind in options.kinds.split(","):
        found = {}
        for seed in map(int, options.seeds.split(",")):
            power_w = row_power(kind, seed, options.folder, options.data)
            found[seed] = rolled(power_w, int(options.from_day * DAY_S), int(options.until_day * DAY_S))
        out += rows_of(kind, found)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the series are kept")
    parser.add_argument("--data", type=Path, help="reference data; without it the load is generated")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seeds", default="3,4,5", help="1 and 2 were used to choose constants")
    parser.add_argument("--from-day", type=float, default=2.0, help="the first day that is scored")
    parser.add_argument("--until-day", type=float, default=DAYS - 0.01)
    parser.add_argument("--report", type=Path, help="write JSON to this file")
    options = parser.parse_args(arguments)
    records = measure(options)
    print("\n".join(shown(one) for one in records))
    if options.report:
        options.report.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
