"""The account of what was issued: kept beside its outcomes, scored, and watched for drift. Pure.

account = entered(account, blocks, classes)              # after each tick
account, scores, alarms = settled(account, batch)        # when a target's 300 s grid has grown
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from contracts.forecasts import Block
from contracts.ports import Batch
from forecast.drift import Alarm, Drift
from forecast.grids import epoch_s
from forecast.kinds import KINDS, POOL
from forecast.ledger import LEADS_S, Ledger
from forecast.state import TARGETS, ClassState
from forecast.tally import LEVELS, Score

SCORED = (*TARGETS, "gpu_temp")
"""targets whose outcomes are measured as such"""


@dataclass(frozen=True, kw_only=True)
class Account:
    """Ledger and watches. Values only; pickles."""

    ledger: Ledger = field(default_factory=Ledger)
    drift: Drift = field(default_factory=Drift)
    settled_s: Mapping[str, int] = field(default_factory=dict)
    """target -> end of the newest interval that was looked at"""


def entered(account: Account, blocks: Sequence[Block], classes: Mapping[str, ClassState]) -> Account:
    """Return the account with the blocks of a tick: champions as such, whoever speaks, and challengers by their model."""
    ledger = account.ledger
    for block in blocks:
        if block.target not in SCORED or not set(LEVELS) <= set(block.levels) or not np.isin(block.lead_s, LEADS_S).any():
            continue
        ledger = ledger.issued(
            block.target,
            block.names,
            kinds_of(classes.get(block.target), block.names),
            "champion" if block.champion else block.models[0],
            epoch_s(block.issued_at),
            block.lead_s.astype(np.int64),
            block.levels,
            block.values,
            champion=block.champion,
        )
    return replace(account, ledger=ledger)


def settled(account: Account, batch: Batch) -> tuple[Account, list[Score], list[Alarm]]:
    """Return the account with the outcomes that the batch brings; rows of forecast_scores (once an hour); drift that is new.

    Without effect where the batch's newest interval has been looked at.
    """
    newest = int(batch.ts[-1]) if len(batch.ts) else 0
    if batch.target not in SCORED or newest <= account.settled_s.get(batch.target, -1):
        return account, [], []
    ledger, scores = account.ledger.observed(batch)
    drift = account.drift.observed(ledger.compared)
    known = {(alarm.target, alarm.kind, alarm.horizon_s) for alarm in account.drift.alarms}
    fresh = [alarm for alarm in drift.alarms if (alarm.target, alarm.kind, alarm.horizon_s) not in known]
    done = {**account.settled_s, batch.target: newest}
    return replace(account, ledger=ledger, drift=drift, settled_s=done), scores, fresh


def refitted(account: Account, targets: Sequence[str], at_s: int) -> Account:
    """Return the account after these targets were learnt anew: what is usual counts from here."""
    drift = account.drift
    for target in targets:
        drift = drift.refitted(target, at_s)
    return replace(account, drift=drift)


def kinds_of(klass: ClassState | None, names: Sequence[str]) -> list[str]:
    """Return each series' kind as it stood at the refit; the pool for those that are new."""
    if klass is None or klass.voices is None:
        return [POOL] * len(names)
    kind = {name: KINDS[code] for name, code in zip(klass.names, klass.voices.bands.kind, strict=False)}
    return [kind.get(name, POOL) for name in names]
