"""A small server with DashScope's API for recorded files around any engine, which misbehaves on request.

It follows the public description: upload policies, a storage that takes forms, tasks, and result files at
signed URLs.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from actors.backends.base import ASRBackend
from actors.records import SegmentRequest
from actors.text.languages import code_of, normalize_language
from tests.actors.backends.remote.dashscope_state import MODELS, FaultyDashScope
from tests.actors.backends.remote.wire_formats import wav_samples


@contextlib.contextmanager
def running_files_server(engine: ASRBackend, **options: Any) -> Iterator[FaultyDashScope]:
    """Serve the API for recorded files, on loopback."""
    state = FaultyDashScope(engine, **options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.state = state  # type: ignore[attr-defined]
    server.stored, server.tasks = {}, {}  # type: ignore[attr-defined]
    state.url = f"http://127.0.0.1:{server.server_address[1]}/api/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self._respond(b"")

    def do_POST(self) -> None:
        self._respond(self.rfile.read(int(self.headers["content-length"])))

    def _respond(self, body: bytes) -> None:
        server: Any = self.server
        state: FaultyDashScope = server.state
        address = urlsplit(self.path)
        key = self.headers.get("authorization")
        state.keys.append((address.path, key))
        ours = address.path.startswith("/api/v1/")
        if ours and state.key and key != f"Bearer {state.key}":
            return self._json(
                401,
                {"code": "InvalidApiKey", "message": f"Invalid API-key provided: {key}", "request_id": "1"},
            )
        if address.path == "/api/v1/uploads" and parse_qs(address.query).get("action") == ["getPolicy"]:
            return self._policy(state, parse_qs(address.query)["model"][0])
        if address.path == "/storage":
            return self._store(state, body)
        if address.path == "/api/v1/services/audio/asr/transcription":
            return self._create_task(state, json.loads(body))
        if address.path.startswith("/api/v1/tasks/"):
            return self._poll(state, address.path.rpartition("/")[2])
        if address.path.startswith("/results/"):
            if status := state.fault("result"):
                return self._json(int(status), {})
            return self._json(200, server.tasks[address.path.rpartition("/")[2]]["result"])
        return self._json(404, {"code": "NotFound", "message": "nothing here"})

    def _policy(self, state: FaultyDashScope, model: str) -> None:
        if status := state.fault("policy"):
            return self._json(int(status), {"code": "Fault", "message": "as you asked"})
        if model not in MODELS:
            return self._json(400, {"code": "InvalidParameter", "message": f"Model {model} not exist"})
        host = f"http://127.0.0.1:{self.server.server_address[1]}/storage"
        data = {
            "policy": "eyJ",
            "signature": "sig=",
            "upload_dir": "dashscope-instant/abc/2026-11-23",
            "upload_host": host,
            "expire_in_seconds": 300,
            "max_file_size_mb": 100,
            "oss_access_key_id": "LTAI",
            "x_oss_object_acl": "private",
            "x_oss_forbid_overwrite": "true",
        }
        self._json(200, {"request_id": "1", "data": data})

    def _store(self, state: FaultyDashScope, body: bytes) -> None:
        if status := state.fault("upload"):
            return self._send(int(status), b"<Error><Code>Fault</Code></Error>")
        head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        form = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in message.iter_parts()
        }
        expected = {
            "OSSAccessKeyId",
            "Signature",
            "policy",
            "key",
            "x-oss-object-acl",
            "x-oss-forbid-overwrite",
            "success_action_status",
            "file",
        }
        assert set(form) == expected and list(form)[-1] == "file", list(form)
        key = form["key"].decode()
        server: Any = self.server
        if key in server.stored:
            return self._send(409, b"<Error><Code>FileAlreadyExists</Code></Error>")
        server.stored[key] = form["file"]
        self._send(200, b"")

    def _create_task(self, state: FaultyDashScope, body: dict[str, Any]) -> None:
        if status := state.fault("create"):
            return self._json(int(status), {"code": "Fault", "message": "as you asked"})
        if (
            self.headers.get("x-dashscope-async") != "enable"
            or self.headers.get("x-dashscope-ossresourceresolve") != "enable"
        ):
            return self._json(
                400,
                {
                    "code": "InvalidParameter",
                    "message": "current user api does not support synchronous calls",
                },
            )
        state.bodies.append(body)
        server: Any = self.server
        task_id = secrets.token_hex(8)
        audio = server.stored[body["input"]["file_url"].removeprefix("oss://")]
        language = normalize_language(body["parameters"].get("language"))
        polls, state.endless = (10**9, state.endless - 1) if state.endless else (state.polls, 0)
        server.tasks[task_id] = {"polls": polls, "request": SegmentRequest(wav_samples(audio), language)}
        self._json(200, {"request_id": "1", "output": {"task_id": task_id, "task_status": "PENDING"}})

    def _poll(self, state: FaultyDashScope, task_id: str) -> None:
        if status := state.fault("poll"):
            return self._json(
                int(status), {"code": "Throttling" if status == "429" else "Fault", "message": "as you asked"}
            )
        server: Any = self.server
        task = server.tasks[task_id]
        task["polls"] -= 1
        if task["polls"] >= 0:
            return self._json(
                200, {"request_id": "1", "output": {"task_id": task_id, "task_status": "RUNNING"}}
            )
        if code := state.fault("task"):
            return self._failed(task_id, code, "as you asked")
        request = task["request"]
        try:
            hypothesis = state.recognise(request)
        except ValueError as error:
            return self._failed(task_id, "InvalidParameter", str(error))
        if not hypothesis.text:
            return self._failed(task_id, "SUCCESS_WITH_NO_VALID_FRAGMENT", "no speech")
        sentence = {
            "sentence_id": 0,
            "begin_time": 0,
            "end_time": round(request.duration * 1000),
            "text": hypothesis.text,
        }
        sentence |= (
            {"language": code_of(hypothesis.language), "emotion": "neutral"} if hypothesis.language else {}
        )
        transcript = {"channel_id": 0, "text": hypothesis.text, "sentences": [sentence]}
        task["result"] = {
            "file_url": "oss://x",
            "audio_info": {"format": "wav", "sample_rate": 16000},
            "transcripts": [transcript],
        }
        url = f"http://127.0.0.1:{self.server.server_address[1]}/results/{task_id}?Expires=1&Signature=s"
        output = {"task_id": task_id, "task_status": "SUCCEEDED", "result": {"transcription_url": url}}
        self._json(
            200, {"request_id": "1", "output": output, "usage": {"seconds": max(1, round(request.duration))}}
        )

    def _failed(self, task_id: str, code: str, message: str) -> None:
        self._json(
            200,
            {
                "request_id": "1",
                "output": {"task_id": task_id, "task_status": "FAILED", "code": code, "message": message},
            },
        )

    def _json(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status == 429:
            self.send_header("retry-after", "0.05")
        self.end_headers()
        self.wfile.write(data)
