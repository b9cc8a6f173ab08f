"""The commands of the command line; each imports what it needs when it runs, so that `--help` is instant."""

from pathlib import Path

import click

from coldaisle.options import CONFIG, DATA, REPORT, STATE, Duration


@click.command()
@click.option("--headless", is_flag=True, help="Open no browser.")
@click.option("--for", "for_s", type=Duration(), help="End by itself after this wall time, e.g. 120s.")
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 200),
    default=30.0,
    show_default=True,
    help="How much faster than the wall the twin runs.",
)
@click.option(
    "--policies", type=click.Choice(["on", "off"]), default="on", show_default=True, help="off = the run that nobody controls."
)
@click.option("--kafka", envvar="COLDAISLE_KAFKA", help="host:port of a Kafka that runs already; else an embedded broker.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the page; 0 = a free one.")
@STATE
@DATA
@REPORT
def demo(
    headless: bool,
    for_s: float | None,
    speed: float,
    policies: str,
    kafka: str | None,
    port: int,
    state: Path | None,
    data: Path | None,
    report: Path | None,
) -> None:
    """Everything on this machine: twin, broker, history, forecasts, control and page.

    80 H100 servers at 35 degC outside lose an air handler after five simulated minutes.

    \b
    Example: coldaisle demo --headless --for 120s --report r.json
    """
    import msgspec
    from rich.console import Console

    from coldaisle import demo as it

    options = it.Options(
        headless=headless, for_s=for_s, speed=speed, policies=policies == "on", state=state, data=data, kafka=kafka, port=port
    )
    result = it.run(options, Console(stderr=True))
    text = msgspec.json.format(msgspec.json.encode(result)).decode()
    if report is not None:
        report.write_text(text + "\n")
    print(text)


@click.command()
@CONFIG
def up(config: Path) -> None:
    """All parts of the config's `parts` on this machine, restarted when they die.

    \b
    Example: coldaisle up --config coldaisle.toml
    """
    from coldaisle import up as it

    it.run(config)


def _part(name: str, text: str, hidden: bool = False) -> click.Command:
    """The command of one process."""

    @click.command(name=name, help=text + f"\n\n\b\nExample: coldaisle {name} --config coldaisle.toml", hidden=hidden)
    @CONFIG
    def command(config: Path) -> None:
        from coldaisle.processes import run

        run(name, config)

    return command


ALL: tuple[click.Command, ...] = (
    demo,
    up,
    _part("exporter", "Read this node's sources (NVML, Redfish, request logs, serving metrics) and publish them."),
    _part("agent", "Obey signed actions for this node: leased, verified, reverted when control is silent."),
    _part("history", "Write the log into DuckDB, exactly once, and serve SQL."),
    _part("control", "Guard, policies, arbiter: from what is known to actions."),
    _part("forecaster", "The scheduled forecast jobs: from the history to forecasts."),
    _part("dashboard", "The web page."),
    _part("twin-host", "A twin in place of a datacenter.", hidden=True),
)
