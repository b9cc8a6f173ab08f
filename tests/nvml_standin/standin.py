"""The stand-in library from a test's side: build it, make its cards, watch and set them while a program runs on them.

    with Standin.make(tmp_path, build(tmp_path), gpus=2) as nvml:
        nvml.gpu(0).load = 1.0
        subprocess.run([...], env=nvml.env())

In this very process: `load_here(library)` first; nvidia-ml-py then finds the loaded library by its name.
"""

import ctypes
import mmap
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

HERE = Path(__file__).parent
GPUS = 16

NO_POWER_INSTANT, NO_MEMORY_TEMP, NO_ENERGY, NO_TEMPERATURE = 0x1, 0x2, 0x4, 0x8
NO_UTILISATION, NO_REASONS, NO_LOCKED_CLOCKS, NO_SUPPORTED_CLOCKS = 0x10, 0x20, 0x40, 0x80


class Gpu(ctypes.Structure):
    """One card; the fields of `standin_gpu` in state.h."""

    _fields_ = (
        ("uuid", ctypes.c_char * 96),
        ("name", ctypes.c_char * 64),
        *((name, ctypes.c_double) for name in ("load", "inlet_c", "settle_s")),
        *((name, ctypes.c_uint32) for name in ("lost", "hang", "deaf", "unsupported", "set_error", "read_error")),
        *((name, ctypes.c_uint32) for name in ("min_clock_mhz", "max_clock_mhz", "idle_clock_mhz", "clock_step_mhz")),
        *((name, ctypes.c_uint32) for name in ("tdp_mw", "idle_mw", "min_limit_mw", "slowdown_c", "shutdown_c")),
        *((name, ctypes.c_uint64) for name in ("memory_b", "memory_used_b")),
        *((name, ctypes.c_uint32) for name in ("lock_min_mhz", "lock_max_mhz", "limit_mw", "locks", "resets", "calls")),
        *((name, ctypes.c_double) for name in ("clock_before_mhz", "changed_at_s", "temp_c", "energy_mj", "updated_at_s")),
    )
    load: float
    lost: int
    hang: int
    deaf: int
    unsupported: int
    set_error: int
    read_error: int
    slowdown_c: int
    lock_min_mhz: int
    lock_max_mhz: int
    locks: int
    resets: int
    calls: int
    temp_c: float


class _State(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("magic", "gpus", "no_permission", "no_driver")),
        ("gpu", Gpu * GPUS),
    )


def build(folder: Path) -> Path:
    """Compile the library into `folder` and return its path; skips where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("the stand-in of libnvidia-ml.so.1 needs a C compiler: install gcc")
    library = folder / "libnvidia-ml.so.1"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([compiler, *flags, "-o", str(library), str(HERE / "nvml.c"), "-lm", "-lpthread"], check=True)
    return library


def load_here(library: Path) -> None:
    """Load the library into this process, before nvidia-ml-py asks for it by name."""
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


class Standin:
    """The cards of one test: a mapped file, seen by the library and by the test at once."""

    def __init__(self, file: Path, library: Path) -> None:
        self.file, self.library = file, library
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), ctypes.sizeof(_State))
        self._state: _State | None = _State.from_buffer(self._map)

    @classmethod
    def make(cls, folder: Path, library: Path, gpus: int = 2) -> Self:
        """Cards like an H100 SXM (700 W, 345 to 1980 MHz), idle, in 25 degC air."""
        file = folder / "cards"
        file.write_bytes(b"\0" * ctypes.sizeof(_State))
        made = cls(file, library)
        made.state.gpus = gpus
        for index in range(gpus):
            card = made.gpu(index)
            values = {
                "uuid": f"GPU-00000000-0000-0000-0000-{index:012d}".encode(),
                "name": b"Stand-in H100 80GB",
                "inlet_c": 25.0,
                "min_clock_mhz": 345,
                "max_clock_mhz": 1980,
                "idle_clock_mhz": 345,
                "clock_step_mhz": 15,
                "tdp_mw": 700_000,
                "idle_mw": 70_000,
                "min_limit_mw": 200_000,
                "limit_mw": 700_000,
                "slowdown_c": 87,
                "shutdown_c": 92,
                "memory_b": 80 << 30,
                "memory_used_b": 3 << 30,
            }
            for name, value in values.items():
                setattr(card, name, value)
        made.state.magic = 0x4C4D564E
        return made

    @property
    def state(self) -> "_State":
        """The whole file; `no_permission` and `no_driver` are set here."""
        assert self._state is not None, "closed"
        return self._state

    def gpu(self, index: int) -> Gpu:
        """One card, live."""
        card: Gpu = self.state.gpu[index]
        return card

    def uuid(self, index: int) -> str:
        """Its UUID as NVML tells it."""
        return bytes(self.gpu(index).uuid).decode()

    def env(self) -> dict[str, str]:
        """Environment in which a program finds this library and these cards."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.library.parent), "NVML_STANDIN_STATE": str(self.file)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._state = None
