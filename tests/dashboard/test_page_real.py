"""The page in a real browser: what it shows is what SQL says, it complains of nothing, and it admits when its data is old.

COLDAISLE_SCREENSHOTS=FOLDER keeps the pictures; docs/images/ was made so.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from dashboard.settings import DashboardSettings
from ingest.history.store import History
from tests.dashboard.conftest import Site, StandingClock
from tests.dashboard.test_app import served
from tests.dashboard.test_snapshots import Reader
from tests.factories import NOW

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DRAWN = """return document.querySelectorAll("#rows .card").length > 0
    && document.querySelectorAll("#rows .plotly-wait").length === 0"""
ALL_DRAWN = "return document.querySelectorAll('.plotly-wait').length === 0"
VALUES = """return Object.fromEntries([...document.querySelectorAll('[data-metric="' + arguments[0] + '"]')]
    .map(e => [e.dataset.key, e.dataset.value === '' ? null : Number(e.dataset.value)]))"""


@dataclass
class Browser:
    """A headless Chromium that looks at the page."""

    driver: webdriver.Chrome
    pictures: Path

    def size(self, width: int, height: int, theme: str) -> None:
        wanted = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", wanted)
        scheme = {"name": "prefers-color-scheme", "value": theme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def picture(self, name: str, width: int, height: int, theme: str) -> None:
        """Take the page at this size, as tall as it is when `height` is 0."""
        self.size(width, height or 1000, theme)
        if not height:
            self.size(width, int(self.run("return document.documentElement.scrollHeight")), theme)
            self.wait(lambda: self.run(ALL_DRAWN), "every chart is drawn")
        time.sleep(1.5)  # charts that come into sight are drawn, transitions end
        assert self.driver.save_screenshot(str(self.pictures / f"{name}.png"))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def values(self, metric: str) -> dict[str, float | None]:
        found: dict[str, float | None] = self.run(VALUES, metric)
        return found

    def text(self, selector: str) -> str:
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def wait(self, until: Callable[[], Any], what: str, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}; console: {self.complaints()}"
            time.sleep(0.2)

    def complaints(self) -> list[str]:
        """What the console has said since it was last asked."""
        return [f"{e['level']}: {e['message']}" for e in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium, driver_file = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver_file is None:
        pytest.skip("no chromium or chromedriver: run tests/real/install.sh (Debian: apt-get install chromium chromium-driver)")
    options = Options()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    kept = os.environ.get("COLDAISLE_SCREENSHOTS")
    pictures = Path(kept) if kept else tmp_path_factory.mktemp("pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    driver = webdriver.Chrome(options=options, service=Service(driver_file))
    yield Browser(driver=driver, pictures=pictures)
    driver.quit()


@dataclass
class Shown:
    """The page in the browser, and what is behind it."""

    browser: Browser
    site: Site
    reader: Reader


@pytest.fixture(scope="module")
def shown(browser: Browser, filled: tuple[History, datetime], queries: dict[str, str]) -> Iterator[Shown]:
    """The page, drawn; opened once for all tests that leave it as it was."""
    history, wall = filled
    site = Site(reader=history, clock=StandingClock(run=NOW, at_wall=wall + timedelta(seconds=1)), queries=queries)
    reader = Reader(site)
    browser.size(1440, 1000, "light")
    with served(site, DashboardSettings(port=0), reader) as url:
        browser.driver.get(url)
        browser.wait(lambda: browser.run(DRAWN), "the page is drawn")
        yield Shown(browser=browser, site=site, reader=reader)
        browser.driver.get("about:blank")


@pytest.fixture
def opened(shown: Shown) -> Browser:
    """The page at a desktop's size."""
    shown.browser.size(1440, 1000, "light")
    return shown.browser


def test_the_page_shows_what_sql_says(opened: Browser, shown: Shown) -> None:
    def sql(statement: str) -> dict[str, float]:
        return dict(shown.site.reader.query(statement).rows())

    newest = "FROM row_power QUALIFY ts = max(ts) OVER (PARTITION BY row)"
    assert opened.values("row.power_w") == pytest.approx(sql(f"SELECT row, power_w {newest}"))
    assert opened.values("row.limit_w") == pytest.approx(sql(f"SELECT row, limit_w {newest}"))
    assert opened.values("row.headroom_w") == pytest.approx(sql(f"SELECT row, headroom_w {newest}"))
    ahead = """SELECT series, any_value(limit_w) - max(value) FROM forecast_path JOIN topology_rows ON row = series
        WHERE champion AND target = 'power' AND level = 0.99 AND lead_s <= 3600 GROUP BY series"""
    assert opened.values("row.ahead_headroom_w") == pytest.approx(sql(ahead), rel=1e-6)
    temperatures = {node: c for node, c in opened.values("server.gpu_c").items() if c is not None}
    assert temperatures == pytest.approx(sql("SELECT node, max(temp_c)::DOUBLE FROM gpu_now GROUP BY node"))
    nearest = "SELECT node, min(margin_k)::DOUBLE FROM gpu_now GROUP BY node ORDER BY min(margin_k), node LIMIT 10"
    assert opened.values("hottest.margin_k") == pytest.approx(sql(nearest), abs=1e-4)
    rates = "SELECT endpoint, sum(requests_rps) FROM endpoints WHERE ts = (SELECT max(ts) FROM endpoints) GROUP BY endpoint"
    assert opened.values("endpoint.requests_rps") == pytest.approx(sql(rates))
    assert opened.values("outcomes.n") == sql("SELECT status, count(*) FROM outcomes GROUP BY status")
    assert opened.values("alert.lead_s")["a1"] == sql("SELECT alert_id, lead_s FROM alerts_open")["a1"]
    capped = sql("SELECT row, count(*) FROM caps WHERE mode = 'enforce' AND ended_at IS NULL GROUP BY row")
    assert opened.values("row.capped") == capped
    assert opened.complaints() == []


def test_it_speaks_to_those_who_do_not_see_the_charts(opened: Browser) -> None:
    row = opened.driver.find_element(By.CSS_SELECTOR, "#rows .card")
    assert "of 286 kW" in str(row.find_element(By.CSS_SELECTOR, ".chart").get_attribute("aria-label"))
    row.find_element(By.TAG_NAME, "summary").click()
    medians = """return [...document.querySelector('#rows .card').querySelectorAll('details[open] tbody tr')]
        .filter(line => line.textContent.includes('forecast median')).length"""
    opened.wait(lambda: opened.run(medians) == 7, "the forecast's seven times in the table")
    opened.driver.find_element(By.CSS_SELECTOR, "#heattable summary").click()
    rows = "return document.querySelectorAll('#heattable tbody tr').length"
    opened.wait(lambda: opened.run(rows) == 80, "80 servers in the table")
    unnamed = opened.run("""return [...document.querySelectorAll('button, a, input, [role=img], section, [role=region]')]
        .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim()
            || e.closest('label'))).map(e => e.outerHTML.slice(0, 90))""")
    assert unnamed == []
    assert opened.complaints() == []


def test_it_can_be_used_by_keyboard(opened: Browser) -> None:
    first = opened.driver.find_element(By.CSS_SELECTOR, "#heatmap .cell[tabindex='0']")
    opened.run("arguments[0].focus()", first)
    first.send_keys(Keys.ARROW_RIGHT)
    assert opened.run("return document.activeElement.dataset.node") == "n002"
    assert opened.text("#heatline").startswith("n002 ")
    opened.driver.switch_to.active_element.send_keys(Keys.END)
    assert opened.text("#heatline").startswith("n080 ")
    assert "silent" in opened.text("#heatline")
    theme = opened.driver.find_element(By.ID, "theme")
    seen = set()
    for _ in range(3):
        theme.send_keys(Keys.ENTER)
        seen.add(theme.text)
    assert len(seen) == 3


@pytest.mark.parametrize("width", [360, 768, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_every_width(opened: Browser, width: int, theme: str) -> None:
    opened.size(width, 800, theme)
    opened.wait(lambda: opened.run("return document.documentElement.dataset.theme") == theme, f"the theme {theme}")
    opened.wait(lambda: opened.run("return document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out")
    assert opened.complaints() == []


def test_it_admits_that_its_data_is_old(opened: Browser, shown: Shown) -> None:
    site, reader = shown.site, shown.reader
    before = (site.clock.run, site.clock.at_wall)
    assert "live" in opened.text("#fresh")
    site.clock.move(2)
    reader.shut = "no history answers at 127.0.0.1: start coldaisle history"
    opened.wait(lambda: opened.text("#banner"), "the banner")
    assert "has not answered since" in opened.text("#banner")
    assert "start coldaisle history" in opened.text("#banner")
    assert "old" in opened.text("#fresh")
    assert "old" in str(opened.run("return document.body.className"))
    opened.picture("page-history-away", 1440, 700, "light")
    reader.shut = ""
    site.clock.run, site.clock.at_wall = before
    opened.wait(lambda: "live" in opened.text("#fresh") and not opened.text("#banner"), "the page is live again")


def test_pictures(opened: Browser) -> None:
    opened.driver.refresh()
    opened.wait(lambda: opened.run(DRAWN), "the page is drawn")
    shots = {
        "page": (1440, 0, "light"),
        "page-dark": (1440, 1000, "dark"),
        "page-phone": (390, 844, "light"),
        "page-phone-dark": (390, 844, "dark"),
    }
    for name, (width, height, theme) in shots.items():
        opened.picture(name, width, height, theme)
        assert (opened.pictures / f"{name}.png").stat().st_size > 20_000


def test_it_admits_that_its_server_is_gone(browser: Browser, site: Site) -> None:
    browser.size(1440, 1000, "light")
    with served(site, DashboardSettings(port=0)) as url:
        browser.driver.get(url)
        browser.wait(lambda: browser.run(DRAWN), "the page is drawn")
    browser.wait(lambda: "No connection" in browser.text("#banner"), "the banner")
    browser.driver.get("about:blank")
    browser.complaints()
