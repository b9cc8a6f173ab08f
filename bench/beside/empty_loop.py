"""A twin as an operator has it, but with nobody who acts: exporters publish, the View is folded, the tick has no policy.

The bus is a list, so that Kafka costs nothing; all else is the live code: publisher, codec, fold, tick."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import cast

from actuators.plan import PlanSettings
from coldaisle.clock import WallClock
from contracts.ports import Bus, Exporter
from control.fold import WANTED, Fold
from control.tick import Rules, decide, tick
from ingest.codec_unpack import Unpacker
from ingest.publisher import Publisher
from policies.arbiter import ArbiterSettings
from twin.exporters import exporters
from twin.world import World

TICK_S = 5


class Caught:
    """In the place of a bus: keeps what was published."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.records: list[tuple[str, bytes, Mapping[str, str]]] = []

    def publish(self, topic: str, key: str, value: bytes, headers: Mapping[str, str]) -> None:  # noqa: ARG002 - the port's
        """Take one record."""
        self.records.append((topic, value, headers))


class _WorldClock(WallClock):
    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> datetime:
        return self._world.now


class EmptyLoop:
    """`cpu_s` counts by part, `counts` what went through."""

    def __init__(self, world: World) -> None:
        """Everything is due for the first time one period from now."""
        self.world, self.exporters, self.fold = world, exporters(world), Fold(world.topology)
        self.rules = Rules(policies=(), guard=None, arbiter=ArbiterSettings(), plan=PlanSettings())
        self.period_s = {e.name: e.period_s for e in self.exporters} | {"tick": float(TICK_S)}
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        self.counts: Counter[str] = Counter()
        self._due = {name: world.second + period_s for name, period_s in self.period_s.items()}
        self._bus, self._unpacker = Caught(), Unpacker()
        self._publisher = Publisher(cast(Bus, self._bus), _WorldClock(world), "bench")
        self._since = 0.0

    def advance(self, seconds: int) -> None:
        """Go on, and stop whenever an exporter or the tick is due."""
        self._since = time.process_time()
        until = self.world.second + seconds
        while self.world.second < until:
            to = min(until, int(min(self._due.values())))
            self.world.advance(self.world.scenario.start + timedelta(seconds=to))
            self._spent("world")
            for exporter in self.exporters:
                if self._is_due(exporter.name):
                    self._publish(exporter)
            if self._is_due("tick"):
                self._tick()

    def _is_due(self, name: str) -> bool:
        due = self._due[name] <= self.world.second
        if due:
            self._due[name] += self.period_s[name]
        return due

    def _publish(self, exporter: Exporter) -> None:
        for collected in exporter.collect(self.world.now):
            self._spent(f"collect {collected.topic}")
            self._publisher.collected("twin", collected)
            self._spent(f"publish {collected.topic}")
        for topic, value, headers in self._bus.records:
            self.counts.update({"records": 1, "bytes": len(value), "rejected": int(topic == "rejected")})
            if topic in WANTED:
                frame = self._unpacker.read(topic, value, headers, WANTED[topic])
                self._spent(f"decode {topic}")
                self.fold.observe(topic, frame)
                self._spent(f"fold {topic}")
        self._bus.records.clear()

    def _tick(self) -> None:
        now = self.world.now
        view = self.fold.view(now, now)
        self._spent("view")
        ticked = tick(view, decide(view, self.rules.policies), self.rules, wall=now, epoch=1, ids=lambda: "none")
        self._spent("tick")
        self.counts.update({"ticks": 1, "actions": len(ticked.actions)})

    def _spent(self, part: str) -> None:
        now = time.process_time()
        self.cpu_s[part] += now - self._since
        self._since = now
