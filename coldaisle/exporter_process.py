"""`coldaisle exporter`: reads its sources, each at its own period, and publishes what it read."""

import threading
import time
from collections.abc import Sequence

from coldaisle.explain import convert
from coldaisle.part import Part
from coldaisle.row_sums import RowSums
from coldaisle.settings import Config
from coldaisle.site import topology_of
from contracts.errors import ConfigError
from contracts.ports import Bus, Clock, Exporter
from contracts.registry import EXPORTERS, load
from ingest.publisher import Publisher


def exporters_of(config: Config) -> list[Exporter]:
    """Return the configured exporters. ConfigError names the table and key that is wrong."""
    made: list[Exporter] = []
    for position, table in enumerate(config.exporters):
        where = f"exporters[{position}]"
        if "type" not in table:
            raise ConfigError(f"{where}: type is missing; allowed are {', '.join(sorted(EXPORTERS))}")
        kind = load(EXPORTERS, table["type"])
        rest = {key: value for key, value in table.items() if key not in ("type", "row_sums")}
        if table["type"] == "replay" and config.data is not None:
            rest.setdefault("data", str(config.data))
        exporter: Exporter = kind(convert(rest, kind.Settings, where))
        if rows := table.get("row_sums"):
            exporter = RowSums(exporter, topology_of(config), rows)
        made.append(exporter)
    return made


def export(exporter: Exporter, publisher: Publisher, key: str, part: Part, clock: Clock, speed: float) -> None:
    """Collect and publish at the exporter's period (run time) until the part stops; late rounds are not made up for."""
    period_s = exporter.period_s / speed
    due = time.monotonic()
    while not part.stop.is_set():
        for collected in exporter.collect(clock.now()):
            publisher.collected(key, collected)
        due = max(due + period_s, time.monotonic())
        part.stop.wait(max(0.0, due - time.monotonic()))
    exporter.close()
    for collected in exporter.collect(clock.now()):  # what came in since the last round, e.g. requests already acknowledged
        publisher.collected(key, collected)


def start_threads(
    exporters: Sequence[Exporter], bus: Bus, key: str, part: Part, clock: Clock, speed: float
) -> list[threading.Thread]:
    """Run each exporter in a thread of its own."""
    threads = []
    for exporter in exporters:
        publisher = Publisher(bus, clock, f"exporter/{key}/{exporter.name}")
        thread = threading.Thread(
            target=export, args=(exporter, publisher, key, part, clock, speed), name=f"exporter {exporter.name}", daemon=True
        )
        thread.start()
        threads.append(thread)
    return threads


def main(config: Config, part: Part, bus: Bus, clock: Clock, key: str, speed: float) -> None:
    """Run the exporters of a node until stopped; one that dies ends the process with its trace in the log."""
    exporters = exporters_of(config)
    if not exporters:
        raise ConfigError("exporters: none configured; add a table [[exporters]] with type = " + " | ".join(sorted(EXPORTERS)))
    threads = start_threads(exporters, bus, key, part, clock, speed)
    part.ready()
    while not part.stop.wait(0.5):
        for thread in threads:
            part.guard(thread)
    for thread in threads:
        thread.join(5.0)
