"""One GPU's clocks: lock, watch, release. Each method is one blocking call of a lane; raises pynvml.NVMLError."""

import time
from dataclasses import dataclass
from typing import Any, Literal

import pynvml

Verdict = Literal["read", "applied", "applied_unverified", "above"]
_UNSUPPORTED = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
ENOUGH = 2
"""consecutive samples that prove a cap, or that the GPU is idle"""


@dataclass(frozen=True, kw_only=True)
class State:
    """What was seen of a GPU, and what it proves."""

    clock_mhz: int
    busy: bool
    """False also where the GPU tells neither event reasons nor utilisation"""
    cap_mhz: int | None
    verdict: Verdict = "read"
    note: str = ""

    def text(self) -> str:
        """One word or two for the record."""
        cap = "" if self.cap_mhz is None else f" <= {self.cap_mhz}" if self.clock_mhz <= self.cap_mhz else f" > {self.cap_mhz}"
        return f"{self.clock_mhz}{cap} MHz{'' if self.busy else ' idle'}"


class Gpu:
    """One card. `cap_mhz` is the lock that this object set; NVML would not tell."""

    def __init__(self, index: int, handle: Any) -> None:
        """Read what it is and which clocks it has."""
        self.index, self._handle = index, handle
        self.uuid: str = pynvml.nvmlDeviceGetUUID(handle)
        self.name: str = pynvml.nvmlDeviceGetName(handle)
        self.declared_mhz: tuple[int, int] | None = None
        self.cap_mhz: int | None = None
        self._verified = False
        self._clocks = _supported_clocks(handle)

    @property
    def lowest_mhz(self) -> int | None:
        """The lowest clock that it can be locked to, where it tells."""
        return self._clocks[0] if self._clocks else None

    def sample(self) -> State:
        """Return clock and load now."""
        clock_mhz: int = pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM)
        return State(clock_mhz=clock_mhz, busy=self._busy(), cap_mhz=self.cap_mhz)

    def cap(self, max_mhz: int, verify_s: float, sample_s: float) -> State:
        """Lock the clock at or below `max_mhz` and verify it; what is locked already is verified and not written again."""
        cap_mhz = self._nearest(max_mhz)
        note = ""
        if self.cap_mhz == cap_mhz:
            found = self.sample()
            if not found.busy or found.clock_mhz <= cap_mhz:
                return self._settled(found, verify_s, sample_s)
            note = f"GPU {self.index} found at {found.clock_mhz} MHz: locked again"
        self.cap_mhz, self._verified = cap_mhz, False
        pynvml.nvmlDeviceSetGpuLockedClocks(self._handle, self._floor(cap_mhz), cap_mhz)
        state = self._watch(verify_s, sample_s)
        self._verified = state.verdict == "applied"
        return State(clock_mhz=state.clock_mhz, busy=state.busy, cap_mhz=cap_mhz, verdict=state.verdict, note=note)

    def release(self) -> State:
        """Reset the lock, or set the declared one."""
        if self.declared_mhz is None:
            pynvml.nvmlDeviceResetGpuLockedClocks(self._handle)
        else:
            pynvml.nvmlDeviceSetGpuLockedClocks(self._handle, *self.declared_mhz)
        self.cap_mhz, self._verified = None, False
        found = self.sample()
        return State(clock_mhz=found.clock_mhz, busy=found.busy, cap_mhz=None, verdict="applied")

    def _settled(self, found: State, verify_s: float, sample_s: float) -> State:
        """A cap that was set before: once it was verified, an idle GPU does not take that back."""
        if self._verified:
            return State(clock_mhz=found.clock_mhz, busy=found.busy, cap_mhz=self.cap_mhz, verdict="applied")
        if not found.busy:
            return State(clock_mhz=found.clock_mhz, busy=False, cap_mhz=self.cap_mhz, verdict="applied_unverified")
        state = self._watch(verify_s, sample_s)
        self._verified = state.verdict == "applied"
        return state

    def _watch(self, verify_s: float, sample_s: float) -> State:
        """Sample until the clock stood at or below the cap twice under load, the GPU was idle twice, or the time is over."""
        deadline = time.monotonic() + verify_s
        below = idle = 0
        while True:
            time.sleep(sample_s)
            state = self.sample()
            held = state.busy and self.cap_mhz is not None and state.clock_mhz <= self.cap_mhz
            below, idle = (below + 1 if held else 0), (0 if state.busy else idle + 1)
            verdict: Verdict = "applied" if below >= ENOUGH else "applied_unverified" if idle >= ENOUGH else "above"
            if verdict != "above" or time.monotonic() >= deadline:
                return State(clock_mhz=state.clock_mhz, busy=state.busy, cap_mhz=self.cap_mhz, verdict=verdict)

    def _busy(self) -> bool:
        known = False
        try:
            if pynvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle) & pynvml.nvmlClocksEventReasonGpuIdle:
                return False
            known = True
        except pynvml.NVMLError as error:
            if error.value not in _UNSUPPORTED:
                raise
        try:
            return bool(pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu > 0)
        except pynvml.NVMLError as error:
            if error.value not in _UNSUPPORTED:
                raise
        return known

    def _nearest(self, max_mhz: int) -> int:
        """The highest clock that the GPU has at or below `max_mhz`: the driver may round up. Never above the declared lock."""
        if self.declared_mhz is not None:
            max_mhz = min(max_mhz, self.declared_mhz[1])
        return max((clock for clock in self._clocks if clock <= max_mhz), default=max_mhz)

    def _floor(self, cap_mhz: int) -> int:
        """The lower end of the lock: as low as the GPU goes, so that it may idle; the declared one where there is one."""
        lowest = self.lowest_mhz if self.declared_mhz is None else self.declared_mhz[0]
        return min(cap_mhz if lowest is None else lowest, cap_mhz)


def _supported_clocks(handle: Any) -> list[int]:
    """Return the graphics clocks of the highest memory clock, rising; empty where the GPU does not tell."""
    try:
        memory = max(pynvml.nvmlDeviceGetSupportedMemoryClocks(handle), default=None)
        return [] if memory is None else sorted(pynvml.nvmlDeviceGetSupportedGraphicsClocks(handle, memory))
    except pynvml.NVMLError as error:
        if error.value in _UNSUPPORTED:
            return []
        raise
