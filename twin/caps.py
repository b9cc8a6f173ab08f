"""Clock caps on the way and in force."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NONE_MHZ = np.inf


class Caps:
    """The caps of S servers with G GPUs each. `second` counts from the run's start."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Nothing is capped; `shape` = (S, G)."""
        self.mhz: Floats = np.full(shape, NONE_MHZ)
        """in force"""
        self.wanted_mhz: Floats = np.full(shape, NONE_MHZ)
        """as last commanded"""
        self.at_s: Floats = np.full(shape, np.inf)
        """when what is wanted comes into force; inf = it is"""
        self.for_heat = np.zeros(shape[0], dtype=np.bool_)
        """the newest cap of a server was set for temperature (else for power)"""
        self.any = False
        """whether one is in force"""
        self._soonest_s = np.inf

    def command(self, server: int, gpus: tuple[int, ...], mhz: float, effective_s: float, *, for_heat: bool = False) -> None:
        """Want `mhz` (inf = none) on the GPUs of a server from `effective_s` on.

        A command still on its way is overtaken by its successor's value but keeps its own time: a management controller that
        is told twice does not start its delay again.
        """
        picked = list(gpus)
        changed = [g for g in picked if self.wanted_mhz[server, g] != mhz]
        self.wanted_mhz[server, changed] = mhz
        self.at_s[server, changed] = np.minimum(self.at_s[server, changed], effective_s)
        if changed:
            self._soonest_s = min(self._soonest_s, effective_s)
        if np.isfinite(mhz):
            self.for_heat[server] = for_heat

    def in_force(self, second: float) -> Floats:
        """[S, 8] MHz at `second`; what was due by then has come into force."""
        if self._soonest_s <= second:
            due = self.at_s <= second
            self.mhz[due] = self.wanted_mhz[due]
            self.at_s[due] = np.inf
            self._soonest_s = float(self.at_s.min(initial=np.inf))
            self.any = bool(np.isfinite(self.mhz).any())
        return self.mhz

    def next_change(self, second: int) -> int:
        """The whole second at which something on its way comes into force; far away when nothing is."""
        return 1 << 40 if self._soonest_s == np.inf else max(second + 1, int(np.ceil(self._soonest_s)))
