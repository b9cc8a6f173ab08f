"""Real programs that actuators act on, each on free loopback ports with its state in a temporary folder."""

import csv
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pynvml
import pytest

from tests.nvml_standin.standin import Standin, build, load_here


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until(good: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not good():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.02)


def need(program: str, package: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed: run tests/real/install.sh (Debian package {package})")
    return path


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in library, built once and loaded into this process under NVML's name."""
    library = build(tmp_path_factory.mktemp("nvml"))
    load_here(library)
    return library


@pytest.fixture
def cards(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    """Two cards of this test alone, found by NVML in this process."""
    with Standin.make(tmp_path, nvml_library, gpus=2) as standin:
        monkeypatch.setenv("NVML_STANDIN_STATE", str(standin.file))
        yield standin
        for index in range(2):
            standin.gpu(index).hang = 0
        shut_down()


def shut_down() -> None:
    """Let NVML go as often as it was opened, so that the next test's cards are opened anew."""
    while True:
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError_Uninitialized:
            return


class CountingServer(ThreadingHTTPServer):
    """An instance behind the router: counts what it is asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.served = 0


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, CountingServer)
        self.server.served += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Haproxy:
    """A running HAProxy with backend `chat` over `instances`."""

    admin: str
    tcp_admin: str
    port: int
    instances: dict[str, CountingServer]

    def weights(self) -> dict[str, int]:
        """The weights as HAProxy tells them in its statistics."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.admin)
            connection.sendall(b"show stat\n")
            text = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return {
            row["svname"]: int(row["weight"]) for row in rows if row["pxname"] == "chat" and row["svname"] in self.instances
        }

    def shares(self, requests: int = 300) -> dict[str, float]:
        """Send requests through it; return who answered which share."""
        before = {name: server.served for name, server in self.instances.items()}
        with httpx.Client(trust_env=False) as client:
            for _ in range(requests):
                client.get(f"http://127.0.0.1:{self.port}/").raise_for_status()
        return {name: (server.served - before[name]) / requests for name, server in self.instances.items()}


@pytest.fixture
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Haproxy]:
    """Debian's HAProxy in front of three instances."""
    program = need("haproxy", "haproxy")
    folder = tmp_path_factory.mktemp("ha")
    admin, tcp_admin, port = folder / "admin.sock", free_port(), free_port()
    with ExitStack() as stack:
        instances = {}
        for name in ("r0s0", "r0s2", "r1s0"):
            server = stack.enter_context(CountingServer())
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            instances[name] = server
        config = folder / "haproxy.cfg"
        servers = "\n".join(f"  server {name} 127.0.0.1:{s.server_address[1]} weight 100" for name, s in instances.items())
        config.write_text(
            f"global\n  stats socket {admin} mode 600 level admin\n  stats socket ipv4@127.0.0.1:{tcp_admin} level admin\n"
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n"
            f"frontend front\n  bind 127.0.0.1:{port}\n  default_backend chat\n"
            f"backend chat\n  balance roundrobin\n{servers}\n"
        )
        process = subprocess.Popen([program, "-db", "-f", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        wait_until(lambda: listens(port) and admin.exists(), "haproxy is up")
        yield Haproxy(admin=str(admin), tcp_admin=f"127.0.0.1:{tcp_admin}", port=port, instances=instances)


@pytest.fixture
def alertmanager_url(tmp_path: Path) -> Iterator[str]:
    """Debian's Alertmanager, alone."""
    program = need("prometheus-alertmanager", "prometheus-alertmanager")
    config = tmp_path / "alertmanager.yml"
    config.write_text("route:\n  receiver: nobody\n  group_wait: 0s\n  group_interval: 1s\nreceivers:\n  - name: nobody\n")
    port = free_port()
    process = subprocess.Popen(
        [
            program,
            f"--config.file={config}",
            f"--storage.path={tmp_path / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: listens(port) and _ready(url), "Alertmanager is ready")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _ready(url: str) -> bool:
    return httpx.get(f"{url}/-/ready", trust_env=False).status_code == httpx.codes.OK


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
