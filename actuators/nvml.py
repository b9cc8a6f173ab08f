"""SM clocks through NVML: locked to a range whose upper end is the cap, verified by the clock itself.

NVML has no getter for a lock. So *applied* means: the call succeeded, and under load the SM clock stood at or below the cap in
two consecutive samples; on an idle GPU it is *applied_unverified*. A revert resets the lock, or sets the one that the node's
file declares. Needs root or CAP_SYS_ADMIN. docs/actuation.md says more.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import msgspec
import pynvml

from actuators.lanes import Lanes
from actuators.node_file import NodeFile
from actuators.nvml_gpu import Gpu, State
from actuators.values import cap_at, outcome, outside
from contracts.control import Action, ClockCap, Outcome, Status
from contracts.errors import ConfigError

Seconds = Annotated[float, msgspec.Meta(gt=0, le=60)]


class NvmlSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait, how often to look. Which GPUs and which bounds is the node file's to say."""

    timeout_s: Seconds = 5.0
    """per GPU, verification included; longer than verify_s"""
    verify_s: Seconds = 2.0
    """how long the clock may take to come down"""
    sample_s: Annotated[float, msgspec.Meta(ge=0.1, le=0.2)] = 0.15
    """between two samples of the SM clock"""


class NvmlClocks:
    """Caps the SM clocks of the opted-in GPUs of this machine, all at once. One agent calls it, from one thread."""

    Settings = NvmlSettings
    kind = "clock_cap"

    def __init__(self, settings: NvmlSettings) -> None:
        """Open NVML. Raises ConfigError when there is no driver, or when the times make no sense."""
        if settings.timeout_s <= settings.verify_s:
            raise ConfigError(f"nvml: timeout_s = {settings.timeout_s}: must be above verify_s = {settings.verify_s}")
        self._settings = settings
        self._file = NodeFile()
        self._lanes: Lanes[State] = Lanes()
        self._gpus: dict[int, Gpu] = {}
        try:
            pynvml.nvmlInit()
            for index in range(pynvml.nvmlDeviceGetCount()):
                if (gpu := _open(index)) is not None:
                    self._gpus[index] = gpu
        except pynvml.NVMLError as error:
            raise ConfigError(f"nvml: {error}; install the NVIDIA driver, or take the actuator dry_run") from None

    def allow(self, node_file: NodeFile) -> None:
        """Touch the GPUs that this file opts in, and no other."""
        self._file = node_file
        for gpu in self._gpus.values():
            gpu.declared_mhz = node_file.declared_lock_mhz

    def read(self, action: Action) -> str:
        """Return the SM clocks of the action's GPUs, as text."""
        return _text(self._run(self._wanted(action), lambda gpu: gpu.sample))

    def apply(self, action: Action) -> Outcome:
        """Cap the named GPUs (all that are opted in, where none is named) and give back those that it capped before."""
        if not isinstance(action.value, ClockCap):
            return outcome(action, "refused", reason=f"takes clock_cap, not {type(action.value).__name__}")
        if reason := outside(action.value, action.bounds):
            return outcome(action, "refused", reason=reason)
        value = action.value
        foreign = [index for index in value.gpus if index not in self._opted_in()]
        gpus = self._wanted(action)
        if not gpus:
            return outcome(action, "refused", reason=f"{self._whose(foreign)}; nothing was touched")
        lows = [gpu.lowest_mhz for gpu in gpus.values() if gpu.lowest_mhz and value.max_mhz < gpu.lowest_mhz]
        if lows:
            return outcome(action, "refused", reason=f"{value.max_mhz:g} MHz is below the GPU's lowest clock, {max(lows)} MHz")
        s = self._settings
        before = self._run(gpus, lambda gpu: gpu.sample)
        given_back = {i: g for i, g in self._opted_in().items() if g.cap_mhz is not None and i not in gpus}
        freed = self._run(given_back, lambda gpu: gpu.release)
        caps = {index: int(cap_at(value, index)) for index in gpus}
        after = self._run(gpus, lambda gpu: partial(gpu.cap, caps[gpu.index], s.verify_s, s.sample_s))
        status, reason = _verdict({**freed, **after})
        if foreign and status in {"applied", "applied_unverified"}:
            status, reason = "partly", self._whose(foreign)
        return outcome(action, status, before=_text(before), after=_text(after), reason=reason)

    def revert(self, action: Action) -> Outcome:
        """Reset the lock of every opted-in GPU, or set the declared one. A GPU that is lost holds no lock."""
        gpus = self._opted_in()
        before = self._run(gpus, lambda gpu: gpu.sample)
        after = self._run(gpus, lambda gpu: gpu.release)
        status, reason = _verdict({i: s for i, s in after.items() if not _lost(s)})
        if status in {"failed", "partly"}:
            return outcome(action, "failed", before=_text(before), after=_text(after), reason=reason)
        return outcome(action, "reverted", before=_text(before), after=_text(after))

    def _opted_in(self) -> dict[int, Gpu]:
        return {index: gpu for index, gpu in self._gpus.items() if self._file.opted_in(gpu.uuid, gpu.name)}

    def _wanted(self, action: Action) -> dict[int, Gpu]:
        allowed = self._opted_in()
        named = action.value.gpus if isinstance(action.value, ClockCap) else ()
        return {index: gpu for index, gpu in allowed.items() if not named or index in named}

    def _whose(self, foreign: list[int]) -> str:
        if not foreign:
            return f"none of the {len(self._gpus)} GPUs is opted in by the node's file"
        return f"GPU {', '.join(map(str, foreign))} not opted in by the node's file"

    def _run(self, gpus: Mapping[int, Gpu], call: Callable[[Gpu], Callable[[], State]]) -> dict[int, State | Exception]:
        return self._lanes.run({index: call(gpu) for index, gpu in gpus.items()}, self._settings.timeout_s)


def _open(index: int) -> Gpu | None:
    """Return the GPU, or None when it is lost."""
    try:
        handle: Any = pynvml.nvmlDeviceGetHandleByIndex(index)
        return Gpu(index, handle)
    except pynvml.NVMLError as error:
        if error.value in {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED}:
            return None
        raise


def _lost(found: State | Exception) -> bool:
    return isinstance(found, pynvml.NVMLError) and found.value == pynvml.NVML_ERROR_GPU_IS_LOST


def _verdict(found: Mapping[int, State | Exception]) -> tuple[Status, str]:
    """Return one status for all GPUs, and why where it is not simply applied."""
    wrong = {index: _why(index, result) for index, result in found.items()}
    reasons = [reason for reason in wrong.values() if reason]
    if reasons:
        return ("failed" if len(reasons) == len(found) else "partly"), "; ".join(reasons)
    states = [result for result in found.values() if isinstance(result, State)]
    notes = "; ".join(state.note for state in states if state.note)
    idle = [str(index) for index, s in found.items() if isinstance(s, State) and s.verdict == "applied_unverified"]
    if idle:
        return "applied_unverified", "; ".join(filter(None, (f"GPU {', '.join(idle)} idle: nothing to see the cap by", notes)))
    return "applied", notes


def _why(index: int, result: State | Exception) -> str:
    """Return what is wrong with one GPU, empty when nothing is."""
    if isinstance(result, State):
        return f"GPU {index} still at {result.clock_mhz} MHz, above {result.cap_mhz} MHz" if result.verdict == "above" else ""
    if isinstance(result, pynvml.NVMLError) and result.value == pynvml.NVML_ERROR_NO_PERMISSION:
        return f"GPU {index}: {result}; run the agent as root or with CAP_SYS_ADMIN"
    return f"GPU {index}: {result}"


def _text(found: Mapping[int, State | Exception]) -> str:
    """Return the evidence in one line."""
    return ", ".join(f"{i}: {s.text() if isinstance(s, State) else s}" for i, s in sorted(found.items()))
