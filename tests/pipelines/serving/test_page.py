"""The page in a real Chromium: files, microphone, highlighting, seeking, downloads, keyboard, and nothing from anywhere else."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import srt

from tests.pipelines.serving.conftest import Make, Served, voice, wav

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no browser: install chromium and chromium-driver to test the page")


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser's microphone hears, over and over: five seconds of voice, three of silence."""
    path = tmp_path_factory.mktemp("microphone") / "voice.wav"
    path.write_bytes(wav(np.repeat(np.concatenate([voice(5), np.zeros(48_000, np.int16)]), 3), 48_000))
    return path


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(microphone: Path, downloads: Path) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=900,1100",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, serve: Make) -> Iterator[tuple[Any, Served]]:
    served = serve(stream_window=8)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(served.url + "/")
    until(lambda: len(browser.find_elements("css selector", "#language option")) > 20)
    yield browser, served
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    asked = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    addresses = [line["params"]["request"]["url"] for line in asked if line["method"] == "Network.requestWillBeSent"]
    assert addresses and all(address.startswith((served.url, "blob:" + served.url, "data:")) for address in addresses), addresses


def until(check: Callable[[], Any], seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)
    return found


def words(driver: Any) -> list[str]:
    found: list[str] = driver.execute_script("return [...document.querySelectorAll('.word')].map((word) => word.textContent)")
    return found


def upload(driver: Any, folder: Path, audio: bytes) -> None:
    path = folder / "talk.wav"
    path.write_bytes(audio)
    driver.find_element("id", "file").send_keys(str(path))


def test_a_file_its_words_and_its_downloads(page: tuple[Any, Served], tmp_path: Path, downloads: Path) -> None:
    driver, served = page
    audio = wav(np.concatenate([voice(4), np.zeros(64_000, np.int16), voice(3, 1)]))
    upload(driver, tmp_path, audio)
    text = served.transcribe(audio)[2]["text"]
    until(lambda: " ".join(words(driver)) == text)
    # A click seeks; the word that is heard is marked, and no other.
    last = driver.find_elements("class name", "word")[-2]
    last.click()
    start = float(last.get_attribute("data-start"))
    until(lambda: driver.execute_script("return document.querySelectorAll('.word.now').length") == 1)
    assert driver.execute_script("return document.getElementById('player').currentTime") >= start
    driver.execute_script("const p = document.getElementById('player'); p.pause(); p.currentTime = 1.2")
    marked = "return [...document.querySelectorAll('.word')].findIndex((word) => word.classList.contains('now'))"
    until(lambda: driver.execute_script(marked) == 2)
    for form in ("srt", "vtt", "json", "txt"):
        driver.find_element("css selector", f"[data-format={form}]").click()
        path = downloads / f"talk.{form}"
        until(path.exists)
        body = until(path.read_text)
        if form in ("srt", "vtt"):  # the page's cues are the server's
            assert body.encode() == served.transcribe(audio, response_format=form)[2]
    cues = list(srt.parse((downloads / "talk.srt").read_text(), ignore_errors=False))
    assert " ".join(cue.content for cue in cues) == text
    assert [word["word"] for one in json.loads((downloads / "talk.json").read_text())["segments"] for word in one["words"]] == words(driver)


def test_the_keyboard_is_enough(page: tuple[Any, Served], tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    driver, _ = page
    upload(driver, tmp_path, wav(voice(4)))
    until(lambda: len(words(driver)) == 8)
    reachable = "return document.querySelectorAll('.word[tabindex=\"0\"]').length"
    assert driver.execute_script(reachable) == 1
    driver.execute_script("document.querySelector('.word').focus()")
    for _ in range(3):
        driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    until(lambda: driver.execute_script("return document.getElementById('player').currentTime") >= 1.5)
    assert driver.execute_script(reachable) == 1
    assert driver.switch_to.active_element.text == words(driver)[3]
    names = driver.execute_script(
        "return [...document.querySelectorAll('button, input, select, audio')].filter((e) => e.offsetParent)"
        ".map((e) => e.textContent.trim() || e.labels?.[0]?.textContent.trim() || e.tagName)"
    )
    assert (
        all(names)
        and driver.find_element("css selector", "[role=status]")
        and driver.execute_script("return document.documentElement.lang") == "en"
    )


def test_the_microphone(page: tuple[Any, Served]) -> None:
    driver, _ = page
    driver.find_element("id", "record").click()
    until(lambda: len(words(driver)) > 5)
    driver.find_element("id", "stop").click()
    until(lambda: driver.find_element("id", "record").is_enabled())
    assert driver.find_element("id", "problem").text == ""
    until(lambda: driver.execute_script("return document.getElementById('player').duration") > 1)
    starts = driver.execute_script("return [...document.querySelectorAll('.word')].map((word) => Number(word.dataset.start))")
    assert starts == sorted(starts)


def test_a_file_does_not_come_into_a_recording(page: tuple[Any, Served]) -> None:
    driver, _ = page
    driver.execute_script("window.asked = []; const real = fetch; window.fetch = (...all) => { asked.push(all[0]); return real(...all); }")
    driver.find_element("id", "record").click()
    until(lambda: "Recording" in driver.find_element("id", "status").text)
    assert not driver.find_element("id", "file").is_enabled()
    driver.execute_script(
        "const data = new DataTransfer(); data.items.add(new File(['x'], 'other.wav'));"
        "document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))"
    )
    assert driver.execute_script("return window.asked") == [] and "Recording" in driver.find_element("id", "status").text
    driver.find_element("id", "stop").click()
    until(lambda: driver.find_element("id", "record").is_enabled())
    assert driver.find_element("id", "file").is_enabled() and driver.find_element("id", "problem").text == ""


def test_stop_before_the_browser_lets_us_hear_begins_nothing(page: tuple[Any, Served]) -> None:
    driver, served = page
    driver.execute_script(
        "const devices = navigator.mediaDevices, real = devices.getUserMedia.bind(devices);"
        "window.tracks = []; devices.getUserMedia = (wish) => new Promise((resolve) => { window.allow = async () => {"
        "  const stream = await real(wish); window.tracks = stream.getTracks(); resolve(stream); }; });"
    )
    driver.find_element("id", "record").click()
    until(lambda: driver.execute_script("return Boolean(window.allow)"))
    driver.find_element("id", "stop").click()
    assert driver.find_element("id", "record").is_enabled() and not driver.find_element("id", "stop").is_displayed()
    driver.execute_script("allow()")
    until(lambda: driver.execute_script("return tracks.length && tracks.every((track) => track.readyState === 'ended')"))
    assert driver.find_element("id", "record").is_enabled() and driver.find_element("id", "problem").text == ""
    assert served.application.busy == 0


def test_words_of_two_who_speak_at_once_stay_with_their_own_texts(page: tuple[Any, Served], tmp_path: Path) -> None:
    driver, _ = page
    texts = ["one two three", "vier fünf", "sechs"]
    spans = [(0.0, 3.0), (0.5, 2.0), (2.0, 3.0)]
    times = [[0.0, 1.0, 3.0], [0.5, 1.5], [2.0]]  # the last word of the first one begins where its segment ends
    said = [
        {"word": word, "start": start, "end": start}
        for text, starts in zip(texts, times, strict=True)
        for word, start in zip(text.split(), starts, strict=True)
    ]
    segments = [{"start": start, "end": end, "text": text, "language": "en"} for (start, end), text in zip(spans, texts, strict=True)]
    done = json.dumps({"type": "transcript.text.done", "segments": segments, "words": said})
    driver.execute_script("const body = arguments[0]; window.fetch = async () => new Response(body)", f"data: {done}\n\n")
    upload(driver, tmp_path, wav(voice(3)))
    until(lambda: len(words(driver)) == len(said))
    dealt = driver.execute_script(
        "return [...document.querySelectorAll('#transcript p')].map((p) => [...p.querySelectorAll('.word')].map((word) => word.textContent))"
    )
    assert dealt == [text.split() for text in texts]
    marked = "return [...document.querySelectorAll('.word.now')].map((word) => word.textContent)"
    for place, word in ((0.55, "vier"), (1.05, "two"), (2.05, "sechs")):
        driver.execute_script("document.getElementById('player').currentTime = arguments[0]", place)
        until(lambda word=word: driver.execute_script(marked) == [word])


def test_what_is_wrong_is_said(page: tuple[Any, Served], tmp_path: Path) -> None:
    driver, _ = page
    upload(driver, tmp_path, b"this is no audio at all " * 100)
    until(lambda: "decode failed" in driver.find_element("id", "problem").text)
    driver.get_log("browser")  # Chromium writes every answer of 400 there


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(page: tuple[Any, Served], tmp_path: Path, scheme: str) -> None:
    driver, _ = page
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    upload(driver, tmp_path, wav(voice(6)))
    until(lambda: len(words(driver)) == 12)
    driver.execute_script("document.querySelectorAll('.word')[3].click()")
    until(lambda: driver.execute_script("return document.querySelectorAll('.word.now').length") == 1)
    pairs = driver.execute_script(
        """const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const colour = (e) => getComputedStyle(e).backgroundColor;
        const behind = (e) => { while (/, 0\\)$/.test(colour(e))) e = e.parentElement; return colour(e); };
        const shown = (e) => e.offsetParent && e.textContent.trim() && !e.disabled;
        const all = [...document.querySelectorAll('h1, p, label, button, .word')].filter(shown);
        return all.map((e) => [e.textContent.trim().slice(0, 30), rgb(getComputedStyle(e).color), rgb(behind(e))])"""
    )
    for name, ink, paper in pairs:
        assert contrast(ink, paper) >= 4.5, (name, ink, paper)
    driver.save_screenshot(str(tmp_path / f"{scheme}.png"))
    assert (tmp_path / f"{scheme}.png").stat().st_size > 10_000
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def contrast(left: list[float], right: list[float]) -> float:
    """The ratio that WCAG 2 asks to be 4.5 for text."""

    def luminance(colour: list[float]) -> float:
        parts = [value / 255 for value in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(left), luminance(right)))
    return (high + 0.05) / (low + 0.05)


def test_the_api_page(page: tuple[Any, Served]) -> None:
    driver, served = page
    driver.get(served.url + "/docs")
    until(lambda: "/v1/audio/transcriptions" in driver.find_element("id", "routes").text)
