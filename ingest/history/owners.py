"""Which owners run on this machine: each says so in its state folder and in the user's runtime folder."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import msgspec

from contracts.errors import HistoryError

FILE = "owner.json"
TOKEN_FILE = "history.token"  # noqa: S105  (its name, not a secret)
HEALTH_TIMEOUT_S = 5.0


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """A running owner, as it announces itself."""

    url: str
    pid: int
    started: datetime
    """wall time, aware UTC"""
    token_file: str
    state: str


def registry_folder() -> Path:
    """Return the folder in which this user's owners announce themselves."""
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "coldaisle" / "owners"


@contextlib.contextmanager
def registered(state: Path, url: str, token: str, started: datetime) -> Iterator[Owner]:
    """Announce an owner for as long as the context lasts. The token's file can be read by its user only."""
    state = state.resolve()
    token_file = state / TOKEN_FILE
    _write(token_file, token.encode())
    owner = Owner(url=url, pid=os.getpid(), started=started, token_file=str(token_file), state=str(state))
    files = [state / FILE, registry_folder() / f"{owner.pid}-{secrets.token_hex(4)}.json"]
    for file in files:
        _write(file, msgspec.json.encode(owner))
    try:
        yield owner
    finally:
        for file in (*files, token_file):
            file.unlink(missing_ok=True)


def find(state: Path | None) -> Owner:
    """Return the owner of the folder `state`, or without one the newest that lives on this machine.

    HistoryError names an owner that died, and what to do.
    """
    if state is not None:
        owner = _read(state / FILE)
        if owner is None:
            raise HistoryError(f"no history runs in {str(state)!r}: start one there (coldaisle up), or leave --state out")
        if not _lives(owner):
            raise HistoryError(f"the history in {str(state)!r} (process {owner.pid}) does not answer: start it again")
        return owner
    dead: list[Owner] = []
    for owner in sorted(_announced(), key=lambda o: o.started, reverse=True):
        if _lives(owner):
            return owner
        dead.append(owner)
    if dead:
        raise HistoryError(
            f"no history runs on this machine; the last one, in {dead[0].state!r} (process {dead[0].pid}), ended without "
            "saying so: start it again (coldaisle up, coldaisle demo)"
        )
    raise HistoryError("no history runs on this machine: start one (coldaisle up, coldaisle demo), or name its --state")


def token_of(owner: Owner) -> str:
    """Return the owner's token; HistoryError when this user may not read it."""
    try:
        return Path(owner.token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise HistoryError(f"token {owner.token_file!r}: {error.strerror}: ask as the user who runs the history") from error


def _announced() -> list[Owner]:
    return [owner for file in registry_folder().glob("*.json") if (owner := _read(file)) is not None]


def _read(file: Path) -> Owner | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Owner)
    except FileNotFoundError:  # it may have ended in between
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise HistoryError(f"{str(file)!r} is no owner's announcement ({error}): remove it") from error


def _lives(owner: Owner) -> bool:
    """Whether the very process answers: a number alone may have been given to another process."""
    try:
        with httpx.Client(trust_env=False, timeout=HEALTH_TIMEOUT_S) as client:
            answer = client.get(f"{owner.url}/health")
            return answer.status_code == 200 and answer.json().get("pid") == owner.pid
    except (httpx.HTTPError, ValueError):
        return False


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.{os.getpid()}")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(content)
        part.rename(file)
    except OSError as error:
        raise HistoryError(f"{str(file)!r}: {error.strerror}: the owner must be able to write there") from error
