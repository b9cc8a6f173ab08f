"""kafka-python behind our settings: how each kind of client is made, and its errors as one line for people."""

import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError
from kafka.errors import for_code as kafka_error_for_code
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

from contracts.errors import BusError, ConfigError
from contracts.topics import TOPICS, Topic

MAX_RECORD_BYTES = 8_000_000
"""largest record; topics are made to take it"""
FOREVER_MS = 7 * 24 * 3600 * 1000
"""delivery time-out: what stands in the producer waits for the broker; bounding the backlog is the outbox's work"""
TOPICS_TIMEOUT_S = 15.0

Client = TypeVar("Client")
Hook = Callable[..., KafkaNetClient]

# The client writes several lines for each attempt to reach a broker that is away; we say it once, in one line. Whoever wants
# them sets the level of the logger "kafka".
logging.getLogger("kafka").setLevel(logging.CRITICAL)


class DirectSocket(KafkaNetSocket):  # type: ignore[misc]  # the client is published without types
    """The client's way to a broker, chosen by its proxy setting: straight, but closing what did not connect.

    The client itself leaves such sockets to the garbage collector, many of them while a broker is away.
    """

    SCHEMES = ("direct",)

    async def sock_connect(self, net: Any, sock: socket.socket, sockaddr: Any, timeout_at: float | None = None) -> Any:
        """Connect, or close and raise."""
        connected = False
        try:
            done = await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
            connected = True
            return done
        finally:
            if not connected:
                sock.close()


class BusSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Kafka is and how to speak to it. Defaults suit `make kafka`."""

    bootstrap: str = "127.0.0.1:9092"
    """host:port, or several with commas"""
    fetch_waits: bool = True
    """False = the broker answers an empty fetch at once (the embedded one): sleep between polls instead of spinning"""
    topic_prefix: str = ""
    """stands before every topic's name, so that several sites can share a cluster"""
    replication: Annotated[int, msgspec.Meta(ge=-1, le=10)] = -1
    """copies of each partition of the topics that we make; -1 = the broker's default"""
    retention_max_s: Annotated[float, msgspec.Meta(ge=60)] | None = None
    """shortens the retention of the topics that we make, for a broker that keeps its log in memory"""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    tls_ca_file: Path | None = None
    """PEM; None = the system's authorities"""
    tls_cert_file: Path | None = None
    """PEM of our own certificate, where the broker asks for one"""
    tls_key_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password_file: Path | None = None
    """its first line is the password"""
    buffer_records: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    """records kept while the broker is away, telemetry and commands each"""
    linger_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 20
    batch_size: Annotated[int, msgspec.Meta(ge=1)] = 256 * 1024
    """bytes; kafka-python's default of 16 kB halves the throughput of 20 kB messages"""
    json_compression: Literal["zstd", "lz4", "none"] = "zstd"
    """of JSON topics; Arrow is compressed already"""
    connect_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 8.0
    """how long a broker that is away is waited for at the start"""


def make_admin(settings: BusSettings, timeout_s: float | None = None) -> KafkaAdminClient:
    """Connect an admin client; BusError when the broker is not there within the time-out."""
    return _connected(settings, lambda hook: KafkaAdminClient(**_common(settings, timeout_s), kafka_client=hook))


def make_producer(settings: BusSettings, form: Literal["arrow", "json"], max_block_s: float = 2.0) -> KafkaProducer:
    """Connect an idempotent producer that waits for all replicas and retries until the broker is back."""
    compression = settings.json_compression if form == "json" and settings.json_compression != "none" else None
    return _connected(
        settings,
        lambda hook: KafkaProducer(
            **_common(settings),
            kafka_client=hook,
            acks="all",
            enable_idempotence=True,
            compression_type=compression,
            linger_ms=settings.linger_ms,
            batch_size=settings.batch_size,
            max_request_size=MAX_RECORD_BYTES,
            max_block_ms=int(max_block_s * 1000),
            delivery_timeout_ms=FOREVER_MS,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        ),
    )


def make_consumer(settings: BusSettings) -> KafkaConsumer:
    """Connect a consumer without group and without offsets of its own: the caller assigns and seeks."""
    return _connected(
        settings,
        lambda hook: KafkaConsumer(
            **_common(settings),
            kafka_client=hook,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_poll_records=2000,
            fetch_max_wait_ms=500,
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        ),
    )


def cluster_id_of(client: KafkaAdminClient | KafkaConsumer | KafkaProducer) -> str:
    """Return the id of the cluster that the client last heard of ("" before it heard of any).

    Read from the client's metadata: DescribeCluster, the public call, fails on brokers that speak its version 0 only.
    """
    metadata = client._metadata if isinstance(client, KafkaProducer) else client._manager.cluster
    return str(metadata.cluster_id or "")


def make_topics(admin: KafkaAdminClient, settings: BusSettings) -> None:
    """Make every topic of `contracts.topics` that is not there and wait until all can be used.

    BusError names a topic that the broker refuses, or that does not come to be.
    """
    try:
        there = set(admin.list_topics())
        wanted = [topic for topic in TOPICS if settings.topic_prefix + topic.name not in there]
        answer = admin.create_topics([_new_topic(topic, settings) for topic in wanted], raise_errors=False) if wanted else {}
        for made in answer.get("topics", ()):
            kind = kafka_error_for_code(made["error_code"])
            if made["error_code"] and kind is not TopicAlreadyExistsError:  # another process may have been quicker
                why = made["error_message"] or kind.__name__
                raise BusError(f"topic {made['name']} cannot be made at {settings.bootstrap}: {why}")
        _await_leaders(admin, settings)
    except KafkaError as error:
        raise BusError(f"cannot make the topics at {settings.bootstrap}: {one_line(error)}") from error


def _await_leaders(admin: KafkaAdminClient, settings: BusSettings) -> None:
    """Wait until every partition has a leader: a cluster answers before its brokers have heard of a new topic."""
    wanted = [settings.topic_prefix + topic.name for topic in TOPICS]
    deadline = time.monotonic() + TOPICS_TIMEOUT_S
    while True:
        described = {topic["name"]: topic["partitions"] for topic in admin.describe_topics(wanted)}
        missing = [name for name in wanted if not _led(described.get(name, []))]
        if not missing:
            return
        if time.monotonic() > deadline:
            raise BusError(
                f"topic {missing[0]} has no leader at {settings.bootstrap} after {TOPICS_TIMEOUT_S:.0f} s: look at the brokers"
            )
        time.sleep(0.05)


def _led(partitions: list[dict[str, Any]]) -> bool:
    return bool(partitions) and all(partition["leader_id"] >= 0 for partition in partitions)


def one_line(error: BaseException) -> str:
    """Return an error as one short line."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    return (text if kind in text else f"{kind}: {text}")[:300]  # the client's own errors begin with their kind


def _new_topic(topic: Topic, settings: BusSettings) -> NewTopic:
    if topic.retention_h is None:
        kept = {"cleanup.policy": "compact"}
    else:
        kept_s = min(topic.retention_h * 3600, settings.retention_max_s or float("inf"))
        kept = {"cleanup.policy": "delete", "retention.ms": str(int(kept_s * 1000))}
    return NewTopic(
        settings.topic_prefix + topic.name,
        topic.partitions,
        settings.replication,
        topic_configs={**kept, "message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_RECORD_BYTES)},
    )


def _connected(settings: BusSettings, make: Callable[[Hook], Client]) -> Client:
    """Make a client. One that cannot connect raises from its constructor and leaves its thread and sockets: end those here."""
    nets: list[KafkaNetClient] = []

    def hook(**configs: Any) -> KafkaNetClient:
        nets.append(KafkaNetClient(**configs))
        return nets[-1]

    connected = False
    try:
        client = make(hook)
        connected = True
        return client
    except KafkaError as error:
        raise BusError(
            f"no Kafka at {settings.bootstrap} ({one_line(error)}): start one (make kafka) "
            "or set COLDAISLE_KAFKA or kafka.bootstrap to where it runs"
        ) from error
    except OSError as error:  # a certificate that cannot be read
        raise ConfigError(f"kafka: {one_line(error)}: give readable TLS files") from error
    finally:
        for net in () if connected else nets:
            net.close()
            net._net.stop()


def _common(settings: BusSettings, timeout_s: float | None = None) -> dict[str, Any]:
    secure: dict[str, Any] = {}
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        secure = {
            "ssl_cafile": _text(settings.tls_ca_file),
            "ssl_certfile": _text(settings.tls_cert_file),
            "ssl_keyfile": _text(settings.tls_key_file),
        }
    if settings.security_protocol.startswith("SASL"):
        secure |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": _password(settings),
        }
    return {
        "bootstrap_servers": _addresses(settings.bootstrap),
        "client_id": "coldaisle",
        "proxy_url": "direct://",
        "security_protocol": settings.security_protocol,
        "bootstrap_timeout_ms": int((timeout_s or settings.connect_timeout_s) * 1000),
        # A restarted broker is found within a second; the default backs off to 30 s.
        "reconnect_backoff_max_ms": 1000,
        **secure,
    }


def _addresses(bootstrap: str) -> list[str]:
    addresses = [address.strip() for address in bootstrap.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
            raise ConfigError(f"kafka.bootstrap {bootstrap!r}: {address!r} is no host:port: give e.g. 127.0.0.1:9092")
    return addresses


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _password(settings: BusSettings) -> str:
    if settings.sasl_username is None or settings.sasl_password_file is None:
        raise ConfigError(
            f"kafka.security_protocol is {settings.security_protocol}: set kafka.sasl_username and kafka.sasl_password_file"
        )
    try:
        return settings.sasl_password_file.read_text().split("\n", 1)[0]
    except OSError as error:
        raise ConfigError(
            f"kafka.sasl_password_file {str(settings.sasl_password_file)!r}: {error.strerror}: give a readable file"
        ) from error
