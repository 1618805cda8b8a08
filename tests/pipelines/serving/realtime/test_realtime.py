"""The realtime WebSocket with the fake models: events in order, settled text that stays, and what hostile clients get."""

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

from pipelines.serving import server
from tests.pipelines.serving.conftest import Make, Served, voice

RATE = 16_000
PREFIX = "conversation.item.input_audio_transcription."
QUIET = np.zeros(RATE, np.int16)


@contextlib.contextmanager
def opened(served: Served, path: str = "/v1/realtime", **options: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{served.port}{path}", proxy=None, max_size=None, **options) as socket:
        yield socket


def tell(socket: ClientConnection, kind: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def hear(socket: ClientConnection, until: str, seconds: float = 20) -> list[dict[str, Any]]:
    """Events up to the first one of a type."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != until:
        events.append(json.loads(socket.recv(seconds)))
    return events


def setting(rate: int = RATE, **fields: Any) -> dict[str, Any]:
    source = {"format": {"type": "audio/pcm", "rate": rate}, **fields}
    return {"type": "transcription", "audio": {"input": source}}


def append(socket: ClientConnection, sound: np.ndarray, piece: int = RATE // 5) -> None:
    for place in range(0, len(sound), piece):
        tell(
            socket,
            "input_audio_buffer.append",
            audio=base64.b64encode(sound[place : place + piece].tobytes()).decode(),
        )


def test_an_utterance_from_its_start_to_its_words(serve: Make) -> None:
    with opened(serve()) as socket:
        assert hear(socket, "session.created")[0]["session"]["type"] == "transcription"
        tell(
            socket,
            "session.update",
            session=setting(transcription={"model": "fake", "language": "de", "prompt": "names"}),
        )
        told = hear(socket, "session.updated")[-1]["session"]["audio"]["input"]
        assert (
            told["format"]["rate"] == RATE
            and told["transcription"]["language"] == "de"
            and told["turn_detection"]["type"] == "server_vad"
        )
        append(socket, np.concatenate([QUIET, voice(6), QUIET, QUIET]))
        events = hear(socket, PREFIX + "completed")
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
        starts = [word["start"] for word in done["words"]]
        assert (
            starts == sorted(starts)
            and done["start"] <= starts[0]
            and done["words"][-1]["end"] <= done["end"] + 0.01
        )
        assert done["usage"] == {
            "type": "duration",
            "seconds": pytest.approx(done["end"] - done["start"], abs=0.002),
        }
        append(socket, np.concatenate([voice(1), QUIET]))
        second = hear(socket, PREFIX + "completed")
        committed = next(event for event in second if event["type"] == "input_audio_buffer.committed")
        assert committed["previous_item_id"] == done["item_id"] and second[-1]["start"] > done["end"]


def test_the_beta_names_and_a_client_who_commits(serve: Make) -> None:
    with opened(serve(), additional_headers={"OpenAI-Beta": "realtime=v1"}) as socket:
        hear(socket, "transcription_session.created")
        tell(
            socket,
            "transcription_session.update",
            session={"input_audio_format": "pcm16", "turn_detection": None},
        )
        assert hear(socket, "transcription_session.updated")[-1]["session"]["turn_detection"] is None
        append(socket, np.repeat(voice(2), 3)[::2])  # 24 kHz, as OpenAI has it
        tell(socket, "input_audio_buffer.commit")
        done = hear(socket, PREFIX + "completed")[-1]
        assert done["transcript"] and done["end"] == pytest.approx(2, abs=0.05)
        tell(socket, "input_audio_buffer.commit", event_id="mine")
        error = hear(socket, "error")[-1]["error"]
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
        append(socket, voice(1))
        tell(socket, "input_audio_buffer.clear")
        hear(socket, "input_audio_buffer.cleared")


def test_no_rate_changes_once_audio_has_come_however_little(serve: Make) -> None:
    with opened(serve()) as socket:
        for refused in (False, True):
            if refused:
                append(socket, voice(1)[:4])  # so little that the resampler gives nothing yet
            else:
                tell(socket, "input_audio_buffer.append", audio="")
            tell(socket, "session.update", session=setting(48_000 if refused else 44_100))
            answer = hear(socket, "error" if refused else "session.updated")[-1]
        assert answer["error"]["param"] == "format.rate"


@pytest.mark.parametrize("rate", [8000, 24_000, 44_100, 48_000])
def test_a_commit_has_all_audio_and_what_was_cleared_is_gone(serve: Make, rate: int) -> None:
    with opened(serve()) as socket:
        tell(socket, "session.update", session=setting(rate, turn_detection=None))
        sound = np.resize(voice(2), rate)  # a second
        append(socket, sound)
        tell(socket, "input_audio_buffer.commit")
        first = hear(socket, PREFIX + "completed")[-1]
        assert (first["start"], first["end"]) == (0, pytest.approx(1, abs=0.001))
        for _ in range(3):  # each has its time
            append(socket, sound)
            tell(socket, "input_audio_buffer.clear")
            hear(socket, "input_audio_buffer.cleared")
        append(socket, sound)
        tell(socket, "input_audio_buffer.commit")
        second = hear(socket, PREFIX + "completed")[-1]
        assert (second["start"], second["end"]) == (pytest.approx(4, abs=0.003), pytest.approx(5, abs=0.003))
        assert second["end"] - second["start"] == pytest.approx(1, abs=0.001)


def test_silence_has_no_text_and_a_failing_model_says_so(serve: Make) -> None:
    with opened(serve()) as socket:
        tell(
            socket,
            "session.update",
            session=setting(turn_detection=None, transcription={"prompt": "fault:raise"}),
        )
        append(socket, np.concatenate([QUIET, QUIET]))
        tell(socket, "input_audio_buffer.commit")
        assert hear(socket, PREFIX + "completed")[-1]["transcript"] == ""
        append(socket, voice(1))
        tell(socket, "input_audio_buffer.commit")
        assert hear(socket, PREFIX + "failed")[-1]["error"]["code"] == "model_failed"


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
        '{"type": "session.update", "session": {"audio": {"input": {"transcription": {"prompt": "\\ud800"}}}}}',
        '{"type": "response.create"}',
        '{"type": "input_audio_buffer.append"}',
        '{"type": "input_audio_buffer.append", "audio": "%%%"}',
        '{"type": "input_audio_buffer.append", "audio": "YWI9YQ"}',
        '{"type": "input_audio_buffer.append", "audio": "YWJj"}',
        '{"type": "input_audio_buffer.append", "audio": 5}',
        '{"type": "session.update", "session": 5}',
        '{"type": "session.update", "session": {"type": "realtime"}}',
        '{"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 1}}}}}',
        '{"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}}',
        '{"type": "session.update", "session": {"audio": {"input": {"transcription": {"language": "xx"}}}}}',
        '{"type": "session.update", "session": {"audio": {"input": {"transcription": {"model": "gpt"}}}}}',
        '{"type": "session.update", "session": {"audio": {"input": {"turn_detection": {"silence_duration_ms": "x"}}}}}',
        "[" * 100_000,
        b"\x00\x01",
    ],
    ids=lambda message: str(message)[:60],
)
def test_nonsense_is_told_and_the_stream_goes_on(serve: Make, message: str | bytes) -> None:
    with opened(serve()) as socket:
        hear(socket, "session.created")
        socket.send(message)
        assert hear(socket, "error")[-1]["error"]["message"]
        tell(socket, "session.update", session=setting())
        hear(socket, "session.updated")


def test_a_message_that_is_too_large_ends_the_stream_only(serve: Make) -> None:
    served = serve()
    with opened(served) as socket, pytest.raises(ConnectionClosed):
        socket.send("x" * (6 << 20))
        while True:
            socket.recv(20)
    assert served.ask("GET", "/readyz")[0] == 200


def test_a_stream_needs_a_key_a_place_and_our_own_page(serve: Make) -> None:
    key = "sk-stream"
    locked = serve(api_keys=[hashlib.sha256(key.encode()).hexdigest()])
    for options, status in (({}, 401), ({"origin": "http://evil.example"}, 403)):
        with pytest.raises(InvalidStatus) as caught, opened(locked, **options):
            pass
        assert caught.value.response.status_code == status
    with opened(locked, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
        hear(socket, "session.created")
    with opened(locked, subprotocols=["realtime", f"openai-insecure-api-key.{key}"]) as socket:
        assert socket.subprotocol == "realtime"
    small = serve(max_streams=1)
    with opened(small) as socket:
        hear(socket, "session.created")
        with pytest.raises(InvalidStatus) as caught, opened(small):
            pass
        assert caught.value.response.status_code == 503

    def free() -> None:
        deadline = time.monotonic() + 10
        while small.application.active and time.monotonic() < deadline:
            time.sleep(0.01)

    free()
    with opened(small) as socket:
        hear(socket, "session.created")
    free()
    with pytest.raises(InvalidStatus) as caught, opened(small, path="/v1/realtime?model=gpt-9"):
        pass
    assert caught.value.response.status_code == 404


def test_a_client_who_vanishes_leaves_nothing(serve: Make) -> None:
    served = serve(cost="fake:0.2", max_streams=7)
    with opened(served) as socket:
        tell(socket, "session.update", session=setting())
        append(socket, voice(6))
        socket.socket.close()
    deadline = time.monotonic() + 20
    while served.application.active and time.monotonic() < deadline:
        time.sleep(0.01)
    assert served.application.active == 0


def test_a_client_who_is_held_back_is_not_taken_for_dead(
    serve: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PING_SECONDS", 0.2)
    served = serve(cost="fake:0.1", max_streams=11)
    with opened(served) as socket:
        tell(socket, "session.update", session=setting())
        append(
            socket, np.concatenate([*(np.concatenate([voice(4, seed), QUIET]) for seed in range(10)), QUIET])
        )  # seconds of work
        assert [
            len(hear(socket, PREFIX + "completed")[-1]["transcript"].split()) >= 8 for _ in range(10)
        ] == [True] * 10


def test_a_server_that_ends_finishes_what_was_said(serve: Make) -> None:
    served = serve(max_streams=9)
    with opened(served) as socket:
        tell(socket, "session.update", session=setting())
        append(socket, voice(3))
        time.sleep(0.3)
        served.loop.call_soon_threadsafe(served.application.start_draining)
        assert len(hear(socket, PREFIX + "completed")[-1]["words"]) >= 5
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(20)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001
