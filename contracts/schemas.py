"""The columns of every columnar topic and table, declared once: name, dtype, unit, allowed range, meaning.

Plain data, so that a node's agent can import it without polars or pyarrow. `ts` is UTC (naive in columns), the END of the
interval that a row describes. NULL means "not measured"; NaN and values outside [low, high] are rejected at the boundary.
"""

from typing import Literal

import msgspec

SCHEMA_VERSION = 1

Dtype = Literal["ts", "str", "f64", "f32", "i64", "i32", "i16", "bool", "list_ts", "list_f64", "list_str"]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column. `low`/`high` are inclusive bounds of physically possible values; `required` forbids NULL."""

    name: str
    dtype: Dtype
    unit: str = ""
    low: float | None = None
    high: float | None = None
    required: bool = False
    doc: str = ""


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of one topic; `keys` identify what a row describes (they are no samples)."""

    topic: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    version: int = SCHEMA_VERSION

    def column(self, name: str) -> Column:
        """Return the column `name`; KeyError names it and the topic."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.topic} has no column {name}")


def _key(name: str, doc: str) -> Column:
    return Column(name=name, dtype="str", required=True, doc=doc)


def _number(name: str, unit: str, low: float, high: float, doc: str, dtype: Dtype = "f32") -> Column:
    return Column(name=name, dtype=dtype, unit=unit, low=low, high=high, doc=doc)


TS = Column(name="ts", dtype="ts", required=True, doc="end of the interval, UTC")
BACKFILLED = Column(name="backfilled", dtype="bool", doc="written after the fact, with the usual delay assumed for arrived_at")

GPU = Schema(
    topic="gpu",
    keys=("node", "gpu"),
    columns=(
        TS,
        _key("node", "server name"),
        Column(name="gpu", dtype="i16", low=0, high=1023, required=True, doc="index on the server"),
        Column(name="uuid", dtype="str", doc="the driver's UUID"),
        Column(name="state", dtype="str", doc="ok | lost (the driver no longer answers for it; all values NULL)"),
        _number("power_w", "W", 0, 5000, "instant board power"),
        _number("temp_c", "degC", -40, 200, "GPU core temperature"),
        _number("mem_temp_c", "degC", -40, 200, "memory temperature"),
        _number("sm_clock_mhz", "MHz", 0, 10000, "SM clock"),
        _number("mem_clock_mhz", "MHz", 0, 20000, "memory clock"),
        _number("util_pct", "%", 0, 100, "share of time with a kernel running"),
        _number("mem_used_mib", "MiB", 0, 1e7, "device memory in use"),
        _number("energy_j", "J", 0, 1e15, "energy counter since the driver was loaded", "f64"),
        Column(name="clock_event_reasons", dtype="i64", low=0, doc="NVML's bit mask"),
        BACKFILLED,
    ),
)

SERVER = Schema(
    topic="server",
    keys=("node",),
    columns=(
        TS,
        _key("node", "server name"),
        _number("inlet_c", "degC", -40, 100, "intake air temperature"),
        _number("power_w", "W", 0, 100_000, "node power at the wall"),
        _number("fan_pct", "%", 0, 100, "mean fan duty"),
        _number("gpu_power_w", "W", 0, 100_000, "sum of the GPUs' power, where the source knows it"),
        _number("gpu_max_c", "degC", -40, 200, "hottest GPU, where the source knows it"),
        BACKFILLED,
    ),
)

FACILITY = Schema(
    topic="facility",
    keys=("kind", "unit"),
    columns=(
        TS,
        _key("kind", "row | pdu | ups | ahu | aisle | cooling | chiller | site; more may come"),
        _key("unit", "name of the row, PDU, UPS, AHU, aisle, cooling device, chiller or site"),
        Column(name="state", dtype="str", doc="ok | lost, for pdu, ups, ahu, cooling and chiller"),
        _number("power_w", "W", 0, 1e9, "mean power over the interval (row, ups)", "f64"),
        _number("power_max_w", "W", 0, 1e9, "highest 1 s power within the interval", "f64"),
        _number("airflow_cfm", "CFM", 0, 1e8, "air drawn by the servers (aisle)", "f64"),
        _number("outside_c", "degC", -60, 70, "outside dry-bulb temperature (site)"),
        Column(name="source", dtype="str", doc="meter | sum (sum of the servers where no meter exists)"),
        BACKFILLED,
    ),
)

REQUESTS = Schema(
    topic="requests",
    keys=("request_id",),
    columns=(
        TS,
        _key("request_id", "unique within its source"),
        _key("endpoint", "service that was asked"),
        Column(name="model", dtype="str", doc="gen_ai.request.model"),
        Column(name="node", dtype="str", doc="server whose instance answered, where known"),
        Column(name="received_at", dtype="ts", doc="arrival at the router, UTC"),
        Column(name="status", dtype="str", doc="ok | error | rejected"),
        _number("prompt_tokens", "tokens", 0, 1e8, "gen_ai.usage.input_tokens", "i32"),
        _number("output_tokens", "tokens", 0, 1e8, "gen_ai.usage.output_tokens", "i32"),
        _number("cached_tokens", "tokens", 0, 1e8, "prompt tokens answered from the KV cache", "i32"),
        _number("ttft_s", "s", 0, 86_400, "time to first token"),
        _number("tbt_s", "s", 0, 86_400, "mean time between output tokens"),
        _number("e2e_s", "s", 0, 604_800, "arrival to last token"),
        _number("weight", "requests", 0, 1e9, "how many requests this sampled row stands for (NULL = 1)"),
    ),
)

ENDPOINTS = Schema(
    topic="endpoints",
    keys=("endpoint", "node"),
    columns=(
        TS,
        _key("endpoint", "service"),
        _key("node", "server of the instance, or the scraped address"),
        _number("running", "requests", 0, 1e6, "requests in the batch"),
        _number("waiting", "requests", 0, 1e7, "requests queued"),
        _number("kv_cache_pct", "%", 0, 100, "KV-cache blocks in use"),
        _number("requests_rps", "1/s", 0, 1e7, "requests finished, or arrived where the source knows it"),
        _number("prompt_tok_s", "tokens/s", 0, 1e10, "prompt tokens"),
        _number("output_tok_s", "tokens/s", 0, 1e10, "output tokens"),
        _number("ttft_p99_s", "s", 0, 86_400, "99th percentile of the interval"),
        _number("tbt_p99_s", "s", 0, 86_400, "99th percentile of the interval"),
        _number("slo_ok_pct", "%", 0, 100, "share of the interval's requests within TTFT and TBT SLO, where known"),
        BACKFILLED,
    ),
)

FORECASTS = Schema(
    topic="forecasts",
    keys=("forecast_id",),
    columns=(
        Column(name="ts", dtype="ts", required=True, doc="issued_at"),
        _key("forecast_id", "unique"),
        _key("target", "what is forecast: load, inlet, power, ..."),
        _key("series", "endpoint, server, row, ..."),
        _key("model", "what made it"),
        Column(name="champion", dtype="bool", required=True, doc="the one that policies act on"),
        Column(name="data_until", dtype="ts", required=True, doc="newest observation used"),
        _key("unit", "unit of the values"),
        Column(name="valid_at", dtype="list_ts", required=True, doc="times forecast"),
        Column(name="levels", dtype="list_f64", required=True, doc="quantile levels, rising"),
        Column(name="values", dtype="list_f64", required=True, doc="row-major [time][level]"),
        Column(name="degradations", dtype="list_str", required=True, doc="why it is worse than usual; empty = nothing"),
    ),
)


def _ratio(name: str, doc: str) -> Column:
    return _number(name, "", 0, 1e9, doc, "f64")


def _share(name: str, doc: str) -> Column:
    return _number(name, "", 0, 1, doc, "f64")


_CLASS = (
    _key("target", "what is forecast"),
    _key("kind", "kind of series within the target: smooth | bursty | intermittent; pool = all"),
)

FORECAST_SCORES = Schema(
    topic="forecast_scores",
    keys=("target", "kind", "model"),
    columns=(
        Column(name="ts", dtype="ts", required=True, doc="when it was counted"),
        *_CLASS,
        Column(name="horizon_s", dtype="i64", unit="s", low=0, required=True, doc="how far ahead"),
        _key("model", "whose forecasts; champion = those that policies acted on"),
        Column(name="champion", dtype="bool", required=True, doc="whether policies acted on them"),
        Column(name="points", dtype="i64", low=0, required=True, doc="forecasts whose outcome is known, of the trailing week"),
        _number("mae", "the target's", 0, 1e12, "mean absolute error of the median", "f64"),
        _ratio("vs_persistence", "mae / that of the last value on the same points; below 1 = better"),
        _ratio("vs_seasonal", "mae / that of the same time yesterday"),
        _number("pinball_99", "the target's", 0, 1e12, "pinball loss of P99", "f64"),
        _share("coverage_90", "share of outcomes inside [P5, P95]"),
        _share("coverage_98", "share of outcomes inside [P1, P99]"),
        _share("below_99", "share of outcomes at or below P99"),
        _number("width_90", "the target's", 0, 1e12, "mean width of [P5, P95]", "f64"),
        Column(name="worst_series", dtype="str", doc="the series with the fewest outcomes below P99"),
        _share("worst_below_99", "its share"),
        Column(name="worst_day", dtype="ts", doc="the day (its begin, UTC) with the fewest outcomes inside [P5, P95]"),
        _share("worst_day_coverage_90", "its share"),
    ),
)

FORECAST_CHOICES = Schema(
    topic="forecast_choices",
    keys=("target", "kind", "band"),
    columns=(
        Column(name="ts", dtype="ts", required=True, doc="when it was chosen"),
        *_CLASS,
        _key("band", "horizons: short (to 15 min) | hour | day"),
        _key("model", "the champion from now on"),
        Column(name="previous", dtype="str", doc="the champion before"),
        _key("reason", "first | kept | better | worse than naive | gone | only one"),
        Column(name="models", dtype="list_str", required=True, doc="who stood"),
        Column(name="ratios", dtype="list_f64", required=True, doc="their mean absolute errors / persistence's"),
    ),
)

FORECAST_JOBS = Schema(
    topic="forecast_jobs",
    keys=("job",),
    columns=(
        Column(name="ts", dtype="ts", required=True, doc="when it ended"),
        _key("job", "tick | refit | daily | plant | maxima"),
        _key("status", "ok | over budget | failed | resumed"),
        _number("took_s", "s", 0, 1e6, "wall time", "f64"),
        _number("cpu_s", "s", 0, 1e6, "CPU time", "f64"),
        _number("budget_s", "s", 0, 1e6, "wall time that it may take", "f64"),
        Column(name="series", dtype="i64", low=0, doc="series forecast or learnt"),
        Column(name="detail", dtype="str", doc="what went wrong, or why it ran"),
    ),
)

FORECAST_ABSENT = Schema(
    topic="forecast_absent",
    keys=("target", "series"),
    columns=(
        Column(name="ts", dtype="ts", required=True, doc="since when this is the reason"),
        _key("target", "what is not forecast"),
        Column(name="series", dtype="str", doc="NULL = all of the target"),
        Column(name="reason", dtype="str", doc="why there is no forecast; NULL = there is one again"),
    ),
)

SCHEMAS: dict[str, Schema] = {
    s.topic: s
    for s in (
        GPU,
        SERVER,
        FACILITY,
        REQUESTS,
        ENDPOINTS,
        FORECASTS,
        FORECAST_SCORES,
        FORECAST_CHOICES,
        FORECAST_JOBS,
        FORECAST_ABSENT,
    )
}
