"""The realtime WebSocket with the fake models: order of events, settings, errors, and limits."""

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from pipelines.serving.web import http_server
from tests.pipelines.serving.conftest import Make, Served, voice

RATE = 16_000
PREFIX = "conversation.item.input_audio_transcription."
QUIET = np.zeros(RATE, np.int16)


@contextlib.contextmanager
def open_stream(served: Served, path: str = "/v1/realtime", **options: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{served.port}{path}", proxy=None, max_size=None, **options) as socket:
        yield socket


def send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def receive(socket: ClientConnection, until: str, timeout: float = 60) -> list[dict[str, Any]]:
    """Receive events up to the first one of a type."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != until:
        events.append(json.loads(socket.recv(timeout)))
    return events


def session_settings(rate: int = RATE, **fields: Any) -> dict[str, Any]:
    source = {"format": {"type": "audio/pcm", "rate": rate}, **fields}
    return {"type": "transcription", "audio": {"input": source}}


def wait_until_idle(served: Served) -> None:
    deadline = time.monotonic() + 60
    while served.application.active and time.monotonic() < deadline:
        time.sleep(0.01)
    assert served.application.active == 0


def append(socket: ClientConnection, samples: np.ndarray, chunk: int = RATE // 5) -> None:
    for start in range(0, len(samples), chunk):
        audio = base64.b64encode(samples[start : start + chunk].tobytes()).decode()
        send(socket, "input_audio_buffer.append", audio=audio)


def test_an_utterance_has_its_events_in_order_and_its_words(serve: Make) -> None:
    with open_stream(serve()) as socket:
        assert receive(socket, "session.created")[0]["session"]["type"] == "transcription"
        send(
            socket,
            "session.update",
            session=session_settings(transcription={"model": "fake", "language": "de", "prompt": "names"}),
        )
        settings = receive(socket, "session.updated")[-1]["session"]["audio"]["input"]
        assert settings["format"]["rate"] == RATE
        assert settings["transcription"]["language"] == "de"
        assert settings["turn_detection"]["type"] == "server_vad"
        append(socket, np.concatenate([QUIET, voice(6), QUIET, QUIET]))
        events = receive(socket, PREFIX + "completed")
        kinds = [event["type"] for event in events if "delta" not in event["type"]]
        assert kinds == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            PREFIX + "completed",
        ]
        done = events[-1]
        assert len({event["item_id"] for event in events if "item_id" in event}) == 1
        assert done["language"] == "de" and len(done["words"]) == len(done["transcript"].split()) >= 12
        assert 0.5 <= done["start"] <= 1.0 and 7.0 <= done["end"] <= 7.5
        assert all(0.9 <= word["confidence"] <= 1 for word in done["words"])
        starts = [word["start"] for word in done["words"]]
        assert starts == sorted(starts) and done["start"] <= starts[0]
        assert done["words"][-1]["end"] <= done["end"] + 0.01
        assert done["usage"] == {
            "type": "duration",
            "seconds": pytest.approx(done["end"] - done["start"], abs=0.002),
        }
        append(socket, np.concatenate([voice(1), QUIET]))
        second = receive(socket, PREFIX + "completed")
        committed = next(event for event in second if event["type"] == "input_audio_buffer.committed")
        assert committed["previous_item_id"] == done["item_id"] and second[-1]["start"] > done["end"]


def test_the_beta_api_and_commits_by_the_client(serve: Make) -> None:
    with open_stream(serve(), additional_headers={"OpenAI-Beta": "realtime=v1"}) as socket:
        receive(socket, "transcription_session.created")
        send(
            socket,
            "transcription_session.update",
            session={"input_audio_format": "pcm16", "turn_detection": None},
        )
        assert receive(socket, "transcription_session.updated")[-1]["session"]["turn_detection"] is None
        append(socket, np.repeat(voice(2), 3)[::2])  # 24 kHz, the default
        send(socket, "input_audio_buffer.commit")
        done = receive(socket, PREFIX + "completed")[-1]
        assert done["transcript"] and done["end"] == pytest.approx(2, abs=0.05)
        send(socket, "input_audio_buffer.commit", event_id="mine")
        error = receive(socket, "error")[-1]["error"]
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
        append(socket, voice(1))
        send(socket, "input_audio_buffer.clear")
        receive(socket, "input_audio_buffer.cleared")


def test_the_rate_cannot_change_after_the_first_audio_however_little(serve: Make) -> None:
    with open_stream(serve()) as socket:
        for refused in (False, True):
            if refused:
                append(socket, voice(1)[:4])  # so little that the resampler returns nothing yet
            else:
                send(socket, "input_audio_buffer.append", audio="")
            send(socket, "session.update", session=session_settings(48_000 if refused else 44_100))
            event = receive(socket, "error" if refused else "session.updated")[-1]
        assert event["error"]["param"] == "format.rate"


@pytest.mark.parametrize("rate", [8000, 24_000, 44_100, 48_000])
def test_a_commit_has_all_audio_and_cleared_audio_keeps_its_duration(serve: Make, rate: int) -> None:
    with open_stream(serve()) as socket:
        send(socket, "session.update", session=session_settings(rate, turn_detection=None))
        second_of_audio = np.resize(voice(2), rate)
        append(socket, second_of_audio)
        send(socket, "input_audio_buffer.commit")
        first = receive(socket, PREFIX + "completed")[-1]
        assert (first["start"], first["end"]) == (0, pytest.approx(1, abs=0.001))
        for _ in range(3):
            append(socket, second_of_audio)
            send(socket, "input_audio_buffer.clear")
            receive(socket, "input_audio_buffer.cleared")
        append(socket, second_of_audio)
        send(socket, "input_audio_buffer.commit")
        second = receive(socket, PREFIX + "completed")[-1]
        assert (second["start"], second["end"]) == (pytest.approx(4, abs=0.003), pytest.approx(5, abs=0.003))
        assert second["end"] - second["start"] == pytest.approx(1, abs=0.001)


def test_silence_has_no_text_and_a_failing_model_is_reported(serve: Make) -> None:
    with open_stream(serve()) as socket:
        send(
            socket,
            "session.update",
            session=session_settings(turn_detection=None, transcription={"prompt": "fault:raise"}),
        )
        append(socket, np.concatenate([QUIET, QUIET]))
        send(socket, "input_audio_buffer.commit")
        assert receive(socket, PREFIX + "completed")[-1]["transcript"] == ""
        append(socket, voice(1))
        send(socket, "input_audio_buffer.commit")
        assert receive(socket, PREFIX + "failed")[-1]["error"]["code"] == "model_failed"


def input_update(settings: str) -> str:
    """A `session.update` with these settings of the audio input, as JSON."""
    return '{"type": "session.update", "session": {"audio": {"input": ' + settings + "}}}"


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        '"x"',
        "{}",
        '{"type": 7}',
        '{"type": "\\ud800"}',
        '{"type": "x", "event_id": "\\ud800"}',
        input_update('{"transcription": {"prompt": "\\ud800"}}'),
        '{"type": "response.create"}',
        '{"type": "input_audio_buffer.append"}',
        '{"type": "input_audio_buffer.append", "audio": "%%%"}',
        '{"type": "input_audio_buffer.append", "audio": "YWI9YQ"}',
        '{"type": "input_audio_buffer.append", "audio": "YWJj"}',
        '{"type": "input_audio_buffer.append", "audio": 5}',
        '{"type": "session.update", "session": 5}',
        '{"type": "session.update", "session": {"type": "realtime"}}',
        input_update('{"format": {"type": "audio/pcm", "rate": 1}}'),
        input_update('{"format": {"type": "audio/pcmu"}}'),
        input_update('{"transcription": {"language": "xx"}}'),
        input_update('{"transcription": {"model": "gpt"}}'),
        input_update('{"turn_detection": {"silence_duration_ms": "x"}}'),
        "[" * 100_000,
        b"\x00\x01",
    ],
    ids=lambda message: str(message)[:100],
)
def test_an_invalid_message_is_reported_and_the_stream_continues(serve: Make, message: str | bytes) -> None:
    with open_stream(serve()) as socket:
        receive(socket, "session.created")
        socket.send(message)
        assert receive(socket, "error")[-1]["error"]["message"]
        send(socket, "session.update", session=session_settings())
        receive(socket, "session.updated")


def test_a_message_that_is_too_large_closes_only_its_stream(serve: Make) -> None:
    served = serve()
    with open_stream(served) as socket, pytest.raises(ConnectionClosed):
        socket.send("x" * (6 << 20))
        while True:
            socket.recv(60)
    assert served.ask("GET", "/readyz")[0] == 200


def test_a_stream_needs_a_key_an_allowed_origin_and_a_free_place(serve: Make) -> None:
    key = "sk-stream"
    locked = serve(api_keys=[hashlib.sha256(key.encode()).hexdigest()])
    for options, status in (({}, 401), ({"origin": "http://evil.example"}, 403)):
        with pytest.raises(InvalidStatus) as caught, open_stream(locked, **options):
            pass
        assert caught.value.response.status_code == status
    with open_stream(locked, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
        receive(socket, "session.created")
    with open_stream(locked, subprotocols=["realtime", f"openai-insecure-api-key.{key}"]) as socket:
        assert socket.subprotocol == "realtime"
    small = serve(max_streams=1)
    with open_stream(small) as socket:
        receive(socket, "session.created")
        with pytest.raises(InvalidStatus) as caught, open_stream(small):
            pass
        assert caught.value.response.status_code == 503

    wait_until_idle(small)
    with open_stream(small) as socket:
        receive(socket, "session.created")
    wait_until_idle(small)
    with pytest.raises(InvalidStatus) as caught, open_stream(small, path="/v1/realtime?model=gpt-9"):
        pass
    assert caught.value.response.status_code == 404


def test_a_client_that_vanishes_frees_its_place(serve: Make) -> None:
    served = serve(cost="fake:0.2", max_streams=7)
    with open_stream(served) as socket:
        send(socket, "session.update", session=session_settings())
        append(socket, voice(6))
        socket.socket.close()
    wait_until_idle(served)


def test_a_client_that_is_not_read_is_not_closed_by_pings(
    serve: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "PING_INTERVAL", 0.2)
    served = serve(cost="fake:0.1", max_streams=11)
    with open_stream(served) as socket:
        send(socket, "session.update", session=session_settings())
        append(
            socket, np.concatenate([*(np.concatenate([voice(4, seed), QUIET]) for seed in range(10)), QUIET])
        )  # seconds of work
        for _ in range(10):
            assert len(receive(socket, PREFIX + "completed")[-1]["transcript"].split()) >= 8


def test_a_draining_server_finishes_the_current_utterance(serve: Make) -> None:
    served = serve(max_streams=9)
    with open_stream(served) as socket:
        send(socket, "session.update", session=session_settings())
        append(socket, voice(3))
        time.sleep(0.3)
        served.loop.call_soon_threadsafe(served.application.start_draining)
        assert len(receive(socket, PREFIX + "completed")[-1]["words"]) >= 5
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(60)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001
