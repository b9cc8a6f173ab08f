import json
import ssl
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.errors import ConfigError
from contracts.ports import Collected, Exporter
from ingest.codec import frame_of
from ingest.embedded import free_port
from ingest.exporters.redfish import Bmc, RedfishExporter, RedfishSettings
from tests.factories import NOW
from tests.ingest.exporters.http_pages import Pages, PageServer

ROOT = "/redfish/v1/Chassis"


def collect(exporter: Exporter, now: Any = NOW) -> Collected:
    (found,) = exporter.collect(now)
    frame_of("server", found.columns)  # fits the declared schema
    return found


def new_schema(pages: Pages, inlet_c: float | None = 24.5, power_w: float | None = 6231.0) -> None:
    """A BMC as an HGX system has it: the first chassis is a board without sensors, the second the machine."""
    link = {name: {"@odata.id": f"{ROOT}/machine/{name}"} for name in ("ThermalSubsystem", "EnvironmentMetrics")}
    bodies: dict[str, Any] = {
        ROOT: {"Members": [{"@odata.id": f"{ROOT}/board"}, {"@odata.id": f"{ROOT}/machine"}]},
        f"{ROOT}/board": {"Id": "board", "EnvironmentMetrics": {"@odata.id": f"{ROOT}/board/EnvironmentMetrics"}},
        f"{ROOT}/board/EnvironmentMetrics": {"TemperatureCelsius": {"Reading": 51.0}},
        f"{ROOT}/machine": {"Id": "machine", **link},
        f"{ROOT}/machine/ThermalSubsystem": {
            "ThermalMetrics": {"@odata.id": f"{ROOT}/machine/ThermalSubsystem/ThermalMetrics"}
        },
        f"{ROOT}/machine/ThermalSubsystem/ThermalMetrics": {
            "@odata.type": "#ThermalMetrics.v1_3_0.ThermalMetrics",
            "TemperatureSummaryCelsius": {"Intake": {"Reading": inlet_c}, "Exhaust": {"Reading": 41.0}},
        },
        f"{ROOT}/machine/EnvironmentMetrics": {"PowerWatts": {"Reading": power_w}, "FanSpeedsPercent": []},
    }
    pages.pages = {path: json.dumps(body) for path, body in bodies.items()}


def old_schema(pages: Pages, consumed_w: float | None = 5120.0) -> None:
    bodies: dict[str, Any] = {
        ROOT: {"Members": [{"@odata.id": f"{ROOT}/1"}]},
        f"{ROOT}/1": {"Thermal": {"@odata.id": f"{ROOT}/1/Thermal"}, "Power": {"@odata.id": f"{ROOT}/1/Power"}},
        f"{ROOT}/1/Thermal": {
            "Temperatures": [
                {"PhysicalContext": "CPU", "ReadingCelsius": 61},
                {"PhysicalContext": "Intake", "ReadingCelsius": 22},
                {"PhysicalContext": "Intake", "ReadingCelsius": 23},
                {"PhysicalContext": "Intake", "ReadingCelsius": None},
            ]
        },
        f"{ROOT}/1/Power": {"PowerControl": [{"PowerConsumedWatts": consumed_w}, {"PowerConsumedWatts": 300}]},
    }
    pages.pages = {path: json.dumps(body) for path, body in bodies.items()}


def settings(*urls: str, **changes: Any) -> RedfishSettings:
    return RedfishSettings(bmcs=tuple(Bmc(node=f"node-{i}", url=url) for i, url in enumerate(urls)), **changes)


def test_reads_the_emulator_in_the_old_schema_and_says_once_that_it_has_no_power(bmc_emulator: str) -> None:
    exporter = RedfishExporter(settings(bmc_emulator, timeout_s=30.0))
    first, second = collect(exporter), collect(exporter)
    exporter.close()
    assert first.columns == {"ts": [NOW], "node": ["node-0"], "inlet_c": [25.0], "power_w": [None]}
    assert [p.reason for p in first.problems] == [f"{bmc_emulator} offers no power reading; that stays NULL"]
    assert second.columns == first.columns
    assert not second.problems


def test_reads_the_new_schema_beyond_chassis_without_sensors(serve: Callable[[], Pages]) -> None:
    pages = serve()
    new_schema(pages)
    exporter = RedfishExporter(settings(pages.url))
    assert collect(exporter).columns["inlet_c"] == [24.5]
    probed = len(pages.asked)
    new_schema(pages, inlet_c=30.0, power_w=None)
    found = collect(exporter)
    exporter.close()
    assert (found.columns["inlet_c"], found.columns["power_w"], found.problems) == ([30.0], [None], ())
    assert len(pages.asked) - probed == 2  # probed once: from then on one request a reading


def test_reads_power_of_the_old_schema_and_the_warmest_intake(serve: Callable[[], Pages]) -> None:
    pages = serve()
    old_schema(pages)
    exporter = RedfishExporter(settings(pages.url))
    found = collect(exporter)
    exporter.close()
    assert (found.columns["inlet_c"], found.columns["power_w"], found.problems) == ([23.0], [5120.0], ())


def test_a_dead_a_slow_and_a_talking_nonsense_bmc_cost_only_themselves(serve: Callable[[], Pages]) -> None:
    good, slow, nonsense = serve(), serve(), serve()
    new_schema(good)
    new_schema(slow)
    slow.delay_s = 2.0
    nonsense.pages[ROOT] = "<html>login</html>"
    dead = f"http://127.0.0.1:{free_port()}"
    exporter = RedfishExporter(settings(good.url, slow.url, nonsense.url, dead, timeout_s=1.0))
    found = collect(exporter)
    exporter.close()
    assert found.columns["node"] == ["node-0"]
    reasons = {p.source: p.reason for p in found.problems}
    assert set(reasons) == {"redfish:node-1", "redfish:node-2", "redfish:node-3"}
    assert "did not answer within" in reasons["redfish:node-1"]
    assert f"sent no JSON on {ROOT}" in reasons["redfish:node-2"]
    assert dead in reasons["redfish:node-3"]


def test_probes_anew_when_the_firmware_moved_its_resources(serve: Callable[[], Pages]) -> None:
    pages = serve()
    new_schema(pages)
    exporter = RedfishExporter(settings(pages.url))
    collect(exporter)
    old_schema(pages)
    lost, found = collect(exporter), collect(exporter)
    exporter.close()
    assert "HTTP 404" in lost.problems[0].reason
    assert found.columns["power_w"] == [5120.0]


def test_sends_the_password_and_waits_after_a_refusal(serve: Callable[[], Pages], tmp_path: Path) -> None:
    pages = serve()
    new_schema(pages)
    pages.wanted_authorization = "Basic YWRtaW46d3Jvbmc="
    secret = tmp_path / "password"
    secret.write_text("right\n")
    exporter = RedfishExporter(settings(pages.url, username="admin", password_file=str(secret), refused_wait_s=60.0))
    assert "HTTP 401" in collect(exporter).problems[0].reason
    asked = len(pages.asked)
    pages.wanted_authorization = "Basic YWRtaW46cmlnaHQ="  # admin:right
    assert collect(exporter, NOW + timedelta(seconds=30)).columns["node"] == []
    assert len(pages.asked) == asked
    assert collect(exporter, NOW + timedelta(seconds=60)).columns["node"] == ["node-0"]
    exporter.close()


def test_does_not_trust_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=bmc -addext subjectAltName=IP:127.0.0.1 -keyout {key} "
        f"-out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = PageServer(tls=context)
    new_schema(server.pages)
    answers = []
    for changes in ({}, {"ca_file": str(certificate)}, {"verify_tls": False}):
        exporter = RedfishExporter(settings(server.pages.url, **changes))
        answers.append(collect(exporter))
        exporter.close()
    server.close()
    assert "certificate verify failed" in answers[0].problems[0].reason.lower()
    assert [a.columns["power_w"] for a in answers] == [[], [6231.0], [6231.0]]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"username": "admin"}, "username without password_file"),
        ({"password_file": "p"}, "password_file without username"),
        ({"username": "admin", "password_file": "/does/not/exist"}, "password_file '/does/not/exist'"),
        ({"ca_file": "/does/not/exist"}, "ca_file '/does/not/exist'"),
        ({"bmcs": (Bmc(node="a", url="10.0.0.1"),)}, "redfish BMC of a: url '10.0.0.1'"),
        ({"bmcs": (Bmc(node="a", url="http://x"), Bmc(node="a", url="http://y"))}, "'a' stands twice"),
    ],
)
def test_wrong_settings_give_one_line(changes: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted.replace("(", r"\(")) as caught:
        RedfishExporter(msgspec.structs.replace(settings("http://127.0.0.1:1"), **changes))
    assert "\n" not in str(caught.value)


def test_a_named_chassis_that_is_not_there_is_a_problem(serve: Callable[[], Pages]) -> None:
    pages = serve()
    new_schema(pages)
    exporter = RedfishExporter(RedfishSettings(bmcs=(Bmc(node="a", url=pages.url, chassis="rack"),)))
    found = collect(exporter)
    exporter.close()
    assert "has no chassis 'rack'" in found.problems[0].reason
