"""`coldaisle twin`: reports for machines, tables for people, files, exit statuses, one-line errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from coldaisle.cli import main
from twin.validate import agreement
from twin.validate.agreement import Agreement, bounded, skipped

Call = Callable[..., tuple[int, str, str]]
SMALL = ("twin", "run", "--scenario", "normal", "--servers", "16", "--for", "2m")
COSTS = ("cpu_s", "startup_cpu_s", "wall_s", "rss_mib")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line; return its status, what it said and what it complained about."""
    monkeypatch.delenv("COLDAISLE_DATA", raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["coldaisle", *words])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_run_says_what_it_did_and_what_it_cost(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    status, out, _ = call(*SMALL, "--json", "--report", str(file))
    r = json.loads(out)
    assert status == 0
    assert json.loads(file.read_text()) == r
    assert (r["servers"], r["gpus"], r["simulated_s"], r["gpu_seconds"]) == (16, 128, 120, 128 * 120)
    assert min(r[name] for name in ("requests", "prompt_tokens", "output_tokens", *COSTS)) > 0
    assert 0 < r["max_row_power_ratio"] < 2
    assert 30 < r["max_gpu_c"] < 93
    assert {"slo_ok", "thermal_events", "power_events", "throttled_gpu_s", "energy_gpu_j", "energy_wall_j"} <= r.keys()
    every = [one for one in r["latencies"] if one["endpoint"] == "all"]
    endpoints = [one for one in r["latencies"] if one["endpoint"] != "all" and one["class"] == "all"]
    classes = [one for one in r["latencies"] if one["class"] != "all"]
    assert every[0]["requests"] == r["requests"] == sum(one["requests"] for one in endpoints)
    assert r["requests"] == sum(one["requests"] for one in classes)
    assert all(one["ttft_p50_s"] <= one["ttft_p99_s"] for one in endpoints)


def test_a_repeated_run_is_the_same_but_for_its_cost(call: Call) -> None:
    first, second = (json.loads(call(*SMALL, "--json", "--seed", "5")[1]) for _ in range(2))
    other = json.loads(call(*SMALL, "--json", "--seed", "6")[1])
    for report in (first, second, other):
        for name in (*COSTS, "seed"):
            del report[name]
    assert first == second
    assert first != other


def test_a_run_writes_its_map_and_its_series(call: Call, tmp_path: Path) -> None:
    png, page, series = (tmp_path / name for name in ("m.png", "m.html", "s.parquet"))
    status, out, _ = call(*SMALL, "--map", str(png), "--map", str(page), "--series", str(series), "--json")
    r, frame = json.loads(out), pl.read_parquet(series)
    assert status == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<html" in page.read_text()
    assert frame.columns == ["ts", "row", "power_w", "power_max_w", "limit_w", "gpu_max_c"]
    assert frame.height == 2 * r["rows"]
    assert (frame["power_max_w"] / frame["limit_w"]).max() == pytest.approx(r["max_row_power_ratio"], rel=1e-5)
    assert frame["gpu_max_c"].max() <= r["max_gpu_c"] + 1e-3
    assert frame["power_w"].mean() * r["rows"] * 120 == pytest.approx(r["energy_wall_j"], rel=1e-5)


def test_watching_changes_nothing(call: Call, tmp_path: Path) -> None:
    bare = json.loads(call(*SMALL, "--json")[1])
    watched = json.loads(call(*SMALL, "--json", "--series", str(tmp_path / "s.parquet"))[1])
    for name in ("requests", "prompt_tokens", "output_tokens", "slo_ok", "thermal_events", "power_events"):
        assert bare[name] == watched[name]
    for name in ("energy_wall_j", "max_gpu_c", "max_row_power_ratio"):  # where a stride ends, sums are rounded
        assert bare[name] == pytest.approx(watched[name], rel=1e-9)


def test_a_run_for_people_is_a_table(call: Call) -> None:
    status, out, _ = call(*SMALL, "--saas", "0.5", "--calibration", "modern", "--start", "peak", "--step", "5")
    assert status == 0
    for word in ("16 servers in 1 row", "requests", "thermal events", "of its limit", "CPU-s", "chat-1"):
        assert word in out


def test_a_site_without_requests_has_no_latencies(call: Call) -> None:
    status, out, _ = call(*SMALL, "--saas", "0")
    assert status == 0
    assert "Latencies" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--scenario", "nowhere"), "no scenario"),
        (("run", "--calibration", "nobody's"), "no calibration nobody's"),
        (("run", "--servers", "97"), "80 do"),
        (("run", "--start", "noon"), "peak or a time"),
        (("run", "--map", "m.gif"), "--map m.gif: must end in .png or .html"),
        (("run", "--series", "nowhere/s.parquet"), "there is no folder nowhere"),
        (("run", "--report", "nowhere/r.json"), "there is no folder nowhere"),
        (("run", "--for", "0s"), "must be above 0"),
        (("profile", "--gpu", "b200", "--model", "modern", "--rps", "1"), "one of a100, h100"),
        (("profile", "--gpu", "h100", "--model", "gpt-0", "--rps", "1"), "there are llama2-70b"),
        (("profile", "--gpu", "h100", "--model", "modern", "--tp", "3", "--rps", "1"), "there are llama3.1-70b h100 TP4"),
        (("profile", "--gpu", "h100", "--model", "modern", "--class", "XL", "--rps", "1"), "'SS', 'SM', 'SL'"),
        (("profile", "--gpu", "h100", "--model", "modern", "--freq", "3000", "--rps", "1"), "800 to 1980 MHz"),
        (("profile", "--gpu", "h100", "--model", "modern", "--rps", "1e-9"), "no request arrived"),
        (("validate", "--only", "nothing"), "--only nothing: no such check; there are"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(call: Call, words: tuple[str, ...], said: str) -> None:
    status, out, err = call("twin", *words)
    assert (status, out) == (2, "")
    assert said in err.splitlines()[-1]


def profile(call: Call, **other: str) -> dict[str, Any]:
    words = {"gpu": "h100", "model": "llama2-70b-2023", "tp": "8", "freq": "1200", "class": "MM", "rps": "2"} | other
    status, out, _ = call("twin", "profile", "--json", *(f"--{name}={value}" for name, value in words.items()))
    assert status == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_an_operating_point(call: Call) -> None:
    a = profile(call)
    assert (a["model"], a["calibration"], a["class"], a["freq_mhz"]) == ("llama2-70b", "llama2-70b-2023", "MM", 1200)
    assert (a["ttft_slo_s"], a["tbt_slo_s"], a["feasible"]) == (0.4, 0.1, True)
    assert 8 * 110 < a["power_w"] < 8 * 700
    assert a["ttft_p50_s"] < a["ttft_p99_s"] < 0.4
    faster = profile(call, freq="1980")
    assert faster["power_w"] > a["power_w"]
    assert faster["gpu_c"] > a["gpu_c"]
    assert faster["tbt_p50_s"] < a["tbt_p50_s"]


def test_an_operating_point_that_misses_its_objectives_is_an_answer(call: Call) -> None:
    assert profile(call, rps="40", freq="800")["feasible"] is False


def test_a_model_may_be_named_by_itself_or_by_its_calibration(call: Call) -> None:
    named = profile(call, model="llama3.1-70b", tp="4")
    assert named["calibration"] == "modern"
    assert named == profile(call, model="modern", tp="4") == profile(call, model="llama3.1-70b", calibration="modern", tp="4")


def test_an_operating_point_for_people(call: Call) -> None:
    status, out, _ = call("twin", "profile", "--gpu", "a100", "--model", "llama2-7b", "--tp", "2", "--rps", "1")
    assert status == 0
    assert "llama2-7b fp16 TP2 on a100 at 1410 MHz" in out
    assert "feasible" in out


GOOD = bounded("papers.good", "agrees", 1.5, kind="blind", low=1.0, high=2.0, unit="s")
BAD = bounded("papers.bad", "does not", np.float64(3.0), kind="checked", high=2.0)
ABSENT = skipped("papers.absent", "needs a file")


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Callable[[Path | None], list[Agreement]]] = {
        "good": lambda _: [GOOD],
        "bad": lambda _: [BAD],
        "absent": lambda _: [ABSENT],
    }
    monkeypatch.setattr(agreement, "checks", lambda: found)


@pytest.mark.usefixtures("checks")
def test_validation_tells_what_agrees(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    status, out, _ = call("twin", "validate", "--only", "good", "--only", "absent", "--report", str(file))
    assert status == 0
    assert "1 to 2" in out
    assert "needs a file" in out
    found = json.loads(file.read_text())["agreements"]
    assert [(one["name"], one["outcome"], one["ok"]) for one in found] == [
        ("papers.good", "ok", True),
        ("papers.absent", "skipped", False),
    ]


@pytest.mark.usefixtures("checks")
def test_validation_answers_no_when_something_is_off(call: Call) -> None:
    status, out, _ = call("twin", "validate", "--json")
    assert status == 1
    assert [one["outcome"] for one in json.loads(out)["agreements"]] == ["ok", "off", "skipped"]


def test_the_registered_checks_can_be_called(call: Call) -> None:
    status, out, _ = call("twin", "validate", "--only", "splitwise")
    assert status == 0
    assert "skipped" in out


@pytest.mark.parametrize("words", [(), ("run",), ("profile",), ("validate",)])
def test_help_has_an_example(call: Call, words: tuple[str, ...]) -> None:
    status, out, _ = call("twin", *words, "--help")
    assert status == 0
    assert "Example" in out
