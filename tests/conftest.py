"""What tests of several folders share: brokers, and the rule that a skipped test says why.

`embedded_broker` and `apache_kafka` are addresses (host:port) of brokers that live as long as the run; give each test its own
topics by a prefix, or take `fresh_broker`, which is empty. A test that takes `apache_kafka` bears the marker `real`.
With COLDAISLE_REQUIRE_REAL=1 a real test that would be skipped fails instead: nobody believes in a check that did not run.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

with warnings.catch_warnings():
    # kafka-python 3.0 reads its protocol's schemas by a call that Python 3.11 deprecates and 3.13 took back.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401  (imported once here, so that nobody's import of it warns)

from ingest.embedded import EmbeddedBroker, free_port

ROOT = Path(__file__).parent.parent
KAFKA_SH = ROOT / "deploy" / "kafka" / "kafka.sh"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(call.excinfo.value) if call.excinfo else ""
        if not reason.strip():
            _fail(report, "skipped without a reason: say what is missing and how to get it")
        elif _real_required() and item.get_closest_marker("real"):
            _fail(report, f"COLDAISLE_REQUIRE_REAL=1, but this test was skipped: {reason}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,  # noqa: ARG001  (pytest passes arguments by name)
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and _real_required():
        _fail(report, f"COLDAISLE_REQUIRE_REAL=1, but a whole file was skipped: {report.longrepr}")
    return report


def _real_required() -> bool:
    return os.environ.get("COLDAISLE_REQUIRE_REAL") == "1"


def _fail(report: pytest.TestReport | pytest.CollectReport, why: str) -> None:
    report.outcome = "failed"
    report.longrepr = why


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an embedded broker (fetch_waits=False) for the whole run."""
    with EmbeddedBroker.start(tmp_path_factory.mktemp("embedded")) as broker:
        yield broker.address


@pytest.fixture
def fresh_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """An empty embedded broker for one test alone, which may stop or kill it."""
    with EmbeddedBroker.start(tmp_path / "broker") as broker:
        yield broker


@dataclass
class KafkaProcess:
    """An Apache Kafka of our own, made by deploy/kafka/kafka.sh; `start` again after `kill` to see what survived."""

    folder: Path
    port: int
    controller_port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, timeout_s: float = 60.0) -> None:
        log = self.folder.parent / f"{self.folder.name}.log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(KAFKA_SH), "--port", str(self.port), "--folder", str(self.folder)],
                env={**os.environ, "KAFKA_CONTROLLER_PORT": str(self.controller_port)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while not _listens(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Apache Kafka did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it (the script became the Java process, so that the signal reaches the broker itself)."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait(30)
            self.process = None


@pytest.fixture(scope="session")
def make_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], KafkaProcess]]:
    """Start an Apache Kafka of the test's own (to kill it, for instance); stopped at the end of the run."""
    started: list[KafkaProcess] = []

    def make() -> KafkaProcess:
        if missing := _missing_for_kafka():
            pytest.skip(missing)
        kafka = KafkaProcess(folder=tmp_path_factory.mktemp("kafka") / "broker", port=free_port(), controller_port=free_port())
        started.append(kafka)
        kafka.start()
        return kafka

    yield make
    for kafka in started:
        kafka.kill(signal.SIGTERM)


@pytest.fixture(scope="session")
def apache_kafka(make_kafka: Callable[[], KafkaProcess]) -> str:
    """Address of a real Apache Kafka: COLDAISLE_KAFKA where set (it must be up), else one of our own."""
    given = os.environ.get("COLDAISLE_KAFKA")
    if given:
        host, _, port = given.split(",")[0].rpartition(":")
        if not _listens(int(port), host):
            pytest.fail(f"COLDAISLE_KAFKA={given}: nobody listens there; start it, or unset the variable")
        return given
    return make_kafka().address


def _missing_for_kafka() -> str:
    """Why an Apache Kafka of our own cannot start here; empty when it can."""
    if shutil.which("java") is None:
        return "Apache Kafka needs Java 17: run tests/real/install.sh, or set COLDAISLE_KAFKA=host:port"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coldaisle" / "kafka" / "libs"
    if not any(cache.glob("kafka_2.13-*.jar")):
        return f"Apache Kafka's jars are not in {cache}: run deploy/kafka/kafka.sh --fetch-only"
    return ""


def _listens(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
