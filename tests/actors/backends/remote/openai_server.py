"""A small server with OpenAI's API around any of our engines, which misbehaves on request.

It responds as vLLM does for this model family: /v1/models; /v1/chat/completions with the raw output and
log-probabilities, and a forced language as the beginning of the output; /v1/audio/transcriptions with
verbose_json; DashScope's form of chat. A segment's context `server:KIND` makes it misbehave for every request
with this context, `server:KIND:N` for the first N of them. The kinds:

    busy     429, Retry-After 0.05 s
    error    500
    reset    closes the connection without a response
    cut      ends in the middle of the body
    slow     sends a byte at a time
    html     200 with a web page
    broken   200 with half of the JSON
    shape    200 with other JSON
    empty    200 without a body
    endless  a body without end
    quota    429 with a code that is fatal
    STATUS   that status, such as 413
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from actors.backends.base import ASRBackend
from actors.records import Hypothesis, SegmentRequest
from actors.text.languages import code_of, normalize_language
from tests.actors.backends.remote.wire_formats import TAG, form_fields, token_logprobs, wav_samples


class FaultyOpenAIServer(ThreadingHTTPServer):
    """Listens on a free port of loopback.

    Args:
        engine: recognises the segments.
        model: its name.
        key: the only accepted key; None: no key is needed.
        seconds: the least time of each response.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, engine: ASRBackend, model: str = "asr", key: str | None = None, seconds: float = 0.0
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.engine, self.model, self.key, self.seconds = engine, model, key, seconds
        self.lists_models = self.has_verbose_json = self.continues = True
        self.has_words = self.has_logprobs = False
        # The status of every response.
        self.outage: int | None = None
        # How it misbehaves for each request for a text, whatever its context.
        self.fault: str | None = None
        self.retry_after = 0.05  # seconds, with `busy`
        self.received: list[SegmentRequest] = []
        self.bodies: list[dict[str, Any]] = []
        self.times: Counter[str] = Counter()  # requests by context
        self.concurrent = self.max_concurrent = 0  # requests in progress
        self.lock = threading.Lock()
        self.stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that disconnect are part of the tests."""


@contextlib.contextmanager
def running_openai_server(engine: ASRBackend, **options: Any) -> Iterator[FaultyOpenAIServer]:
    server = FaultyOpenAIServer(engine, **options)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyOpenAIServer

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        if self._refused():
            return
        if self.path != "/v1/models" or not self.server.lists_models:
            return self._problem(404, "there is nothing here")
        self._json(200, {"object": "list", "data": [{"id": self.server.model, "object": "model"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self._refused():
            return
        with self.server.lock:
            self.server.concurrent += 1
            self.server.max_concurrent = max(self.server.max_concurrent, self.server.concurrent)
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
                self.server.concurrent -= 1

    def _refused(self) -> bool:
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
        context, audio, beginning = "", b"", ""
        for message in body["messages"]:
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for part in parts:
                if part["type"] == "text" and message["role"] == "system":
                    context += part["text"]
                elif part["type"] == "text" and message["role"] == "assistant":
                    beginning += part["text"]
                elif part["type"] in ("audio_url", "input_audio"):
                    inner = part[part["type"]]
                    audio = base64.b64decode(
                        (inner.get("url") or inner["data"]).removeprefix("data:audio/wav;base64,"),
                        validate=True,
                    )
        if beginning and not self.server.continues:
            return self._problem(
                400, "continue_final_message is set but the final message does not appear in the chat"
            )
        forced, _, prefix = beginning.partition(TAG)
        asr_options = body.get("asr_options")
        language = (asr_options or {}).get("language") or forced.removeprefix("language ") or None
        request = SegmentRequest(wav_samples(audio), normalize_language(language), context, prefix)
        if (hypothesis := self._recognise(request)) is None:
            return
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": hypothesis.tokens + 1,
            "total_tokens": 101 + hypothesis.tokens,
        }
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "length" if "truncated" in hypothesis.flags else "stop",
        }
        if asr_options is not None:
            annotation = (
                [{"type": "audio_info", "language": code_of(hypothesis.language), "emotion": "neutral"}]
                if hypothesis.language
                else []
            )
            choice["message"] = {"role": "assistant", "content": hypothesis.text, "annotations": annotation}
        else:
            raw = hypothesis.raw.removeprefix(beginning) if beginning else hypothesis.raw
            choice["message"] = {"role": "assistant", "content": raw}
            choice["logprobs"] = (
                {"content": token_logprobs(raw, hypothesis)} if body.get("logprobs") else None
            )
        self._json(
            200, {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage}
        )

    def _transcription(self, body: bytes) -> None:
        form = form_fields(self.headers["content-type"], body)
        fields = {name: value.decode() for name, value in form.items() if name != "file"}
        self.server.bodies.append(fields)
        if fields["model"] != self.server.model:
            return self._problem(404, "no such model", "model_not_found")
        verbose = fields["response_format"] == "verbose_json"
        if verbose and not self.server.has_verbose_json:
            return self._problem(
                400, "response_format verbose_json is not supported by this model", "unsupported_value"
            )
        if not self.server.has_words and "timestamp_granularities[]" in fields:
            return self._problem(422, "this feature is not available")
        if not self.server.has_logprobs and "include[]" in fields:
            return self._problem(400, "include[]: logprobs are not supported by this model")
        request = SegmentRequest(
            wav_samples(form["file"]), normalize_language(fields.get("language")), fields.get("prompt", "")
        )
        if (hypothesis := self._recognise(request)) is None:
            return
        response: dict[str, Any] = {
            "text": hypothesis.text,
            "usage": {"type": "tokens", "input_tokens": 100, "output_tokens": hypothesis.tokens},
        }
        if verbose:
            mean = math.log(hypothesis.confidence) if hypothesis.confidence else 0.0
            response |= {
                "language": (hypothesis.language or "").lower(),
                "segments": [{"id": 0, "text": hypothesis.text, "avg_logprob": mean}],
            }
            if "timestamp_granularities[]" in fields:
                words = [{"word": word, "probability": 0.5} for word in hypothesis.text.split()]
                response["segments"][0]["words"] = words
        elif "include[]" in fields:
            response["logprobs"] = [
                {"token": token, "logprob": -0.5, "bytes": list(token.encode())}
                for token in hypothesis.text.replace(" ", "| ").split("|")
            ]
        self._json(200, response)

    def _recognise(self, request: SegmentRequest) -> Hypothesis | None:
        """The hypothesis of the engine; None where a response was sent already."""
        with self.server.lock:
            self.server.received.append(request)
            self.server.times[request.context] += 1
            times = self.server.times[request.context]
        if self.server.fault:
            self._misbehave(self.server.fault)
            return None
        fault, _, count = request.context.removeprefix("server:").partition(":")
        if request.context.startswith("server:") and (not count or times <= int(count)):
            self._misbehave(fault)
            return None
        try:
            with self.server.lock:  # engines are not thread-safe
                [hypothesis] = self.server.engine.transcribe([request])
            assert isinstance(hypothesis, Hypothesis)
            return hypothesis
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
            while not self.server.stopped.wait(pause):
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
