"""`coldaisle demo`: everything on this machine, in a fresh folder: broker, twin, history, forecasts, control, page."""

import tempfile
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from coldaisle import report, settings
from coldaisle.clock import RunClock
from coldaisle.supervisor import Supervisor
from contracts.errors import ConfigError
from ingest.embedded import EmbeddedBroker
from ingest.history.client import HttpHistory, find_owner

T0 = datetime(2026, 7, 15, 14, 0, tzinfo=UTC)
"""a Wednesday in July, at the day's peak"""
TRANSPORT_S = 3.0
"""wall time from an instrument to a decision on a busy laptop, at most"""
PARTS = ("history", "twin-host", "control", "forecaster", "dashboard")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line chose."""

    headless: bool = False
    for_s: float | None = None
    """wall time; None = until Ctrl-C"""
    speed: float = 30.0
    policies: bool = True
    state: Path | None = None
    data: Path | None = None
    kafka: str | None = None
    """a broker that runs already; None = an embedded one"""
    scenario: str = "demo"
    port: int = 0
    """of the page; 0 = a free one"""


def run(options: Options, console: Console) -> report.Report:
    """Run the demo and return its report. ColdaisleError names the part that failed."""
    state = fresh_folder(options.state)
    began = time.monotonic()
    with broker(options, state) as (bootstrap, fetch_waits):
        file = write_config(options, state, bootstrap, fetch_waits)
        config = settings.read(file)
        clock = settings.clock_of(config)
        if not isinstance(clock, RunClock):
            raise ConfigError("the demo's config has no [run]")
        supervisor = Supervisor(file, state)
        try:
            with console.status(f"starting in {state}"):
                supervisor.start(*PARTS)
                supervisor.wait_ready(*PARTS)
            clock.start()
            started = time.monotonic()
            console.print(f"started in {started - began:.1f} s; page {page_url(state)}")
            if not options.headless:
                webbrowser.open(page_url(state))
            follow(options, supervisor, clock, console)
            lived_s = time.monotonic() - started
            supervisor.stop("twin-host", "control", "forecaster")
            owner = HttpHistory(*find_owner(state))
            return report.collect(owner, state, simulated_s=lived_s * options.speed, began=began)
        finally:
            supervisor.stop()


def fresh_folder(state: Path | None) -> Path:
    """Return an empty folder for the run; ConfigError when the named one is not empty."""
    if state is None:
        return Path(tempfile.mkdtemp(prefix="coldaisle-demo-"))
    if state.exists() and any(state.iterdir()):
        raise ConfigError(f"--state {state}: not empty; the demo wants a fresh folder")
    state.mkdir(parents=True, exist_ok=True)
    return state


@contextmanager
def broker(options: Options, state: Path) -> Iterator[tuple[str, bool]]:
    """Yield (bootstrap, whether it waits on an empty fetch): the named broker, or an embedded one for this run."""
    if options.kafka is not None:
        yield options.kafka, True
        return
    with EmbeddedBroker.start(state / "broker") as embedded:
        yield embedded.address, embedded.fetch_waits


def write_config(options: Options, state: Path, bootstrap: str, fetch_waits: bool) -> Path:
    """Write the run's settings as a user would; every part reads this file."""
    mode = "enforce" if options.policies else "observe"
    lines = [
        f'state = "{state}"',
        *([f'data = "{options.data.resolve()}"'] if options.data else []),
        f'[kafka]\nbootstrap = "{bootstrap}"\nfetch_waits = {str(fetch_waits).lower()}\nretention_max_s = 180',
        f"[run]\nt0 = {T0.isoformat()}\nspeed = {options.speed}",
        f'[twin]\nscenario = "{options.scenario}"\nexporters = {{ gpu_period_s = 5, requests_period_s = 5 }}',
        f'[control]\nmode = "{mode}"\nguard = {str(options.policies).lower()}',
        *([] if options.policies else ["policies = []"]),
        *(freshness(name, options.speed) for name in (*settings.ALL_POLICIES, "guard", "arbiter")),
        f"[dashboard]\nport = {options.port}",
        '[[agent.actuators]]\ntype = "dry_run"\nkind = "alert"',
    ]
    file = state / "config.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def freshness(policy: str, speed: float) -> str:
    """The settings of what a policy calls stale: run time, in which the way through the log takes `speed` times longer."""
    stale_s, silent_s = 45.0 + TRANSPORT_S * speed, 150.0 + TRANSPORT_S * speed
    return f"[control.settings.{policy}.freshness]\nstale_s = {stale_s}\nsilent_s = {silent_s}"


def page_url(state: Path) -> str:
    """The page's address, as the dashboard wrote it."""
    return (state / "run" / "dashboard.url").read_text().strip()


def follow(options: Options, supervisor: Supervisor, clock: RunClock, console: Console) -> None:
    """Wait until the time is over or Ctrl-C, restarting what dies, and show how far it is."""
    until = None if options.for_s is None else time.monotonic() + options.for_s
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=options.for_s)
        try:
            while until is None or time.monotonic() < until:
                time.sleep(min(0.5, max(0.0, (until or float("inf")) - time.monotonic())))
                progress.update(task, advance=0.5, description=f"{clock.now():%a %H:%M:%S} in the twin")
                for line in supervisor.check():
                    console.print(f"[yellow]{line}")
        except KeyboardInterrupt:
            console.print("stopping")
