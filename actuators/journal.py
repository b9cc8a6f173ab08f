"""The agent's journal: which targets it holds, on disk before it touches them, so that a crash leaves nothing behind.

A file of JSON lines, each `hold` an action, `free` a target, or `epoch` the newest controller seen. Only one agent may own it.
"""

import fcntl
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from contracts.control import Action
from contracts.errors import ConfigError

COMPACT_LINES = 20_000

log = logging.getLogger("coldaisle.agent")


class Hold(msgspec.Struct, frozen=True, tag="hold"):
    """A target is about to be changed."""

    action: Action


class Free(msgspec.Struct, frozen=True, tag="free"):
    """A target is back in its declared state."""

    target: str


class Epoch(msgspec.Struct, frozen=True, tag="epoch"):
    """A controller was obeyed."""

    epoch: int


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Hold | Free | Epoch] = msgspec.json.Decoder(Hold | Free | Epoch)


class Journal:
    """Holds and the newest epoch, in memory and on disk. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open or make the journal. Raises ConfigError when another agent owns it, or when it cannot be read."""
        self.path = path
        self.held: dict[str, Action] = {}
        self.epoch = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.with_name(path.name + ".lock").open("a")
            self._file = path.open("ab")
        except OSError as error:
            raise ConfigError(f"journal {path}: {error.strerror}; the agent must be able to write there") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise ConfigError(f"journal {path}: another agent owns it; stop that one, or give this one its own state") from None
        try:
            self._lines = self._replay()
        except ConfigError:
            self.close()
            raise
        self._compact()

    def hold(self, actions: Sequence[Action]) -> None:
        """Note that `actions` are about to be applied; when this returns, every target not held before is on disk (one fsync).

        A crash restores the declared state, not the value, so that a changed value of a held target need not wait for the disk.
        Raises OSError when a new target cannot be written down; none of them may be touched then.
        """
        new = any(action.target not in self.held for action in actions)
        self._append([Hold(action) for action in actions], durable=new)
        self.held.update({action.target: action for action in actions})

    def free(self, target: str) -> None:
        """Note that `target` is back. Not waited for: reverting once more does no harm."""
        if self.held.pop(target, None) is not None:
            self._append([Free(target)], durable=False)

    def saw(self, epoch: int) -> None:
        """Note the newest epoch."""
        if epoch > self.epoch:
            self.epoch = epoch
            self._append([Epoch(epoch)], durable=False)

    def close(self) -> None:
        """Let go; safe to call twice."""
        for name in ("_file", "_lock"):
            if (file := getattr(self, name, None)) is not None:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, entries: Sequence[Hold | Free | Epoch], *, durable: bool) -> None:
        try:
            self._file.writelines(_encoder.encode(entry) + b"\n" for entry in entries)
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
            self._lines += len(entries)
            if self._lines > COMPACT_LINES + len(self.held):
                self._compact()
        except OSError as error:
            if durable:
                raise
            # The lines stay in the buffer and go with the next; without them, a crash would revert once too often.
            log.warning("journal %s: %s; free some space", self.path, error.strerror)

    def _replay(self) -> int:
        lines = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last line break was never finished
            try:
                entry = _decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"journal {self.path}, line {number}: {error}; reset the clocks and weights by hand, then delete it"
                ) from None
            match entry:
                case Hold(action):
                    self.held[action.target] = action
                case Free(target):
                    self.held.pop(target, None)
                case Epoch(epoch):
                    self.epoch = max(self.epoch, epoch)
        return len(lines)

    def _compact(self) -> None:
        """Write what stands into a new file and put it in the old one's place."""
        part = self.path.with_name(self.path.name + ".part")
        entries: list[Hold | Epoch] = [*(Hold(action) for action in self.held.values()), Epoch(self.epoch)]
        with part.open("wb") as file:
            file.writelines(_encoder.encode(entry) + b"\n" for entry in entries)
            file.flush()
            os.fsync(file.fileno())
        part.rename(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self._file.close()
        self._file = self.path.open("ab")
        self._lines = len(entries)
