"""Whether an agent obeys an action: signature, node, lease, epoch, order, kind and bounds."""

from collections.abc import Collection
from datetime import datetime, timedelta

import msgspec

from actuators.journal import Journal
from actuators.signing import verify
from actuators.values import kind_of, outside
from contracts.control import Action, Revert

SKEW_S = 5.0
"""an action from further in the future than this is refused: its lease would last too long"""
MEMORY_S = 86_400.0
"""the longest lease: for so long the newest action of a target is remembered"""


class Gate:
    """Remembers the newest action of each target; the journal remembers the newest epoch."""

    def __init__(self, *, names: Collection[str], kinds: Collection[str], key: bytes, journal: Journal) -> None:
        """`names`: nodes that the agent stands for; `kinds`: values that it has actuators for."""
        self.names, self.kinds = frozenset(names), frozenset(kinds)
        self.newest: dict[str, datetime] = {}
        self._key, self._journal = key, journal

    def accept(self, action: Action) -> None:
        """Remember an action that is obeyed."""
        self.newest[action.target] = action.created_wall
        self._journal.saw(action.epoch)

    def forget(self, wall: datetime, held: Collection[str]) -> None:
        """Forget targets of which nothing older can still be valid."""
        oldest = wall - timedelta(seconds=MEMORY_S)
        for target in [t for t, created in self.newest.items() if created < oldest and t not in held]:
            del self.newest[target]

    def refusal(self, action: Action, wall: datetime) -> tuple[str, str] | None:
        """Return (cause, reason) when the action must not be obeyed. Nothing of it is trusted before the signature."""
        if action.node not in self.names:
            return "node", f"for node {action.node}; this agent stands for {len(self.names)} others"
        try:
            valid = verify(action, self._key)
        except msgspec.ValidationError as error:
            return "value", f"not an action: {error}"
        if not valid:
            return "signature", "signature is not valid; control and agent must share one key file"
        age_s = (wall - action.created_wall).total_seconds()
        newest = self.newest.get(action.target)
        if age_s >= action.lease_s:
            return "expired", f"lease of {action.lease_s:g} s was over {age_s - action.lease_s:.1f} s ago"
        if age_s < -SKEW_S:
            return "future", f"made {-age_s:.1f} s in the future; set the clocks of control and node"
        if action.epoch < self._journal.epoch:
            return "epoch", (
                f"epoch {action.epoch} is older than {self._journal.epoch}, which {self._journal.path} remembers; another "
                "controller took over (after a new log: stop the agent, delete that file)"
            )
        if newest is not None and action.created_wall < newest:
            return "superseded", "a newer action for this target came before it"
        return self._cannot(action)

    def _cannot(self, action: Action) -> tuple[str, str] | None:
        """Return (cause, reason) when a trusted action asks for what this agent does not do."""
        if action.mode == "observe":
            return "mode", "mode is observe: nothing may be sent"
        if isinstance(action.value, Revert):
            return None
        kind = kind_of(action.value)
        if kind not in self.kinds:
            return "kind", f"no actuator for {kind} here; there are {', '.join(sorted(self.kinds)) or 'none'}"
        if reason := outside(action.value, action.bounds):
            return "bounds", reason
        return None
