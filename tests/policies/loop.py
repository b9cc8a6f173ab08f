"""A small closed loop for tests: servers with known physics under guard, policies and arbiter, in 5 s rounds."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from contracts.control import Action, ClockCap, Decision, Outcome
from contracts.ports import Policy
from contracts.view import Floats, View
from policies.arbiter import ArbiterSettings, arbitrate
from policies.datasheet import DataSheet
from policies.guard import GuardSettings, guard
from tests.factories import NOW, make_view

ROUND_S = 5.0
POLICIES = ("caps", "thermal", "routing", "emergency", "alerts", "guard")


@dataclass(kw_only=True)
class Loop:
    """Runs `policies` on a View whose readings follow the caps. IaaS caps take effect after `iaas_delay_s`."""

    base: View
    policies: list[Policy]
    gpu_w: float = 550.0
    iaas_delay_s: float = 40.0
    guarded: bool = True
    noise: float = 0.0
    seed: int = 1
    now: datetime = NOW
    clock: Floats = field(init=False)
    inlet: Floats = field(init=False)
    actions: dict[str, Action] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    due: dict[str, tuple[datetime, float]] = field(default_factory=dict)
    issued: Counter[str] = field(default_factory=Counter)
    iaas_capped_s: float = 0.0
    over_s: float = 0.0
    row_share: list[Floats] = field(default_factory=list)
    hottest: list[float] = field(default_factory=list)
    alerts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.clock = self.base.index.max_clock_mhz.copy()
        self.inlet = self.base.inlet_c.copy()
        self.random = np.random.default_rng(self.seed)
        self.plant = DataSheet(self.base)

    def view(self) -> View:
        index = self.base.index
        level = self.gpu_w * np.diff(index.gpu_first) * (1 + self.noise * self.random.standard_normal(len(index.server_row)))
        gpu = level * self.plant.clock_power_share(self.clock, index.max_clock_mhz)
        row: Floats = np.bincount(index.server_row, weights=self.plant.server_power_w(gpu)).astype(np.float64)
        air: Floats = np.bincount(index.server_aisle, weights=self.plant.airflow_cfm(gpu)).astype(np.float64)
        supply = index.aisle_limit_cfm * np.where(self.base.ahu_lost.any(), 0.9, 1.0)
        over = np.maximum(air / supply - 1, 0)[index.server_aisle]
        self.inlet += (self.base.inlet_c + 10 * over - self.inlet) * (1 - np.exp(-ROUND_S / 60))
        temp = self.plant.gpu_c(self.inlet, gpu)
        owner = index.gpu_server
        self.row_share.append(row / index.row_limit_w)
        self.hottest.append(float(temp.max()))
        return replace(
            self.base,
            now=self.now,
            gpu_power_w=(gpu / np.diff(index.gpu_first))[owner],
            gpu_temp_c=np.round(temp)[owner],
            gpu_clock_mhz=self.clock[owner],
            inlet_c=self.inlet.copy(),
            server_power_w=self.plant.server_power_w(gpu),
            row_power_w=row,
            row_power_max_w=np.asarray(row * (1 + self.noise)),
            aisle_airflow_cfm=air,
            actions=dict(self.actions),
            outcomes=dict(self.outcomes),
            modes=dict.fromkeys(POLICIES, "enforce"),
        )

    def round(self) -> None:
        view = self.view()
        decisions: list[Decision] = [d for p in self.policies for d in p.decide(view)]
        if self.guarded:
            decisions += guard(view, GuardSettings())
        winners = arbitrate(decisions, view, ArbiterSettings()).winners
        self.act(winners)
        index = self.base.index
        capped = self.clock < index.max_clock_mhz - 1
        self.iaas_capped_s += ROUND_S * float((capped & index.iaas).sum())
        self.over_s += ROUND_S * float((self.row_share[-1] > 1).sum())
        self.now += timedelta(seconds=ROUND_S)

    def act(self, winners: Mapping[str, Decision]) -> None:
        for target in [t for t in self.actions if t not in winners]:
            action = self.actions.pop(target)
            self._apply(target, action.node, "reverted", None)
        for target, winner in winners.items():
            assert winner.value is not None
            known = self.actions.get(target)
            changed = known is None or known.value != winner.value
            node = target.split("/")[1] if target.startswith("clock_cap/") else "router"
            self.actions[target] = Action(
                action_id=winner.decision_id,
                at=self.now,
                created_wall=self.now,
                node=node,
                target=target,
                value=winner.value,
                lease_s=30,
                epoch=1,
                policy=winner.policy,
                mode=winner.mode,
                renews="" if changed else "first",
            )
            if target.startswith("alert/"):
                self.alerts.add(target)
            if changed:
                self.issued[target] += 1
                self._apply(target, node, "applied", winner.value)
        for target in [t for t, (at, _) in self.due.items() if at <= self.now]:
            node = target.split("/")[1]
            self.clock[self.base.index.server[node]] = self.due.pop(target)[1]

    def _apply(self, target: str, node: str, status: str, value: object) -> None:
        if not target.startswith("clock_cap/"):
            return
        server = self.base.index.server[node]
        clock = value.max_mhz if isinstance(value, ClockCap) else float(self.base.index.max_clock_mhz[server])
        delay = self.iaas_delay_s if self.base.index.iaas[server] else 0.0
        self.due[target] = (self.now + timedelta(seconds=delay), clock)
        self.outcomes[target] = Outcome(
            action_id="x",
            at=self.now,
            node=node,
            target=target,
            status=status,  # type: ignore[arg-type]
        )


def make_loop(**changes: object) -> Loop:
    """A loop over `make_view()`; `base`, `policies` and any other field of Loop may be given."""
    given = {"base": make_view(), "policies": [], **changes}
    return Loop(**given)  # type: ignore[arg-type]
