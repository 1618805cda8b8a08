"""The page's microphone in a real Chromium, with the real server and with a scripted one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.serving.browser import needs_browser, until, upload, words
from tests.pipelines.serving.conftest import Served, voice, wav

pytestmark = needs_browser

_PREFIX = "conversation.item.input_audio_transcription."
# A server inside the page: `received` lists the types of the page's events, `sendEvent` sends one to the
# page. No timer of the page is longer than `longest`.
_SCRIPTED_SERVER = """
const real = setTimeout;
window.longest = Infinity;
window.setTimeout = (work, wait) => real(work, Math.min(wait, longest));
window.received = [];
window.WebSocket = class {
  static OPEN = 1;
  constructor() { this.readyState = 1; window.socket = this; real(() => this.onopen()); }
  send(text) { received.push(JSON.parse(text).type); }
  close() { this.readyState = 3; }
};
window.sendEvent = (event) => socket.onmessage({ data: JSON.stringify(event) });
"""
# Records a quarter of a second, and returns the number of samples that are not zero.
_RECORD_SAMPLES = """
const done = arguments[0];
(async () => {
  const context = new AudioContext({ sampleRate: 48000 });
  await context.audioWorklet.addModule("page/recorder.js");
  const node = new AudioWorkletNode(context, "recorder");
  const sound = new AudioBuffer({ length: 12000, sampleRate: 48000 });
  sound.getChannelData(0).fill(0.5);
  let samples = 0;
  node.port.onmessage = ({ data }) => { if (data) samples += data.filter(Boolean).length; };
  const source = new AudioBufferSourceNode(context, { buffer: sound });
  source.onended = () => {
    node.port.postMessage("end");
    setTimeout(() => context.close().then(() => done(samples)), 300);
  };
  source.connect(node);
  source.start();
  await context.resume();
})().catch((error) => done(String(error)));
"""


def record(driver: Any) -> None:
    """Start recording with the scripted server."""
    driver.execute_script(_SCRIPTED_SERVER)
    driver.find_element("id", "record").click()
    until(lambda: "input_audio_buffer.append" in received(driver))


def received(driver: Any) -> list[str]:
    """The types of the events that the scripted server has received."""
    types: list[str] = driver.execute_script("return received")
    return types


def send(driver: Any, kind: str, **fields: Any) -> None:
    """Send an event from the scripted server."""
    driver.execute_script("sendEvent(arguments[0])", {"type": kind, **fields})


def send_transcript(driver: Any, text: str) -> None:
    """Send the transcript of an utterance of one word."""
    timed_words = [{"word": text, "start": 0, "end": 1}]
    send(driver, _PREFIX + "completed", start=0, end=1, transcript=text, language="en", words=timed_words)


def problem(driver: Any) -> str:
    """The error shown on the page."""
    text: str = driver.find_element("id", "problem").text
    return text


def is_recording(driver: Any) -> bool:
    return not driver.find_element("id", "record").is_enabled()


def test_the_microphone_is_transcribed(page: tuple[Any, Served]) -> None:
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


def test_files_are_ignored_during_a_recording(page: tuple[Any, Served]) -> None:
    driver, _ = page
    driver.execute_script(
        "window.fetched = []; const real = fetch;"
        "window.fetch = (...all) => { fetched.push(all[0]); return real(...all); }"
    )
    driver.find_element("id", "record").click()
    until(lambda: "Recording" in driver.find_element("id", "status").text)
    assert not driver.find_element("id", "file").is_enabled()
    driver.execute_script(
        "const data = new DataTransfer(); data.items.add(new File(['x'], 'other.wav'));"
        "const options = { dataTransfer: data, bubbles: true, cancelable: true };"
        "document.getElementById('drop').dispatchEvent(new DragEvent('drop', options))"
    )
    assert driver.execute_script("return window.fetched") == []
    assert "Recording" in driver.find_element("id", "status").text
    driver.find_element("id", "stop").click()
    until(lambda: driver.find_element("id", "record").is_enabled())
    assert driver.find_element("id", "file").is_enabled() and problem(driver) == ""


def test_stop_before_the_microphone_is_allowed_records_nothing(page: tuple[Any, Served]) -> None:
    driver, served = page
    driver.execute_script(
        "const devices = navigator.mediaDevices, real = devices.getUserMedia.bind(devices);"
        "window.tracks = []; devices.getUserMedia = (options) => new Promise((resolve) => {"
        "  window.allow = async () => {"
        "    const stream = await real(options); window.tracks = stream.getTracks(); resolve(stream); }; });"
    )
    driver.find_element("id", "record").click()
    until(lambda: driver.execute_script("return Boolean(window.allow)"))
    driver.find_element("id", "stop").click()
    assert driver.find_element("id", "record").is_enabled()
    assert not driver.find_element("id", "stop").is_displayed()
    driver.execute_script("allow()")
    until(
        lambda: driver.execute_script(
            "return tracks.length && tracks.every((track) => track.readyState === 'ended')"
        )
    )
    assert driver.find_element("id", "record").is_enabled() and problem(driver) == ""
    assert served.application.active == 0


def test_stop_waits_for_every_utterance(page: tuple[Any, Served]) -> None:
    driver, _ = page
    record(driver)
    send(driver, "input_audio_buffer.committed")  # the next utterance has started
    driver.find_element("id", "stop").click()
    until(lambda: received(driver)[-2:] == ["input_audio_buffer.commit", "input_audio_buffer.clear"])
    send_transcript(driver, "first")
    assert is_recording(driver)
    send(driver, "input_audio_buffer.committed")
    send(driver, "input_audio_buffer.cleared")
    assert is_recording(driver)
    send_transcript(driver, "second")
    assert not is_recording(driver) and words(driver) == ["first", "second"]
    assert problem(driver) == ""


def test_stop_after_silence_waits_for_no_utterance(page: tuple[Any, Served]) -> None:
    driver, _ = page
    record(driver)
    driver.find_element("id", "stop").click()
    until(lambda: "input_audio_buffer.clear" in received(driver))
    send(driver, "error", error={"code": "input_audio_buffer_commit_empty", "message": "nothing to commit"})
    assert is_recording(driver)
    send(driver, "input_audio_buffer.cleared")
    assert not is_recording(driver) and problem(driver) == ""


@pytest.mark.parametrize(
    ("longest", "end"), [("1000", ""), ("Infinity", "socket.onclose()")], ids=["too slow", "closed"]
)
def test_a_missing_last_transcript_is_reported(page: tuple[Any, Served], longest: str, end: str) -> None:
    driver, _ = page
    record(driver)
    driver.execute_script(f"window.longest = {longest}")
    driver.find_element("id", "stop").click()
    until(lambda: "input_audio_buffer.clear" in received(driver))
    send(driver, "input_audio_buffer.committed")
    send(driver, "input_audio_buffer.cleared")
    driver.execute_script(end)
    until(lambda: not is_recording(driver))
    assert "last words may be missing" in problem(driver)


def test_the_recorder_returns_its_last_samples(page: tuple[Any, Served]) -> None:
    # A quarter of a second: two full buffers of a tenth, and half a buffer.
    assert page[0].execute_async_script(_RECORD_SAMPLES) == 12_000


def test_nothing_is_played_during_a_recording(page: tuple[Any, Served], tmp_path: Path) -> None:
    driver, _ = page
    upload(driver, tmp_path, wav(voice(8)))
    until(lambda: words(driver))
    driver.execute_script("document.getElementById('player').play()")
    state = (
        "const player = document.getElementById('player');"
        "return [player.paused, player.duration > 0, player.currentTime > 0]"
    )
    until(lambda: driver.execute_script(state) == [False, True, True])
    record(driver)
    assert driver.execute_script(state) == [True, False, False]
    send_transcript(driver, "word")
    driver.find_element("class name", "word").click()
    assert driver.execute_script(state) == [True, False, False]
    driver.find_element("id", "stop").click()
    send(driver, "input_audio_buffer.cleared")
    until(lambda: driver.execute_script(state) == [True, True, False])
