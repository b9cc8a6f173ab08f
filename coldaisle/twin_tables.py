"""What `coldaisle twin` says to people: tables of a run, of an operating point and of the agreement with what is known."""

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from coldaisle.twin_profile import Answer
from twin.map import elapsed
from twin.report import ALL, Latency, Report
from twin.validate.agreement import Agreement

COLOUR = {"ok": "green", "off": "red", "skipped": "yellow"}


def console() -> Console:
    """Return standard output; as wide as the terminal, and wide enough where there is none."""
    return Console(width=shutil.get_terminal_size((160, 50)).columns, highlight=False)


def _table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in set(right) else "left")
    return table


def run_tables(r: Report) -> list[str | Table]:
    """Return what a run was, what it came to, and its latencies by endpoint."""
    kwh = 3.6e6
    facts = {
        "requests": f"{r.requests:,}, {r.rejected:,} of them rejected; {r.slo_ok:.2%} within TTFT and TBT",
        "tokens": f"{r.prompt_tokens:,} of prompts, {r.output_tokens:,} of output",
        "GPUs": f"{r.gpus:,}: {r.gpu_seconds:,.0f} GPU-seconds, {r.throttled_gpu_s:,.0f} of them throttled",
        "heat": f"{r.thermal_events:,} thermal events; hottest GPU {r.max_gpu_c:.1f}, warmest inlet {r.max_inlet_c:.1f} degC",
        "power": f"{r.power_events:,} power events; fullest row at {r.max_row_power_ratio:.1%} of its limit (1 s power)",
        "energy": f"{r.energy_wall_j / kwh:,.0f} kWh from the wall, {r.energy_gpu_j / kwh:,.0f} kWh of GPUs",
        "cost": _cost(r),
    }
    where = (
        f"{r.scenario}: {r.servers:,} servers in {r.rows:,} rows, {elapsed(r.simulated_s)} from {r.start}, load {r.workload}"
    )
    columns = ("requests", "in SLO", "TTFT p50", "p99", "TBT p50", "p99 ")
    second = _table("Latencies, s", "endpoint", *columns, right=columns)
    for one in r.latencies:
        if one.request_class == ALL:
            second.add_row(*_latency(one))
    said: list[str | Table] = [where, _facts(facts)]
    return [*said, "", second] if r.latencies else said


def _facts(facts: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def _cost(r: Report) -> str:
    rates = (
        f"{r.requests / r.cpu_s:,.0f} requests and {r.gpu_seconds / r.cpu_s:,.0f} GPU-seconds per CPU-second" if r.cpu_s else ""
    )
    return f"{r.cpu_s:.1f} CPU-s ({r.startup_cpu_s:.1f} before that to start), {r.rss_mib:,.0f} MiB; {rates}"


def _latency(one: Latency) -> tuple[str, ...]:
    times = (one.ttft_p50_s, one.ttft_p99_s, one.tbt_p50_s, one.tbt_p99_s)
    return (one.endpoint, f"{one.requests:,}", f"{one.slo_ok:.2%}", *("-" if t is None else f"{t:.3f}" for t in times))


def profile_tables(a: Answer) -> list[str | Table]:
    """Return what was asked, and the operating point."""
    title = f"{a.model} {a.quantisation} TP{a.tp} on {a.gpu} at {a.freq_mhz:g} MHz, {a.rps:g} requests/s ({a.calibration})"
    kept = "P99 within" if a.feasible else "P99 not within"
    facts = {
        "feasible": f"{'yes' if a.feasible else 'no'}: {kept} TTFT {a.ttft_slo_s:.3f} s and TBT {a.tbt_slo_s:.3f} s",
        "power": f"{a.power_w:,.0f} W for {a.tp} GPUs; a server full of such instances {a.server_w:,.0f} W",
        "TTFT": f"{a.ttft_p50_s:.3f} s p50, {a.ttft_p99_s:.3f} s p99",
        "TBT": f"{a.tbt_p50_s:.4f} s p50, {a.tbt_p99_s:.4f} s p99",
        "latency": f"{a.latency_s:.2f} s from arrival to last token, mean",
        "batch": f"{a.batch:.1f} requests run together, mean; {min(1.0, a.busy):.0%} of the time busy",
        "hottest GPU": f"{a.gpu_c:.1f} degC, settled",
    }
    return [title, _facts(facts)]


def agreement_tables(found: Sequence[Agreement]) -> list[str | Table]:
    """Return the comparisons with published figures, one a line, and how many of them came out which way."""
    numbers = ("measured", "published")
    table = _table("Agreement with what is known", "figure", *numbers, "bound", "unit", "kind", "", "what", right=numbers)
    for one in found:
        colour = COLOUR.get(one.outcome, "")
        outcome = f"[{colour}]{one.outcome}[/]" if colour else one.outcome
        what = one.detail if one.outcome == "skipped" else one.what
        table.add_row(one.name, _number(one.measured), _number(one.published), _bound(one), one.unit, one.kind, outcome, what)
    counts = Counter(one.outcome for one in found)
    return [table, ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _bound(one: Agreement) -> str:
    if one.low is None and one.high is None:
        return ""
    if one.low is None:
        return f"<= {_number(one.high)}"
    return f">= {_number(one.low)}" if one.high is None else f"{_number(one.low)} to {_number(one.high)}"
