"""The report in a real browser: drawn at every width, light and dark, and without any request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.reporting import report
from tests.pipelines.reporting import synthetic
from tests.pipelines.serving.browser import CHROMIUM, DRIVER, needs_browser

# Relative luminance and contrast of WCAG 2.2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRASTS = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgb = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => [r, g, b].map((value) => value / 255)
  .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
  .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const colour = rgb(getComputedStyle(element).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return [255, 255, 255, 255];
};
const poor = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.getClientRects().length || element.closest('title, desc')) continue;
  const style = getComputedStyle(element);
  const colours = [rgb(element.closest('svg') ? style.fill : style.color), behind(element)].map(light);
  const contrast = (Math.max(...colours) + 0.05) / (Math.min(...colours) + 0.05);
  if (contrast < 4.5) poor.push([element.tagName, element.textContent.slice(0, 40), contrast]);
}
return poor;
"""
# Marks of charts that are visible and have a size, by chart.
DRAWN = """
const shown = [...document.querySelectorAll('svg')].filter((chart) => chart.getClientRects().length);
return shown.map((chart) => ({
  marks: [...chart.querySelectorAll('rect.reactive, path.line.reactive, circle.dot')].filter((mark) => {
    const box = mark.getBoundingClientRect();
    return box.width > 0 || box.height > 0;
  }).length,
  outside: [...chart.querySelectorAll('text, rect.reactive, path.reactive')].filter((mark) => {
    const box = mark.getBoundingClientRect(), frame = chart.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1
      || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
  }).map((mark) => mark.textContent || mark.tagName),
  smallest: Math.min(
    ...[...chart.querySelectorAll('text')].map((text) => text.getBoundingClientRect().height)
  ),
}));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    synthetic.write_run(folder, name="a_recording_with_a_rather_long_name" * 3)
    report.write(str(folder))
    return (folder / "report.html").as_uri()


def look_at(browser: Any, page: str, width: int, mode: str) -> None:
    """Open the page, and check all that must hold at every width and in both modes."""
    features = [{"name": "prefers-color-scheme", "value": mode}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("performance")
    browser.get(page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    charts = browser.execute_script(DRAWN)
    assert len(charts) == 6
    for chart in charts:
        assert chart["marks"] and not chart["outside"], chart
        assert chart["smallest"] >= 9, chart
    assert browser.execute_script(CONTRASTS) == []
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [one for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert {one["params"]["request"]["url"] for one in requests} <= {page, "data:,"}


@needs_browser
def test_the_page_is_right_on_a_phone_in_the_dark(browser: Any, page: str) -> None:
    look_at(browser, page, 390, "dark")


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 800, 1600])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_page_is_right_at_every_width_light_and_dark(
    browser: Any, page: str, width: int, mode: str
) -> None:
    look_at(browser, page, width, mode)
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(246, 247, 249)", "dark": "rgb(17, 19, 24)"}[mode]


@needs_browser
def test_tables_and_details_are_reached_by_keyboard(browser: Any, page: str) -> None:
    look_at(browser, page, 390, "light")
    script = """
        const boxes = [...document.querySelectorAll('.wide')];
        return boxes.every((box) => box.tabIndex === 0 && box.getAttribute('aria-label'));
    """
    assert browser.execute_script(script)
    summary = browser.find_element("css selector", "details summary")
    summary.send_keys("\ue007")  # Enter
    assert browser.execute_script("return document.querySelector('details').open")
