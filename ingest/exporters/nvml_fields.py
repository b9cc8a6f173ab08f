"""What is read of one GPU, and in which way: one bulk call for the fields, one call for each of the rest.

What a GPU does not support is asked once and remembered; where there is another way to the same value, it is tried first.
Numbers of the fields: nvml.h, NVML_FI_DEV_*. Imports nothing but nvidia-ml-py.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pynvml

LOST = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND})
UNSUPPORTED = frozenset(
    {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH}
)
MIB = 1024.0 * 1024.0

Reader = Callable[[Any], float]

FIELDS: Mapping[int, tuple[str, float]] = {
    pynvml.NVML_FI_DEV_POWER_INSTANT: ("power_w", 1e-3),
    pynvml.NVML_FI_DEV_MEMORY_TEMP: ("mem_temp_c", 1.0),
    pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION: ("energy_j", 1e-3),
}
"""field -> (column, factor to its unit): mW, degC, mJ"""

FALLBACKS: Mapping[int, tuple[Reader, ...]] = {
    pynvml.NVML_FI_DEV_POWER_INSTANT: (lambda gpu: float(pynvml.nvmlDeviceGetPowerUsage(gpu)),),
    pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION: (lambda gpu: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)),),
}
"""field -> calls of its own, for drivers that do not know the field, in the field's unit"""

CALLS: Mapping[str, tuple[Reader, ...]] = {
    "temp_c": (
        lambda gpu: float(pynvml.nvmlDeviceGetTemperatureV(gpu, pynvml.NVML_TEMPERATURE_GPU)),
        lambda gpu: float(pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)),
    ),
    "sm_clock_mhz": (lambda gpu: float(pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)),),
    "mem_clock_mhz": (lambda gpu: float(pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM)),),
    "util_pct": (lambda gpu: float(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu),),
    "mem_used_mib": (lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).used / MIB,),
    "clock_event_reasons": (
        lambda gpu: int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)),
        lambda gpu: int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)),
    ),
}
"""column -> ways to read it, the best first"""

COLUMNS = (*(column for column, _ in FIELDS.values()), *CALLS)

_VALUE = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}


class GpuReader:
    """Reads one GPU; `handle` is NVML's. Remembers what it does not support."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._fields = list(FIELDS)
        self._ways: dict[str, list[Reader]] = {column: list(ways) for column, ways in CALLS.items()}

    def uuid(self) -> str:
        """Return the driver's UUID."""
        return str(pynvml.nvmlDeviceGetUUID(self._handle))

    def read(self) -> tuple[dict[str, float], dict[str, str]]:
        """Return (column -> value, column -> error); what is in neither is not supported. Raises NVMLError when it is lost."""
        values: dict[str, float] = {}
        errors: dict[str, str] = {}
        self._read_fields(values, errors)
        for column, ways in self._ways.items():
            while ways:
                try:
                    values[column] = ways[0](self._handle)
                    break
                except pynvml.NVMLError as error:
                    if error.value in LOST:
                        raise
                    if error.value not in UNSUPPORTED:
                        errors[column] = str(error)
                        break
                    del ways[0]
        return values, errors

    def _read_fields(self, values: dict[str, float], errors: dict[str, str]) -> None:
        if not self._fields:
            return
        try:
            found = pynvml.nvmlDeviceGetFieldValues(self._handle, self._fields)
        except pynvml.NVMLError as error:
            if error.value in LOST:
                raise
            if error.value in UNSUPPORTED:  # a driver without the bulk call
                self._fields, unsupported = [], self._fields
                for field in unsupported:
                    self._fall_back(field)
            else:
                errors.update({FIELDS[field][0]: str(error) for field in self._fields})
            return
        for value in found:
            column, factor = FIELDS[value.fieldId]
            if value.nvmlReturn == pynvml.NVML_SUCCESS:
                values[column] = getattr(value.value, _VALUE[value.valueType]) * factor
            elif value.nvmlReturn in LOST:
                raise pynvml.NVMLError(value.nvmlReturn)
            elif value.nvmlReturn in {
                *UNSUPPORTED,
                pynvml.NVML_ERROR_INVALID_ARGUMENT,
            }:  # a field that the driver never heard of
                self._fields.remove(value.fieldId)
                self._fall_back(value.fieldId)
            else:
                errors[column] = str(pynvml.NVMLError(value.nvmlReturn))

    def _fall_back(self, field: int) -> None:
        """Read a field's column by its own call from now on, where there is one."""
        column, factor = FIELDS[field]
        self._ways[column] = [_scaled(way, factor) for way in FALLBACKS.get(field, ())]


def _scaled(way: Reader, factor: float) -> Reader:
    return lambda gpu: way(gpu) * factor
