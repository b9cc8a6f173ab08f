"""`coldaisle twin run`: a site replayed without control, as fast as it goes; its map and its series written as files."""

import resource
import time
from datetime import timedelta
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from contracts.errors import ConfigError
from ingest.workload import load as load_workload
from twin.map import elapsed
from twin.report import Cost, Report, report
from twin.resized import resized
from twin.watch import Map, Series, sample_s
from twin.world import World

SHOWN_S = 0.5
"""wall time between two changes of the progress bar"""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line chose."""

    scenario: str
    servers: int | None
    for_s: float
    saas: float | None
    calibration: str | None
    start: str | None
    step_s: int
    seed: int
    data: Path | None
    maps: tuple[Path, ...]
    """.png or .html"""
    series: Path | None
    """.parquet"""


def run(options: Options, console: Console) -> Report:
    """Replay and return the report. ConfigError before anything runs when a file could not be written at the end."""
    check_files(options)
    scenario = resized(
        options.scenario,
        servers=options.servers,
        saas=options.saas,
        calibration=options.calibration,
        start=options.start,
    )
    with console.status(f"building {scenario.name}: {scenario.rows} rows, loading compiled code"):
        world = World(scenario, load_workload(options.data), options.seed, step_s=options.step_s, logged=False)
    watched = [Map(world)] if options.maps else []
    series = [Series(world)] if options.series else []
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    replay(world, options.for_s, (*watched, *series), console)
    cost = Cost(
        cpu_s=time.process_time() - cpu_s,
        startup_cpu_s=cpu_s,
        wall_s=time.perf_counter() - wall_s,
        rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    if watched:
        write_maps(watched[0], options.maps)
    if series and options.series is not None:
        write_series(series[0], options.series)
    return report(world, cost)


def check_files(options: Options) -> None:
    """Raise ConfigError for a file of the wrong kind, or in a folder that is not there."""
    wanted: list[tuple[str, Path, tuple[str, ...]]] = [("--map", file, (".png", ".html")) for file in options.maps]
    if options.series is not None:
        wanted.append(("--series", options.series, (".parquet",)))
    for option, file, kinds in wanted:
        if file.suffix not in kinds:
            raise ConfigError(f"{option} {file}: must end in {' or '.join(kinds)}")
        if not file.absolute().parent.is_dir():
            raise ConfigError(f"{option} {file}: there is no folder {file.parent}")


def replay(world: World, for_s: float, watching: tuple[Map | Series, ...], console: Console) -> None:
    """Let `for_s` seconds happen, whole ones, and show how far it is. Whoever watches is called at every sample."""
    start, total_s = world.second, max(1, int(for_s))
    step_s = sample_s(for_s) if watching else 60
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    shown = 0.0
    with Progress(*columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total_s)
        while world.second - start < total_s:
            to = min(start + total_s, (world.second // step_s + 1) * step_s)
            world.advance(world.scenario.start + timedelta(seconds=to))
            for one in watching:
                one.take(world)
            if time.monotonic() - shown > SHOWN_S:
                shown, done = time.monotonic(), world.second - start
                progress.update(task, completed=done, description=f"{elapsed(done)} of {elapsed(total_s)}", refresh=True)


def write_maps(watched: Map, files: tuple[Path, ...]) -> None:
    """Write the run's map: a picture (.png) or a page (.html)."""
    frames = watched.frames()
    for file in files:
        if file.suffix == ".png":
            from twin.map_picture import png  # matplotlib takes a second to import

            file.write_bytes(png(frames))
        else:
            from twin.map_page import html

            file.write_text(html(frames), encoding="utf-8")


def write_series(series: Series, file: Path) -> None:
    """Write the rows' minutes: ts, row, power_w, power_max_w, limit_w, gpu_max_c."""
    import polars as pl

    pl.DataFrame(series.columns()).write_parquet(file)
