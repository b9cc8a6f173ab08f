"""What each serving system calls its metrics, as a table: from a scrape to the numbers of an `endpoints` row.

vLLM, both generations of its names; SGLang (--enable-metrics); Text Generation Inference; llama.cpp's server (--metrics, no
histograms); ai-dynamo's front end. A number that a system does not tell is None.
"""

from dataclasses import dataclass

from ingest.exporters.prometheus_text import Scrape, base_of, increase, quantile

Alternatives = tuple[str, ...]
"""names of which the first that is there counts; "a + b" sums two"""


@dataclass(frozen=True, kw_only=True)
class System:
    """The names of one serving system. Counters and histograms are cumulative since its start."""

    name: str
    running: str
    """requests in the batch; a system is recognised by it"""
    waiting: str
    running_holds_waiting: bool = False
    kv_cache: Alternatives = ()
    """share in use, 0..1"""
    requests: Alternatives = ()
    prompt_tokens: Alternatives = ()
    output_tokens: Alternatives = ()
    ttft: Alternatives = ()
    """histogram, s"""
    tbt: Alternatives = ()
    """histogram, s"""

    def counters(self) -> frozenset[str]:
        """The names of all series that never fall while the process lives."""
        terms = {term for name in self.requests + self.prompt_tokens + self.output_tokens for term in name.split(" + ")}
        return frozenset(terms | {f"{name}_bucket" for name in self.ttft + self.tbt})


SYSTEMS: tuple[System, ...] = (
    System(
        name="vllm",
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        kv_cache=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        requests=("vllm:request_success_total", "vllm:e2e_request_latency_seconds_count"),
        prompt_tokens=("vllm:prompt_tokens_total",),
        output_tokens=("vllm:generation_tokens_total",),
        ttft=("vllm:time_to_first_token_seconds",),
        tbt=("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    ),
    System(
        name="sglang",
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        kv_cache=("sglang:token_usage",),
        requests=("sglang:num_requests_total", "sglang:e2e_request_latency_seconds_count"),
        prompt_tokens=("sglang:prompt_tokens_total",),
        output_tokens=("sglang:generation_tokens_total",),
        ttft=("sglang:time_to_first_token_seconds",),
        tbt=("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
    ),
    System(
        name="tgi",
        running="tgi_batch_current_size",
        waiting="tgi_queue_size",
        requests=("tgi_request_count",),
        prompt_tokens=("tgi_request_input_length_sum",),
        output_tokens=("tgi_request_generated_tokens_sum",),
        tbt=("tgi_request_mean_time_per_token_duration",),
    ),
    System(
        name="llama.cpp",
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
        prompt_tokens=("llamacpp:prompt_tokens_total + llamacpp:prompt_tokens_cached_total", "llamacpp:prompt_tokens_total"),
        output_tokens=("llamacpp:tokens_predicted_total",),
    ),
    System(
        name="dynamo",
        running="dynamo_frontend_inflight_requests",
        waiting="dynamo_frontend_queued_requests",
        running_holds_waiting=True,
        requests=("dynamo_frontend_requests_total",),
        prompt_tokens=("dynamo_frontend_input_sequence_tokens_sum",),
        output_tokens=("dynamo_frontend_output_tokens_total",),
        ttft=("dynamo_frontend_time_to_first_token_seconds",),
        tbt=("dynamo_frontend_inter_token_latency_seconds",),
    ),
)
PREFIXES = ("vllm:", "sglang:", "tgi_", "llamacpp:", "dynamo_frontend_", "process_start_time_seconds")


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """The numbers of one `endpoints` row, in its units; rates and quantiles are of the time between two scrapes."""

    running: float | None
    waiting: float | None
    kv_cache_pct: float | None
    requests_rps: float | None = None
    prompt_tok_s: float | None = None
    output_tok_s: float | None = None
    ttft_p99_s: float | None = None
    tbt_p99_s: float | None = None


def system_of(scrape: Scrape) -> System | None:
    """Which serving system wrote this; None = none that is known here."""
    return next((system for system in SYSTEMS if scrape.has(system.running)), None)


def gauges(system: System, before: Scrape | None, after: Scrape, elapsed_s: float) -> Gauges:
    """Return the row's numbers. Without an earlier scrape the rates and quantiles are None.

    `elapsed_s`: time between the scrapes. A restart in between counts from zero (see base_of).
    """
    running, waiting = after.total(system.running), after.total(system.waiting)
    if system.running_holds_waiting and running is not None and waiting is not None:
        running = max(running - waiting, 0.0)
    kv_name = _first(system.kv_cache, after)
    kv_share = after.mean(kv_name) if kv_name else None
    now = Gauges(running=running, waiting=waiting, kv_cache_pct=None if kv_share is None else kv_share * 100.0)
    if before is None or elapsed_s <= 0:
        return now
    base = base_of(before, after, system.counters())

    def rate(names: Alternatives) -> float | None:
        grown = [increase(base, after, term) for term in _first(names, after).split(" + ")]
        return None if None in grown else sum(g for g in grown if g is not None) / elapsed_s

    def p99(names: Alternatives) -> float | None:
        return quantile(base, after, _first(tuple(f"{name}_bucket" for name in names), after).removesuffix("_bucket"), 0.99)

    return Gauges(
        running=now.running,
        waiting=now.waiting,
        kv_cache_pct=now.kv_cache_pct,
        requests_rps=rate(system.requests),
        prompt_tok_s=rate(system.prompt_tokens),
        output_tok_s=rate(system.output_tokens),
        ttft_p99_s=p99(system.ttft),
        tbt_p99_s=p99(system.tbt),
    )


def _first(names: Alternatives, scrape: Scrape) -> str:
    """The first alternative whose every term is there; "" where none is."""
    return next((name for name in names if all(scrape.has(term) for term in name.split(" + "))), "")
