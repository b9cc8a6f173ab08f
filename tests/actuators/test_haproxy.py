import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actuators.haproxy import MAX_WEIGHT, HaproxySettings, HaproxyWeights, parse_state, to_weights
from contracts.control import Action, Weights
from contracts.errors import ActuationError, ConfigError
from tests.actuators.conftest import Haproxy
from tests.actuators.standins import RuntimeApi, serving
from tests.actuators.targets import make_action


def weights(**shares: float) -> Action:
    return make_action(Weights(endpoint="chat", shares=shares), "weights/chat", node="router")


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.floats(0, 1), max_size=8))
@settings(deadline=None)
def test_weights_keep_the_proportions_and_drain_only_what_is_drained(shares: dict[str, float]) -> None:
    found = to_weights(shares)
    largest = max(shares.values(), default=0.0)
    for node, share in shares.items():
        assert 0 <= found[node] <= MAX_WEIGHT
        assert (found[node] > 0) == (share > 0)
        if share > 0:
            assert abs(found[node] - share / largest * MAX_WEIGHT) <= 1.0


def test_an_address_is_a_path_or_a_port() -> None:
    for address in ("admin.sock", "localhost", ":9999", "localhost:http"):
        with pytest.raises(ConfigError, match="give /path/of/socket or host:port"):
            HaproxyWeights(HaproxySettings(address=address))


def test_what_haproxy_says_is_passed_on() -> None:
    with pytest.raises(ActuationError, match=r"haproxy, backend shop: Can't find backend\."):
        parse_state("Can't find backend.\n\n", "shop")
    with pytest.raises(ActuationError, match="no answer"):
        parse_state("", "shop")


def test_a_server_that_does_not_take_it_is_named() -> None:
    api = RuntimeApi()
    api.stubborn = {"r0s2"}
    with serving(api):
        found = HaproxyWeights(HaproxySettings(address=api.address)).apply(weights(r0s0=0.5, r0s2=0.25, r1s0=0.25))
    assert found.status == "partly"
    assert found.reason.startswith("r0s2 did not take the weight: Backend is using a static LB")


def test_an_instance_that_haproxy_does_not_know_is_refused() -> None:
    api = RuntimeApi()
    with serving(api):
        actuator = HaproxyWeights(HaproxySettings(address=api.address))
        found = actuator.apply(weights(r0s0=0.5, r9s9=0.5))
        assert (found.status, found.reason) == ("refused", "backend chat has no server r9s9; there are r0s0, r0s2, r1s0")
        assert actuator.apply(weights(r0s0=0.0)).status == "refused", "nobody would be left"
        assert actuator.apply(weights(r0s0=0.5, r0s2=0.4)).status == "refused", "shares sum to 1"
    assert api.writes == 0


def test_names_can_differ_from_haproxys() -> None:
    api = RuntimeApi()
    with serving(api):
        settings = HaproxySettings(
            address=api.address, backends={"assistant": "chat"}, servers={"dgx-1": "r0s0", "dgx-2": "r0s2"}
        )
        value = Weights(endpoint="assistant", shares={"dgx-1": 0.8, "dgx-2": 0.2})
        found = HaproxyWeights(settings).apply(make_action(value, "weights/assistant"))
    assert found.status == "applied"
    assert api.weights == {"r0s0": 256, "r0s2": 64, "r1s0": 0}


@pytest.mark.real
def test_live_traffic_follows_the_weights(haproxy: Haproxy) -> None:
    actuator = HaproxyWeights(HaproxySettings(address=haproxy.tcp_admin))
    even = haproxy.shares()
    assert all(share == pytest.approx(1 / 3, abs=0.02) for share in even.values())
    action = weights(r0s0=0.7, r0s2=0.3)
    assert actuator.apply(action).status == "applied"
    moved = haproxy.shares()
    assert moved == pytest.approx({"r0s0": 0.7, "r0s2": 0.3, "r1s0": 0.0}, abs=0.02)
    assert actuator.revert(action).status == "reverted"
    assert haproxy.shares() == pytest.approx(even, abs=0.02)


@pytest.mark.real
def test_haproxy_without_such_a_backend(haproxy: Haproxy) -> None:
    actuator = HaproxyWeights(HaproxySettings(address=haproxy.admin))
    with pytest.raises(ActuationError, match=r"backend shop: Can't find backend"):
        actuator.apply(make_action(Weights(endpoint="shop", shares={"r0s0": 1.0}), "weights/shop"))
