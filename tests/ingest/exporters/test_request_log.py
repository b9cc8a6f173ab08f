import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ConfigError
from contracts.ports import Collected, Problem
from ingest.codec import frame_of
from ingest.exporters.request_log import MAX_PROBLEMS, RequestLogExporter, RequestLogSettings
from ingest.exporters.tail import READ_BYTES, PipeTail
from tests.factories import NOW


def line(request_id: str, **changes: Any) -> str:
    start, end = NOW.isoformat(), (NOW + timedelta(seconds=2)).isoformat()
    return json.dumps({"request_id": request_id, "endpoint": "chat", "start_time": start, "end_time": end, **changes}) + "\n"


class Log:
    """A log file in a folder of its own, and exporters that read it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "requests.jsonl"
        self.state = folder / "position.json"
        self.exporters: list[RequestLogExporter] = []

    def reader(self, **changes: Any) -> RequestLogExporter:
        settings = {"path": str(self.path), "state_file": str(self.state), "start": "beginning", **changes}
        self.exporters.append(RequestLogExporter(RequestLogSettings(**settings)))
        return self.exporters[-1]

    def write(self, *text: str) -> None:
        with self.path.open("a") as file:
            file.writelines(text)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    for exporter in made.exporters:
        exporter.close()


def collect(exporter: RequestLogExporter) -> Collected:
    (found,) = exporter.collect(NOW)
    frame_of("requests", found.columns)
    return found


def ids(exporter: RequestLogExporter) -> list[str]:
    found = collect(exporter)
    assert not found.problems
    return list(found.columns["request_id"])


def test_follows_a_file_that_comes_later_and_grows(log: Log) -> None:
    reader = log.reader()
    assert ids(reader) == []
    log.write(line("a"), line("b"))
    assert ids(reader) == ["a", "b"]
    log.write(line("c"))
    assert ids(reader) == ["c"]
    assert ids(reader) == []


def test_keeps_a_partial_last_line_until_it_is_whole(log: Log) -> None:
    reader, text = log.reader(), line("b")
    log.write(line("a"), text[:20])
    assert ids(reader) == ["a"]
    log.write(text[20:40])
    assert ids(reader) == []
    log.write(text[40:])
    assert ids(reader) == ["b"]


def test_starts_at_the_end_with_the_line_that_is_being_written(log: Log) -> None:
    text = line("b")
    log.write(line("a"), text[:10])
    reader = log.reader(start="end")
    assert ids(reader) == []
    log.write(text[10:])
    assert ids(reader) == ["b"]


def test_goes_on_where_it_was_after_a_restart(log: Log) -> None:
    first, text = log.reader(), line("b")
    log.write(line("a"), text[:10])
    assert ids(first) == ["a"]
    first.close()
    log.write(text[10:], line("c"))
    assert ids(log.reader()) == ["b", "c"]


def test_who_is_killed_repeats_a_batch_and_loses_none(log: Log) -> None:
    log.write(line("a"))
    killed = log.reader()
    assert ids(killed) == ["a"]
    log.write(line("b"))
    assert ids(killed) == ["b"]  # keeps the position of a
    log.exporters.remove(killed)
    killed._tail.close()  # as the system does for who is killed: no position is kept
    assert ids(log.reader()) == ["b"]


def test_rotation_by_renaming_loses_no_line(log: Log) -> None:
    reader = log.reader()
    log.write(line("a"))
    assert ids(reader) == ["a"]
    log.write(line("b"))
    with log.path.open("a") as still_open:
        log.path.rename(log.path.with_name("requests.jsonl.1"))
        log.path.touch()
        assert ids(reader) == ["b"]
        still_open.write(line("c"))  # the writer has not changed over yet
    assert ids(reader) == ["c"]
    log.write(line("d"))
    assert ids(reader) == ["d"]


def test_rotation_while_nobody_reads_loses_no_line(log: Log) -> None:
    first = log.reader()
    log.write(line("a"))
    assert ids(first) == ["a"]
    first.close()
    log.write(line("b"))
    log.path.rename(log.path.with_name("requests.jsonl.1"))
    log.write(line("c"))
    second = log.reader()
    assert ids(second) == ["b", "c"]
    second.close()
    log.write(line("d"))
    assert ids(log.reader()) == ["d"]


def test_a_truncated_file_is_read_from_its_beginning(log: Log) -> None:
    reader = log.reader()
    log.write(line("a"), line("b"))
    assert ids(reader) == ["a", "b"]
    log.path.write_text(line("c"))
    assert ids(reader) == ["c"]


@pytest.mark.parametrize("changes", [{}, {"state_file": ""}])
def test_a_file_truncated_and_grown_beyond_its_old_size_is_read_from_its_beginning(log: Log, changes: dict[str, Any]) -> None:
    reader = log.reader(**changes)
    log.write(line("a"))
    assert ids(reader) == ["a"]
    assert ids(reader) == []
    log.path.write_text(line("x") + line("y") + line("z"))
    assert ids(reader) == ["x", "y", "z"]


def test_another_file_of_that_name_is_new_from_its_first_line(log: Log) -> None:
    first = log.reader()
    log.write(line("a"))
    assert ids(first) == ["a"]
    first.close()
    log.path.unlink()
    log.write(line("b"), line("c"))
    assert ids(log.reader(start="end")) == ["b", "c"]


def test_reads_more_than_one_chunk_and_no_more_than_asked_for(log: Log) -> None:
    padding = "x" * 500
    written = [str(i) for i in range(3 * READ_BYTES // 600)]
    log.write(*(line(name, padding=padding) for name in written))
    reader = log.reader(max_lines=1000)
    batches = []
    while batch := ids(reader):
        batches.append(batch)
    assert [name for batch in batches for name in batch] == written
    assert len(batches) >= 3


def test_a_bad_line_is_a_problem_with_its_start_and_the_rest_lives(log: Log) -> None:
    log.write(line("a"), "{broken" + "x" * 1000 + "\n", line("b", status="strange"), "\n", line("c"))
    found = collect(log.reader())
    assert found.columns["request_id"] == ["a", "c"]
    broken, strange = found.problems
    assert broken.source == f"request_log:{log.path}"
    assert broken.sample.startswith("{broken")
    assert len(broken.sample) == 200
    assert "allowed are ok, error, rejected" in strange.reason


def test_a_source_that_speaks_another_language_does_not_flood(log: Log) -> None:
    log.write(*("GET / HTTP/1.1 200\n" for _ in range(MAX_PROBLEMS + 50)), line("a"))
    found = collect(log.reader())
    assert found.columns["request_id"] == ["a"]
    assert len(found.problems) == MAX_PROBLEMS + 1
    assert found.problems[-1].reason == "50 more bad lines in this batch"


def test_an_overlong_line_is_dropped_and_said(log: Log) -> None:
    log.write(line("a"), "y" * 3 * READ_BYTES + "\n", line("b"), "z" * 2000 + "\n")
    found = collect(log.reader(max_line_bytes=1000))
    assert found.columns["request_id"] == ["a", "b"]
    assert [p.reason for p in found.problems] == ["2 lines above 1000 bytes dropped; raise max_line_bytes or log no bodies"]


def test_a_folder_instead_of_a_file_is_a_problem_and_no_crash(log: Log) -> None:
    log.path.mkdir()
    (problem,) = collect(log.reader()).problems
    assert isinstance(problem, Problem)
    assert "cannot be read" in problem.reason


def test_wrong_settings_give_one_line(log: Log, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="standard input has no position to keep"):
        log.reader(path="-")
    with pytest.raises(ConfigError, match="no folder"):
        log.reader(state_file=str(tmp_path / "none" / "position.json"))
    log.state.write_text("garbage")
    with pytest.raises(ConfigError, match="remove it to start anew"):
        log.reader()


def test_a_pipe_is_read_without_waiting_and_its_last_line_needs_no_end() -> None:
    out, into = os.pipe()
    tail = PipeTail(out, max_line_bytes=1000)
    try:
        assert tail.read(10) == []
        os.write(into, b"one\ntw")
        assert tail.read(10) == [b"one"]
        os.write(into, b"o\nthree")
        os.close(into)
        assert tail.read(10) == [b"two", b"three"]
        assert tail.read(10) == []
    finally:
        os.close(out)
