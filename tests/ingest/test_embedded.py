from pathlib import Path

import pytest

from contracts.errors import BusError, ConfigError
from contracts.ports import Start
from ingest.bus import BusSettings, connect
from ingest.embedded import EmbeddedBroker


def test_it_keeps_its_log_over_a_clean_stop(tmp_path: Path) -> None:
    with EmbeddedBroker.start(tmp_path) as broker:
        port = broker.port
        with connect(BusSettings(bootstrap=broker.address, fetch_waits=broker.fetch_waits)) as bus:
            bus.ensure_topics()
            assert bus.append("state", "topology", b"{}", {}, 10) == 0
    assert not broker.running()
    with EmbeddedBroker.start(tmp_path, port) as again:
        assert again.address == broker.address
        with connect(BusSettings(bootstrap=again.address, fetch_waits=again.fetch_waits)) as bus:
            subscription = bus.subscribe(["state"], Start(where="beginning"))
            assert [record.key for record in subscription.poll(10.0)] == ["topology"]


def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    with EmbeddedBroker.start(tmp_path / "a") as broker:
        with pytest.raises(BusError, match=f"port {broker.port} is already in use") as raised:
            EmbeddedBroker.start(tmp_path / "b", broker.port)
        assert "\n" not in str(raised.value)
        assert broker.running()


def test_a_folder_in_use_is_one_line(tmp_path: Path) -> None:
    with EmbeddedBroker.start(tmp_path) as broker, pytest.raises(BusError, match=f"already running .*{broker.pid}"):
        EmbeddedBroker.start(tmp_path)


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/broker"):
        EmbeddedBroker.start(tmp_path / "file" / "broker")


def test_stop_may_come_twice_and_after_a_crash(tmp_path: Path) -> None:
    broker = EmbeddedBroker.start(tmp_path)
    broker.kill()
    broker.stop()
    broker.stop()
    assert not broker.running()
