"""The page's microphone in a real Chromium: with the real server, and with one that says what the test wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.serving.browser import needs_browser, until, upload, words
from tests.pipelines.serving.conftest import Served, voice, wav

pytestmark = needs_browser

_PREFIX = "conversation.item.input_audio_transcription."
# A server in the page: `told` is what it heard, `say` answers. No timer of the page is longer than `longest`.
_SCRIPTED = """
const real = setTimeout;
window.longest = Infinity;
window.setTimeout = (work, wait) => real(work, Math.min(wait, longest));
window.told = [];
window.WebSocket = class {
  static OPEN = 1;
  constructor() { this.readyState = 1; window.socket = this; real(() => this.onopen()); }
  send(text) { told.push(JSON.parse(text).type); }
  close() { this.readyState = 3; }
};
window.say = (event) => socket.onmessage({ data: JSON.stringify(event) });
"""
_RECORDED = """
const done = arguments[0];
(async () => {
  const context = new AudioContext({ sampleRate: 48000 });
  await context.audioWorklet.addModule("page/recorder.js");
  const node = new AudioWorkletNode(context, "recorder");
  const sound = new AudioBuffer({ length: 12000, sampleRate: 48000 });
  sound.getChannelData(0).fill(0.5);
  let heard = 0;
  node.port.onmessage = ({ data }) => { if (data) heard += data.filter(Boolean).length; };
  const source = new AudioBufferSourceNode(context, { buffer: sound });
  source.onended = () => { node.port.postMessage("end"); setTimeout(() => context.close().then(() => done(heard)), 300); };
  source.connect(node);
  source.start();
  await context.resume();
})().catch((error) => done(String(error)));
"""


def record(driver: Any) -> None:
    """Begin to record with the scripted server."""
    driver.execute_script(_SCRIPTED)
    driver.find_element("id", "record").click()
    until(lambda: "input_audio_buffer.append" in told(driver))


def told(driver: Any) -> list[str]:
    found: list[str] = driver.execute_script("return told")
    return found


def say(driver: Any, kind: str, **fields: Any) -> None:
    driver.execute_script("say(arguments[0])", {"type": kind, **fields})


def utter(driver: Any, text: str) -> None:
    """The whole text of an utterance of one word."""
    said = [{"word": text, "start": 0, "end": 1}]
    say(driver, _PREFIX + "completed", start=0, end=1, transcript=text, language="en", words=said)


def recording(driver: Any) -> bool:
    return not driver.find_element("id", "record").is_enabled()


def test_the_microphone(page: tuple[Any, Served]) -> None:
    driver, _ = page
    driver.find_element("id", "record").click()
    until(lambda: len(words(driver)) > 5)
    driver.find_element("id", "stop").click()
    until(lambda: driver.find_element("id", "record").is_enabled())
    assert driver.find_element("id", "problem").text == ""
    until(lambda: driver.execute_script("return document.getElementById('player').duration") > 1)
    starts = driver.execute_script(
        "return [...document.querySelectorAll('.word')].map((word) => Number(word.dataset.start))"
    )
    assert starts == sorted(starts)


def test_a_file_does_not_come_into_a_recording(page: tuple[Any, Served]) -> None:
    driver, _ = page
    driver.execute_script(
        "window.asked = []; const real = fetch; window.fetch = (...all) => { asked.push(all[0]); return real(...all); }"
    )
    driver.find_element("id", "record").click()
    until(lambda: "Recording" in driver.find_element("id", "status").text)
    assert not driver.find_element("id", "file").is_enabled()
    driver.execute_script(
        "const data = new DataTransfer(); data.items.add(new File(['x'], 'other.wav'));"
        "document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))"
    )
    assert (
        driver.execute_script("return window.asked") == []
        and "Recording" in driver.find_element("id", "status").text
    )
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
    assert (
        driver.find_element("id", "record").is_enabled()
        and not driver.find_element("id", "stop").is_displayed()
    )
    driver.execute_script("allow()")
    until(
        lambda: driver.execute_script(
            "return tracks.length && tracks.every((track) => track.readyState === 'ended')"
        )
    )
    assert (
        driver.find_element("id", "record").is_enabled() and driver.find_element("id", "problem").text == ""
    )
    assert served.application.active == 0


def test_stop_waits_for_every_utterance(page: tuple[Any, Served]) -> None:
    driver, _ = page
    record(driver)
    say(driver, "input_audio_buffer.committed")  # and the next one is being said
    driver.find_element("id", "stop").click()
    until(lambda: told(driver)[-2:] == ["input_audio_buffer.commit", "input_audio_buffer.clear"])
    utter(driver, "first")
    assert recording(driver)
    say(driver, "input_audio_buffer.committed")
    say(driver, "input_audio_buffer.cleared")
    assert recording(driver)
    utter(driver, "second")
    assert not recording(driver) and words(driver) == ["first", "second"]
    assert driver.find_element("id", "problem").text == ""


def test_stop_after_silence_waits_for_nothing(page: tuple[Any, Served]) -> None:
    driver, _ = page
    record(driver)
    driver.find_element("id", "stop").click()
    until(lambda: "input_audio_buffer.clear" in told(driver))
    say(driver, "error", error={"code": "input_audio_buffer_commit_empty", "message": "nothing to commit"})
    assert recording(driver)
    say(driver, "input_audio_buffer.cleared")
    assert not recording(driver) and driver.find_element("id", "problem").text == ""


@pytest.mark.parametrize(
    ("longest", "end"), [("1000", ""), ("Infinity", "socket.onclose()")], ids=["too slow", "closed"]
)
def test_last_words_that_do_not_come_are_missed(page: tuple[Any, Served], longest: str, end: str) -> None:
    driver, _ = page
    record(driver)
    driver.execute_script(f"window.longest = {longest}")
    driver.find_element("id", "stop").click()
    until(lambda: "input_audio_buffer.clear" in told(driver))
    say(driver, "input_audio_buffer.committed")
    say(driver, "input_audio_buffer.cleared")
    driver.execute_script(end)
    until(lambda: not recording(driver))
    assert "last words may be missing" in driver.find_element("id", "problem").text


def test_the_recorder_gives_its_last_samples(page: tuple[Any, Served]) -> None:
    assert page[0].execute_async_script(_RECORDED) == 12_000  # two tenths of a second and a half


def test_nothing_is_played_into_a_recording(page: tuple[Any, Served], tmp_path: Path) -> None:
    driver, _ = page
    upload(driver, tmp_path, wav(voice(8)))
    until(lambda: words(driver))
    driver.execute_script("document.getElementById('player').play()")
    playing = "const player = document.getElementById('player'); return [player.paused, player.duration > 0, player.currentTime > 0]"
    until(lambda: driver.execute_script(playing) == [False, True, True])
    record(driver)
    assert driver.execute_script(playing) == [True, False, False]
    utter(driver, "word")
    driver.find_element("class name", "word").click()
    assert driver.execute_script(playing) == [True, False, False]
    driver.find_element("id", "stop").click()
    say(driver, "input_audio_buffer.cleared")
    until(lambda: driver.execute_script(playing) == [True, True, False])
