"""`coldaisle control`: folds the log into the View, runs the guard on every batch of row power and the policies each tick."""

import itertools
import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import msgspec
import polars as pl

from actuators.plan import PlanSettings
from actuators.signing import load_key, sign
from coldaisle.explain import convert
from coldaisle.part import Part
from coldaisle.settings import Config, ControlSettings
from coldaisle.site import MODES, PLANT, TOPOLOGY, State, publish_state, topology_of, wait_for_topology
from contracts.control import Claim, Decision, Mode, Outcome
from contracts.errors import ColdaisleError
from contracts.ports import Bus, Clock, Policy, Record, Start
from contracts.registry import POLICIES, load
from contracts.schemas import SCHEMAS
from contracts.view import View
from control.alarm import alerts_of
from control.fold import WANTED, Fold
from control.tick import Recorder, Rules, Ticked, decide, tick
from forecast.plant import Plant
from ingest.codec_unpack import Unpacker
from ingest.publisher import Publisher
from ingest.records import Malformed, decode_record
from policies.arbiter import ArbiterSettings
from policies.guard import GuardSettings

TOPICS = ("gpu", "server", "facility", "endpoints", "forecasts", "outcomes")
GUARD_S = 0.5
"""the guard runs on every batch of row power, and at least this often (wall time)"""


def rules_of(settings: ControlSettings) -> Rules:
    """Return the policies and their settings. ConfigError names the key that is wrong."""
    policies: list[Policy] = []
    for name in settings.policies:
        kind = load(POLICIES, name)
        policies.append(kind(convert(settings.settings.get(name, {}), kind.Settings, f"control.settings.{name}")))
    own = settings.settings
    return Rules(
        policies=policies,
        guard=convert(own.get("guard", {}), GuardSettings, "control.settings.guard") if settings.guard else None,
        arbiter=convert(own.get("arbiter", {}), ArbiterSettings, "control.settings.arbiter"),
        plan=convert(own.get("plan", {}), PlanSettings, "control.settings.plan"),
    )


class Loop:
    """The closed loop of one controller: everything that it knows, and what it publishes."""

    def __init__(self, config: Config, bus: Bus, clock: Clock, fold: Fold, state: State, epoch: int) -> None:
        """`epoch`: the offset of this controller's claim to leadership."""
        self.settings, self.bus, self.clock, self.fold, self.state, self.epoch = config.control, bus, clock, fold, state, epoch
        self.rules = rules_of(config.control)
        self.key = load_key(config.key(), make=True)
        self.publisher = Publisher(bus, clock, f"control/{epoch}")
        self.unpacker = Unpacker()
        self.recorder = Recorder()
        self.standing: list[Decision] = []
        self.rejected = 0
        counter = itertools.count()
        self.ids: Callable[[], str] = lambda: f"{epoch}-{next(counter)}"
        self.learn({MODES, PLANT})

    def learn(self, changed: set[str]) -> None:
        """Take over modes and plant when they changed on `state`."""
        if MODES in changed:
            names = (*(policy.name for policy in self.rules.policies), "guard")
            modes: dict[str, Mode] = dict.fromkeys(names, self.settings.mode)
            self.fold.modes = {**modes, **self.settings.modes, **self.state.modes()}
        if PLANT in changed and (raw := self.state.raw(PLANT)) is not None:
            self.fold.plant = Plant.from_json(raw)

    def observe(self, record: Record) -> bool:
        """Fold one record; True when it brought row power. A malformed one is counted (the history keeps it)."""
        try:
            if record.topic in SCHEMAS:
                wanted = WANTED.get(record.topic, ())
                return self.fold.observe(record.topic, self.unpacker.read(record.topic, record.value, record.headers, wanted))
            if record.topic == "outcomes":
                outcome = decode_record(record.topic, record.value)
                if isinstance(outcome, Outcome):
                    self.fold.outcome(outcome)
        except (Malformed, pl.exceptions.PolarsError):
            self.rejected += 1
        return False

    def think(self) -> None:
        """A round of the policies on the present View; their decisions stand until the next."""
        view = self.view()
        self.standing = decide(view, self.rules.policies)
        self.act(view)

    def act(self, view: View | None = None) -> Ticked:
        """Run the guard beside the standing decisions and publish what follows."""
        view = self.view() if view is None else view
        ticked = tick(view, self.standing, self.rules, wall=self.clock.wall(), epoch=self.epoch, ids=self.ids)
        for decision in self.recorder.worth(ticked):
            self.publisher.record("decisions", decision.policy, decision)
        for alert in alerts_of(ticked.actions, ticked.decisions, view.actions):
            self.publisher.record("alerts", alert.series, alert)
        for action in ticked.actions:
            signed = sign(action, self.key)
            self.fold.action(signed)
            topic = "brake" if is_brake(ticked.decisions, signed.decision_ids) else "actions"  # agents read both
            self.publisher.record(topic, signed.node, signed)
        return ticked

    def view(self) -> View:
        """What is known now."""
        return self.fold.view(self.clock.now(), self.clock.wall())


def is_brake(decisions: Sequence[Decision], ids: Sequence[str]) -> bool:
    """True when one of the decisions behind an action is the power brake."""
    return any(decision.priority >= 50 for decision in decisions if decision.decision_id in ids)


def claim(clock: Clock, publisher: Publisher) -> int:
    """Claim leadership; return the claim's offset: the epoch that agents obey while it is the newest."""
    return publisher.append(
        "leadership", "controller", Claim(controller=f"{socket.gethostname()}/{os.getpid()}", at=clock.now())
    )


def main(config: Config, part: Part, bus: Bus, clock: Clock) -> None:
    """Run the loop until stopped, or until another controller has claimed leadership."""
    if config.topology is not None:
        publish_state(bus, TOPOLOGY, msgspec.json.encode(topology_of(config)), clock)
    state = State(bus)
    topology = wait_for_topology(state, part)
    subscription = bus.subscribe(TOPICS, Start(where="end"))
    epoch = claim(clock, Publisher(bus, clock, "control"))
    rivals = bus.subscribe(["leadership"], Start(where="end", offsets={("leadership", 0): epoch + 1}))
    loop = Loop(config, bus, clock, Fold(topology), state, epoch)
    part.log.info(
        "leads with epoch %d: %d servers, policies %s",
        epoch,
        len(topology.servers),
        ", ".join(config.control.policies) or "none",
    )
    part.ready()
    last_round = clock.now() - timedelta(seconds=config.control.tick_s)
    last_guard = time.monotonic()
    while not part.stop.is_set():
        powered = [loop.observe(record) for record in subscription.poll(0.05)]
        loop.learn(state.refresh())
        if rivals.poll(0.0):
            raise ColdaisleError(f"another controller leads now: epoch {epoch} ended; its agents obey the newer one")
        now = clock.now()
        if (now - last_round).total_seconds() >= config.control.tick_s:
            last_round, last_guard = now, time.monotonic()
            loop.think()
        elif any(powered) or time.monotonic() - last_guard > GUARD_S:
            last_guard = time.monotonic()
            loop.act()
    bus.flush(2.0)
