"""Starts one part in this process: settings, clock, bus, then the part's own main; errors become one line in the log."""

import os
import socket
from pathlib import Path

from coldaisle import settings
from coldaisle.part import running
from contracts.errors import ColdaisleError


def run(name: str, file: Path) -> None:
    """Run the part `name` until it is told to stop. ColdaisleError when it cannot."""
    config = settings.read(file)
    clock = settings.clock_of(config)
    with running(name, config.state) as part:
        if name == "dashboard":
            from coldaisle import dashboard_process

            dashboard_process.main(config, part, clock)
            return
        from ingest.bus import connect

        bus = connect(config.kafka)
        try:
            bus.ensure_topics()
            match name:
                case "agent":
                    from coldaisle import agent_process

                    agent_process.main(config, part, bus, clock)
                case "exporter":
                    from coldaisle import exporter_process

                    exporter_process.main(config, part, bus, clock, socket.gethostname(), clock.speed)
                case "history":
                    from coldaisle import history_process

                    history_process.main(config, part, bus, clock)
                case "control":
                    from coldaisle import control_process

                    control_process.main(config, part, bus, clock)
                case "forecaster":
                    from coldaisle import forecaster_process

                    forecaster_process.main(config, part, bus, clock)
                case "twin-host":
                    from coldaisle import twin_process

                    twin_process.main(config, part, bus, clock)
                case _:
                    raise ColdaisleError(f"no part is called {name!r} (pid {os.getpid()})")
        finally:
            bus.close()
