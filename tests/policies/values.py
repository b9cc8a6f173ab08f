"""Small makers for the tests of policies: forecasts, actions, outcomes."""

from datetime import datetime, timedelta

from contracts.control import Action, ClockCap, Decision, Outcome, Status, Value
from contracts.forecasts import LEVELS, Forecast, Forecasts, Target, block_of
from contracts.view import View
from tests.factories import NOW


def make_forecast(
    target: Target, series: str, medians: list[float], *, spread: float = 0.0, issued_at: datetime = NOW, step_s: float = 60.0
) -> Forecast:
    """A champion with one step a minute; quantiles `spread` apart around the medians."""
    middle = LEVELS.index(0.5)
    return Forecast(
        forecast_id=f"{target}-{series}",
        target=target,
        series=series,
        model="test",
        champion=True,
        issued_at=issued_at,
        data_until=issued_at,
        unit="",
        valid_at=tuple(issued_at + timedelta(seconds=step_s * (k + 1)) for k in range(len(medians))),
        levels=LEVELS,
        values=tuple(tuple(m + spread * (i - middle) for i in range(len(LEVELS))) for m in medians),
    )


def forecasts(*made: Forecast, among: Forecasts | None = None) -> Forecasts:
    return (among or Forecasts()).with_blocks(block_of([forecast]) for forecast in made)


def make_action(target: str, value: Value, *, policy: str = "caps", at: datetime = NOW - timedelta(seconds=300)) -> Action:
    """An action in force, long enough ago."""
    node = target.split("/")[1] if target.startswith("clock_cap/") else "router"
    return Action(
        action_id=f"a-{target}",
        at=at,
        created_wall=at,
        node=node,
        target=target,
        value=value,
        lease_s=600,
        epoch=1,
        policy=policy,
        mode="enforce",
        renews="first",
    )


def capped(view: View, clock_mhz: float, *, saas: bool = True, policy: str = "caps") -> dict[str, Action]:
    """Caps in force on all SaaS (or all IaaS) servers."""
    chosen = view.index.saas if saas else view.index.iaas
    names = [server.name for server, mine in zip(view.topology.servers, chosen, strict=True) if mine]
    return {f"clock_cap/{n}": make_action(f"clock_cap/{n}", ClockCap(max_mhz=clock_mhz), policy=policy) for n in names}


def make_outcome(target: str, status: Status, at: datetime = NOW - timedelta(seconds=300)) -> Outcome:
    return Outcome(action_id=f"a-{target}", at=at, node=target.split("/")[1], target=target, status=status)


def clocks(decisions: list[Decision]) -> dict[str, float]:
    """node -> wanted clock."""
    return {d.target.split("/")[1]: d.value.max_mhz for d in decisions if isinstance(d.value, ClockCap)}


def reasons(decisions: list[Decision]) -> list[str]:
    return [d.no_change for d in decisions if d.no_change]


def kinds(view: View, nodes: dict[str, float]) -> set[str]:
    """The tenants of the named nodes."""
    return {view.topology.servers[view.index.server[node]].tenant for node in nodes}
