"""The page in a real Chromium: files, highlighting, seeking, downloads, keyboard, and no other hosts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import srt

from pipelines.subtitles.cues import cues
from pipelines.subtitles.rendering import cue_rows
from pipelines.subtitles.rendering import srt as srt_text
from pipelines.subtitles.rendering import vtt as vtt_text
from tests.pipelines.serving.browser import needs_browser, until, upload, words
from tests.pipelines.serving.conftest import Served, voice, wav

pytestmark = needs_browser


def test_a_file_is_transcribed_with_words_and_downloads(
    page: tuple[Any, Served], tmp_path: Path, downloads: Path
) -> None:
    driver, served = page
    audio = wav(np.concatenate([voice(4), np.zeros(64_000, np.int16), voice(3, 1)]))
    upload(driver, tmp_path, audio)
    text = served.transcribe(audio)[2]["text"]
    until(lambda: " ".join(words(driver)) == text)
    # A click seeks; only the word that is played is marked.
    last = driver.find_elements("class name", "word")[-2]
    last.click()
    start = float(last.get_attribute("data-start"))
    until(lambda: driver.execute_script("return document.querySelectorAll('.word.now').length") == 1)
    assert driver.execute_script("return document.getElementById('player').currentTime") >= start
    driver.execute_script("const p = document.getElementById('player'); p.pause(); p.currentTime = 1.2")
    marked = (
        "return [...document.querySelectorAll('.word')].findIndex((word) => word.classList.contains('now'))"
    )
    until(lambda: driver.execute_script(marked) == 2)
    for form in ("srt", "vtt", "json", "txt"):
        driver.find_element("css selector", f"[data-format={form}]").click()
        path = downloads / f"talk.{form}"
        until(path.exists)
        body = until(path.read_text)
        if form in ("srt", "vtt"):  # the page makes the same cues as the server
            assert body.encode() == served.transcribe(audio, response_format=form)[2]
    read = list(srt.parse((downloads / "talk.srt").read_text(), ignore_errors=False))
    assert " ".join(" ".join(cue.content for cue in read).split()) == text
    segments = json.loads((downloads / "talk.json").read_text())["segments"]
    assert [word["word"] for segment in segments for word in segment["words"]] == words(driver)


def test_the_page_writes_cues_as_the_server_does(page: tuple[Any, Served]) -> None:
    text, starts = " ".join(["<word>"] * 60), [0.0] * 40 + [0.5 * number for number in range(20)]
    rows: list[Any] = [
        {"text": "<word>", "start": start, "end": start, "char_start": 7 * n, "char_end": 7 * n + 6}
        for n, start in enumerate(starts)
    ]
    segment: Any = {
        "start": 0.0,
        "end": 9.5,
        "text": text,
        "language": "en",
        "words": rows,
        "flags": ["channel:1"],
    }
    made = cues([segment])
    script = (
        "const done = arguments[1]; import('/page/subtitles.js')"
        ".then((page) => done([page.asSrt(arguments[0]), page.asVtt(arguments[0])]))"
    )
    assert page[0].execute_async_script(script, cue_rows(made)) == [srt_text(made), vtt_text(made)]


def test_the_page_can_be_used_with_the_keyboard_alone(page: tuple[Any, Served], tmp_path: Path) -> None:
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
    assert all(names)
    assert driver.find_element("css selector", "[role=status]")
    assert driver.execute_script("return document.documentElement.lang") == "en"


def test_words_of_overlapping_segments_stay_with_their_segments(
    page: tuple[Any, Served], tmp_path: Path
) -> None:
    driver, _ = page
    texts = ["one two three", "vier fünf", "sechs"]
    spans = [(0.0, 3.0), (0.5, 2.0), (2.0, 3.0)]
    # The last word of the first segment starts where its segment ends.
    times = [[0.0, 1.0, 3.0], [0.5, 1.5], [2.0]]
    timed_words = [
        {"word": word, "start": start, "end": start}
        for text, starts in zip(texts, times, strict=True)
        for word, start in zip(text.split(), starts, strict=True)
    ]
    segments = [
        {"start": start, "end": end, "text": text, "language": "en"}
        for (start, end), text in zip(spans, texts, strict=True)
    ]
    done = json.dumps({"type": "transcript.text.done", "segments": segments, "words": timed_words})
    driver.execute_script(
        "const body = arguments[0]; window.fetch = async () => new Response(body)", f"data: {done}\n\n"
    )
    upload(driver, tmp_path, wav(voice(3)))
    until(lambda: len(words(driver)) == len(timed_words))
    shown = driver.execute_script(
        "return [...document.querySelectorAll('#transcript p')]"
        ".map((p) => [...p.querySelectorAll('.word')].map((word) => word.textContent))"
    )
    assert shown == [text.split() for text in texts]
    marked = "return [...document.querySelectorAll('.word.now')].map((word) => word.textContent)"
    for time, word in ((0.55, "vier"), (1.05, "two"), (2.05, "sechs")):
        driver.execute_script("document.getElementById('player').currentTime = arguments[0]", time)
        until(lambda word=word: driver.execute_script(marked) == [word])


def test_speakers_have_labels_and_can_be_renamed(page: tuple[Any, Served], tmp_path: Path) -> None:
    driver, _ = page
    said = [("eins", "S1"), ("zwei", "S2"), ("drei", None), ("vier", "S1")]
    timed_words = [
        {"word": word, "start": 0.5 * number, "end": 0.5 * number + 0.4, "speaker": speaker}
        for number, (word, speaker) in enumerate(said)
    ]
    segment = {"start": 0, "end": 2, "text": "eins zwei drei vier", "language": "de", "speaker": None}
    body: dict[str, Any] = {"type": "transcript.text.done", "segments": [segment], "words": timed_words}
    body["speakers"] = [{"speaker": "S1", "name": "Anna"}, {"speaker": "S2", "name": None}]
    driver.execute_script(
        "const body = arguments[0]; window.fetch = async () => new Response(body);"
        "window.prompt = () => ' Ben ';",
        f"data: {json.dumps(body)}\n\n",
    )
    upload(driver, tmp_path, wav(voice(3)))
    until(lambda: len(words(driver)) == len(said))
    labels = "return [...document.querySelectorAll('button.speaker')].map((button) => button.textContent)"
    assert driver.execute_script(labels) == ["Anna", "S2", "Anna"]
    colours = "return [...document.querySelectorAll('.word')].map((word) => word.className)"
    assert driver.execute_script(colours) == ["word speaker-0", "word speaker-1", "word", "word speaker-0"]
    driver.execute_script("document.querySelectorAll('button.speaker')[1].click()")
    assert driver.execute_script(labels) == ["Anna", "Ben", "Anna"]


def test_an_error_is_shown(page: tuple[Any, Served], tmp_path: Path) -> None:
    driver, _ = page
    upload(driver, tmp_path, b"this is no audio at all " * 100)
    until(lambda: "talk.wav: decode failed" in driver.find_element("id", "problem").text)
    driver.get_log("browser")  # Chromium logs every 400 as an error


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_color_schemes_have_enough_contrast(
    page: tuple[Any, Served], tmp_path: Path, scheme: str
) -> None:
    driver, _ = page
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    upload(driver, tmp_path, wav(voice(6)))
    until(lambda: len(words(driver)) == 12)
    driver.execute_script("document.querySelectorAll('.word')[3].click()")
    until(lambda: driver.execute_script("return document.querySelectorAll('.word.now').length") == 1)
    pairs = driver.execute_script(
        """const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const own = (e) => getComputedStyle(e).backgroundColor;
        const background = (e) => { while (/, 0\\)$/.test(own(e))) e = e.parentElement; return own(e); };
        const shown = (e) => e.offsetParent && e.textContent.trim() && !e.disabled;
        const all = [...document.querySelectorAll('h1, p, label, button, .word')].filter(shown);
        const name = (e) => e.textContent.trim().slice(0, 30);
        return all.map((e) => [name(e), rgb(getComputedStyle(e).color), rgb(background(e))])"""
    )
    for name, foreground, background in pairs:
        assert contrast(foreground, background) >= 4.5, (name, foreground, background)
    driver.save_screenshot(str(tmp_path / f"{scheme}.png"))
    assert (tmp_path / f"{scheme}.png").stat().st_size > 10_000
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def contrast(left: list[float], right: list[float]) -> float:
    """The contrast ratio of WCAG 2, which requires 4.5 for text."""

    def luminance(colour: list[float]) -> float:
        parts = [value / 255 for value in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(left), luminance(right)))
    return (high + 0.05) / (low + 0.05)


def test_several_files_are_transcribed_one_after_the_other(page: tuple[Any, Served], tmp_path: Path) -> None:
    driver, _ = page
    paths = []
    for number, audio in enumerate([wav(voice(3)), b"no audio at all " * 100, wav(voice(20, 1))]):
        paths.append(tmp_path / f"file{number}.wav")
        paths[-1].write_bytes(audio)
    driver.find_element("id", "file").send_keys("\n".join(map(str, paths)))
    states = "return [...document.querySelectorAll('#queue .state')].map((state) => state.textContent)"
    # While a file is heard, its state is "0:12 of 0:20".
    until(lambda: driver.execute_script(states)[2].startswith("0:20, "))
    first, second, _ = driver.execute_script(states)
    assert first.startswith("0:03, ")
    assert "decode failed" in second
    # The first one is shown; a click shows another.
    assert "file0.wav · 0:03" in driver.find_element("id", "about").text
    driver.find_elements("css selector", "#queue li button")[2].click()
    until(lambda: len(words(driver)) > 20)
    times = [element.text for element in driver.find_elements("css selector", "#transcript .time")]
    assert times[0] == "0:00" and len(times) == len(driver.find_elements("css selector", "#transcript p"))
    assert not driver.find_element("id", "key-field").is_displayed()
    driver.get_log("browser")  # Chromium logs every 400 as an error


def test_the_context_is_no_longer_than_the_prompt_that_the_server_takes(page: tuple[Any, Served]) -> None:
    driver, served = page
    longest = driver.execute_script("return document.getElementById('context').maxLength")
    assert longest == served.config.serve.max_prompt


def test_the_api_page_lists_the_routes(page: tuple[Any, Served]) -> None:
    driver, served = page
    driver.get(served.url + "/docs")
    until(lambda: "/v1/audio/transcriptions" in driver.find_element("id", "routes").text)
