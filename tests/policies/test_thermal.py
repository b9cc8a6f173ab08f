from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from contracts.view import View
from policies.datasheet import DataSheet
from policies.thermal import Thermal, ThermalSettings
from tests.factories import make_topology, make_view
from tests.policies.values import capped, clocks, forecasts, kinds, make_forecast, reasons


class Learnt(DataSheet):
    """The data sheets' plant in the place of a learnt one: the policy then trusts it."""


def at(inlet_c: float, gpu_w: float = 650.0, temp_c: float | None = None, *, learnt: bool = True, **changes: Any) -> View:
    """Every server at one inlet and one power, in a steady state."""
    view = make_view()
    plant = Learnt(view)
    servers, gpus = len(view.inlet_c), len(view.gpu_power_w)
    inlet = np.full(servers, inlet_c)
    steady = float(plant.gpu_c(inlet, np.full(servers, gpu_w * 8))[0]) if temp_c is None else temp_c
    given: dict[str, Any] = {
        "inlet_c": inlet,
        "gpu_power_w": np.full(gpus, gpu_w),
        "gpu_temp_c": np.full(gpus, steady),
        "plant": plant if learnt else None,
    }
    return replace(view, **{**given, **changes})


def decide(view: View, **settings: Any) -> Any:
    return list(Thermal(ThermalSettings(**settings)).decide(view))


# at 650 W the plant's line gives 37 K over .96 x inlet: 87 degC at 51.8 degC inlet
@pytest.mark.parametrize(
    ("inlet_c", "tenants"),
    [(25.0, set()), (48.0, set()), (50.3, {"saas"}), (52.0, {"saas", "iaas"}), (54.0, {"saas", "iaas"})],
)
def test_saas_gives_before_iaas(inlet_c: float, tenants: set[str]) -> None:
    view = at(inlet_c)
    assert kinds(view, clocks(decide(view))) == tenants


def test_cap_is_sized_so_that_the_gpu_stays_below_slowdown_with_its_margin() -> None:
    view = at(54.0)
    wanted = clocks(decide(view))
    plant = Learnt(view)
    clock = np.array([wanted.get(server.name, 1980.0) for server in view.topology.servers])
    power = 650.0 * 8 * plant.clock_power_share(clock, view.index.max_clock_mhz)
    reached = plant.gpu_c(view.inlet_c, power)
    margin = np.where(view.index.saas, 2.0, 0.3)
    assert (reached <= 87 - margin + 1e-6).all()
    assert (reached >= 87 - margin - 1.7).all(), "no deeper than a step of 60 MHz"


def test_iaas_waits_until_slowdown_is_near() -> None:
    """The steady state is too hot, yet its GPUs are 20 K away."""
    view = at(54.0, temp_c=67.0)
    assert kinds(view, clocks(decide(view))) == {"saas"}


def test_own_cap_stays_until_there_is_room() -> None:
    settings: dict[str, Any] = {"iaas_margin_k": 1.5, "iaas_near_k": 3.0, "iaas_release_k": 1.0}
    view = at(50.9)
    assert kinds(view, clocks(decide(view, **settings))) == {"saas", "iaas"}
    cooler = at(50.0)
    assert kinds(cooler, clocks(decide(cooler, **settings))) == {"saas"}
    held = replace(cooler, actions=capped(cooler, 1860.0, saas=False, policy="thermal"))
    assert kinds(held, clocks(decide(held, **settings))) == {"saas", "iaas"}
    cold = at(45.0)
    assert clocks(decide(replace(cold, actions=capped(cold, 1860.0, saas=False, policy="thermal")), **settings)) == {}


def test_of_an_iaas_server_only_the_hot_gpus_are_capped() -> None:
    view = at(54.0)
    temps = view.gpu_temp_c.copy()
    cool = np.arange(len(temps)) % 8 != 5
    temps[cool] -= 6.0
    hot = replace(view, gpu_temp_c=temps)
    for decision in decide(hot):
        iaas = view.index.iaas[view.index.server[decision.target.removeprefix("clock_cap/")]]
        assert decision.value.gpus == ((5,) if iaas else ())


def test_forecast_rise_brings_the_cap_forward() -> None:
    view = at(49.0)
    assert clocks(decide(view)) == {}
    made = [make_forecast("gpu_temp", s.name, [84.0 + 0.5 * k for k in range(10)], spread=0.2) for s in view.topology.servers]
    decisions = decide(replace(view, forecasts=forecasts(*made)))
    assert kinds(view, clocks(decisions)) == {"saas"}
    assert decisions[0].counterfactual.startswith("P(GPU temperature of r0s0 > 87 degC within 15 min) = ")
    assert decisions[0].forecast_ids == ("gpu_temp-r0s0",)


def test_air_shortage_lowers_the_aisles_saas_before_any_hot_iaas() -> None:
    """Two IaaS servers get hot because the aisle draws 1.2 of its air: all of its SaaS is lowered, those two are not capped."""
    view = at(45.0, gpu_w=600.0)
    topology = view.topology
    aisle = msgspec.structs.replace(topology.aisles[0], airflow_limit_cfm=float(view.aisle_airflow_cfm[0]) / 1.2)
    inlet = np.where(np.isin([s.name for s in topology.servers], ["r0s1", "r1s3"]), 53.5, 45.0)
    temp = np.round(Learnt(view).gpu_c(inlet, np.full(8, 4_800.0)))[view.index.gpu_server]
    hot = make_view(msgspec.structs.replace(topology, aisles=(aisle,)))
    given: dict[str, Any] = {"gpu_power_w": view.gpu_power_w, "gpu_temp_c": temp, "inlet_c": inlet, "plant": view.plant}
    hot = replace(hot, **given, aisle_airflow_cfm=view.aisle_airflow_cfm)
    decisions = decide(hot)
    assert set(clocks(decisions)) == {s.name for s in topology.servers if s.tenant == "saas"}
    assert {d.constraint for d in decisions if d.value} == {"aisle-0 airflow"}


def test_absent_readings_are_named_once() -> None:
    view = at(30.0, server_age_s=np.full(8, np.inf), gpu_age_s=np.full(64, np.inf), learnt=False)
    said = reasons(decide(view))
    assert said == [
        "inlet temperatures are stale or absent: taken from outside temperature and load",
        "GPU temperatures are stale or absent: the plant's are used",
        "GPU power is stale or absent: neighbours' or half of the peak is assumed",
        "no plant learnt yet: data sheets' figures",
    ]


def test_data_sheet_is_corrected_by_what_a_server_shows() -> None:
    """A server 15 K hotter than its data sheet says is capped at an inlet at which the others are not."""
    view = at(40.0, learnt=False)
    temp = view.gpu_temp_c.copy()
    temp[view.index.gpu_server == 0] += 12.0
    assert set(clocks(decide(replace(view, gpu_temp_c=temp)))) == {"r0s0"}


def test_service_settings_are_checked() -> None:
    with pytest.raises(msgspec.ValidationError, match="margin_k"):
        msgspec.convert({"margin_k": -1}, ThermalSettings)


def test_topology_without_saas_has_only_its_own_caps() -> None:
    topology = make_topology()
    servers = tuple(msgspec.structs.replace(s, tenant="iaas", endpoint=None) for s in topology.servers)
    view = make_view(msgspec.structs.replace(topology, servers=servers), inlet_c=np.full(8, 54.0), gpu_temp_c=np.full(64, 86.0))
    assert kinds(view, clocks(decide(view))) <= {"iaas"}
