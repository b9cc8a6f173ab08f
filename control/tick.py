"""The tick: a View in, decisions and actions out. Pure; the same live, in replay and on the twin.

policies (each on its own) -> guard -> arbiter (one winner per target) -> plan (lease, dwell, renewal) -> actions
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from actuators.plan import PlanSettings, Wanted, plan
from contracts.control import Action, Decision
from contracts.ports import Policy
from contracts.view import View
from policies.arbiter import ArbiterSettings, arbitrate
from policies.guard import GuardSettings, guard


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a tick runs with. `guard` None switches the reactive guard off (only for a comparison without control)."""

    policies: Sequence[Policy]
    guard: GuardSettings | None
    arbiter: ArbiterSettings
    plan: PlanSettings


@dataclass(frozen=True, kw_only=True)
class Ticked:
    """What a tick wants: `decisions` of all policies and the guard, and the `actions` that follow from the winners."""

    decisions: Sequence[Decision]
    actions: Sequence[Action]


def decide(view: View, policies: Sequence[Policy]) -> list[Decision]:
    """Ask every policy what it wants at view.now."""
    return [decision for policy in policies for decision in policy.decide(view)]


def tick(
    view: View,
    standing: Sequence[Decision],
    rules: Rules,
    *,
    wall: datetime,
    epoch: int,
    ids: Callable[[], str],
) -> Ticked:
    """Join the policies' `standing` decisions with the guard's on this very View, and plan the actions.

    The guard runs on every batch of row power; the policies' decisions stand until their next round.
    """
    watched = [] if rules.guard is None else list(guard(view, rules.guard))
    decisions = [*watched, *standing]
    verdict = arbitrate(decisions, view, rules.arbiter)
    wanted = {target: wanted_of(decision) for target, decision in verdict.winners.items()}
    actions = plan(wanted, view.actions, view.now, wall, epoch, rules.plan, ids)
    return Ticked(decisions=decisions, actions=actions)


def wanted_of(decision: Decision) -> Wanted:
    """Return what the planner needs of a winning decision."""
    if decision.value is None:
        raise ValueError(f"{decision.target}: a decision without a value cannot win")
    return Wanted(
        node=node_of(decision.target),
        target=decision.target,
        value=decision.value,
        bounds=decision.bounds,
        mode=decision.mode,
        decision_ids=(decision.decision_id,),
        policy=decision.policy,
        reason=decision.reason,
    )


def node_of(target: str) -> str:
    """Return the agent that obeys for a target: the server itself, `router` or `alerting`."""
    kind, _, rest = target.partition("/")
    return {"weights": "router", "alert": "alerting"}.get(kind) or rest.partition("/")[0]


class Recorder:
    """Which decisions are worth a record: those that began or ended, and those that an action refers to.

    A decision that stands beside a winner and only shifts its value by a step (the guard's, ten times a second) is none.
    """

    def __init__(self) -> None:
        """Start with nothing recorded."""
        self._last: dict[tuple[str, str], object] = {}
        self._written: set[str] = set()

    def worth(self, ticked: Ticked) -> list[Decision]:
        """Return the decisions of this tick to record: new for their policy and target, of a new reason, or acted upon."""
        acted = {i for action in ticked.actions if not action.renews for i in action.decision_ids}
        record: list[Decision] = []
        now: dict[tuple[str, str], object] = {}
        for decision in ticked.decisions:
            key = (decision.policy, decision.target)
            state = decision.no_change or type(decision.value)
            now[key] = state
            fresh = self._last.get(key) != state or decision.decision_id in acted
            if fresh and decision.decision_id not in self._written:
                record.append(decision)
                self._written.add(decision.decision_id)
        if len(self._written) > 100_000:  # ids are never repeated: only the standing ones can come again
            self._written = {decision.decision_id for decision in ticked.decisions}
        self._last = now
        return record
