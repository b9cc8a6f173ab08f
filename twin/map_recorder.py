"""Gathers a run for the twin's map at a memory bound: a run of any length becomes at most so many frames."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from contracts.topology import Topology
from twin.map import Bools, Event, Floats, Frames

FRAMES = 240
"""frames that a recorder keeps at most"""
MEMORY_BYTES = 64 * 2**20
"""and what they may take at most; a large site keeps fewer"""
FEWEST = 16


class Moment(NamedTuple):
    """Samples taken together: sums, maxima and minima, so that two of them make one without loss."""

    t_s: float
    samples: int
    inlet_c: Floats
    hottest_gpu_c: Floats
    slowed: Bools
    server_w: Floats
    """[S] sum over the samples, as `row_w`"""
    row_w: Floats
    row_max_w: Floats
    row_limit_w: Floats
    row_over: Floats
    """[R] samples above the limit"""


def together(a: Moment, b: Moment) -> Moment:
    """Return what `a` and the later `b` say as one."""
    return Moment(
        a.t_s,
        a.samples + b.samples,
        np.maximum(a.inlet_c, b.inlet_c),
        np.maximum(a.hottest_gpu_c, b.hottest_gpu_c),
        a.slowed | b.slowed,
        a.server_w + b.server_w,
        a.row_w + b.row_w,
        np.maximum(a.row_max_w, b.row_max_w),
        np.minimum(a.row_limit_w, b.row_limit_w),
        a.row_over + b.row_over,
    )


def _halved(moments: Sequence[Moment]) -> list[Moment]:
    """Each two neighbours as one; the last of an odd number stays alone."""
    pairs = [together(a, b) for a, b in zip(moments[::2], moments[1::2], strict=False)]
    return pairs + list(moments[len(pairs) * 2 :])


class Recorder:
    """Gathers a run in at most `frames` frames. When full, each two become one and each new one stands for twice as many.

    So a run of any length fits; at the end between half and all of the frames are there.
    """

    def __init__(self, topology: Topology, *, frames: int = FRAMES, memory_bytes: int = MEMORY_BYTES) -> None:
        """Nothing is seen yet. ValueError when `frames` is not an even number of at least 16."""
        if frames < FEWEST or frames % 2:
            raise ValueError(f"frames = {frames}: must be even and at least {FEWEST}")
        self._topology = topology
        self._limit_w = np.array([r.power_limit_w for r in topology.rows])
        # While halving, half as many again are held.
        one = (25 * len(topology.servers) + 32 * len(topology.rows)) * 1.5
        self.limit = max(FEWEST, min(frames, int(memory_bytes / one) // 2 * 2))
        """frames that are kept at most"""
        self._kept: list[Moment] = []
        self._open: Moment | None = None
        self._every = 1
        self._events: list[Event] = []

    def add(
        self,
        second: float,
        *,
        inlet_c: Floats,
        hottest_gpu_c: Floats,
        slowed: Bools,
        server_w: Floats,
        row_w: Floats,
        row_limit_w: Floats | None = None,
    ) -> None:
        """Take one sample that begins at run time `second`; servers [S], rows [R], `row_limit_w` absent: the topology's limits.

        Samples come at even steps, any step: all count alike. The arrays are copied.
        """
        limit_w = self._limit_w if row_limit_w is None else row_limit_w.copy()
        power = row_w.copy()
        over = (power > limit_w).astype(np.float64)
        new = Moment(
            second, 1, inlet_c.copy(), hottest_gpu_c.copy(), slowed.copy(), server_w.copy(), power, power, limit_w, over
        )
        self._open = new if self._open is None else together(self._open, new)
        if self._open.samples < self._every:
            return
        self._kept.append(self._open)
        self._open = None
        if len(self._kept) == self.limit:
            self._kept = _halved(self._kept)
            self._every *= 2

    def event(self, from_s: float, until_s: float, text: str) -> None:
        """Take what happened in [from_s, until_s) of run time; until inf when it did not end."""
        self._events.append((from_s, until_s, text))

    def frames(self) -> Frames:
        """Return what was seen so far. ValueError when nothing was."""
        moments = self._kept + ([] if self._open is None else [self._open])
        if not moments:
            raise ValueError("no sample was taken: nothing to show")
        t = self._topology
        rows = {row.name: r for r, row in enumerate(t.rows)}
        slowdown_c = {h.name: h.slowdown_c for h in t.hardware}
        return Frames(
            site=t.site,
            rows=tuple(rows),
            servers=tuple(s.name for s in t.servers),
            row_of=np.array([rows[s.row] for s in t.servers]),
            rack_of=tuple(s.rack for s in t.servers),
            slot_of=np.array([s.slot for s in t.servers]),
            slowdown_c=np.array([slowdown_c[s.hardware] for s in t.servers]),
            events=tuple(self._events),
            **_columns(moments),
        )


def _columns(moments: Sequence[Moment]) -> dict[str, Any]:
    """Moments as the arrays of `Frames`: sums become means and shares."""
    found = {name: np.array([getattr(m, name) for m in moments]) for name in Moment._fields}
    samples = found["samples"][:, None]
    for name in ("server_w", "row_w", "row_over"):
        found[name] = found[name] / samples
    return found


def coarser(f: Frames, most: int) -> Frames:
    """Return `f` with neighbours taken together until there are at most `most` frames (at least 1)."""
    n = f.samples[:, None]
    per_sample = (
        f.t_s,
        f.samples,
        f.inlet_c,
        f.hottest_gpu_c,
        f.slowed,
        f.server_w * n,
        f.row_w * n,
        f.row_max_w,
        f.row_limit_w,
    )
    moments = [Moment(*values) for values in zip(*per_sample, f.row_over * n, strict=True)]
    while len(moments) > max(1, most):
        moments = _halved(moments)
    return replace(f, **_columns(moments)) if len(moments) < len(f.t_s) else f
