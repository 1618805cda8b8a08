"""The page in a real Chromium: audio, highlighting, seeking, search, keys, corrections, no other hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.browsing.conftest import Page
from tests.pipelines.serving.browser import needs_browser, start_browser, until
from tests.pipelines.serving.conftest import voice, wav

pytestmark = needs_browser
MARKED = "return [...document.querySelectorAll('.word.now')].map((word) => word.textContent)"
TIME = "return document.getElementById('player').currentTime"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "voice.wav").write_bytes(wav(voice(1)))
    started = start_browser(folder / "voice.wav", folder)
    started.downloads = folder
    yield started
    started.quit()


@pytest.fixture
def opened(driver: Any, page: Page) -> Iterator[Any]:
    """The page, which must log no errors and load nothing from other hosts."""
    driver.get_log("browser")
    driver.get_log("performance")
    driver.get("about:blank")
    driver.get(f"{page.url}/open/{page.token}")
    until(lambda: hits(driver))
    yield driver
    assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []
    messages = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    requests = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
    urls = [request["params"]["request"]["url"] for request in requests]
    assert urls
    assert [url for url in urls if not url.startswith((page.url, "data:", "about:blank"))] == []


def hits(driver: Any) -> list[str]:
    texts: list[str] = driver.execute_script(
        "return [...document.querySelectorAll('.hit .text')].map((text) => text.textContent)"
    )
    return texts


def search(driver: Any, text: str, expected: int) -> None:
    driver.find_element("id", "query").clear()
    driver.find_element("id", "query").send_keys(text)
    until(lambda: len(hits(driver)) == expected)


def press(driver: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(driver).send_keys(key).perform()


def test_a_recording_is_found_played_followed_and_corrected(
    opened: Any, page: Page, browsed_rows: list[dict[str, Any]]
) -> None:
    from selenium.webdriver.common.keys import Keys

    driver = opened
    assert driver.current_url == f"{page.url}/"  # the token is not in the history
    # The search is reached by a key, finds what is typed, and marks it.
    press(driver, "/")
    search(driver, "agree", 1)
    assert driver.find_element("css selector", ".hit mark").text == "agree"
    press(driver, Keys.ARROW_DOWN, Keys.ENTER)
    until(lambda: driver.find_elements("class name", "word"))
    said = [word["text"] for word in browsed_rows[0]["segments"][0]["words"]]
    shown = [element.text.strip(".,?") for element in driver.find_elements("class name", "word")]
    assert shown[: len(said)] == said
    # Doubts are visible.
    assert driver.find_element("css selector", ".segment[data-number='1'] .chip.flag").text == "repetitive"
    assert len(driver.find_elements("css selector", ".segment[data-number='1'] .word.unsure")) == 3
    # A click plays a word; the highlighted word moves with the audio.
    driver.find_elements("class name", "word")[1].click()
    start = browsed_rows[0]["segments"][0]["words"][1]["start"]
    until(lambda: driver.execute_script(TIME) > start)
    first = until(lambda: driver.execute_script(MARKED))
    moved = until(lambda: (now := driver.execute_script(MARKED)) and now != first and now)
    assert len(first) == len(moved) == 1
    # Keys: pause, next word, next doubtful segment.
    press(driver, " ")
    until(lambda: driver.execute_script("return document.getElementById('player').paused"))
    before = driver.execute_script(TIME)
    press(driver, Keys.ARROW_RIGHT)
    until(lambda: driver.execute_script(TIME) > before)
    press(driver, "n")
    until(lambda: driver.execute_script(TIME) == pytest.approx(7.5, abs=0.05))
    # A correction is stored, shown, and found.
    press(driver, "e")
    field = until(lambda: driver.find_elements("css selector", "textarea"))[0]
    field.clear()
    field.send_keys("Quoted arrows", Keys.CONTROL, Keys.ENTER)
    until(lambda: driver.find_elements("css selector", ".segment[data-number='1'] .chip.edited"))
    assert "-->" in driver.find_element("class name", "before").text
    search(driver, "arrows", 1)
    assert page.found(q="arrows") == [browsed_rows[0]["recording_id"]]


def test_audio_that_a_browser_cannot_play_is_decoded(opened: Any, page: Page) -> None:
    # Chromium is told a wrong type of content by nobody: the file itself is damaged for it.
    opened.get(f"{page.url}/#two-channels@2.5")
    until(lambda: opened.find_elements("class name", "word"))
    until(lambda: opened.execute_script("return document.getElementById('player').readyState") >= 1)
    opened.execute_script("document.getElementById('player').dispatchEvent(new Event('error'))")
    until(lambda: "decoded=true" in opened.execute_script("return document.getElementById('player').src"))
    until(lambda: opened.execute_script("return document.getElementById('player').readyState") >= 2)
    assert opened.execute_script(TIME) == pytest.approx(2.5, abs=0.1)
    opened.execute_script("document.getElementById('player').play()")
    until(lambda: opened.execute_script(TIME) > 2.7)


def test_a_link_leads_to_a_moment_and_a_document_is_downloaded(opened: Any, page: Page) -> None:
    opened.get(f"{page.url}/#lesson@3.0")
    until(lambda: opened.find_elements("class name", "word"))
    until(lambda: opened.execute_script(TIME) == pytest.approx(3.0, abs=0.05))
    assert opened.execute_script(MARKED) or opened.find_elements("css selector", ".segment.here")
    opened.execute_script("document.getElementById('format').value = 'srt'")
    opened.find_element("id", "download").click()
    path: Path = opened.downloads / "lesson.srt"
    until(path.exists)
    assert "-->" in until(path.read_text)


CONTRAST = """
const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
const own = (e) => getComputedStyle(e).backgroundColor;
const background = (e) => { while (e && /, 0\\)$/.test(own(e))) e = e.parentElement; return own(e); };
const shown = (e) => e.offsetParent && e.textContent.trim() && !e.disabled;
const all = [...document.querySelectorAll('h1, h2, p, label, button, .chip, .word, .hit .text, .meta')];
const name = (e) => `${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 30)}`;
return all.filter(shown).map((e) => [name(e), rgb(getComputedStyle(e).color), rgb(background(e))]);
"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 900, 1600])
def test_the_page_is_right_at_all_widths_in_light_and_dark(
    opened: Any, page: Page, width: int, scheme: str, tmp_path: Path
) -> None:
    from tests.pipelines.serving.page.test_page import contrast

    driver = opened
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for view in ("list", "filters", "transcript"):
            if view == "filters":
                driver.find_element("css selector", "summary").click()
            if view == "transcript":
                driver.find_element("css selector", "summary").click()
                driver.find_element("css selector", ".hit").click()
                until(lambda: driver.find_elements("class name", "word"))
                driver.find_element("class name", "word").click()
                until(lambda: driver.execute_script(MARKED))
            driver.save_screenshot(str(tmp_path / f"{view}-{width}-{scheme}.png"))
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width, view
            for name, foreground, background in driver.execute_script(CONTRAST):
                assert contrast(foreground, background) >= 4.5, (view, name, foreground, background)
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
