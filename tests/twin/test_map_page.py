"""The twin's map as a page: it carries everything with it, stays small, and shows what the run was.

COLDAISLE_SCREENSHOTS=FOLDER keeps the pictures."""

import base64
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.twin.map_frames import made_up, small
from twin.map_page import MOST_VALUES, html, packed

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def carried(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def unpacked(table: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    values: np.ndarray[Any, np.dtype[np.float64]] = table["base"] + table["unit"] * np.frombuffer(
        base64.b64decode(table["data"]), "<u2"
    )
    return values


def test_it_loads_nothing_and_stays_small() -> None:
    page = html(made_up(20, 50, 200))
    assert len(page.encode()) < 3_000_000
    code = page.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not re.search(r"https?:|//[a-z]+\.|src=|@import|url\(|fetch\(|XMLHttpRequest|import\(", code)
    assert set(re.findall(r'href="([^"]*)"', code)) == {"#floor", "data:,"}
    assert "default-src 'none'" in page


def test_its_numbers_are_the_run() -> None:
    f = made_up(2, 40)
    data = carried(html(f))
    for name, value, error in (
        ("gpu_c", f.hottest_gpu_c, 0.051),
        ("inlet_c", f.inlet_c, 0.051),
        ("server_w", f.server_w, 0.51),
        ("row_w", f.row_w, 5.1),
    ):
        assert unpacked(data[name]) == pytest.approx(value.ravel(), abs=error)
    bits = np.unpackbits(np.frombuffer(base64.b64decode(data["slowed"]), np.uint8))[: f.slowed.size]
    assert bits.tolist() == f.slowed.ravel().astype(int).tolist()
    assert data["events"][0] == [1440.0, None, "ahu-1 lost: 90 % of aisle 1's air is left"]


def test_a_wide_range_gets_a_coarser_unit() -> None:
    value = np.array([[-40.0, 0.1, 3e6]])
    table = packed(value, 10.0)
    assert unpacked(table) == pytest.approx(value[0], abs=float(table["unit"]) / 2)
    assert table["unit"] > 10.0


def test_a_long_run_of_a_large_site_gets_coarser_frames() -> None:
    data = carried(html(made_up(50, 40, 400)))
    assert len(data["t_s"]) * len(data["servers"]) <= MOST_VALUES
    assert data["until_s"] == pytest.approx(3600)


def test_names_cannot_become_code() -> None:
    evil = "</script><script>alert(1)</script><!--{script}{data}"
    page = html(replace(small(), site=evil, rows=(evil, "b"), events=((0.0, np.inf, evil),)))
    assert "alert(1)</script>" not in page
    assert page.count("<script") == html(small()).count("<script")
    assert carried(page)["rows"][0] == evil


UNNAMED = """
    const told = (e) => ["aria-label", "aria-labelledby"].some((name) => e.getAttribute(name));
    const named = (e) => told(e) || e.textContent.trim() || e.closest("label");
    return [...document.querySelectorAll("button, a, input, section, [role=region], [role=img], canvas:not([aria-hidden])")]
        .filter((e) => !named(e)).map((e) => e.outerHTML.slice(0, 90))"""
NO_NETWORK = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}


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


def open_offline(browser: webdriver.Chrome, page: str, file: Path) -> None:
    file.write_text(page, encoding="utf-8")
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", NO_NETWORK)
    browser.get(file.as_uri())


def complaints(browser: webdriver.Chrome) -> list[str]:
    return [str(e["message"]) for e in browser.get_log("browser")]  # type: ignore[no-untyped-call]


def until(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.real
@pytest.mark.timeout(180)
def test_the_slider_shows_the_moment(browser: webdriver.Chrome, tmp_path: Path) -> None:
    f = made_up(2, 40)
    open_offline(browser, html(f), tmp_path / "map.html")

    def shown(metric: str, server: int) -> float:
        cell = browser.find_element(By.CSS_SELECTOR, f'#rack [data-metric="{metric}"][data-server="{server}"]')
        return float(str(cell.get_attribute("data-value")))

    slider = browser.find_element(By.ID, "time")
    slider.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 7)
    assert browser.find_element(By.ID, "now").text == "7 min"
    assert slider.get_attribute("aria-valuetext") == "7 min"

    browser.find_element(By.CSS_SELECTOR, '#floor [data-server="41"]').click()
    assert shown("gpu", 41) == pytest.approx(f.hottest_gpu_c[7, 41], abs=0.06)
    assert shown("inlet", 41) == pytest.approx(f.inlet_c[7, 41], abs=0.06)
    assert shown("power", 41) == pytest.approx(f.server_w[7, 41], abs=0.6)
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)  # one rack on, one slot up
    assert shown("gpu", 46) == pytest.approx(f.hottest_gpu_c[7, 46], abs=0.06)
    power = f"{f.server_w[7, 46] / 1e3:.2f} kW"
    until(lambda: power in str(browser.switch_to.active_element.get_attribute("aria-label")), "the cell says its power")

    browser.find_element(By.CSS_SELECTOR, "#quantity input[value=power]").send_keys(Keys.SPACE)
    assert browser.find_element(By.CSS_SELECTOR, '#floor [data-server="0"]').text == f"{f.server_w[7, 0] / 1e3:.1f}"
    slider.send_keys(Keys.END, *[Keys.ARROW_LEFT] * 3)
    play = browser.find_element(By.ID, "play")
    play.send_keys(Keys.ENTER)
    until(lambda: slider.get_attribute("value") == "59" and play.get_attribute("aria-label") == "Play", "it plays to the end")
    browser.find_element(By.CSS_SELECTOR, "#rowtable summary").click()
    drawn, second = f"{f.row_w[59, 1] / 1e3:.0f} kW", "#rowtable tbody tr:nth-child(2)"
    until(lambda: any(drawn in e.text for e in browser.find_elements(By.CSS_SELECTOR, second)), "the table of rows")
    assert complaints(browser) == []


@pytest.mark.real
@pytest.mark.timeout(180)
@pytest.mark.parametrize("width", [360, 768, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_every_width(browser: webdriver.Chrome, tmp_path: Path, width: int, theme: str) -> None:
    kept = os.environ.get("COLDAISLE_SCREENSHOTS")
    pictures = Path(kept) if kept else tmp_path
    pictures.mkdir(parents=True, exist_ok=True)
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    open_offline(browser, html(made_up(20 if width == 768 else 2, 40)), tmp_path / "map.html")
    assert browser.execute_script("return document.documentElement.dataset.theme") == theme
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.save_screenshot(str(pictures / f"twin-map-{width}-{theme}.png"))
    assert browser.execute_script(UNNAMED) == []
    assert complaints(browser) == []
