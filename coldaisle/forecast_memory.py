"""What the forecaster has learnt, kept on disk: after a restart it speaks at once instead of learning for minutes first."""

import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

import forecast
from forecast.account import Account
from forecast.maxima import Maxima
from forecast.plant import Plant
from forecast.state import State

FILE = "learnt.pickle"


@dataclass(frozen=True, kw_only=True)
class Memory:
    """All that was learnt, and when each job last ended (aware UTC, run time)."""

    learnt: State = field(default_factory=State)
    plant: Plant | None = None
    account: Account = field(default_factory=Account)
    maxima: Maxima | None = None
    rows: tuple[str, ...] = ()
    """the rows that `maxima` knows, in its order"""
    done: Mapping[str, datetime] = field(default_factory=dict)


def save(folder: Path, memory: Memory) -> None:
    """Write the memory into `folder` (made if need be; readable by its owner only), whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{FILE}.part"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(code_version().encode() + b"\n")
        pickle.dump(memory, out, protocol=5)
        out.flush()
        os.fsync(out.fileno())
    part.replace(folder / FILE)


def recall(folder: Path) -> tuple[Memory | None, str]:
    """Return what was saved, or None and why not: nothing there, made by other code, or not readable."""
    file = folder / FILE
    try:
        with file.open("rb") as saved:
            version = saved.readline().strip().decode(errors="replace")
            if version != code_version():
                return None, f"{file} was learnt by other code: learning anew"
            memory = pickle.load(saved)  # noqa: S301 - our own file, in our own state folder
    except FileNotFoundError:
        return None, "nothing was kept"
    except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError, ValueError, TypeError) as error:
        return None, f"{file} cannot be read ({type(error).__name__}: {error}): learning anew"
    if not isinstance(memory, Memory):
        return None, f"{file} holds a {type(memory).__name__}: learning anew"
    return memory, ""


@cache
def code_version() -> str:
    """Return a digest of the forecasting code: what other code learnt may not fit."""
    digest = hashlib.sha256()
    for source in sorted(Path(forecast.__path__[0]).rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
