"""The page of a backtest in a real browser: it fits every width in both themes, and complains of nothing.

COLDAISLE_SCREENSHOTS=FOLDER keeps the pictures.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from coldaisle.forecast_page import html
from forecast.backtest import join
from forecast.backtest_series import tabled
from forecast.backtest_tasks import plan, run
from tests.forecast.synthetic import daily, frame_of

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
SMALLEST_TEXT = """
    return Math.min(...[...document.querySelectorAll("main svg text")].map((e) => e.getBoundingClientRect().height))"""


@pytest.fixture(scope="module")
def page() -> str:
    frame = frame_of(daily(6, step_s=1_800, target="load", level=20.0, noise=0.3))
    given = plan(tabled(frame, "load"), {"30m": 1_800, "24h": 86_400}, models=("ridge",), origins_per_day=6)
    return html(join(given, [run(task, given.table.batch) for task in given.tasks]), "made up")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    chromium, driver_file = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver_file is None:
        pytest.skip("no chromium or chromedriver: run tests/real/install.sh (Debian: apt-get install chromium chromium-driver)")
    options = Options()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_file))
    yield driver
    driver.quit()


@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (390, "dark"), (1440, "light"), (1440, "dark")])
def test_it_fits_every_width(browser: webdriver.Chrome, tmp_path: Path, page: str, width: int, theme: str) -> None:
    kept = os.environ.get("COLDAISLE_SCREENSHOTS")
    pictures = Path(kept) if kept else tmp_path
    pictures.mkdir(parents=True, exist_ok=True)
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
    file = tmp_path / "backtest.html"
    file.write_text(page, encoding="utf-8")
    browser.get(file.as_uri())
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(11, 17, 22)" if theme == "dark" else "rgb(243, 246, 248)")
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.execute_script(SMALLEST_TEXT) >= 8.0
    size["height"] = int(browser.execute_script("return document.documentElement.scrollHeight"))
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert browser.save_screenshot(str(pictures / f"backtest-{width}-{theme}.png"))
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
