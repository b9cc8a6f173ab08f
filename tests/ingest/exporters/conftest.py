"""Real HTTP servers for the exporters' tests: pages served on loopback, and sushy-tools' BMC emulator."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ingest.embedded import free_port
from tests.ingest.exporters.http_pages import Pages, PageServer


@pytest.fixture
def serve() -> Iterator[Callable[[], Pages]]:
    """Start a server and return its pages."""
    servers: list[PageServer] = []

    def start() -> Pages:
        servers.append(PageServer())
        return servers[-1].pages

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def bmc_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of sushy-tools' emulator: old thermal schema, no power."""
    port = free_port()
    log = tmp_path_factory.mktemp("sushy") / "log"
    program = Path(sys.executable).with_name("sushy-emulator")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, "--fake", "--interface", "127.0.0.1", "--port", str(port)], stdout=out, stderr=subprocess.STDOUT
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(url, process, log)
            yield url
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, f"sushy-emulator ended: {log.read_text()[-2000:]}"
        try:
            httpx.get(f"{url}/redfish/v1/Chassis", timeout=5, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"sushy-emulator does not answer: {log.read_text()[-2000:]}")
