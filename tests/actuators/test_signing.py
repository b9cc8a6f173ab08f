from datetime import UTC, datetime, timedelta, timezone
from multiprocessing.pool import ThreadPool
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actuators.signing import canonical, load_key, sign, verify
from contracts.control import Action, Bounds, ClockCap, Raise, Revert, Value, Weights
from contracts.errors import ConfigError
from tests.actuators.targets import make_action

KEY = bytes(range(32))

VALUES: st.SearchStrategy[Value] = st.one_of(
    st.builds(ClockCap, max_mhz=st.floats(1, 10_000), gpus=st.lists(st.integers(0, 15)).map(tuple)),
    st.builds(Weights, endpoint=st.text(max_size=5), shares=st.dictionaries(st.text(max_size=5), st.floats(0, 1), max_size=4)),
    st.builds(
        Raise,
        alertname=st.text(max_size=5),
        severity=st.sampled_from(["warning", "critical"]),
        labels=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        annotations=st.just({}),
    ),
    st.just(Revert()),
)


@given(VALUES)
@settings(deadline=None)
def test_a_signature_survives_the_wire(value: Value) -> None:
    signed = sign(make_action(value), KEY)
    arrived = msgspec.json.decode(msgspec.json.encode(signed), type=Action)
    assert verify(arrived, KEY)
    assert canonical(arrived) == canonical(signed)


def test_numbers_times_and_orders_that_mean_the_same_sign_the_same() -> None:
    at = datetime(2026, 7, 15, 14, 0, 0, 123_456, tzinfo=UTC)
    shares = {"a": 0.5, "b": 0.5}
    one = make_action(Weights(endpoint="chat", shares=shares), lease_s=30, created_wall=at)
    two = make_action(Weights(endpoint="chat", shares=dict(reversed(shares.items()))), lease_s=30.0, created_wall=at)
    assert sign(one, KEY).signature == sign(two, KEY).signature
    elsewhere = make_action(one.value, created_wall=at.astimezone(timezone(timedelta(hours=2))))
    assert verify(msgspec.json.decode(msgspec.json.encode(sign(elsewhere, KEY)), type=Action), KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"value": ClockCap(max_mhz=1199)},
        {"node": "r0s1"},
        {"epoch": 8},
        {"lease_s": 31.0},
        {"mode": "advise"},
        {"bounds": Bounds(low=1, high=2)},
        {"signature": ""},
        {"signature": "0" * 64},
        {"signature": "ü"},
    ],
)
def test_whatever_is_changed_breaks_it(change: dict[str, object]) -> None:
    signed = sign(make_action(ClockCap(max_mhz=1200)), KEY)
    assert not verify(msgspec.structs.replace(signed, **change), KEY)
    assert not verify(signed, bytes(32))


def test_a_key_is_made_once_for_all(tmp_path: Path) -> None:
    file = tmp_path / "state" / "actions.key"
    with ThreadPool(8) as pool:
        keys = set(pool.map(lambda _: load_key(file, make=True), range(8)))
    assert keys == {load_key(file)}
    assert file.stat().st_mode & 0o777 == 0o600
    assert [f.name for f in file.parent.iterdir()] == ["actions.key"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "actions.key"
    load_key(file, make=True)
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 0640 lets others read it; run chmod 600"):
        load_key(file)


def test_an_absent_or_short_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "actions.key"
    with pytest.raises(ConfigError, match="No such file"):
        load_key(file)
    file.touch(mode=0o600)
    for text in ("", "abcd", "not hexadecimal at all" * 4):
        file.write_text(text)
        with pytest.raises(ConfigError, match="64 hexadecimal digits"):
            load_key(file)
