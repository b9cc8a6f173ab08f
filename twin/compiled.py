"""Compile the twin's inner loops once and keep them on disk (`python -m twin.warmup` does it ahead of the first run).

Numba looks only at the age of the file that a kernel stands in, and kernels take in constants and functions of others. So
compiled code lies in a folder named after the digest of the kernels' sources: what was compiled from other text is never
used."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")

HERE = Path(__file__).parent
CONSTANTS = ("calibration.py", "parts.py", "batching/state.py", "plant/units.py")
"""files without kernels whose constants kernels take in"""


def _digest() -> str:
    """Return the digest of every file that has kernels, and of what they take in."""
    texts = hashlib.sha256()
    for source in sorted(HERE.rglob("*.py")):
        text = source.read_bytes()
        if b"twin.compiled" in text or source.relative_to(HERE).as_posix() in CONSTANTS:
            texts.update(text)
    return texts.hexdigest()[:16]


def _folder() -> Path:
    """Beside the sources; where these are read-only (an image, another user's install), in the user's own cache folder."""
    beside = HERE / "__pycache__"
    if os.access(beside if beside.exists() else HERE, os.W_OK):
        return beside
    return Path.home() / ".cache" / "coldaisle"


CACHE = _folder() / f"numba-{_digest()}"
setattr(numba.config, "CACHE_DIR", str(CACHE))  # noqa: B010 - numba makes its options at import, unseen by types


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` compiled at its first call, cached beside its source; no GIL while it runs, no fast-math."""
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


def bare(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` compiled into its callers and without reference counts: it may make no arrays.

    Counting is atomic, and a tuple of twenty arrays that goes through ten calls a request would cost more than the request.
    """
    return _uncounted(function, forceinline=True)


def seldom(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` compiled as `bare` does, but called, not put into its callers: for what seldom runs."""
    return _uncounted(function, forceinline=False)


def _uncounted(function: Callable[P, R], *, forceinline: bool) -> Callable[P, R]:
    options: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "forceinline": forceinline}
    options |= {"no_cfunc_wrapper": True, "no_cpython_wrapper": forceinline}  # nobody else calls what is inlined
    compiled: Callable[P, R] = numba.njit(**options, _nrt=False)(function)  # type: ignore[call-overload]
    return compiled
