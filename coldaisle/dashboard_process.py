"""`coldaisle dashboard`: serves the page from the history's answers."""

import sql
from coldaisle.explain import convert
from coldaisle.opened import open_history
from coldaisle.part import Part
from coldaisle.settings import Config
from contracts.ports import Clock
from dashboard.moment import QUERIES
from dashboard.serve import serve
from dashboard.settings import DashboardSettings


def main(config: Config, part: Part, clock: Clock) -> None:
    """Serve until stopped; the page's address stands in `state/run/dashboard.url`."""
    settings = convert(config.dashboard, DashboardSettings, "dashboard")

    def ready(url: str) -> None:
        part.note("dashboard.url", url)
        part.ready()

    queries = {name: sql.query(name).text for name in QUERIES}
    serve(open_history(config, part), queries, clock, settings, part.stop, ready)
