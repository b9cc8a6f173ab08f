"""The exporters `serving` and `request_log` on a real OpenAI-compatible service: what they report is what was asked."""

import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from ingest.codec import frame_of
from ingest.exporters.prometheus_text import parse
from ingest.exporters.request_log import RequestLogExporter, RequestLogSettings
from ingest.exporters.serving import ServingExporter, ServingSettings, ServingTarget

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SERVE_SH = Path(__file__).with_name("serve.sh")
PORTS = 4
REQUESTS = 40
AT_ONCE = 20


@dataclass(frozen=True, kw_only=True)
class Service:
    url: str
    worker_url: str
    trace: Path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if subprocess.run([SERVE_SH, "check"], check=False).returncode != 0:
        pytest.skip(f"ai-dynamo is not installed: run {SERVE_SH.parent.name}/{SERVE_SH.name} install (0.7 GB from PyPI)")
    folder, port = tmp_path_factory.mktemp("dynamo"), _free_ports()
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen([SERVE_SH, "run", str(port), str(folder)], stdout=out, stderr=subprocess.STDOUT)
    made = Service(url=f"http://127.0.0.1:{port}", worker_url=f"http://127.0.0.1:{port + 1}", trace=folder / "requests.jsonl")
    try:
        _wait_until_ready(made, process, log)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_gauges_and_trace_tell_what_was_asked(service: Service) -> None:
    lengths = random.Random(0)
    sent = [(lengths.randrange(20, 400), lengths.randrange(5, 40)) for _ in range(REQUESTS)]
    targets = ServingSettings(targets=(_target(service.url, "front"), _target(service.worker_url, "worker")))
    ends, meanwhile = ServingExporter(targets), ServingExporter(targets)
    log = RequestLogExporter(RequestLogSettings(path=str(service.trace), start="beginning", endpoint="chat"))
    with httpx.Client(base_url=service.url, timeout=120, trust_env=False) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        ask(client, 16, 4)  # the first request makes the metrics appear
        assert read_requests(log, 1).height == 1
        before_at = datetime.now(UTC)
        gauges(ends, before_at)
        answers = [pool.submit(ask, client, *asked) for asked in sent]
        seen: list[dict[str, dict[str, Any]]] = []
        while not all(answer.done() for answer in answers):
            seen.append(gauges(meanwhile, datetime.now(UTC)))
        used = [answer.result() for answer in answers]
        edges_s = ttft_edges_s(client.get(f"{service.url}/metrics").text)
    after_at = datetime.now(UTC)
    after = gauges(ends, after_at)
    requests = read_requests(log, REQUESTS)
    for exporter in (ends, meanwhile, log):
        exporter.close()

    assert used == sent
    assert max(rows["worker"]["running"] for rows in seen) > 1
    assert max(rows["worker"]["kv_cache_pct"] for rows in seen) > 0
    assert max(rows["front"]["running"] + rows["front"]["waiting"] for rows in seen) > 1
    assert (after["worker"]["running"], after["front"]["running"], after["front"]["waiting"]) == (0, 0, 0)

    elapsed_s = (after_at - before_at).total_seconds()
    assert after["front"]["requests_rps"] * elapsed_s == pytest.approx(REQUESTS, rel=1e-4)
    assert after["worker"]["requests_rps"] * elapsed_s == pytest.approx(REQUESTS, rel=1e-4)
    assert after["front"]["prompt_tok_s"] * elapsed_s == pytest.approx(sum(prompt for prompt, _ in sent), rel=1e-4)
    assert after["front"]["output_tok_s"] * elapsed_s == pytest.approx(sum(output for _, output in sent), rel=1e-4)

    assert sorted(requests.select("prompt_tokens", "output_tokens").rows()) == sorted(sent)
    assert requests["request_id"].n_unique() == REQUESTS
    assert requests["status"].unique().to_list() == ["ok"]
    ttft_s, tbt_s, e2e_s = pl.col("ttft_s"), pl.col("tbt_s"), pl.col("e2e_s")
    begun, ended = before_at.replace(tzinfo=None), after_at.replace(tzinfo=None)
    sound = (ttft_s > 0) & (ttft_s <= e2e_s) & (tbt_s > 0) & (pl.col("received_at") >= begun) & (pl.col("ts") <= ended)
    assert requests.select(sound).to_series().all()
    # Of 40 requests the 99 % quantile lies in the bucket of the slowest; the front and the trace stop their watches 10 % apart.
    slowest_s = max(requests["ttft_s"])
    low_s = max(edge for edge in edges_s if edge < 0.9 * slowest_s)
    high_s = min(edge for edge in edges_s if edge >= 1.1 * slowest_s)
    assert low_s <= after["front"]["ttft_p99_s"] <= high_s


def ask(client: httpx.Client, prompt_tokens: int, output_tokens: int) -> tuple[int, int]:
    """Ask for exactly so many tokens and return what the service says it used."""
    prompt = random.Random(prompt_tokens).sample(range(300, 30_000), prompt_tokens)
    body = {"model": "tiny", "prompt": [prompt], "max_tokens": output_tokens, "ignore_eos": True}
    usage = client.post("/v1/completions", json=body).raise_for_status().json()["usage"]
    return int(usage["prompt_tokens"]), int(usage["completion_tokens"])


def ttft_edges_s(metrics: str) -> list[float]:
    """The bounds of the front's histogram of first tokens."""
    name = "dynamo_frontend_time_to_first_token_seconds"
    return [float(dict(labels)["le"]) for series, labels in parse(metrics, (name,)).samples if series == f"{name}_bucket"]


def gauges(exporter: ServingExporter, now: datetime) -> dict[str, dict[str, Any]]:
    """One scrape: node -> row."""
    (found,) = exporter.collect(now)
    assert not found.problems
    return {row["node"]: row for row in frame_of("endpoints", found.columns).to_dicts()}


def read_requests(log: RequestLogExporter, wanted: int) -> pl.DataFrame:
    """Collect until `wanted` rows have come: the service writes its trace with a delay."""
    frames: list[pl.DataFrame] = []
    until = time.monotonic() + 60
    while sum(frame.height for frame in frames) < wanted and time.monotonic() < until:
        (found,) = log.collect(datetime.now(UTC))
        assert not found.problems
        frames.append(frame_of("requests", found.columns))
        time.sleep(0.1)
    return pl.concat(frames)


def _target(url: str, node: str) -> ServingTarget:
    return ServingTarget(url=f"{url}/metrics", endpoint="chat", node=node, model="tiny")


def _free_ports() -> int:
    """The first of PORTS free ports in a row, below 32,768: the service reads one of them as a 16-bit number with a sign."""
    for _ in range(100):
        first = random.randrange(15_000, 32_000)
        taken = [socket.socket() for _ in range(PORTS)]
        try:
            for i, candidate in enumerate(taken):
                candidate.bind(("127.0.0.1", first + i))
        except OSError:
            continue
        else:
            return first
        finally:
            for candidate in taken:
                candidate.close()
    pytest.fail(f"no {PORTS} free ports in a row")


def _wait_until_ready(service: Service, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"dynamo ended: {log.read_text()[-2000:]}")
        try:
            if "tiny" in httpx.get(f"{service.url}/v1/models", timeout=5, trust_env=False).text:
                return
        except httpx.HTTPError:
            pass  # not listening yet
        time.sleep(0.2)
    pytest.fail(f"dynamo is not ready: {log.read_text()[-2000:]}")
