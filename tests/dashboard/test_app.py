"""The page as a browser, a monitor and a stranger meet it, over real HTTP."""

import gzip
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from contracts.errors import ConfigError
from dashboard.app import create_app
from dashboard.serve import listen, serve
from dashboard.settings import DashboardSettings
from dashboard.snapshots import Snapshots
from tests.dashboard.conftest import Site
from tests.dashboard.test_snapshots import Reader

VIEWERS, EVENTS = 20, 4
TOKEN = "correct-horse-battery"


@contextmanager
def served(site: Site, settings: DashboardSettings, reader: Any = None) -> Iterator[str]:
    """The page's address while it is served."""
    stop, up = threading.Event(), threading.Event()
    where: list[str] = []

    def ready(url: str) -> None:
        where.append(url)
        up.set()

    arguments = (reader or site.reader, site.queries, site.clock, settings, stop, ready)
    thread = threading.Thread(target=serve, args=arguments)
    thread.start()
    try:
        assert up.wait(30)
        yield where[0].rstrip("/")
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def page(site: Site) -> Iterator[httpx.Client]:
    with served(site, DashboardSettings(port=0)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return file


def wait_for_data(client: httpx.Client) -> Any:
    for _ in range(600):
        answer = client.get("/api/snapshot").json()
        if answer["data"] is not None:
            return answer
        threading.Event().wait(0.05)
    raise AssertionError("no snapshot")


def test_the_snapshot_is_served_plain_and_compressed(page: httpx.Client) -> None:
    answer = wait_for_data(page)
    assert [row["row"] for row in answer["data"]["rows"]] == ["row-1", "row-2"]
    plain = page.get("/api/snapshot", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.headers["cache-control"] == "no-store"
    assert page.get("/api/snapshot").headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_the_stream_brings_one_event_after_another(page: httpx.Client, encoding: str, site: Site) -> None:
    wait_for_data(page)
    with page.stream("GET", "/api/stream", headers={"Accept-Encoding": encoding}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers.get("content-encoding", "identity") == encoding
        numbers = []
        for line in answer.iter_lines():
            if line.startswith("id: "):
                numbers.append(int(line[4:]))
                site.clock.move(1)
            if line.startswith("data: "):
                assert msgspec.json.decode(line[6:])["data"]["site"] == "made-up site"
            if len(numbers) == 3:
                break
    assert numbers == sorted(set(numbers))


def test_many_viewers_cost_no_more_than_one(site: Site) -> None:
    reader = Reader(site)
    seen: list[set[int]] = []

    def watch(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client, client.stream("GET", "/api/stream") as answer:
            ids: set[int] = set()
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    ids.add(int(line[4:]))
                if len(ids) == EVENTS:
                    break
            seen.append(ids)

    with served(site, DashboardSettings(port=0), reader) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_for_data(client)
        viewers = [threading.Thread(target=watch, args=(url,)) for _ in range(VIEWERS)]
        for viewer in viewers:
            viewer.start()
        for viewer in viewers:
            viewer.join()
        metrics = client.get("/metrics").text
        refreshes = float(re.findall(r"^coldaisle_page_refreshes_total (\S+)$", metrics, re.MULTILINE)[0])
    assert len(seen) == VIEWERS
    # The clock stands still: every frame comes from a refresh (or is the first one), and a round asks at most once a question.
    assert max(max(ids) for ids in seen) <= refreshes + 2
    assert reader.asked <= (refreshes + 1) * len(site.queries)
    assert len(set.union(*seen)) < VIEWERS * EVENTS / 2  # the same frames went to many


def test_everything_is_ours_and_strict(page: httpx.Client) -> None:
    answer = page.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe-eval" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", answer.text)
    linked = re.findall(r'(?:src|href)="(/static/[^"#]+)', answer.text)
    static = Path(__file__).parents[2] / "dashboard" / "static"
    for file in static.iterdir():
        text = file.read_text()
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), file.name
        assert page.get(f"/static/{file.name}").text == text
        linked += [f"/static/{name}" for name in re.findall(r'from "\./([^"]+)"', text)]
    for name in set(linked):
        assert page.get(name).status_code == 200


def test_the_chart_library_comes_packed_and_is_kept(page: httpx.Client) -> None:
    answer = page.get("/static/plotly.js")
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < 2_000_000
    assert "plotly.js v" in answer.text[:200]
    again = page.get("/static/plotly.js", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "max-age=86400" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["/static/..%2fapp.py", "/static/app.py", "/static/.hidden.js", "/static/no.js", "/nothing"])
def test_no_other_file_is_served(page: httpx.Client, path: str) -> None:
    assert page.get(path).status_code == 404


def test_a_foreign_host_is_refused(page: httpx.Client) -> None:
    assert page.get("/api/snapshot", headers={"Host": "evil.example"}).status_code == 421
    assert page.get("/health", headers={"Host": "localhost:1"}).status_code in (200, 503)


def test_health_says_whether_the_history_answers(site: Site) -> None:
    reader = Reader(site)
    with served(site, DashboardSettings(port=0), reader) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_for_data(client)
        assert client.get("/health").status_code == 200
        site.clock.move(60)
        reader.shut = "no owner answers"
        with client.stream("GET", "/api/stream") as answer:
            for line in answer.iter_lines():
                if line.startswith("data: ") and "no owner answers" in line:
                    break
        sick = client.get("/health")
        assert sick.status_code == 503
        assert sick.json()["why"] == "no owner answers"


def test_with_a_token_only_those_who_bring_it_may_look(site: Site, token_file: Path) -> None:
    settings = DashboardSettings(port=0, token_file=token_file)
    with served(site, settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        for path in ("/", "/api/snapshot", "/api/stream", "/metrics", "/static/app.js"):
            refused = client.get(path)
            assert refused.status_code == 401
            assert "content-security-policy" in refused.headers
        assert client.get("/", params={"token": "wrong-wrong-wrong-wrong"}).status_code == 401
        assert client.get("/health").status_code in (200, 503)
        assert client.get("/api/snapshot", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        once = client.get("/", params={"token": TOKEN, "view": "x"})
        assert (once.status_code, once.headers["location"]) == (303, "/?view=x")
        assert {"HttpOnly", "SameSite=strict"} <= set(once.headers["set-cookie"].split("; "))
        assert client.get("/").status_code == 200  # by the cookie


def test_settings_that_would_show_the_page_to_everybody_are_refused(tmp_path: Path, token_file: Path) -> None:
    with pytest.raises(ConfigError, match="beyond loopback the page wants"):
        DashboardSettings(host="0.0.0.0").token()  # noqa: S104  (that is what is refused)
    assert DashboardSettings(host="0.0.0.0", token_file=token_file).token() == TOKEN  # noqa: S104
    token_file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        DashboardSettings(token_file=token_file).token()
    short = tmp_path / "short"
    short.write_text("abc")
    short.chmod(0o600)
    with pytest.raises(ConfigError, match="3 characters"):
        DashboardSettings(token_file=short).token()
    with pytest.raises(ConfigError, match="No such file"):
        DashboardSettings(token_file=tmp_path / "none").token()


def test_a_busy_port_is_named(site: Site) -> None:
    with listen(DashboardSettings(port=0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: Address already in use; set dashboard\.port"):
            listen(DashboardSettings(port=port))
    snapshots = Snapshots(site.reader, site.queries, site.clock, DashboardSettings())
    assert create_app(snapshots, DashboardSettings()).routes


def test_gzip_on_the_wire_is_one_valid_stream(page: httpx.Client) -> None:
    wait_for_data(page)
    answer = page.get("/api/snapshot", headers={"Accept-Encoding": "gzip"})
    with page.stream("GET", "/api/snapshot", headers={"Accept-Encoding": "gzip"}) as raw:
        packed = b"".join(raw.iter_raw())
    assert gzip.decompress(packed)[:10] == answer.content[:10]
