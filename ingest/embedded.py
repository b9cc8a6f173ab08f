"""The embedded broker: noida-db, one binary from PyPI that speaks Kafka's protocol on loopback, for machines without Java.

It serves the demo and the tests. What it does not promise stands in docs/brokers.md; above all, it keeps its log in memory
and writes it out now and then, so a killed broker loses what was acknowledged last.
"""

import contextlib
import importlib.metadata
import os
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from contracts.errors import BusError, ConfigError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
HOST = "127.0.0.1"


class EmbeddedBroker:
    """A running broker. Made by `start`; a context manager that stops it. Use it with `fetch_waits=False`."""

    fetch_waits = False
    """it answers an empty fetch at once: a consumer must sleep between polls"""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
        self._process = process
        self.port = port
        self.folder = folder
        self.address = f"{HOST}:{port}"

    @classmethod
    def start(cls, folder: Path, port: int = 0) -> "EmbeddedBroker":
        """Start a broker that keeps its data in `folder` (made if absent) and return when it accepts connections.

        Port 0 takes a free one. Raises BusError with the broker's own reason when it does not come up (a busy port, a
        folder of a running broker) and ConfigError when the package or the folder cannot be used.
        """
        binary = _binary()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"broker folder {str(folder)!r}: {error.strerror}: choose one that can be written to") from error
        attempts = 5 if port == 0 else 1  # a free port may be taken by another before the broker binds it
        for attempt in range(1, attempts + 1):
            chosen = port or free_port()
            broker = cls(_spawn(binary, folder, chosen), chosen, folder)
            try:
                broker._await_ready()
            except BusError as error:
                broker.stop()
                if attempt == attempts or "in use" not in str(error):
                    raise
            else:
                return broker
        raise AssertionError("unreachable: the last attempt returns or raises")

    @property
    def pid(self) -> int:
        """Process id of the broker."""
        return self._process.pid

    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it by SIGTERM, so that it saves its log; by SIGKILL when it does not end. Safe to call twice."""
        if self.running():
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "EmbeddedBroker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.running():
                raise BusError(f"embedded broker on port {self.port} did not start: {self._reason()}")
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
                # Someone else may listen there: then ours has ended or is about to.
                time.sleep(0.02)
                if self.running():
                    return
            time.sleep(0.01)
        raise BusError(f"embedded broker on port {self.port} was not up within {START_TIMEOUT_S:.0f} s: {self._reason()}")

    def _reason(self) -> str:
        """What the broker wrote, without the loader's remark on the C library's version, which does not matter."""
        lines = (self.folder / "broker.log").read_text(errors="replace").splitlines()
        told = [line for line in lines if line.startswith(("error:", "hint:"))]
        return "; ".join(told) or f"exit status {self._process.poll()}, see {self.folder / 'broker.log'}"


def free_port() -> int:
    """Return a port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _binary() -> Path:
    """The broker inside its wheel: the Python wrapper around it would stand between us and its signals."""
    try:
        files = importlib.metadata.files("noida-db") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in {"noida-db", "noida-db.exe"} and file.parent.name == "noida_db":
            return Path(str(file.locate()))
    raise ConfigError("the embedded broker's package noida-db is not installed: run make env, or set a real Kafka's address")


def _spawn(binary: Path, folder: Path, port: int) -> "subprocess.Popen[bytes]":
    arguments = ["start", "--data-dir", str(folder), "--host", HOST, "--only", "kafka", "--kafka-port", str(port)]
    if not os.access(binary, os.X_OK):  # an installer may drop the mode
        binary.chmod(0o755)
    with (folder / "broker.log").open("wb") as log:
        return subprocess.Popen(
            [str(binary), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
