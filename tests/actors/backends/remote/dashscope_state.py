"""State of the servers with DashScope's own APIs: an engine, a key, and the next faults."""

from __future__ import annotations

import threading
from typing import Any

from actors.backends.base import ASRBackend
from actors.records import Hypothesis, SegmentRequest

MODELS = ("qwen3-asr-flash-filetrans", "qwen3-asr-flash-realtime")


class FaultyDashScope:
    """State of both APIs.

    `faults` are the next faults, in this order, each once:

    - `policy:STATUS`, `upload:STATUS`, `create:STATUS`, `poll:STATUS`, `result:STATUS`: the status of that
      response;
    - `task:CODE`: the code of a failed task, such as `task:InternalError`;
    - `handshake:STATUS`, `redirect:URL`: the response to a new connection;
    - `session:close`: the session is closed in the middle;
    - `session:TYPE/CODE`: an error event, such as `session:invalid_request_error/invalid_value`.
    """

    def __init__(self, engine: ASRBackend, key: str | None = None, polls: int = 1) -> None:
        self.engine, self.key = engine, key
        self.polls = polls  # of a task before it is done
        self.endless = 0  # how many of the next tasks are never done
        self.faults: list[str] = []
        self.received: list[SegmentRequest] = []
        self.bodies: list[Any] = []  # of task requests and sessions
        self.keys: list[tuple[str, str | None]] = []  # path and key of each request
        self.url = ""
        self.lock = threading.Lock()

    def fault(self, step: str) -> str | None:
        with self.lock:
            for number, fault in enumerate(self.faults):
                if fault.partition(":")[0] == step:
                    return self.faults.pop(number).partition(":")[2]
        return None

    def recognise(self, request: SegmentRequest) -> Hypothesis:
        with self.lock:  # engines are not thread-safe
            self.received.append(request)
            [hypothesis] = self.engine.transcribe([request])
        assert isinstance(hypothesis, Hypothesis)
        return hypothesis
