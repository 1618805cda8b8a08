"""Requests drawn from the OpenAPI description, right ones and wrong ones: every answer is as described, and none is an error of ours."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.serving.openapi import TRANSCRIPTION
from pipelines.serving.web import exchange
from tests.pipelines.serving.conftest import Make, voice, wav
from tests.pipelines.serving.page import drawn_audio

KEY = "sk-drawn"
# A right request by JSON Schema may have no audio in it, a language that nobody speaks, words asked of a subtitle.
NOT_OF_SCHEMA = "positive_data_acceptance"
ROOT = Path(__file__).resolve().parents[4]


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """The lines of the access log from here on; not through pytest, which would show thousands of them."""
    lines: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(json.loads(record.getMessage()))  # type: ignore[method-assign]
    level, exchange.access_log.propagate = exchange.access_log.level, False
    exchange.access_log.setLevel(logging.INFO)
    exchange.access_log.addHandler(handler)
    try:
        yield lines
    finally:
        exchange.access_log.removeHandler(handler)
        exchange.access_log.setLevel(level)
        exchange.access_log.propagate = True


def test_every_status_of_an_answer_is_described(serve: Make) -> None:
    served = serve()
    described = TRANSCRIPTION["content"]["application/json"]["schema"]["properties"]["status"]["enum"]
    silent = served.transcribe(wav(np.zeros(32_000, np.int16)), response_format="verbose_json")[2]
    lame = served.transcribe(wav(voice(2)), response_format="verbose_json", prompt="fault:align:raise")[2]
    whole = served.transcribe(wav(voice(2)), response_format="verbose_json")[2]
    assert {silent["status"], lame["status"], whole["status"]} == {*described}


def test_drawn_requests_are_answered_as_described(serve: Make, tmp_path: Path) -> None:
    served = serve(api_keys=[hashlib.sha256(KEY.encode()).hexdigest()])
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{served.url}/openapi.json",
        "--header",
        f"Authorization: Bearer {KEY}",
    ]
    options = [
        "--exclude-checks",
        NOT_OF_SCHEMA,
        "--max-examples",
        "25",
        "--seed",
        "1",
        "--continue-on-failure",
        "--request-timeout",
        "30",
    ]
    with logged() as lines:
        done = subprocess.run(
            [*command, *options],
            env={**os.environ, "SCHEMATHESIS_HOOKS": drawn_audio.__name__, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=280,
        )
    (tmp_path / "report.txt").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    answers = Counter((line["method"], line["path"], line["status"]) for line in lines)
    # Few chats have exactly one piece of audio.
    for asked, heard in ((("POST", "/v1/audio/transcriptions"), 10), (("POST", "/v1/chat/completions"), 1)):
        assert answers[*asked, 200] >= heard and answers[*asked, 400] >= 10 and answers[*asked, 401], (
            asked,
            answers,
        )
    assert not [asked for asked in answers if asked[2] >= 500], answers
