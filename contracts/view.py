"""The View: what control knows at one moment. Arrays follow the order of `Topology`; NaN = never seen; ages tell staleness.

Frozen and rebuilt each tick; the arrays must not be written to (they are set read-only)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.control import Action, Mode, Outcome
from contracts.forecasts import Forecasts
from contracts.topology import Topology

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Index:
    """Positions derived from a Topology (by `control.index`): who belongs to what. All arrays read-only."""

    server: Mapping[str, int]
    row: Mapping[str, int]
    aisle: Mapping[str, int]
    ups: Mapping[str, int]
    ahu: Mapping[str, int]
    endpoint: Mapping[str, int]
    server_row: Ints
    """[servers] -> row"""
    server_aisle: Ints
    server_endpoint: Ints
    """-1 where the server serves none"""
    server_hardware: Ints
    saas: Bools
    iaas: Bools
    high: Bools
    """[servers] the tenant has high priority"""
    gpu_first: Ints
    """[servers + 1] the GPUs of server i are gpu_first[i] .. gpu_first[i + 1] - 1"""
    gpu_server: Ints
    """[gpus] -> server"""
    row_aisle: Ints
    row_limit_w: Floats
    aisle_limit_cfm: Floats
    max_clock_mhz: Floats
    """[servers]"""
    min_clock_mhz: Floats
    base_clock_mhz: Floats
    slowdown_c: Floats
    """[servers]"""


class ServerPlant(Protocol):
    """Learnt models of the servers (TAPAS eqs. 1 to 4), one set of parameters each. Pure; arrays over the topology's servers.

    Implemented in `forecast.plant`; a policy receives it as a value and never sees the twin's hidden parameters."""

    def inlet_c(self, outside_c: float, load_share: float) -> Floats:
        """[servers] inlet temperature from outside temperature and the site's load share (0..1)."""
        ...

    def gpu_c(self, inlet_c: Floats, gpu_power_w: Floats) -> Floats:
        """[servers] hottest GPU's temperature from inlet and the server's summed GPU power."""
        ...

    def gpu_power_at_c(self, inlet_c: Floats, gpu_c: Floats) -> Floats:
        """[servers] summed GPU power at which the hottest GPU reaches `gpu_c`: the inverse of `gpu_c`."""
        ...

    def server_power_w(self, gpu_power_w: Floats) -> Floats:
        """[servers] wall power from summed GPU power."""
        ...

    def airflow_cfm(self, gpu_power_w: Floats) -> Floats:
        """[servers] airflow from summed GPU power (linear between idle and full load, TAPAS f_air)."""
        ...

    def clock_power_share(self, clock_mhz: Floats, max_clock_mhz: Floats) -> Floats:
        """[servers] busy GPU power at a clock relative to the maximum clock, in (0, 1]."""
        ...

    def peak_gpu_power_w(self) -> Floats:
        """[servers] highest 5 min GPU power in the history; data sheet's where it has less than a week."""
        ...


@dataclass(frozen=True, kw_only=True)
class View:
    """One moment. `*_age_s` = now minus the newest sample's ts (inf = never)."""

    now: datetime
    topology: Topology
    index: Index
    # per GPU
    gpu_power_w: Floats
    gpu_temp_c: Floats
    gpu_clock_mhz: Floats
    gpu_reasons: Ints
    gpu_age_s: Floats
    # per server
    inlet_c: Floats
    server_power_w: Floats
    server_age_s: Floats
    # per instance = per server that serves an endpoint (NaN elsewhere)
    running: Floats
    waiting: Floats
    requests_rps: Floats
    slo_ok_pct: Floats
    endpoint_age_s: Floats
    # per row, aisle, UPS, AHU, site
    row_power_w: Floats
    """newest row power (meter, or sum of its servers)"""
    row_power_max_w: Floats
    """highest 1 s power in the newest sample, where the meter tells"""
    row_age_s: Floats
    row_measured: Bools
    """False where row power is the sum of its servers"""
    aisle_airflow_cfm: Floats
    ups_lost: Bools
    """[upses] in the order of topology.upses"""
    ahu_lost: Bools
    """[ahus] in the order of index.ahu"""
    outside_c: float
    # what is expected and what is in force
    forecasts: Forecasts = field(default_factory=Forecasts)
    """the newest champion of every series"""
    actions: Mapping[str, Action] = field(default_factory=dict)
    """target -> newest unexpired action of this controller"""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """target -> newest outcome"""
    modes: Mapping[str, Mode] = field(default_factory=dict)
    """policy -> mode; absent = advise"""
    plant: ServerPlant | None = None
    """None until learnt"""
