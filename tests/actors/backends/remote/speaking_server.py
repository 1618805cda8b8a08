"""A small server with OpenAI's API around any of our engines, that misbehaves when it is asked to.

It answers as vLLM does for this model family: /v1/models, /v1/chat/completions with the raw answer and log-probabilities, a forced language as
the beginning of the answer; /v1/audio/transcriptions with verbose_json; DashScope's form of chat. What a segment's context says after
`server:` it does to that request, `KIND` always or `KIND:N` the first N times that it is asked with this context:

    busy   429, Retry-After 0.05 s          error   500                        reset   closes the connection without a word
    cut    ends in the middle of the body   slow    sends a byte at a time     html    200 with a web page
    broken 200 with half of the JSON        shape   200 with other JSON        empty   200 without a body
    endless a body without end              STATUS  that status, such as 413   quota   429 with a code that does not pass
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import math
import socket
import struct
import threading
import time
import wave
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from actors.backends.base import ASRBackend
from actors.records import Hypothesis, SegmentRequest
from actors.text.languages import code_of, normalize_language

TAG = "<asr_text>"


class SpeakingServer(ThreadingHTTPServer):
    """Listens on a free port of loopback.

    Args:
        engine: what recognises.
        model: its name.
        key: the only one that is let in; None: everybody is.
        seconds: how long each answer takes, at least.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, engine: ASRBackend, model: str = "asr", key: str | None = None, seconds: float = 0.0
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.engine, self.model, self.key, self.seconds = engine, model, key, seconds
        self.lists_models = self.has_verbose_json = self.continues = True
        self.outage: int | None = None  # a status for everything
        self.fault: str | None = None  # what it does to each request for a text, its context notwithstanding
        self.retry_after = 0.05  # seconds, with `busy`
        self.asked: list[SegmentRequest] = []
        self.bodies: list[dict[str, Any]] = []
        self.times: Counter[str] = Counter()  # that a context came
        self.now = self.most = 0  # requests under way
        self.lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what the tests are about."""


@contextlib.contextmanager
def serving(engine: ASRBackend, **options: Any) -> Iterator[SpeakingServer]:
    server = SpeakingServer(engine, **options)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SpeakingServer

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        if self._stopped():
            return
        if self.path != "/v1/models" or not self.server.lists_models:
            return self._problem(404, "there is nothing here")
        self._json(200, {"object": "list", "data": [{"id": self.server.model, "object": "model"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self._stopped():
            return
        with self.server.lock:
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            time.sleep(self.server.seconds)
            if self.path == "/v1/chat/completions":
                self._chat(json.loads(body))
            elif self.path == "/v1/audio/transcriptions":
                self._transcription(body)
            else:
                self._problem(404, "there is nothing here")
        finally:
            with self.server.lock:
                self.server.now -= 1

    def _stopped(self) -> bool:
        if self.server.outage:
            self._problem(self.server.outage, "out of order")
        elif self.server.key and self.headers.get("authorization") != f"Bearer {self.server.key}":
            self._problem(401, f"wrong key: {self.headers.get('authorization')}")
        else:
            return False
        return True

    def _chat(self, body: dict[str, Any]) -> None:
        self.server.bodies.append(body)
        if body["model"] != self.server.model:
            return self._problem(404, f"The model {body['model']!r} does not exist.", "model_not_found")
        context, audio, begun = "", b"", ""
        for message in body["messages"]:
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for part in parts:
                if part["type"] == "text" and message["role"] == "system":
                    context += part["text"]
                elif part["type"] == "text" and message["role"] == "assistant":
                    begun += part["text"]
                elif part["type"] in ("audio_url", "input_audio"):
                    inner = part[part["type"]]
                    audio = base64.b64decode(
                        (inner.get("url") or inner["data"]).removeprefix("data:audio/wav;base64,"),
                        validate=True,
                    )
        if begun and not self.server.continues:
            return self._problem(
                400, "continue_final_message is set but the final message does not appear in the chat"
            )
        forced, _, prefix = begun.partition(TAG)
        asr_options = body.get("asr_options")
        language = (asr_options or {}).get("language") or forced.removeprefix("language ") or None
        request = SegmentRequest(samples_of_wav(audio), normalize_language(language), context, prefix)
        if (said := self._heard(request)) is None:
            return
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": said.tokens + 1,
            "total_tokens": 101 + said.tokens,
        }
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "length" if "truncated" in said.flags else "stop",
        }
        if asr_options is not None:
            annotation = (
                [{"type": "audio_info", "language": code_of(said.language), "emotion": "neutral"}]
                if said.language
                else []
            )
            choice["message"] = {"role": "assistant", "content": said.text, "annotations": annotation}
        else:
            raw = said.raw.removeprefix(begun) if begun else said.raw
            choice["message"] = {"role": "assistant", "content": raw}
            choice["logprobs"] = {"content": _logprobs(raw, said)} if body.get("logprobs") else None
        self._json(
            200, {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage}
        )

    def _transcription(self, body: bytes) -> None:
        form = _form(self.headers["content-type"], body)
        fields = {name: value.decode() for name, value in form.items() if name != "file"}
        self.server.bodies.append(fields)
        if fields["model"] != self.server.model:
            return self._problem(404, "no such model", "model_not_found")
        verbose = fields["response_format"] == "verbose_json"
        if verbose and not self.server.has_verbose_json:
            return self._problem(
                400, "response_format verbose_json is not supported by this model", "unsupported_value"
            )
        request = SegmentRequest(
            samples_of_wav(form["file"]), normalize_language(fields.get("language")), fields.get("prompt", "")
        )
        if (said := self._heard(request)) is None:
            return
        answer: dict[str, Any] = {
            "text": said.text,
            "usage": {"type": "tokens", "input_tokens": 100, "output_tokens": said.tokens},
        }
        if verbose:
            mean = math.log(said.confidence) if said.confidence else 0.0
            answer |= {
                "language": (said.language or "").lower(),
                "segments": [{"id": 0, "text": said.text, "avg_logprob": mean}],
            }
        self._json(200, answer)

    def _heard(self, request: SegmentRequest) -> Hypothesis | None:
        """What the engine says; None where an answer was given already."""
        with self.server.lock:
            self.server.asked.append(request)
            self.server.times[request.context] += 1
            times = self.server.times[request.context]
        if self.server.fault:
            self._misbehave(self.server.fault)
            return None
        fault, _, most = request.context.removeprefix("server:").partition(":")
        if request.context.startswith("server:") and (not most or times <= int(most)):
            self._misbehave(fault)
            return None
        try:
            with self.server.lock:  # engines are not for several threads
                [said] = self.server.engine.transcribe([request])
            assert isinstance(said, Hypothesis)
            return said
        except ValueError as error:
            self._problem(400, str(error))
            return None

    def _misbehave(self, fault: str) -> None:
        if fault.isdigit():
            return self._problem(int(fault), "as you asked")
        if fault == "busy":
            return self._problem(429, "slow down", headers={"retry-after": f"{self.server.retry_after:g}"})
        if fault == "quota":
            return self._problem(429, "You exceeded your current quota", "insufficient_quota")
        if fault == "error":
            return self._problem(500, "CUDA out of memory")
        bodies = {
            "html": b"<html>Welcome to the hotel</html>",
            "broken": b'{"choices": [{"mess',
            "shape": b'{"choices": []}',
            "empty": b"",
        }
        if fault in bodies:
            return self._send(200, bodies[fault], {})
        self.close_connection = True
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return self.connection.close()
        self.send_response(200)
        self.send_header("content-length", str(1 << 40))
        self.end_headers()
        if fault == "cut":
            return self.wfile.flush() or self.connection.shutdown(socket.SHUT_RDWR)
        piece, pause = (b" ", 0.02) if fault == "slow" else (b" " * (1 << 20), 0.0)
        with contextlib.suppress(OSError):
            while not self.server.ended.wait(pause):
                self.wfile.write(piece)

    def _problem(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        location = {"location": "https://elsewhere.example/v1?token=abc"} if 300 <= status < 400 else {}
        self._json(
            status, {"error": {"message": message, "type": "error", "code": code}}, location | (headers or {})
        )

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), headers or {})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "content-type": "application/json",
            "content-length": str(len(data)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def samples_of_wav(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def _form(content_type: str, body: bytes) -> dict[str, bytes]:
    boundary = b"--" + content_type.partition("boundary=")[2].encode()
    parts = {}
    for part in body.split(boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        parts[head.partition(b'name="')[2].partition(b'"')[0].decode()] = value.removesuffix(b"\r\n")
    return parts


def _logprobs(raw: str, said: Hypothesis) -> list[dict[str, Any]]:
    """As many tokens as the engine counts: the text's all as probable as it is confident, those of the tag before it and the end others."""
    head, tag, text = raw.rpartition(TAG)
    of_tag = min(3, said.tokens - bool(text)) if tag else 0
    tokens = [
        [],
        [(head + TAG, -0.01)],
        [(head, -0.01), (TAG, -0.02)],
        [(head, -0.01), ("<asr", -0.02), ("_text>", -0.03)],
    ][max(0, of_tag)]
    score = math.log(said.confidence) if said.confidence else 0.0
    count = said.tokens - len(tokens)
    borders = [round(len(text) * number / count) for number in range(count + 1)] if count else []
    tokens = [
        *tokens,
        *[(text[start:end], score) for start, end in itertools.pairwise(borders)],
        ("<|im_end|>", -7.0),
    ]
    return [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in tokens]
