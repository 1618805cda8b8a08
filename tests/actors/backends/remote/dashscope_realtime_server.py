"""A small server with DashScope's real-time API around any engine, which misbehaves on request.

It follows the public description: sessions over WebSockets, appended audio, commits.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from websockets.sync.server import Server, ServerConnection, serve

from actors.backends.base import ASRBackend
from actors.records import SegmentRequest
from actors.text.languages import code_of, normalize_language
from tests.actors.backends.remote.dashscope_state import MODELS, FaultyDashScope


@contextlib.contextmanager
def running_realtime_server(engine: ASRBackend, **options: Any) -> Iterator[FaultyDashScope]:
    """Serve the real-time API, on loopback."""
    state = FaultyDashScope(engine, **options)

    def check_request(connection: ServerConnection, request: Any) -> Any:
        address = urlsplit(request.path)
        key = request.headers.get("authorization")
        state.keys.append((address.path, key))
        if status := state.fault("handshake"):
            return connection.respond(
                int(status),
                json.dumps({"code": "Throttling" if status == "429" else "Fault", "message": "as you asked"}),
            )
        if target := state.fault("redirect"):
            response = connection.respond(302, "")
            response.headers["Location"] = target
            return response
        if state.key and key != f"Bearer {state.key}":
            return connection.respond(
                401, json.dumps({"code": "InvalidApiKey", "message": f"Invalid API-key provided: {key}"})
            )
        if address.path != "/api-ws/v1/realtime":
            return connection.respond(404, "nothing here")
        return None

    server: Server = serve(
        lambda socket: _serve_session(state, socket),
        "127.0.0.1",
        0,
        process_request=check_request,
        max_size=16 << 20,
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/api-ws/v1"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()


def _serve_session(state: FaultyDashScope, socket: ServerConnection) -> None:
    """One session, in manual mode."""

    def send(kind: str, **content: Any) -> None:
        socket.send(json.dumps({"event_id": f"event_{secrets.token_hex(4)}", "type": kind, **content}))

    def send_error(kind: str, code: str, message: str) -> None:
        send("error", error={"type": kind, "code": code, "message": message, "param": None, "event_id": None})

    session: dict[str, Any] = {
        "id": "sess_1",
        "object": "realtime.session",
        "model": MODELS[1],
        "modalities": ["text"],
    }
    send("session.created", session=session)
    audio = bytearray()
    for message in socket:
        event = json.loads(message)
        assert event["event_id"]
        if event["type"] == "session.update":
            state.bodies.append(event["session"])
            session |= event["session"]
            send("session.updated", session=session)
        elif event["type"] == "input_audio_buffer.append":
            if (fault := state.fault("session")) == "close":
                return socket.close(1011, "internal error")
            if fault:
                send_error(*fault.split("/"), "as you asked")
                return None
            audio += base64.b64decode(event["audio"], validate=True)
        elif event["type"] == "input_audio_buffer.commit":
            if len(audio) > 60 * 32_000:
                return send_error("invalid_request_error", "audio_too_long", "more than 60 s")
            send("input_audio_buffer.committed", item_id="item_1")
        elif event["type"] == "session.finish":
            transcription = session["input_audio_transcription"]
            waveform = np.frombuffer(bytes(audio), "<i2")
            context = (transcription.get("corpus") or {}).get("text", "")
            try:
                hypothesis = state.recognise(
                    SegmentRequest(waveform, normalize_language(transcription.get("language")), context)
                )
            except ValueError as error:
                return send_error("invalid_request_error", "invalid_value", str(error))
            if hypothesis.text:
                half = hypothesis.text[: len(hypothesis.text) // 2]
                send(
                    "conversation.item.input_audio_transcription.text",
                    item_id="item_1",
                    content_index=0,
                    text=half,
                    stash="...",
                )
                language = {"language": code_of(hypothesis.language)} if hypothesis.language else {}
                done = {"transcript": hypothesis.text, "emotion": "neutral", **language}
                send(
                    "conversation.item.input_audio_transcription.completed",
                    item_id="item_1",
                    content_index=0,
                    **done,
                )
            send("session.finished")
            time.sleep(0.01)
            return None
    return None
