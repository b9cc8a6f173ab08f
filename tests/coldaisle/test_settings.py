from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coldaisle import settings
from coldaisle.exporter_process import exporters_of
from coldaisle.row_sums import RowSums
from coldaisle.site import topology_of
from contracts.errors import ConfigError
from contracts.ports import Collected
from tests.factories import make_topology

DEPLOY = Path(__file__).parents[2] / "deploy"
NOW = datetime(2026, 7, 15, 14, 0, tzinfo=UTC)


def write(folder: Path, text: str) -> Path:
    file = folder / "c.toml"
    file.write_text(f'state = "{folder}"\n{text}\n')
    return file


def test_the_examples_can_be_read() -> None:
    config = settings.read(DEPLOY / "coldaisle.example.toml")
    assert config.control.mode == "advise"
    topology = topology_of(settings.Config(state=Path(), kafka=config.kafka, topology=DEPLOY / "topology.example.toml"))
    assert [server.name for server in topology.servers] == ["gpu-node-17", "gpu-node-18"]


def test_a_broker_address_of_the_wrong_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kafka.bootstrap = 9092: Expected `str`, got `int`"):
        settings.read(write(tmp_path, "[kafka]\nbootstrap = 9092"))


def test_a_mode_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    text = '[kafka]\nbootstrap = "a:1"\n[control]\nmode = "on"'
    with pytest.raises(ConfigError, match=r"control.mode = 'on'.*allowed are 'advise', 'enforce', 'observe'"):
        settings.read(write(tmp_path, text))


def test_the_environment_names_broker_state_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDAISLE_KAFKA", "other:9")
    monkeypatch.setenv("COLDAISLE_STATE", str(tmp_path / "s"))
    monkeypatch.setenv("COLDAISLE_DATA", str(tmp_path))
    config = settings.read(write(tmp_path, '[kafka]\nbootstrap = "a:1"\nfetch_waits = false'))
    assert (config.kafka.bootstrap, config.kafka.fetch_waits) == ("other:9", True)
    assert config.state == tmp_path / "s"
    assert config.data == tmp_path


def test_the_data_may_lie_one_folder_further_in(tmp_path: Path) -> None:
    assert settings.data_folder(tmp_path) == tmp_path
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "azure2024_week_rpm.parquet").touch()
    assert settings.data_folder(tmp_path) == tmp_path / "data"


def test_an_unknown_exporter_lists_what_there_is(tmp_path: Path) -> None:
    file = write(tmp_path, '[kafka]\nbootstrap = "a:1"\n[[exporters]]\ntype = "nvidia"')
    with pytest.raises(ConfigError, match=r"'nvidia': allowed are nvml, redfish, replay"):
        exporters_of(settings.read(file))


def test_a_wrong_key_of_an_exporter_names_table_key_and_value(tmp_path: Path) -> None:
    file = write(tmp_path, '[kafka]\nbootstrap = "a:1"\n[[exporters]]\ntype = "nvml"\nperiod_s = 0')
    with pytest.raises(ConfigError, match=r"exporters\[0\]: period_s = 0"):
        exporters_of(settings.read(file))


def test_naive_start_times_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, '[kafka]\nbootstrap = "a:1"\n[run]\nt0 = 2026-07-15T14:00:00\nspeed = 2')
    with pytest.raises(ConfigError, match=r"run.t0 = .*needs an offset"):
        settings.clock_of(settings.read(file))


class TwoServers:
    """An exporter that reads two of a row's four servers."""

    name, period_s = "two", 1.0

    def collect(self, now: datetime) -> list[Collected]:
        return [Collected(topic="server", columns={"ts": [now, now], "node": ["r0s0", "r0s1"], "power_w": [4000.0, 5000.0]})]

    def close(self) -> None:
        pass


def test_rows_without_a_meter_are_summed_and_silent_servers_count_with_their_nameplate() -> None:
    sums = RowSums(TwoServers(), make_topology(), ["row-0"])
    facility = sums.collect(NOW)[-1]
    assert facility.columns["power_w"] == [9000.0 + 2 * 10_200.0]
    assert facility.columns["source"] == ["sum"]
    assert "r0s2, r0s3 counted with assumed power" in facility.problems[0].reason
    assert sums.collect(NOW + timedelta(seconds=1))[-1].rows() == 1


def test_summing_a_row_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown row 'row-9'; there are row-0, row-1"):
        RowSums(TwoServers(), make_topology(), ["row-9"])
