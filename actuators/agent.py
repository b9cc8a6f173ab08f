"""The agent of a node: obeys signed actions within its node's file, verifies them, and reverts what is not renewed.

Knows nothing of Kafka: its process feeds it actions and publishes its outcomes. Imports neither polars, pyarrow nor duckdb.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from actuators.gate import Gate
from actuators.journal import Journal
from actuators.node_file import NodeFile
from actuators.values import kind_of, outcome
from contracts.control import Action, Outcome, Revert
from contracts.errors import ActuationError, ConfigError
from contracts.ports import Actuator, Clock

log = logging.getLogger("coldaisle.agent")

RETRY_S = 2.0
"""wall time between two tries to revert a target that did not revert"""


@runtime_checkable
class Guarded(Protocol):
    """An actuator of real devices: it touches only what the node's own file opts in."""

    def allow(self, node_file: NodeFile) -> None:
        """Take over the file; called once before anything else."""
        ...


@dataclass(kw_only=True)
class Lease:
    """A value in force: what was applied, until when (wall), and what came of it."""

    action: Action
    until: datetime
    last: Outcome | None = None
    complained: bool = False
    """a failed revert was reported; it goes on being tried"""


class Agent:
    """Obeys for `names`. Not thread-safe: one loop calls receive, expire and stop."""

    def __init__(
        self,
        *,
        names: Sequence[str],
        actuators: Mapping[str, Actuator],
        key: bytes,
        node_file: NodeFile | None,
        journal: Path,
        clock: Clock,
        name: str,
    ) -> None:
        """`actuators`: kind of value -> who applies it.

        Raises ConfigError when the journal has an owner already, or when an actuator of real devices has no node file.
        """
        for actuator in actuators.values():
            if isinstance(actuator, Guarded):
                if node_file is None:
                    raise ConfigError(
                        f"agent.node_file is missing: {type(actuator).__name__} touches only what that file opts in; write one"
                    )
                actuator.allow(node_file)
        self.name = name
        self.counts: Counter[str] = Counter()
        """outcomes by status since the start"""
        self.refusals: Counter[str] = Counter()
        """refused actions by cause"""
        self._actuators = dict(actuators)
        self._node_file = node_file
        self._clock = clock
        self._journal = Journal(journal)
        self._gate = Gate(names=names, kinds=actuators, key=key, journal=self._journal)
        self._leases: dict[str, Lease] = {}
        self._advised: dict[str, Lease] = {}

    def start(self) -> list[Outcome]:
        """Restore the declared state of everything that a crash left in force. Call once, before the first action."""
        now = self._clock.wall()
        self._leases = {target: Lease(action=action, until=now) for target, action in self._journal.held.items()}
        if self._leases:
            log.warning("%d leases were left in force by a crash; reverting them", len(self._leases))
        return [o for target in sorted(self._leases) for o in self._end(target, "reverted", "left in force by a crash")]

    def receive(self, *actions: Action) -> list[Outcome]:
        """Obey actions in their order, or refuse them with a reason. A renewal that finds all as it was returns nothing.

        Give as many as there are: those that came together share one write of the journal.
        """
        outcomes: list[Outcome] = []
        batch: dict[str, Action] = {}
        for action in actions:
            if action.target in batch:  # the journal's order must be the order of what happens to a target
                outcomes += self._receive(batch.values())
                batch = {}
            batch[action.target] = action
        return outcomes + self._receive(batch.values())

    def expire(self, wall: datetime) -> list[Outcome]:
        """Revert every lease that was not renewed by `wall`. Call several times a second; a failed revert is tried again."""
        for target in [t for t, lease in self._advised.items() if lease.until <= wall]:
            del self._advised[target]
        self._gate.forget(wall, self._leases)
        due = sorted(target for target, lease in self._leases.items() if lease.until <= wall)
        return [o for target in due for o in self._end(target, "expired", "lease was not renewed")]

    def stop(self) -> list[Outcome]:
        """Revert everything and let the journal go. What cannot be reverted stays in the journal for the next start."""
        outcomes = [o for target in sorted(self._leases) for o in self._end(target, "reverted", "agent stops")]
        self._journal.close()
        return outcomes

    def leases(self) -> dict[str, Action]:
        """Return target -> the action in force."""
        return {target: lease.action for target, lease in self._leases.items()}

    # -- obeying --------------------------------------------------------------------------------------------------------

    def _receive(self, actions: Iterable[Action]) -> list[Outcome]:
        """Obey actions for different targets."""
        outcomes: list[Outcome] = []
        accepted: list[Action] = []
        for action in actions:
            refused = self._gate.refusal(action, self._clock.wall())
            if refused is None:
                accepted.append(action)
                self._gate.accept(action)
                continue
            cause, reason = refused
            self.refusals[cause] += 1
            if cause != "node":
                outcomes.append(self._report(outcome(action, "refused", reason=reason), action))
        unsafe = self._write_down([a for a in accepted if a.mode == "enforce" and not isinstance(a.value, Revert)])
        for action in accepted:
            if action.target in unsafe:
                outcomes.append(self._report(outcome(action, "failed", reason=unsafe[action.target]), action))
            else:
                outcomes += self._obey(action)
        return outcomes

    def _write_down(self, actions: Sequence[Action]) -> dict[str, str]:
        """Note in the journal what is about to be applied; return target -> why it must not be touched."""
        if not actions:
            return {}
        try:
            self._journal.hold(actions)
        except OSError as error:
            reason = f"journal {self._journal.path}: {error.strerror}; not applied, since a crash could not undo it"
            return {action.target: reason for action in actions if action.target not in self._leases}
        return {}

    def _obey(self, action: Action) -> list[Outcome]:
        if action.mode != "enforce":
            return self._advise(action)
        self._advised.pop(action.target, None)
        return self._revert(action) if isinstance(action.value, Revert) else self._hold(action)

    def _hold(self, action: Action) -> list[Outcome]:
        held = self._leases.get(action.target)
        until = min(action.created_wall, self._clock.wall()) + timedelta(seconds=action.lease_s)
        narrowed, why = self._narrow(action)
        found = self._ask(self._actuators[kind_of(action.value)].apply, narrowed)
        if why and found.status in {"applied", "applied_unverified"}:
            found = msgspec.structs.replace(found, status="partly", reason="; ".join(filter(None, (why, found.reason))))
        if found.status != "refused":
            self._leases[action.target] = Lease(action=action, until=until, last=found)
        elif held is None:  # nothing was touched; what was held before runs on until its own lease ends
            self._journal.free(action.target)
        same_value = held is not None and held.action.value == action.value
        if held is not None and held.last is not None and same_value and _no_news(held.last, found):
            return []
        return [self._report(found, action)]

    def _revert(self, action: Action) -> list[Outcome]:
        lease = self._leases.get(action.target)
        if lease is None:
            return [self._report(outcome(action, "reverted", reason="nothing was in force"), action)]
        lease.until, lease.complained = action.created_wall, False  # if it fails now, expire() goes on trying
        return self._end(action.target, "reverted", action.reason, by=action)

    def _end(self, target: str, status: str, reason: str, by: Action | None = None) -> list[Outcome]:
        """Revert one lease; a failure is reported once and tried again by `expire` until it succeeds."""
        lease = self._leases[target]
        actuator = self._actuators.get(kind_of(lease.action.value))
        if actuator is None:
            found = outcome(lease.action, "failed", reason=f"no actuator for {kind_of(lease.action.value)} here: cannot revert")
        else:
            found = self._ask(actuator.revert, lease.action)
        about = by or lease.action
        found = msgspec.structs.replace(found, action_id=about.action_id, epoch=about.epoch)
        if found.status in {"failed", "partly", "refused"}:
            lease.until = self._clock.wall() + timedelta(seconds=RETRY_S)
            quiet, lease.complained = lease.complained, True
            why = f"{found.reason}; tried again every {RETRY_S:g} s"
            return [] if quiet else [self._report(msgspec.structs.replace(found, status="failed", reason=why), by)]
        del self._leases[target]
        self._journal.free(target)
        ended = "expired" if status == "expired" else "reverted"
        why = "; ".join(filter(None, (reason, found.reason)))
        return [self._report(msgspec.structs.replace(found, status=ended, reason=why), by)]

    def _advise(self, action: Action) -> list[Outcome]:
        """Say what would be done, without touching anything; once per value."""
        known = self._advised.get(action.target)
        if isinstance(action.value, Revert):
            self._advised.pop(action.target, None)
            return [self._report(outcome(action, "would_apply", reason="would revert"), action)]
        narrowed, why = self._narrow(action)
        until = action.created_wall + timedelta(seconds=action.lease_s)
        self._advised[action.target] = Lease(action=action, until=until)
        if known is not None and known.action.value == action.value:
            return []
        actuator = self._actuators[kind_of(action.value)]
        after = msgspec.json.encode(narrowed.value).decode()

        def look(wanted: Action) -> Outcome:
            return outcome(wanted, "would_apply", before=actuator.read(wanted), after=after, reason=why)

        return [self._report(self._ask(look, narrowed), action)]

    def _narrow(self, action: Action) -> tuple[Action, str]:
        if self._node_file is None:
            return action, ""
        value, why = self._node_file.narrow(action.value)
        return (msgspec.structs.replace(action, value=value) if why else action), why

    def _ask(self, call: Callable[[Action], Outcome], action: Action) -> Outcome:
        """Call an actuator; whatever it raises becomes a failed outcome."""
        try:
            return call(action)
        except ActuationError as error:
            return outcome(action, "failed", reason=str(error))
        except Exception as error:  # plug-in border: one broken actuator must not end the leases of the others
            log.exception("actuator for %s broke", action.target)
            return outcome(action, "failed", reason=f"actuator broke: {type(error).__name__}: {error}")

    def _report(self, found: Outcome, cause: Action | None) -> Outcome:
        """Complete an outcome: who, when (run time), and how long after the action was made (wall)."""
        self.counts[found.status] += 1
        latency_s = 0.0 if cause is None else (self._clock.wall() - cause.created_wall).total_seconds()
        return msgspec.structs.replace(found, at=self._clock.now(), agent=self.name, latency_s=max(0.0, latency_s))


def _no_news(last: Outcome, found: Outcome) -> bool:
    return last.status == found.status and last.reason == found.reason
