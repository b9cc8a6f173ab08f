"""What hardware does by itself: it halves the clock of a hot GPU and shuts down one that is hotter still."""

from twin.compiled import seldom
from twin.plant.units import Floats, State, Units


@seldom
def protect(u: Units, s: State) -> int:
    """Set hardware slowdown, with its hysteresis, and shutdown from the die temperatures; return how many GPUs are in one."""
    held = 0
    for i in range(len(u.slowdown_c)):
        limit_c = u.slowdown_c[i]
        concerned = 0
        for g in range(s.die_c.shape[1]):
            concerned += (s.die_c[i, g] >= limit_c) | s.slow[i, g] | s.down[i, g]
        if concerned > 0:
            held += _server(u, s, i)
    return held


@seldom
def _server(u: Units, s: State, i: int) -> int:
    held = 0
    for g in range(s.die_c.shape[1]):
        if s.die_c[i, g] >= u.shutdown_c[i]:
            s.down[i, g] = True
        if s.die_c[i, g] >= u.slowdown_c[i]:
            s.slow[i, g] = True
        elif s.die_c[i, g] <= u.slowdown_c[i] - u.slowdown_hysteresis_c[i]:
            s.slow[i, g] = False
        held += s.slow[i, g] | s.down[i, g]
    return held


@seldom
def clocks(u: Units, s: State, cap_mhz: Floats) -> None:
    """Set the clock in force of every GPU (MHz): the lowest of its highest, its cap [S, G] and slowdown; 0 where shut down."""
    for i in range(len(u.max_mhz)):
        for g in range(cap_mhz.shape[1]):
            mhz = min(u.max_mhz[i], cap_mhz[i, g])
            if s.slow[i, g]:
                mhz = min(mhz, u.slowdown_mhz[i])
            s.clock_mhz[i, g] = 0.0 if s.down[i, g] else mhz
