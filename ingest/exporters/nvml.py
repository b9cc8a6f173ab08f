"""NVML: power, temperatures, clocks, utilisation, memory, energy and clock event reasons of this machine's GPUs.

    python -m ingest.exporters.nvml --for 60s --json      # reads only; tells what a round costs

Imports nothing but nvidia-ml-py and the contracts, so that it runs on any node with a driver.
"""

import argparse
import json
import queue
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import pynvml

from contracts.errors import ColdaisleError, ConfigError
from contracts.ports import Collected, Problem
from ingest.exporters.nvml_fields import COLUMNS, LOST, GpuReader


class NvmlSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Under which name, and how often."""

    node: str = ""
    """name of this server in the topology; empty = the host's name"""
    period_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 1.0
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0
    """a GPU that has not answered by then counts as lost until it does"""


@dataclass(kw_only=True)
class _Card:
    """One GPU as last seen; `reader` None until its handle could be had."""

    index: int
    uuid: str | None = None
    reader: GpuReader | None = None
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """column -> why it could not be read this time"""
    lost: str = ""
    """why it is lost; empty = it answers"""
    told: dict[str, str] = field(default_factory=dict)
    """column (or `gpu`) -> the error last reported, so that each is reported once"""


class _Worker:
    """A thread that reads GPUs in order and says after each that it is done."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[list[_Card] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._busy = threading.Event()
        threading.Thread(target=self._work, name="nvml", daemon=True).start()

    def read(self, cards: list[_Card], timeout_s: float) -> int:
        """Read `cards`; return how many were done when one took longer than `timeout_s` (all, when none did)."""
        self._busy.set()
        self._todo.put(cards)
        for done in range(len(cards)):
            try:
                bug = self._done.get(timeout=timeout_s)
            except queue.Empty:
                self._todo.put(None)
                return done
            if bug is not None:
                raise bug
        return len(cards)

    def busy(self) -> bool:
        """Whether it still reads."""
        return self._busy.is_set()

    def stop(self) -> None:
        """End it once it is done with what it reads."""
        self._todo.put(None)

    def _work(self) -> None:
        while (cards := self._todo.get()) is not None:
            for card in cards:
                bug: Exception | None = None
                try:
                    _read(card)
                except Exception as error:  # noqa: BLE001  (raised again by the thread that asked)
                    bug = error
                self._done.put(bug)
                if not self._todo.empty():  # given up meanwhile: the rest is another's
                    break
            self._busy.clear()


def _read(card: _Card) -> None:
    """Bring a card up to date."""
    try:
        if card.reader is None:
            reader = GpuReader(pynvml.nvmlDeviceGetHandleByIndex(card.index))
            card.uuid, card.reader = reader.uuid(), reader
        card.values, card.errors = card.reader.read()
        card.lost = ""
    except pynvml.NVMLError as error:
        card.values, card.errors, card.lost = {}, {}, str(error)
        if error.value not in LOST:  # also what NVML says of a card that it cannot open
            card.reader = None


class NvmlExporter:
    """Reads every GPU once per `collect`, one after the other (a GPU takes some 100 microseconds).

    The readings run in a thread of their own: a driver that hangs on one GPU costs that GPU and `timeout_s`, not the others.
    """

    Settings = NvmlSettings
    name = "nvml"

    def __init__(self, settings: NvmlSettings) -> None:
        """Open NVML. Raises ConfigError when there is no driver."""
        self.period_s = settings.period_s
        self._timeout_s = settings.timeout_s
        self._node = settings.node or socket.gethostname()
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise ConfigError(f"nvml: {error}; install the NVIDIA driver, or remove the exporter of type nvml") from None
        self._cards = [_Card(index=index) for index in range(count)]
        self._worker = _Worker()
        self._stuck: dict[int, _Worker] = {}
        """GPU -> the worker that waits for it"""
        self._open = True

    def collect(self, now: datetime) -> Sequence[Collected]:
        """Return one `gpu` row per GPU with ts = `now`; one that is lost has state `lost` and no values."""
        problems: list[Problem] = []
        waiting = [card for card in self._cards if not self._still_stuck(card)]
        while waiting:
            done = self._worker.read(waiting, self._timeout_s)
            for card in waiting[:done]:
                problems.extend(self._news(card))
            if done < len(waiting):  # this one hangs: leave the thread with it, go on with a fresh one
                card = waiting[done]
                self._stuck[card.index] = self._worker
                self._worker = _Worker()
                card.values, card.lost = {}, f"no answer within {self._timeout_s:g} s"
                problems.extend(self._news(card))
                done += 1
            waiting = waiting[done:]
        return [Collected(topic="gpu", columns=self._columns(now), problems=tuple(problems))]

    def close(self) -> None:
        """Let NVML go; safe to call twice."""
        if self._open:
            self._open = False
            self._worker.stop()
            pynvml.nvmlShutdown()

    def _still_stuck(self, card: _Card) -> bool:
        worker = self._stuck.get(card.index)
        if worker is None:
            return False
        if worker.busy():
            return True
        worker.stop()
        del self._stuck[card.index]
        return False

    def _columns(self, now: datetime) -> dict[str, list[Any]]:
        cards = self._cards
        columns: dict[str, list[Any]] = {
            "ts": [now] * len(cards),
            "node": [self._node] * len(cards),
            "gpu": [card.index for card in cards],
            "uuid": [card.uuid for card in cards],
            "state": ["lost" if card.lost else "ok" for card in cards],
        }
        for name in COLUMNS:
            columns[name] = [card.values.get(name) for card in cards]
        return columns

    def _news(self, card: _Card) -> list[Problem]:
        """Problems of a GPU that were not there in its last round."""
        errors = {"gpu": card.lost} if card.lost else dict(card.errors)
        fresh = {what: why for what, why in errors.items() if card.told.get(what) != why}
        card.told = errors
        source = f"nvml/{self._node}/gpu{card.index}"
        return [Problem(source=source, reason=f"{what}: {why}", sample=card.uuid or "") for what, why in fresh.items()]


def measure(exporter: NvmlExporter, for_s: float) -> dict[str, object]:
    """Collect at the exporter's period for `for_s` seconds; return what it cost. Reads only."""
    cost_us: list[float] = []
    rows = problems = lost = 0
    start_cpu, start = time.process_time(), time.monotonic()
    while (elapsed := time.monotonic() - start) < for_s:
        began = time.perf_counter()
        collected = exporter.collect(datetime.now(UTC))
        cost_us.append((time.perf_counter() - began) * 1e6)
        rows += sum(part.rows() for part in collected)
        problems += sum(len(part.problems) for part in collected)
        lost = sum(list(part.columns["state"]).count("lost") for part in collected)
        time.sleep(max(0.0, start + len(cost_us) * exporter.period_s - time.monotonic()))
    cost_us.sort()
    newest = {name: list(values) for name, values in collected[0].columns.items() if name not in {"ts", "node"}}
    return {
        "gpus": collected[0].rows(),
        "lost": lost,
        "rounds": len(cost_us),
        "rows": rows,
        "problems": problems,
        "period_s": exporter.period_s,
        "round_us_p50": round(cost_us[len(cost_us) // 2], 1),
        "round_us_p99": round(cost_us[min(len(cost_us) - 1, len(cost_us) * 99 // 100)], 1),
        "cpu_s": round(time.process_time() - start_cpu, 3),
        "wall_s": round(elapsed, 3),
        "driver": pynvml.nvmlSystemGetDriverVersion(),
        "newest": newest,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what sampling costs on this machine."""
    parser = argparse.ArgumentParser(prog="python -m ingest.exporters.nvml", description=measure.__doc__)
    parser.add_argument("--for", dest="for_s", default="10s", help="how long, e.g. 60s or 2m (default 10s)")
    parser.add_argument("--period", type=float, default=1.0, help="seconds between two rounds, at least 0.1 (default 1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    number, unit = (given.for_s[:-1], given.for_s[-1]) if given.for_s[-1:] in {"s", "m"} else (given.for_s, "s")
    try:
        for_s = float(number) * (60.0 if unit == "m" else 1.0)
    except ValueError:
        parser.error(f"--for {given.for_s}: give seconds or minutes, e.g. 60s or 2m")
    if not 0.1 <= given.period <= 60:
        parser.error(f"--period {given.period}: give 0.1 to 60 seconds")
    try:
        exporter = NvmlExporter(NvmlSettings(period_s=given.period))
    except ColdaisleError as error:
        parser.exit(error.status, f"{error}\n")
    report = measure(exporter, for_s)
    exporter.close()
    print(json.dumps(report) if given.json else "\n".join(f"{name:>14}  {value}" for name, value in report.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
