import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pynvml
import pytest

from contracts.errors import ConfigError
from contracts.ports import Collected
from contracts.schemas import GPU
from ingest.exporters.nvml import NvmlExporter, NvmlSettings
from tests.nvml_standin.standin import (
    NO_ENERGY,
    NO_MEMORY_TEMP,
    NO_POWER_INSTANT,
    NO_REASONS,
    NO_TEMPERATURE,
    NO_UTILISATION,
    Standin,
    build,
    load_here,
)

NOW = datetime(2026, 7, 15, 14, 0, tzinfo=UTC)
Make = Callable[..., NvmlExporter]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = build(tmp_path_factory.mktemp("nvml"))
    load_here(made)
    return made


@pytest.fixture
def cards(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    with Standin.make(tmp_path, library, gpus=3) as standin:
        monkeypatch.setenv("NVML_STANDIN_STATE", str(standin.file))
        yield standin
        for index in range(3):
            standin.gpu(index).hang = 0


@pytest.fixture
def make(cards: Standin) -> Iterator[Make]:
    assert cards.state.gpus
    made: list[NvmlExporter] = []

    def start(**settings: object) -> NvmlExporter:
        made.append(NvmlExporter(NvmlSettings(node="r0s0", **settings)))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for exporter in made:
        exporter.close()
        exporter.close()


def collect(exporter: NvmlExporter) -> Collected:
    (collected,) = exporter.collect(NOW)
    return collected


def test_every_column_of_the_schema_in_its_unit(cards: Standin, make: Make) -> None:
    cards.gpu(1).load = 1.0
    found = collect(make())
    names = {column.name for column in GPU.columns} - {"backfilled"}
    assert (found.topic, found.rows(), set(found.columns), found.problems) == ("gpu", 3, names, ())
    row = {name: values[1] for name, values in found.columns.items()}
    assert (row["ts"], row["node"], row["gpu"], row["uuid"], row["state"]) == (NOW, "r0s0", 1, cards.uuid(1), "ok")
    assert row["power_w"] == pytest.approx(700.0)
    assert (row["sm_clock_mhz"], row["util_pct"], row["mem_used_mib"]) == (1980, 100, 3072)
    assert row["mem_temp_c"] == row["temp_c"] + 8
    assert list(found.columns["clock_event_reasons"]) == [1, 0, 1]
    for column in GPU.columns:
        for value in found.columns.get(column.name, ()):
            if isinstance(value, float):
                assert column.low is not None
                assert column.high is not None
                assert column.low <= value <= column.high, column.name


def test_energy_counts_up(cards: Standin, make: Make) -> None:
    cards.gpu(0).load = 1.0
    exporter = make()
    first = collect(exporter).columns["energy_j"][0]
    time.sleep(0.05)
    assert collect(exporter).columns["energy_j"][0] > first + 700 * 0.04


def test_what_is_unsupported_is_null_and_asked_once(cards: Standin, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cards.gpu(0).unsupported = NO_MEMORY_TEMP | NO_TEMPERATURE | NO_UTILISATION | NO_REASONS | NO_ENERGY
    exporter = make()
    found = collect(exporter)
    nulls = {name for name, values in found.columns.items() if values[0] is None}
    assert nulls == {"mem_temp_c", "temp_c", "util_pct", "clock_event_reasons", "energy_j"}
    assert found.columns["util_pct"][1] == 0
    assert found.problems == ()
    asked = count_calls(monkeypatch)
    calls = cards.gpu(0).calls
    collect(exporter)
    assert cards.gpu(0).calls - calls == 4, "fields, two clocks, memory"
    assert asked == [[pynvml.NVML_FI_DEV_POWER_INSTANT], *[[186, 82, 83]] * 2]


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    asked: list[list[int]] = []
    real = pynvml.nvmlDeviceGetFieldValues

    def spy(handle: object, fields: list[int]) -> object:
        asked.append(list(fields))
        return real(handle, fields)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetFieldValues", spy)
    return asked


def test_an_older_way_is_taken_where_the_newer_is_missing(cards: Standin, make: Make) -> None:
    cards.gpu(0).unsupported = NO_POWER_INSTANT
    exporter = make()
    for _ in range(2):
        assert collect(exporter).columns["power_w"][0] == pytest.approx(70.0, abs=0.01)


def test_a_lost_gpu_costs_only_itself(cards: Standin, make: Make) -> None:
    exporter = make()
    collect(exporter)
    cards.gpu(1).lost = 1
    found = collect(exporter)
    assert list(found.columns["state"]) == ["ok", "lost", "ok"]
    assert found.columns["uuid"][1] == cards.uuid(1)
    keys = {"ts", "node", "gpu", "uuid", "state"}
    assert {values[1] for name, values in found.columns.items() if name not in keys} == {None}
    (problem,) = found.problems
    assert (problem.source, problem.reason, problem.sample) == ("nvml/r0s0/gpu1", "gpu: GPU is lost", cards.uuid(1))
    assert collect(exporter).problems == (), "told once"
    cards.gpu(1).lost = 0
    assert list(collect(exporter).columns["state"]) == ["ok", "ok", "ok"]


def test_a_gpu_that_was_lost_before_the_start_joins_later(cards: Standin, make: Make) -> None:
    cards.gpu(2).lost = 1
    exporter = make()
    found = collect(exporter)
    assert (list(found.columns["state"]), found.columns["uuid"][2]) == (["ok", "ok", "lost"], None)
    cards.gpu(2).lost = 0
    found = collect(exporter)
    assert (found.columns["state"][2], found.columns["uuid"][2]) == ("ok", cards.uuid(2))


def test_an_error_of_one_reading_is_told_once_and_leaves_the_others(cards: Standin, make: Make) -> None:
    exporter = make()
    cards.gpu(0).read_error = pynvml.NVML_ERROR_UNKNOWN
    found = collect(exporter)
    assert [problem.reason for problem in found.problems] == ["clock_event_reasons: Unknown Error"]
    assert found.columns["clock_event_reasons"][0] is None
    assert found.columns["power_w"][0] is not None
    assert collect(exporter).problems == ()
    cards.gpu(0).read_error = 0
    assert collect(exporter).columns["clock_event_reasons"][0] == 1


def test_a_hanging_gpu_does_not_hold_up_the_others(cards: Standin, make: Make) -> None:
    exporter = make(timeout_s=0.3)
    collect(exporter)
    cards.gpu(1).hang = 1
    found = collect(exporter)
    assert list(found.columns["state"]) == ["ok", "lost", "ok"]
    assert found.columns["power_w"][2] is not None
    assert [problem.reason for problem in found.problems] == ["gpu: no answer within 0.3 s"]
    assert list(collect(exporter).columns["state"]) == ["ok", "lost", "ok"]
    cards.gpu(1).hang = 0
    for _ in range(100):
        if collect(exporter).columns["state"][1] == "ok":
            return
        time.sleep(0.02)
    pytest.fail("it answers again, and is still lost")


def test_no_driver_is_one_clear_line(cards: Standin) -> None:
    cards.state.no_driver = 1
    with pytest.raises(ConfigError, match=r"nvml: Driver Not Loaded; install the NVIDIA driver, or remove"):
        NvmlExporter(NvmlSettings())


def test_the_cost_of_a_round_is_measured_and_nothing_is_written(cards: Standin) -> None:
    command = [sys.executable, "-m", "ingest.exporters.nvml", "--for", "0.5s", "--period", "0.1", "--json"]
    done = subprocess.run(command, env=cards.env(), capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert (report["gpus"], report["lost"], report["rounds"] * 3) == (3, 0, report["rows"])
    assert 0 < report["round_us_p50"] <= report["round_us_p99"]
    assert [(cards.gpu(i).locks, cards.gpu(i).resets) for i in range(3)] == [(0, 0)] * 3


@pytest.mark.parametrize(("given", "says"), [(["--for", "soon"], "give seconds or minutes"), (["--period", "0"], "0.1 to 60")])
def test_wrong_usage_says_what_is_right(given: list[str], says: str) -> None:
    done = subprocess.run([sys.executable, "-m", "ingest.exporters.nvml", *given], capture_output=True, text=True)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_machine_without_nvml_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    env = {"LD_LIBRARY_PATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-m", "ingest.exporters.nvml"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "nvml: NVML Shared Library Not Found; install the NVIDIA driver, or remove the exporter of type nvml\n"
    )
