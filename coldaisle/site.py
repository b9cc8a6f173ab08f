"""What the compacted topic `state` says: topology, modes, learnt plant."""

import time
from collections.abc import Mapping

import msgspec

from coldaisle.explain import read_toml
from coldaisle.part import Part
from coldaisle.settings import Config
from contracts.control import Mode
from contracts.errors import ColdaisleError, ConfigError
from contracts.ports import Bus, Clock, Start
from contracts.topology import Topology
from control.index import build
from ingest.headers import cloud_event

TOPOLOGY, MODES, PLANT = "topology", "modes", "plant"


class State:
    """The newest value per key of `state`, read from its beginning."""

    def __init__(self, bus: Bus) -> None:
        """Read from the beginning; `refresh` brings it up to date."""
        self._subscription = bus.subscribe(["state"], Start(where="beginning"))
        self._values: dict[str, bytes] = {}

    def refresh(self, timeout_s: float = 0.0) -> set[str]:
        """Read what is new; return the keys that changed."""
        changed = set()
        for record in self._subscription.poll(timeout_s):
            if self._values.get(record.key) != record.value:
                self._values[record.key] = record.value
                changed.add(record.key)
        return changed

    def topology(self) -> Topology | None:
        """The site, or None while nobody has published it."""
        raw = self._values.get(TOPOLOGY)
        return None if raw is None else msgspec.json.decode(raw, type=Topology)

    def modes(self) -> Mapping[str, Mode]:
        """Policy -> mode, as changed at run time."""
        raw = self._values.get(MODES)
        return {} if raw is None else msgspec.json.decode(raw, type=dict[str, Mode])

    def raw(self, key: str) -> bytes | None:
        """The value of any key."""
        return self._values.get(key)

    def close(self) -> None:
        """Leave."""
        self._subscription.close()


def publish_state(bus: Bus, key: str, value: bytes, clock: Clock) -> None:
    """Set a key of `state` for everybody."""
    bus.publish("state", key, value, cloud_event("state", "coldaisle", clock.wall()))


def topology_of(config: Config) -> Topology:
    """Return the topology of the config's file; ConfigError names file, key and what is wrong."""
    if config.topology is None:
        raise ConfigError("topology is missing in the config: name the TOML file that says what stands where")
    topology = read_toml(config.topology, Topology)
    build(topology)
    return topology


def wait_for_topology(state: State, part: Part, timeout_s: float = 150.0) -> Topology:
    """Return the topology as soon as somebody has published it; ColdaisleError says who should."""
    deadline = time.monotonic() + timeout_s
    while (topology := state.topology()) is None:
        state.refresh(0.2)
        if part.stop.is_set() or time.monotonic() > deadline:
            raise ColdaisleError("no topology on topic `state`: set topology = FILE in the config, or start the twin")
    return topology
