"""`coldaisle twin-host`: a twin in place of a datacenter: its exporters, its agent, its past."""

import threading
import time
from pathlib import Path

import msgspec

from coldaisle.agent_process import actuators_of, make_agent, start_thread
from coldaisle.clock import AnyClock
from coldaisle.explain import convert
from coldaisle.exporter_process import start_threads
from coldaisle.part import Part
from coldaisle.settings import Config, TwinSettings
from coldaisle.site import TOPOLOGY, publish_state
from contracts.errors import ConfigError
from contracts.ports import Bus
from ingest.publisher import Publisher
from ingest.workload import load as load_workload
from twin.actuators import actuators
from twin.exporters import ExporterSettings, exporters
from twin.past import rollups
from twin.scenario import load as load_scenario
from twin.world import World

STEP_S = 0.02
"""wall time between two advances of the world"""
SCORE_S = 1.0


def world_of(config: Config, settings: TwinSettings) -> World:
    """Return the world that the settings describe, at the run's t0."""
    start = {} if config.run is None else {"start": config.run.t0}
    scenario = load_scenario(settings.scenario, **start, **settings.overrides)
    return World(scenario, load_workload(config.data), settings.seed)


def write_past(world: World, publisher: Publisher, days: float) -> int:
    """Publish roll-ups of the `days` before the start; return the number of rows."""
    rows = 0
    for collected in rollups(world.scenario, world.workload, until=world.now, days=days, seed=world.seed):
        publisher.collected("past", collected)
        rows += collected.rows()
    return rows


def live(world: World, clock: AnyClock, part: Part, score: Path) -> None:
    """Let the world follow the clock; write its score every second, so that a crash leaves the last one."""
    scored = 0.0
    while not part.stop.is_set():
        world.advance(clock.now())
        if time.monotonic() - scored > SCORE_S:
            scored = time.monotonic()
            write_score(world, score)
        part.stop.wait(STEP_S)
    write_score(world, score)


def write_score(world: World, file: Path) -> None:
    """Write the world's score, whole or not at all."""
    part = file.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(world.score()))
    part.rename(file)


def main(config: Config, part: Part, bus: Bus, clock: AnyClock) -> None:
    """Run the twin until stopped."""
    if config.twin is None:
        raise ConfigError("twin: no table [twin] in the config")
    instruments = convert(config.twin.exporters, ExporterSettings, "twin.exporters")
    world = world_of(config, config.twin)
    rows = write_past(world, Publisher(bus, clock, "twin/past"), config.twin.past_days)
    bus.flush(60.0)
    publish_state(bus, TOPOLOGY, msgspec.json.encode(world.topology), clock)  # who waits for it finds the past on the log
    part.log.info("%d servers; %d rows of %.0f past days written", len(world.topology.servers), rows, config.twin.past_days)
    part.ready()
    while not clock.started():
        if part.stop.wait(0.02):
            return
    nodes = (*(server.name for server in world.topology.servers), "router", "alerting")
    made = {**actuators_of(config), **{actuator.kind: actuator for actuator in actuators(world, clock)}}
    agent = make_agent(config, clock, nodes, made, None)
    threads = [
        threading.Thread(target=live, args=(world, clock, part, config.state / "twin_score.json"), name="world", daemon=True),
        *start_threads(exporters(world, instruments), bus, "twin", part, clock, clock.speed),
        start_thread(agent, bus, nodes, part, clock),
    ]
    threads[0].start()
    while not part.stop.wait(0.2):
        for thread in threads:
            part.guard(thread)
    for thread in threads:
        thread.join(5.0)
