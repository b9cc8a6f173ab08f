"""`coldaisle agent`: obeys signed actions for its nodes; reverts its leases when control is silent.

Imports no polars, pyarrow or duckdb: it runs on every node.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from actuators.agent import Agent
from actuators.node_file import NodeFile
from actuators.signing import load_key
from coldaisle.explain import convert
from coldaisle.part import Part
from coldaisle.settings import Config
from contracts.control import Action, Outcome
from contracts.errors import ConfigError
from contracts.ports import Actuator, Bus, Clock, Record, Start
from contracts.registry import ACTUATORS, load
from ingest.headers import cloud_event
from ingest.records import Malformed, decode_record, encode_record

EXPIRY_S = 0.25
"""how often leases are looked at, wall time"""


def actuators_of(config: Config) -> dict[str, Actuator]:
    """Return the configured actuators by the kind of value that they take; dry run where none is named."""
    tables = config.agent.actuators or ({"type": "dry_run", "kind": "clock_cap"},)
    made: dict[str, Actuator] = {}
    for position, table in enumerate(tables):
        where = f"agent.actuators[{position}]"
        if "type" not in table:
            raise ConfigError(f"{where}: type is missing; allowed are {', '.join(sorted(ACTUATORS))}")
        kind = load(ACTUATORS, table["type"])
        settings = convert({k: v for k, v in table.items() if k != "type"}, kind.Settings, where)
        actuator = kind(settings)
        made[actuator.kind] = actuator
    return made


def make_agent(
    config: Config, clock: Clock, nodes: Sequence[str], actuators: Mapping[str, Actuator], node_file: NodeFile | None
) -> Agent:
    """Return the agent of this process, with its journal and the shared key."""
    return Agent(
        names=nodes,
        actuators=actuators,
        key=load_key(config.key(), make=True),
        node_file=node_file,
        journal=config.state / "agent" / "journal.jsonl",
        clock=clock,
        name=f"{socket.gethostname()}/{os.getpid()}",
    )


def obey(agent: Agent, bus: Bus, nodes: Sequence[str], part: Part, clock: Clock) -> None:
    """Feed the agent from the topics `actions` and `brake` until the part stops; then revert everything."""
    commands = bus.subscribe(["actions"], Start(where="end"), keys=nodes)
    brakes = bus.subscribe(["brake"], Start(where="end"))
    publish(bus, agent.start(), clock)
    looked = 0.0
    try:
        while not part.stop.is_set():
            records = [*brakes.poll(0.0), *commands.poll(0.1)]
            if actions := list(readable(records, part)):
                publish(bus, agent.receive(*actions), clock)
            if time.monotonic() - looked > EXPIRY_S:
                looked = time.monotonic()
                publish(bus, agent.expire(clock.wall()), clock)
    finally:
        publish(bus, agent.stop(), clock)
        bus.flush(2.0)
        commands.close()
        brakes.close()


def readable(records: Sequence[Record], part: Part) -> Iterator[Action]:
    """Yield the actions among the records; what cannot be read is said in the log (the history keeps it as rejected)."""
    for record in records:
        try:
            action = decode_record("actions", record.value, record.headers)
        except Malformed as error:
            part.log.warning("action at %s/%d/%d refused: %s", record.topic, record.partition, record.offset, error)
            continue
        if isinstance(action, Action):
            yield action


def publish(bus: Bus, outcomes: Sequence[Outcome], clock: Clock) -> None:
    """Publish outcomes, keyed by node."""
    for outcome in outcomes:
        headers = cloud_event("outcomes", f"agent/{outcome.agent}", clock.wall())
        bus.publish("outcomes", outcome.node, encode_record(outcome), headers)


def main(config: Config, part: Part, bus: Bus, clock: Clock) -> None:
    """Run the agent of a node (or of a router, or of the alerting)."""
    nodes = config.agent.nodes or (socket.gethostname(),)
    node_file = None if config.agent.node_file is None else NodeFile.read(config.agent.node_file)
    agent = make_agent(config, clock, nodes, actuators_of(config), node_file)
    part.ready()
    obey(agent, bus, nodes, part, clock)


def start_thread(agent: Agent, bus: Bus, nodes: Sequence[str], part: Part, clock: Clock) -> threading.Thread:
    """Run `obey` beside something else in this process (a twin)."""
    thread = threading.Thread(target=obey, args=(agent, bus, nodes, part, clock), name="agent", daemon=True)
    thread.start()
    return thread
