"""One stream without a server: limits of client events, and sending to a disconnected client."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from actors.config import ASRConfig
from actors.segmentation.endpointing import TurnDetection
from pipelines.config import RunConfig
from pipelines.serving.realtime.session import Session
from pipelines.serving.realtime.websocket import _Stream
from pipelines.serving.web.forms.bodies import MAX_VALUES

MAX_PROMPT = RunConfig().serve.max_prompt


class Client:
    """The client's side of a stream; it may disconnect."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.disconnected = False

    async def _receive(self) -> Any:
        raise AssertionError("the stream is not served, so nothing is received")

    async def _send(self, message: Any) -> None:
        await asyncio.sleep(0)
        if self.disconnected:
            raise OSError("disconnected")
        self.events.append(json.loads(message["text"]))

    def stream(self) -> _Stream:
        socket = WebSocket({"type": "websocket"}, self._receive, self._send)
        socket.client_state = socket.application_state = WebSocketState.CONNECTED
        service: Any = SimpleNamespace(
            config=RunConfig.model_validate({"asr": ASRConfig(backend="fake", model="fake")})
        )
        return _Stream(socket, service, Session("fake", None, None, 16_000, TurnDetection()), beta=False)


def response_to(text: str) -> dict[str, Any]:
    """The event that the server sends for a message."""

    async def main() -> dict[str, Any]:
        client = Client()
        await client.stream()._handle_message({"text": text})
        (event,) = client.events
        return event

    return asyncio.run(main())


@pytest.mark.parametrize("value", ["[]", "{}", "1"])
def test_an_event_with_too_many_values_is_not_parsed(value: str) -> None:
    text = '{"type": "x", "values": [' + ",".join([value] * MAX_VALUES) + "]}"
    error = response_to(text)["error"]
    assert error["code"] == "invalid_event" and "values" in error["message"]


def test_the_longest_prompt_may_consist_of_commas() -> None:
    transcription = {"prompt": "," * MAX_PROMPT}
    session = {"audio": {"input": {"transcription": transcription}}}
    event = response_to(json.dumps({"type": "session.update", "session": session}))
    assert event["type"] == "session.updated"
    assert event["session"]["audio"]["input"]["transcription"]["prompt"] == "," * MAX_PROMPT


def test_a_longer_prompt_is_cut_with_a_warning() -> None:
    session = {"audio": {"input": {"transcription": {"prompt": "," * MAX_PROMPT + "Ada"}}}}
    event = response_to(json.dumps({"type": "session.update", "session": session}))
    prompt = event["session"]["audio"]["input"]["transcription"]["prompt"]
    assert prompt == "," * (MAX_PROMPT - 3) + "Ada"
    assert event["warnings"] == [
        "prompt is cut: it has 10003 characters, the model takes 10000; the last 10000 are used"
    ]


def test_all_tasks_that_send_to_a_disconnected_client_learn_of_it() -> None:
    async def main() -> list[BaseException | None]:
        client = Client()
        stream = client.stream()
        client.disconnected = True
        return await asyncio.gather(*(stream.send({"type": "x"}) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in asyncio.run(main())] == [WebSocketDisconnect] * 3
