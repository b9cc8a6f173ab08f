"""`coldaisle history`: the only writer of the DuckDB file; serves SQL and Arrow while it writes."""

from coldaisle.explain import convert
from coldaisle.part import Part
from coldaisle.settings import Config
from contracts.ports import Bus, Clock
from ingest.history import owner
from ingest.history.owner import OwnerSettings


def main(config: Config, part: Part, bus: Bus, clock: Clock) -> None:
    """Run the owner until stopped."""
    options = convert(config.history, OwnerSettings, "history")
    owner.serve(config.state, bus, clock, part.stop, options, part.ready)
