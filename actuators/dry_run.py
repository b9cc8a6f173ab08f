"""Dry run, the default: says what it would do, touches nothing."""

from typing import Literal

import msgspec

from actuators.values import outcome, outside
from contracts.control import Action, Outcome, Value


class DryRunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which kind of value to stand in for."""

    kind: Literal["clock_cap", "weights", "alert"] = "clock_cap"


class DryRun:
    """Keeps in memory what would be in force."""

    Settings = DryRunSettings

    def __init__(self, settings: DryRunSettings) -> None:
        self.kind: str = settings.kind
        self._would: dict[str, Value] = {}

    def read(self, action: Action) -> str:
        """Return what would be in force."""
        value = self._would.get(action.target)
        return "nothing" if value is None else msgspec.json.encode(value).decode()

    def apply(self, action: Action) -> Outcome:
        """Note the value; never more than `would_apply`."""
        before = self.read(action)
        if reason := outside(action.value, action.bounds):
            return outcome(action, "refused", before=before, after=before, reason=reason)
        self._would[action.target] = action.value
        return outcome(action, "would_apply", before=before, after=self.read(action))

    def revert(self, action: Action) -> Outcome:
        """Forget the value."""
        before = self.read(action)
        self._would.pop(action.target, None)
        return outcome(action, "reverted", before=before, after=self.read(action), reason="dry run")
