"""Brokers for the bus's contract: each test runs on the embedded broker and, marked `real`, on an Apache Kafka."""

import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ingest.bus import BusSettings, KafkaBus, connect
from ingest.embedded import EmbeddedBroker
from tests.conftest import KafkaProcess

EMBEDDED = pytest.param("embedded", id="on-embedded-noida-db")
REAL = pytest.param("apache", id="on-apache-kafka", marks=pytest.mark.real)
BusMaker = Callable[..., KafkaBus]


@dataclass(frozen=True, kw_only=True)
class Where:
    """A running broker that several tests share; give each bus a prefix of its own."""

    name: str
    address: str
    fetch_waits: bool


@pytest.fixture(params=[EMBEDDED, REAL])
def where(request: pytest.FixtureRequest) -> Where:
    name = request.param
    address = request.getfixturevalue("embedded_broker" if name == "embedded" else "apache_kafka")
    return Where(name=name, address=address, fetch_waits=name != "embedded")


@pytest.fixture
def make_bus(where: Where) -> Iterator[BusMaker]:
    """Connect buses to `where` that share topics of this test's own; closed afterwards."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    made: list[KafkaBus] = []

    def make(**settings: Any) -> KafkaBus:
        bus = connect(BusSettings(bootstrap=where.address, fetch_waits=where.fetch_waits, topic_prefix=prefix, **settings))
        made.append(bus)
        bus.ensure_topics()
        return bus

    yield make
    for bus in made:
        bus.close()


@pytest.fixture
def bus(make_bus: BusMaker) -> KafkaBus:
    """A connected bus whose topics are empty."""
    return make_bus()


class OwnEmbedded:
    """An embedded broker that a test may stop, kill and start again on the same port and folder."""

    fetch_waits = False

    def __init__(self, folder: Path) -> None:
        self._broker = EmbeddedBroker.start(folder)
        self.address = self._broker.address

    def stop(self) -> None:
        self._broker.stop()

    def kill(self) -> None:
        self._broker.kill()

    def start(self) -> None:
        self._broker = EmbeddedBroker.start(self._broker.folder, self._broker.port)


class OwnApache:
    """The same for an Apache Kafka."""

    fetch_waits = True

    def __init__(self, kafka: KafkaProcess) -> None:
        self._kafka = kafka
        self.address = kafka.address

    def stop(self) -> None:
        self._kafka.kill(signal.SIGTERM)

    def kill(self) -> None:
        self._kafka.kill(signal.SIGKILL)

    def start(self) -> None:
        if self._kafka.process is None:
            self._kafka.start()


@pytest.fixture(scope="module")
def apache_to_kill(make_kafka: Callable[[], KafkaProcess]) -> KafkaProcess:
    """One Apache Kafka for all tests of a file that stop it."""
    return make_kafka()


@pytest.fixture(params=[EMBEDDED, REAL])
def own_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnEmbedded | OwnApache]:
    """A broker that the test may stop."""
    if request.param == "embedded":
        embedded = OwnEmbedded(tmp_path / "broker")
        yield embedded
        embedded.stop()
    else:
        apache = OwnApache(request.getfixturevalue("apache_to_kill"))
        yield apache
        apache.start()  # for the next test
