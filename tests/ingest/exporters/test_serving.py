import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.errors import ConfigError
from contracts.ports import Collected
from ingest.codec import frame_of
from ingest.embedded import free_port
from ingest.exporters.serving import ServingExporter, ServingSettings, ServingTarget
from tests.factories import NOW
from tests.ingest.exporters.http_pages import Pages

DATA = Path(__file__).parents[2] / "data"
# Written after the pages on metrics of each program; the worker's and the front end's are recordings.
SGLANG = """\
sglang:num_running_reqs{model_name="m"} 12.0
sglang:num_queue_reqs{model_name="m"} 3.0
sglang:token_usage{model_name="m"} 0.28
sglang:prompt_tokens_total{model_name="m"} {prompt}
sglang:generation_tokens_total{model_name="m"} {output}
sglang:num_requests_total{model_name="m"} {requests}
"""
TGI = """\
tgi_batch_current_size 7
tgi_queue_size 2
tgi_request_count {requests}
tgi_request_input_length_sum {prompt}
tgi_request_generated_tokens_sum {output}
"""
LLAMACPP = """\
llamacpp:requests_processing 4
llamacpp:requests_deferred 8
llamacpp:prompt_tokens_total {prompt}
llamacpp:prompt_tokens_cached_total 500
llamacpp:tokens_predicted_total {output}
"""


def recorded(name: str) -> str:
    return (DATA / name).read_text()


def scrape_twice(serve: Callable[[], Pages], first: str, second: str, seconds: float, **target: Any) -> dict[str, Any]:
    """The row of the second of two scrapes that are `seconds` apart."""
    pages = serve()
    exporter = ServingExporter(ServingSettings(targets=(ServingTarget(url=f"{pages.url}/metrics", endpoint="chat", **target),)))
    pages.pages["/metrics"] = first
    exporter.collect(NOW)
    pages.pages["/metrics"] = second
    found = row(exporter, NOW + timedelta(seconds=seconds))
    exporter.close()
    return found


def row(exporter: ServingExporter, now: Any = NOW) -> dict[str, Any]:
    (found,) = exporter.collect(now)
    assert not found.problems
    return frame_of("endpoints", found.columns).row(0, named=True)


def test_reads_a_recorded_worker_with_vllm_names(serve: Callable[[], Pages]) -> None:
    found = scrape_twice(serve, recorded("dynamo_worker_1.prom"), recorded("dynamo_worker_2.prom"), 2.5, node="n1")
    assert (found["endpoint"], found["node"], found["running"], found["waiting"]) == ("chat", "n1", 15, 8)
    assert found["kv_cache_pct"] == pytest.approx(37.695, abs=0.01)
    assert found["requests_rps"] == pytest.approx((28 - 3) / 2.5)
    assert found["prompt_tok_s"] is None  # the mock worker has no token counters
    assert 0.02 < found["tbt_p99_s"] < 0.2
    assert 1.0 < found["ttft_p99_s"] < 5.0


def test_reads_the_older_vllm_names_as_the_newer(serve: Callable[[], Pages]) -> None:
    def older(text: str) -> str:
        kept = "\n".join(line for line in text.splitlines() if "kv_cache_usage_perc" not in line) + "\n"
        return kept.replace("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")

    pair = recorded("dynamo_worker_1.prom"), recorded("dynamo_worker_2.prom")
    new = scrape_twice(serve, *pair, 2.5, node="n1")
    assert scrape_twice(serve, older(pair[0]), older(pair[1]), 2.5, node="n1") == new


def test_reads_a_recorded_front_end_and_takes_the_waiting_out_of_the_running(serve: Callable[[], Pages]) -> None:
    pair = recorded("dynamo_frontend_1.prom"), recorded("dynamo_frontend_2.prom")
    found = scrape_twice(serve, *pair, 2.5, model="tiny")
    assert (found["running"], found["waiting"], found["kv_cache_pct"]) == (15, 8, None)
    assert found["requests_rps"] == pytest.approx((28 - 3) / 2.5)
    assert found["prompt_tok_s"] == pytest.approx((13_204 - 5_664) / 2.5)
    assert found["output_tok_s"] == pytest.approx((1_296 - 606) / 2.5)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", found["node"])  # a front end is no server: the address stands for it


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        (SGLANG, {"running": 12, "waiting": 3, "kv_cache_pct": 28, "requests_rps": 2, "prompt_tok_s": 100, "output_tok_s": 50}),
        (TGI, {"running": 7, "waiting": 2, "kv_cache_pct": None, "requests_rps": 2, "prompt_tok_s": 100, "output_tok_s": 50}),
        (LLAMACPP, {"running": 4, "waiting": 8, "requests_rps": None, "prompt_tok_s": 100, "output_tok_s": 50}),
    ],
)
def test_reads_other_serving_systems(serve: Callable[[], Pages], page: str, wanted: dict[str, float]) -> None:
    def at(requests: int, prompt: int, output: int) -> str:
        return page.replace("{requests}", str(requests)).replace("{prompt}", str(prompt)).replace("{output}", str(output))

    found = scrape_twice(serve, at(10, 1000, 400), at(20, 1500, 650), 5.0)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_the_first_scrape_has_gauges_and_no_rates(serve: Callable[[], Pages]) -> None:
    pages = serve()
    pages.pages["/metrics"] = recorded("dynamo_worker_1.prom")
    exporter = ServingExporter(ServingSettings(targets=(ServingTarget(url=f"{pages.url}/metrics", endpoint="chat"),)))
    first = row(exporter)
    long_after = row(exporter, NOW + timedelta(hours=1))
    exporter.close()
    for found in (first, long_after):
        assert (found["running"], found["requests_rps"], found["ttft_p99_s"]) == (16, None, None)


def test_a_restarted_server_does_not_make_negative_rates(serve: Callable[[], Pages]) -> None:
    found = scrape_twice(serve, recorded("dynamo_worker_2.prom"), recorded("dynamo_worker_1.prom"), 2.0)
    assert found["requests_rps"] == pytest.approx(3 / 2.0)


def test_dead_strange_and_broken_targets_cost_only_themselves(serve: Callable[[], Pages]) -> None:
    good, strange, broken = serve(), serve(), serve()
    good.pages["/metrics"] = recorded("dynamo_worker_1.prom")
    strange.pages["/metrics"] = "node_load1 0.5\n"
    broken.pages["/metrics"] = 'vllm:num_requests_running{engine="0" 3\n'
    dead = f"http://127.0.0.1:{free_port()}"
    targets = tuple(
        ServingTarget(url=f"{url}/metrics", endpoint=name)
        for name, url in (("good", good.url), ("strange", strange.url), ("broken", broken.url), ("dead", dead))
    )
    exporter = ServingExporter(ServingSettings(targets=targets))
    (found,) = exporter.collect(NOW)
    exporter.close()
    assert isinstance(found, Collected)
    assert found.columns["endpoint"] == ["good"]
    reasons = {p.source: p.reason for p in found.problems}
    assert set(reasons) == {"serving:strange", "serving:broken", "serving:dead"}
    assert "vllm:num_requests_running" in reasons["serving:strange"]
    assert "sent no Prometheus text" in reasons["serving:broken"]
    assert dead in reasons["serving:dead"]


def test_wrong_targets_give_one_line() -> None:
    target = ServingTarget(url="http://a/metrics", endpoint="chat")
    with pytest.raises(ConfigError, match="stands twice"):
        ServingExporter(ServingSettings(targets=(target, target)))
    with pytest.raises(ConfigError, match="serving target chat: url 'a:8000'"):
        ServingExporter(ServingSettings(targets=(msgspec.structs.replace(target, url="a:8000"),)))
