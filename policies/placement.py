"""Placement: TAPAS's VM allocator. Who may take a machine without breaking its row or aisle at the peak, and who should."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
import numpy as np

from contracts.view import Bools, Floats, Ints, View
from policies.present import Freshness, present

Margin = Annotated[float, msgspec.Meta(gt=0, le=1.5)]


class PlacementSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a placement must hold even at the peak."""

    power_share: Margin = 1.0
    """of the row's limit that the sum of peaks may reach"""
    air_share: Margin = 1.0
    """of the aisle's supply"""
    margin_k: Annotated[float, msgspec.Meta(ge=0, le=30)] = 2.0
    """to the slowdown temperature"""
    outside_c: Annotated[float, msgspec.Meta(ge=-40, le=60)] = 35.0
    """outside temperature to plan for; a higher one now counts instead"""
    freshness: Freshness = Freshness()


class VmRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine that wants a server of its own."""

    name: str
    tenant: Literal["saas", "iaas"]
    endpoint: str | None = None
    customer: str | None = None
    gpu_power_w: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """summed GPU power at its peak; None = as its endpoint's or customer's others, else the server's peak"""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A server that may take the machine."""

    node: str
    group: Literal["cold", "medium", "warm"]
    """third of the candidates by projected temperature"""
    gpu_c: float
    """projected hottest GPU at the peak"""
    row_share: float
    """the row's peak power with the machine, of its limit"""
    air_share: float
    balance: float
    """by how much the row would hold more of the machine's kind than of the other, -1 to 1"""
    why: str


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A server that may not, and the first reason."""

    node: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Servers for a machine, best first."""

    vm: VmRequest
    gpu_power_w: float
    """peak that was assumed (mean over servers where it is each server's own)"""
    estimate: str
    """where that comes from"""
    candidates: tuple[Candidate, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = field(default=())


def rank(view: View, vm: VmRequest, settings: PlacementSettings | None = None) -> Ranking:
    """Rank all servers for `vm`: TAPAS's validator, then its two preferences (thirds by temperature, then balance).

    A server with less than a week of history counts at its data sheet's peak (the plant's).
    """
    settings = settings or PlacementSettings()
    now, index = present(view, settings.freshness), view.index
    peak, estimate = _estimate(view, now.plant.peak_gpu_power_w(), vm)
    free = ~(index.saas | index.iaas)
    idle = np.array([view.topology.hardware[k].idle_power_w for k in index.server_hardware], dtype=np.float64)
    taken = now.plant.peak_gpu_power_w()
    row_w = np.bincount(
        index.server_row, weights=np.where(free, idle, now.plant.server_power_w(taken)), minlength=len(view.topology.rows)
    )
    zero = now.plant.airflow_cfm(np.zeros(len(free)))
    air = np.bincount(
        index.server_aisle, weights=np.where(free, zero, now.plant.airflow_cfm(taken)), minlength=len(view.topology.aisles)
    )
    row_share = (row_w[index.server_row] - idle + now.plant.server_power_w(peak)) / np.maximum(
        now.row_limit_w[index.server_row], 1.0
    )
    air_share = (air[index.server_aisle] - zero + now.plant.airflow_cfm(peak)) / np.maximum(
        now.aisle_supply_cfm[index.server_aisle], 1.0
    )
    outside = max(settings.outside_c, view.outside_c) if np.isfinite(view.outside_c) else settings.outside_c
    gpu_c = now.plant.gpu_c(now.plant.inlet_c(outside, 1.0), peak)
    reasons = _reasons(view, settings, free, row_share, air_share, gpu_c)
    able = np.array([i for i, reason in enumerate(reasons) if not reason], dtype=np.int64)
    return Ranking(
        vm=vm,
        gpu_power_w=float(peak.mean()),
        estimate=estimate,
        candidates=_candidates(view, vm, able, row_share, air_share, gpu_c),
        rejected=tuple(Rejected(node=s.name, reason=r) for s, r in zip(view.topology.servers, reasons, strict=True) if r),
        notes=(now.note,) if now.note else (),
    )


def _estimate(view: View, peak: Floats, vm: VmRequest) -> tuple[Floats, str]:
    """[servers] the machine's peak GPU power: its kin's highest, else each server's own."""
    if vm.gpu_power_w is not None:
        return np.full(len(peak), vm.gpu_power_w), "as requested"
    kin = [
        i
        for i, server in enumerate(view.topology.servers)
        if server.tenant == vm.tenant
        and (
            (vm.tenant == "saas" and vm.endpoint is not None and server.endpoint == vm.endpoint)
            or (vm.tenant == "iaas" and vm.customer is not None and server.customer == vm.customer)
        )
    ]
    if kin:
        return np.full(len(peak), float(peak[kin].max())), f"highest peak of {len(kin)} machines of its {_kind(vm)}"
    return peak, "no machine of its kind yet: the server's peak"


def _kind(vm: VmRequest) -> str:
    return f"endpoint {vm.endpoint}" if vm.tenant == "saas" else f"customer {vm.customer}"


def _reasons(
    view: View, settings: PlacementSettings, free: Bools, row_share: Floats, air_share: Floats, gpu_c: Floats
) -> list[str]:
    """[servers] why it may not take the machine; "" = it may."""
    reasons = []
    for i, server in enumerate(view.topology.servers):
        limit_c = view.index.slowdown_c[i] - settings.margin_k
        aisle = view.topology.aisles[int(view.index.server_aisle[i])].name
        if not free[i]:
            reasons.append(f"occupied by {server.tenant} {server.endpoint or server.customer or ''}".rstrip())
        elif row_share[i] > settings.power_share:
            reasons.append(f"{server.row} would peak at {100 * row_share[i]:.0f} % of its power limit")
        elif air_share[i] > settings.air_share:
            reasons.append(f"{aisle} would peak at {100 * air_share[i]:.0f} % of its airflow")
        elif gpu_c[i] > limit_c:
            reasons.append(f"its hottest GPU would reach {gpu_c[i]:.0f} degC, allowed are {limit_c:.0f}")
        else:
            reasons.append("")
    return reasons


def _candidates(
    view: View, vm: VmRequest, able: Ints, row_share: Floats, air_share: Floats, gpu_c: Floats
) -> tuple[Candidate, ...]:
    """Candidates best first: IaaS cold, SaaS warm (TAPAS); then rows that hold fewer of the kind; then temperature."""
    if len(able) == 0:
        return ()
    index, rows = view.index, len(view.topology.rows)
    same, other = (index.saas, index.iaas) if vm.tenant == "saas" else (index.iaas, index.saas)
    of_same = np.bincount(index.server_row, weights=same, minlength=rows) + 1
    of_other = np.bincount(index.server_row, weights=other, minlength=rows)
    balance = ((of_same - of_other) / np.maximum(of_same + of_other, 1))[index.server_row]
    by_heat = able[np.lexsort((able, gpu_c[able]))]
    third = np.empty(len(view.topology.servers), dtype=np.int64)
    third[by_heat] = np.arange(len(by_heat)) * 3 // len(by_heat)
    wish = third if vm.tenant == "iaas" else 2 - third
    heat = gpu_c if vm.tenant == "iaas" else -gpu_c
    order = able[np.lexsort((able, heat[able], balance[able], wish[able]))]
    return tuple(
        Candidate(
            node=view.topology.servers[i].name,
            group=("cold", "medium", "warm")[third[i]],
            gpu_c=float(gpu_c[i]),
            row_share=float(row_share[i]),
            air_share=float(air_share[i]),
            balance=float(balance[i]),
            why=f"{('cold', 'medium', 'warm')[third[i]]} third, row at {100 * row_share[i]:.0f} % of its peak power",
        )
        for i in order
    )
