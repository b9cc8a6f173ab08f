"""What the twin's map shows: temperature and power of every server and row over time, and what they say in a sentence.

`map_recorder.Recorder` gathers a run into `Frames`; `map_picture.png` and `map_page.html` draw them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Event = tuple[float, float, str]
"""(from, until, what happened), run time in s; inf = it did not end"""

# fmt: off
# Twelve stops that grow lighter by even steps of CIELAB's L*: the order can be read without seeing the hue.
HEAT = (
    "#1e0c45", "#400a67", "#64156e", "#88226a", "#ad305d", "#ce4347",
    "#e65d2f", "#f57d15", "#fb9d07", "#fac026", "#f4e156", "#f8fb9a",
)
"""for the hottest GPU: matplotlib's inferno at these steps"""
COOL = (
    "#1f2441", "#213460", "#1b467b", "#005b91", "#006fa3", "#0084b1",
    "#009abb", "#00b1c3", "#37c6c8", "#6ddace", "#9decd6", "#cdfbe5",
)
"""for the inlet"""
POWER = (
    "#440154", "#481e70", "#443982", "#3b528b", "#306a8e", "#26818e",
    "#1f978b", "#27ad81", "#4ac26d", "#80d34d", "#bfdf25", "#fde725",
)
"""for power: matplotlib's viridis at such steps"""
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Frames:
    """A run in T frames over S servers and R rows. A frame stands for its samples from `t_s` to the next frame's."""

    site: str
    rows: tuple[str, ...]
    servers: tuple[str, ...]
    row_of: Ints
    """[S] position in `rows`"""
    rack_of: tuple[str, ...]
    """[S]"""
    slot_of: Ints
    """[S] place in the rack, 0 at the bottom"""
    slowdown_c: Floats
    """[S] where the hardware begins to slow a GPU down"""
    t_s: Floats
    """[T] run time, rising"""
    samples: Ints
    """[T] how many samples a frame stands for"""
    inlet_c: Floats
    """[T, S] highest of the frame's samples"""
    hottest_gpu_c: Floats
    """[T, S] highest of the frame's samples, over the server's GPUs"""
    slowed: Bools
    """[T, S] in one of the frame's samples the hardware held a GPU of the server down for its temperature"""
    server_w: Floats
    """[T, S] mean"""
    row_w: Floats
    """[T, R] mean"""
    row_max_w: Floats
    """[T, R] highest of the frame's samples"""
    row_limit_w: Floats
    """[T, R] lowest limit in the frame: a lost UPS lowers it"""
    row_over: Floats
    """[T, R] share of the frame's samples above the limit of their own moment"""
    events: tuple[Event, ...] = ()

    @property
    def until_s(self) -> float:
        """The end of the last frame: as long as the one before it, for its samples."""
        if len(self.t_s) < 2:
            return float(self.t_s[0]) + float(self.samples[0])
        each_s = float(self.t_s[-1] - self.t_s[-2]) / float(self.samples[-2])
        return float(self.t_s[-1]) + each_s * float(self.samples[-1])

    @property
    def over_share(self) -> Floats:
        """[R] share of the run that each row was above its limit."""
        share: Floats = np.average(self.row_over, axis=0, weights=self.samples)
        return share


def frames(
    *,
    site: str,
    rows: Sequence[str],
    row_of: ArrayLike,
    rack_of: Sequence[str],
    slot_of: ArrayLike,
    t_s: ArrayLike,
    inlet_c: ArrayLike,
    hottest_gpu_c: ArrayLike,
    server_w: ArrayLike,
    row_w: ArrayLike,
    row_limit_w: ArrayLike,
    slowdown_c: ArrayLike,
    slowed: ArrayLike | None = None,
    servers: Sequence[str] | None = None,
    events: Sequence[Event] = (),
) -> Frames:
    """Return frames of one sample each. Limits are [R] or [T, R], slowdown_c one or [S].

    `slowed` [T, S] absent: what stands at its slowdown temperature or above. Names absent: n001 and so on.

    ValueError names the array that has the wrong shape, a value that is no number, or a time that does not rise.
    """
    time_s, place = np.asarray(t_s, dtype=np.float64), np.asarray(row_of, dtype=np.int64)
    count, power = len(place), np.asarray(row_w, dtype=np.float64)
    gpu_c = np.asarray(hottest_gpu_c, dtype=np.float64)
    slowdown = np.broadcast_to(np.asarray(slowdown_c, dtype=np.float64), (count,)).copy()
    limit_w = np.broadcast_to(np.asarray(row_limit_w, dtype=np.float64), (len(time_s), len(rows))).copy()
    f = Frames(
        site=site,
        rows=tuple(rows),
        servers=tuple(servers or (f"n{i + 1:03d}" for i in range(count))),
        row_of=place,
        rack_of=tuple(rack_of),
        slot_of=np.asarray(slot_of, dtype=np.int64),
        slowdown_c=slowdown,
        t_s=time_s,
        samples=np.ones(len(time_s), dtype=np.int64),
        inlet_c=np.asarray(inlet_c, dtype=np.float64),
        hottest_gpu_c=gpu_c,
        slowed=np.asarray(slowed, dtype=np.bool_) if slowed is not None else gpu_c >= slowdown[: gpu_c.shape[-1]],
        server_w=np.asarray(server_w, dtype=np.float64),
        row_w=power,
        row_max_w=power,
        row_limit_w=limit_w,
        row_over=(power > limit_w).astype(np.float64) if power.shape == limit_w.shape else limit_w,
        events=tuple(events),
    )
    _check(f)
    return f


def _check(f: Frames) -> None:
    t, s, r = len(f.t_s), len(f.row_of), len(f.rows)
    if not (t and s and r):
        raise ValueError(f"{t} frames of {s} servers in {r} rows: at least one of each is needed")
    shapes = {
        "inlet_c": (t, s),
        "hottest_gpu_c": (t, s),
        "slowed": (t, s),
        "server_w": (t, s),
        "row_w": (t, r),
        "slot_of": (s,),
    }
    for name, shape in shapes.items():
        if getattr(f, name).shape != shape:
            raise ValueError(f"{name} has the shape {getattr(f, name).shape}: must be {shape}")
    for name in ("t_s", "inlet_c", "hottest_gpu_c", "server_w", "row_w", "row_limit_w", "slowdown_c"):
        if not np.isfinite(getattr(f, name)).all():
            raise ValueError(f"{name} holds a value that is no number")
    if len(f.rack_of) != s or len(f.servers) != s:
        raise ValueError(f"{len(f.rack_of)} rack names and {len(f.servers)} server names for {s} servers: one each is needed")
    if f.row_of.min() < 0 or f.row_of.max() >= r:
        raise ValueError(f"row_of names row {f.row_of.max()}: there are {r}, from 0")
    if (np.diff(f.t_s) <= 0).any():
        raise ValueError("t_s must rise")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The most important of a run."""

    worst: int
    """the frame with most servers slowed; of these the one with the fullest row above its limit; then the hottest"""
    slowed_then: int
    """servers slowed by their hardware in it"""
    slowed_ever: int
    hottest_c: float
    hottest: int
    """the server that was hottest in the run"""
    row: int
    """the row that came closest to its limit, or farthest above it"""
    row_share: float
    """its highest power over its limit"""


def summary(f: Frames) -> Summary:
    """Return what stands out."""
    share = f.row_max_w / f.row_limit_w
    slowed = f.slowed.sum(axis=1)
    fullest = np.maximum(share.max(axis=1), 1.0)
    worst = int(np.lexsort((f.hottest_gpu_c.max(axis=1), fullest, slowed))[-1])
    return Summary(
        worst=worst,
        slowed_then=int(slowed[worst]),
        slowed_ever=int(f.slowed.any(axis=0).sum()),
        hottest_c=float(f.hottest_gpu_c.max()),
        hottest=int(f.hottest_gpu_c.max(axis=0).argmax()),
        row=int(share.max(axis=0).argmax()),
        row_share=float(share.max()),
    )


def headline(f: Frames) -> str:
    """Say in one sentence what the run shows."""
    s = summary(f)
    over, name = f.over_share > 0, f.rows[s.row]
    if s.slowed_ever:
        heat = f"{s.slowed_ever:,} of {len(f.servers):,} servers slowed by heat"
    else:
        margin_k = float((f.slowdown_c - f.hottest_gpu_c.max(axis=0)).min())
        heat = f"no server slowed, {margin_k:.1f} K to spare"
    if not over.any():
        return f"{heat}; the fullest row, {name}, peaks at {percent(s.row_share)} of its limit"
    if len(f.rows) == 1:
        return f"{heat}; {name} over its limit {percent(float(f.over_share[0]))} of the time"
    return f"{heat}; {int(over.sum()):,} of {len(f.rows):,} rows over their limit, {name} by up to {percent(s.row_share - 1)}"


def percent(share: float) -> str:
    """A share in percent; nearly none and nearly all are said so."""
    if 0 < share < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < share < 1 else f"{share * 100:.0f} %"


def elapsed(t_s: float) -> str:
    """Run time as people say it: 40 s, 31 min, 2 h 05, 3 d 4 h."""
    if t_s < 120:
        return f"{t_s:.0f} s"
    minutes = round(t_s / 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d}"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
