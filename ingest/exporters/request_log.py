"""Request logs as JSON lines from a file that grows or from standard input; docs/request-logs.md is the contract."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from contracts.errors import ConfigError
from contracts.ports import Collected, Problem
from ingest.exporters.request_rows import BadLineError, RequestParser, RequestRow, columns_of, sample_of
from ingest.exporters.tail import FileTail, PipeTail

MAX_PROBLEMS = 100
"""per collect: a source that speaks another language must not flood `rejected`"""


class RequestLogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which log, and how to read it."""

    path: Annotated[str, msgspec.Meta(min_length=1)]
    """a file, which need not exist yet; - = standard input"""
    state_file: str = ""
    """where the position is kept over restarts; empty = nowhere"""
    start: Literal["end", "beginning"] = "end"
    """where to begin in a file without a kept position"""
    endpoint: str = ""
    """service of lines that name none; needed for ai-dynamo's trace"""
    nodes: Mapping[str, str] = {}
    """server.address (or ai-dynamo's decode_worker_id) -> server in the topology"""
    period_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 1.0
    max_lines: Annotated[int, msgspec.Meta(ge=1)] = 50_000
    """per collect; the rest comes with the next"""
    max_line_bytes: Annotated[int, msgspec.Meta(ge=1000)] = 1 << 20


class RequestLogExporter:
    """Reads the lines that came since the last `collect`. A malformed line is a Problem, the rest goes on.

    The position is kept at the following collect and at close: who is killed in between repeats a batch and loses none.
    """

    Settings = RequestLogSettings
    name = "request_log"

    def __init__(self, settings: RequestLogSettings) -> None:
        self.period_s = settings.period_s
        self._settings = settings
        self._source = f"request_log:{settings.path}"
        self._parser = RequestParser(endpoint=settings.endpoint, nodes=settings.nodes)
        self._tail = _tail(settings)

    def collect(self, now: datetime) -> Sequence[Collected]:  # noqa: ARG002  (a line bears its own times)
        """Return the finished requests of new lines, ts = the end of each."""
        try:
            self._tail.save()
            lines = self._tail.read(self._settings.max_lines)
        except OSError as error:
            problem = Problem(source=self._source, reason=f"cannot be read, or its position not kept: {error}")
            return [Collected(topic="requests", columns=columns_of([]), problems=(problem,))]
        rows, problems, _ = read_lines(self._parser, self._source, lines)
        if dropped := self._tail.take_dropped():
            reason = (
                f"{dropped} lines above {self._settings.max_line_bytes} bytes dropped; raise max_line_bytes or log no bodies"
            )
            problems.append(Problem(source=self._source, reason=reason))
        return [Collected(topic="requests", columns=columns_of(rows), problems=tuple(problems))]

    def close(self) -> None:
        """Keep the position; safe to call twice."""
        self._tail.save()
        self._tail.close()


def read_lines(parser: RequestParser, source: str, lines: Sequence[bytes]) -> tuple[list[RequestRow], list[Problem], int]:
    """Parse all lines: the rows, a Problem a bad line (beyond MAX_PROBLEMS one more counts the others), how many were bad."""
    rows: list[RequestRow] = []
    problems: list[Problem] = []
    bad = 0
    for line in lines:
        try:
            row = parser.parse(line)
        except BadLineError as error:
            bad += 1
            if bad <= MAX_PROBLEMS:
                problems.append(Problem(source=source, reason=str(error), sample=sample_of(line)))
            continue
        if row is not None:
            rows.append(row)
    if bad > MAX_PROBLEMS:
        problems.append(Problem(source=source, reason=f"{bad - MAX_PROBLEMS} more bad lines in this batch"))
    return rows, problems, bad


def _tail(settings: RequestLogSettings) -> FileTail | PipeTail:
    if settings.path == "-":
        if settings.state_file:
            raise ConfigError("request_log: state_file with path '-': standard input has no position to keep; leave it out")
        return PipeTail(sys.stdin.fileno(), max_line_bytes=settings.max_line_bytes)
    state_file = Path(settings.state_file) if settings.state_file else None
    if state_file is not None and not state_file.parent.is_dir():
        raise ConfigError(f"state_file {settings.state_file!r}: no folder {str(state_file.parent)!r}; make it first")
    from_start = settings.start == "beginning"
    return FileTail(Path(settings.path), state_file=state_file, from_start=from_start, max_line_bytes=settings.max_line_bytes)
