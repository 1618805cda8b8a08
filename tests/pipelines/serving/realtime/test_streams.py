"""One stream without a server: what its client may say at most, and what happens to those who still talk to a client who has gone."""

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
from pipelines.serving.service import MAX_PROMPT
from pipelines.serving.web.uploads import MAX_VALUES


class Client:
    """The other end of a stream's socket, which may go."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.gone = False

    async def _receive(self) -> Any:
        raise AssertionError("nobody reads here")

    async def _send(self, message: Any) -> None:
        await asyncio.sleep(0)
        if self.gone:
            raise OSError("it has gone")
        self.told.append(json.loads(message["text"]))

    def stream(self) -> _Stream:
        socket = WebSocket({"type": "websocket"}, self._receive, self._send)
        socket.client_state = socket.application_state = WebSocketState.CONNECTED
        service: Any = SimpleNamespace(
            config=RunConfig.model_validate({"asr": ASRConfig(backend="fake", model="fake")})
        )
        return _Stream(socket, service, Session("fake", None, None, 16_000, TurnDetection()), beta=False)


def answer(text: str) -> dict[str, Any]:
    """What a client is told who says this."""

    async def main() -> dict[str, Any]:
        client = Client()
        await client.stream()._answer({"text": text})
        (told,) = client.told
        return told

    return asyncio.run(main())


@pytest.mark.parametrize("value", ["[]", "{}", "1"])
def test_an_event_of_too_many_values_is_not_parsed(value: str) -> None:
    text = '{"type": "x", "values": [' + ",".join([value] * MAX_VALUES) + "]}"
    error = answer(text)["error"]
    assert error["code"] == "invalid_event" and "values" in error["message"]


def test_the_longest_prompt_may_be_commas_only() -> None:
    told = answer(
        json.dumps(
            {
                "type": "session.update",
                "session": {"audio": {"input": {"transcription": {"prompt": "," * MAX_PROMPT}}}},
            }
        )
    )
    assert (
        told["type"] == "session.updated"
        and told["session"]["audio"]["input"]["transcription"]["prompt"] == "," * MAX_PROMPT
    )


def test_all_who_tell_a_client_who_has_gone_learn_that_he_has() -> None:
    async def main() -> list[BaseException | None]:
        client = Client()
        stream = client.stream()
        client.gone = True
        return await asyncio.gather(*(stream.tell({"type": "x"}) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in asyncio.run(main())] == [WebSocketDisconnect] * 3
