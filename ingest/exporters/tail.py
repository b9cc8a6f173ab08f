"""Reading a file that grows, line by line, through rotation, truncation and restarts of the reader."""

import glob
import hashlib
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from contracts.errors import ConfigError

READ_BYTES = 1 << 20
HEAD_BYTES = 256


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What tells whether a file is still the same: an inode may be used again, a truncated file grow beyond its old size."""

    inode: int
    size: int
    """bytes looked at from the file's beginning"""
    sha256: str


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file was read: `offset` is the first byte of the first line that was not yet handed out."""

    head: Head
    offset: int


@dataclass
class Lines:
    """Cuts chunks into lines and keeps the unfinished last one. A line above `max_bytes` is dropped and counted."""

    max_bytes: int
    rest: bytes = b""
    dropped: int = 0
    _skipping: bool = False

    def cut(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that `chunk` completes, without their line ends; empty lines are left out."""
        *whole, rest = (self.rest + chunk).split(b"\n")
        for line in whole:
            if self._skipping:
                self._skipping = False
            elif len(line) > self.max_bytes:
                self.dropped += 1
            elif line.strip():
                yield line.strip()
        if len(rest) > self.max_bytes and not self._skipping:
            self._skipping = True
            self.dropped += 1
        self.rest = b"" if self._skipping else rest


class FileTail:
    """The lines appended to `path` since the position in `state_file`, or since its beginning or end where there is none.

    Rotation by renaming: what is left of the old file is read first, also when it happened while nobody read. Truncation in
    place: from the beginning. The file need not exist yet.
    """

    def __init__(self, path: Path, *, state_file: Path | None, from_start: bool, max_line_bytes: int) -> None:
        self._path = path
        self._state_file = state_file
        self._max_line_bytes = max_line_bytes
        self._from_start = from_start
        self._file: BinaryIO | None = None
        self._lines = Lines(max_bytes=max_line_bytes)
        self._offset = 0
        self._head: Head | None = None
        self._saved: Position | None = None
        if state_file is not None and state_file.exists():
            self._resume(_load(state_file))

    def read(self, max_lines: int) -> list[bytes]:
        """Return complete lines, about `max_lines` at most (one chunk more may come). Raises OSError on an unreadable file."""
        found: list[bytes] = []
        while len(found) < max_lines and (file := self._opened()):
            if self._was_truncated(file):
                self._start(file, 0)
            # Asked before reading: what was written to this file before its successor got its first line is then read here.
            succeeded = self._has_successor(file)
            chunk = file.read(READ_BYTES)
            self._offset += len(chunk)
            if self._head is None or self._head.size < HEAD_BYTES:
                self._head = _head_of(file, min(self._offset, HEAD_BYTES))
            found.extend(self._lines.cut(chunk))
            if not chunk and not succeeded:
                break
            if not chunk:
                found.extend(self._lines.cut(b"\n"))  # no more will come: the last line is whole, or broken for good
                self.close()
                self._head = None
        return found

    def take_dropped(self) -> int:
        """Number of overlong lines since the last call."""
        dropped, self._lines.dropped = self._lines.dropped, 0
        return dropped

    def save(self) -> None:
        """Keep the position of all lines handed out so far: written beside and renamed, so that a crash leaves a whole file.

        Raises OSError when it cannot be written.
        """
        if self._state_file is None or self._file is None or self._head is None or self._was_truncated(self._file):
            return
        position = Position(head=self._head, offset=self._offset - len(self._lines.rest))
        if position == self._saved:
            return
        beside = self._state_file.with_name(self._state_file.name + ".new")
        with beside.open("wb") as file:
            file.write(msgspec.json.encode(position))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._state_file)
        self._saved = position

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> BinaryIO | None:
        if self._file is not None:
            return self._file
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            self._from_start = True  # a file that comes later is new from its first line
            return None
        self._start(file, 0 if self._from_start else _last_line_start(file))
        self._from_start = True
        return file

    def _start(self, file: BinaryIO, offset: int) -> None:
        file.seek(offset)
        self._file = file
        self._offset = offset
        self._head = None
        self._lines = Lines(max_bytes=self._max_line_bytes, dropped=self._lines.dropped)

    def _was_truncated(self, file: BinaryIO) -> bool:
        if os.fstat(file.fileno()).st_size < self._offset:
            return True
        # Cut and grown again between two looks: it begins differently.
        return self._head is not None and _head_of(file, self._head.size) != self._head

    def _has_successor(self, file: BinaryIO) -> bool:
        """Whether another file bears the name by now and has first bytes (while it is empty, the old one may still grow)."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        return status.st_size > 0 and not os.path.samestat(status, os.fstat(file.fileno()))

    def _resume(self, position: Position) -> None:
        """Open the file that the position belongs to: `path` itself, or what it was renamed to beside it."""
        beside = sorted(self._path.parent.glob(glob.escape(self._path.name) + "*")) if self._path.parent.exists() else []
        for candidate in [self._path, *beside]:
            if not candidate.is_file():
                continue
            try:
                file = candidate.open("rb")
            except OSError:
                continue  # gone by now, or not ours to read: read() reports on the path itself
            long_enough = os.fstat(file.fileno()).st_size >= position.offset
            if long_enough and _head_of(file, position.head.size) == position.head:
                self._start(file, position.offset)
                return
            file.close()
        self._from_start = True  # another file by now: all of it is new


class PipeTail:
    """The lines of a pipe or terminal, without ever waiting for them."""

    def __init__(self, fd: int, *, max_line_bytes: int) -> None:
        self._fd = fd
        self._lines = Lines(max_bytes=max_line_bytes)
        self._open = True

    def read(self, max_lines: int) -> list[bytes]:
        """Return the complete lines that have come, about `max_lines` at most; the last one at the end needs no line end."""
        found: list[bytes] = []
        while self._open and len(found) < max_lines and select.select([self._fd], [], [], 0)[0]:
            chunk = os.read(self._fd, READ_BYTES)
            self._open = bool(chunk)
            found.extend(self._lines.cut(chunk or b"\n"))
        return found

    def take_dropped(self) -> int:
        """Number of overlong lines since the last call."""
        dropped, self._lines.dropped = self._lines.dropped, 0
        return dropped

    def save(self) -> None:
        """Do nothing: a pipe cannot be read twice."""

    def close(self) -> None:
        """Do nothing: the descriptor is the caller's."""


def _head_of(file: BinaryIO, size: int) -> Head:
    inode = os.fstat(file.fileno()).st_ino
    return Head(inode=inode, size=size, sha256=hashlib.sha256(os.pread(file.fileno(), size, 0)).hexdigest())


def _last_line_start(file: BinaryIO) -> int:
    """Offset after the last line end: a line that is being written is read whole."""
    end = file.seek(0, os.SEEK_END)
    begin = max(0, end - READ_BYTES)
    last = os.pread(file.fileno(), end - begin, begin).rfind(b"\n")
    return begin + last + 1 if last >= 0 or begin == 0 else end


def _load(state_file: Path) -> Position:
    try:
        return msgspec.json.decode(state_file.read_bytes(), type=Position)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"state_file {str(state_file)!r}: no position of a log ({error}); remove it to start anew") from error
