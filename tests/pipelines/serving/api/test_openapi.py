"""Requests generated from the OpenAPI description, valid or not: responses match it, and none is a 5xx."""

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
from tests.pipelines.serving.api import generated_audio
from tests.pipelines.serving.conftest import Make, voice, wav

KEY = "sk-generated"
# A request that is valid by its schema may have no audio, an unknown language, or ask for words in subtitles.
EXCLUDED_CHECK = "positive_data_acceptance"
ROOT = Path(__file__).resolve().parents[4]


@contextmanager
def access_log_lines() -> Iterator[list[dict[str, Any]]]:
    """Collect the lines of the access log; not through pytest, which would show thousands of them."""
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


def test_every_transcript_status_is_described(serve: Make) -> None:
    served = serve()
    verbose, _ = TRANSCRIPTION["content"]["application/json"]["schema"]["anyOf"]
    described = verbose["properties"]["status"]["enum"]
    silent = served.transcribe(wav(np.zeros(32_000, np.int16)), response_format="verbose_json")[2]
    partial = served.transcribe(wav(voice(2)), response_format="verbose_json", prompt="fault:align:raise")[2]
    complete = served.transcribe(wav(voice(2)), response_format="verbose_json")[2]
    assert {silent["status"], partial["status"], complete["status"]} == {*described}


def test_responses_to_generated_requests_match_the_description(serve: Make, tmp_path: Path) -> None:
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
        EXCLUDED_CHECK,
        "--max-examples",
        "25",
        "--seed",
        "1",
        "--continue-on-failure",
        "--request-timeout",
        "30",
    ]
    with access_log_lines() as lines:
        done = subprocess.run(
            [*command, *options],
            env={**os.environ, "SCHEMATHESIS_HOOKS": generated_audio.__name__, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=280,
        )
    (tmp_path / "report.txt").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    counts = Counter((line["method"], line["path"], line["status"]) for line in lines)
    # Few generated chats have exactly one audio part.
    for path, successes in (("/v1/audio/transcriptions", 10), ("/v1/chat/completions", 1)):
        assert counts["POST", path, 200] >= successes, counts
        assert counts["POST", path, 400] >= 10 and counts["POST", path, 401], counts
    assert not [status for _, _, status in counts if status >= 500], counts
