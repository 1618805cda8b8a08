"""Audio of the GPU benchmark: demo segments with what the CPU recognises in them, and clips of any length."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.aligner import AlignerActor
from actors.asr import ASRActor
from actors.config import AlignerConfig, ASRConfig
from actors.records import AlignmentRequest, SegmentRequest
from actors.text.languages import code_of
from tests.benchmarks.gpu.networks import DEMO
from tests.benchmarks.gpu.run import ANSWER, RATE, Run

# Their words need nagisa and soynlp, which the machine with the GPU may not have.
_LEFT_OUT = ("ja", "ko")


@dataclass(frozen=True)
class Demo:
    """Demo segments, and what the demo models answer to them on a CPU in float32."""

    waves: list[np.ndarray]
    texts: list[str]
    languages: list[str | None]
    words: list[list[list[Any]]]  # of each segment: text, start and end of each word


def prepare(count: int = 26) -> Demo:
    """Recognise and align the first demo segments on this CPU."""
    from tests.benchmarks.workloads.speech import demo_segments

    waves = [wave for wave in demo_segments() if len(wave) >= RATE // 2][:count]
    asr = ASRActor(ASRConfig(model=str(DEMO / "asr"), device="cpu", dtype="float32"))
    answers = [_hypothesis(result) for result in asr.recognise([SegmentRequest(wave) for wave in waves])]
    codes = [code_of(answer.language) if answer.text else None for answer in answers]
    chosen = [number for number, code in enumerate(codes) if code not in _LEFT_OUT]
    waves = [waves[number] for number in chosen]
    texts, languages = [answers[number].text for number in chosen], [codes[number] for number in chosen]
    aligner = AlignerActor(AlignerConfig(model=str(DEMO / "aligner"), device="cpu", dtype="float32"))
    done = aligner.align(segments(waves, texts, languages))
    words = [[[word["text"], word["start"], word["end"]] for word in segment["words"]] for segment, _ in done]
    return Demo(waves, texts, languages, words)


def save(demo: Demo, target: Path) -> None:
    """Write a file for --data."""
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        target,
        lengths=[len(wave) for wave in demo.waves],
        samples=np.concatenate(demo.waves),
        answers=json.dumps({"texts": demo.texts, "languages": demo.languages, "words": demo.words}),
    )


def load(run: Run) -> Demo:
    """The file of --data; without one the demo is recognised here."""
    if run.data is None:
        return prepare(3 if run.tiny else 26)
    content = np.load(run.data)
    waves = np.split(content["samples"], np.cumsum(content["lengths"])[:-1])
    if "answers" in content:
        return Demo(list(waves), **json.loads(str(content["answers"])))
    # A file of an earlier version of this benchmark.
    said = json.loads(str(content["said"]))
    texts, languages = [one["text"] for one in said], [one["code"] for one in said]
    return Demo(list(waves), texts, languages, json.loads(str(content["words"])))


def segments(waves: list[np.ndarray], texts: list[str], languages: list[str | None]) -> list[dict[str, Any]]:
    """Recognised segments as the aligner's actor gets them."""
    return [
        {"samples": wave.tobytes(), "text": text, "language": code, "start": 0.0, "end": len(wave) / RATE}
        for wave, text, code in zip(waves, texts, languages, strict=True)
    ]


def clips(count: int, seconds: float, spread: float = 0.05, seed: int = 0) -> list[np.ndarray]:
    """Clips of noise; the last is shorter than the first by the part `spread`, as in a packed batch."""
    base = _noise(int(seconds * RATE) + 997)
    lengths = [int(seconds * RATE * (1 - spread * row / count)) for row in range(count)]
    return [np.roll(base, 31 * (row + seed))[:length] for row, length in enumerate(lengths)]


def requests(count: int, seconds: float, spread: float = 0.05, seed: int = 0) -> list[SegmentRequest]:
    """Requests of the recogniser for such clips."""
    return [SegmentRequest(wave) for wave in clips(count, seconds, spread, seed)]


def alignments(count: int, seconds: float, seed: int = 0) -> list[AlignmentRequest]:
    """Requests of the aligner for such clips, with 2.5 words a second."""
    words = tuple(f"w{number % 9}" for number in range(max(1, int(2.5 * seconds))))
    return [AlignmentRequest(wave, words, "English") for wave in clips(count, seconds, seed=seed)]


def spread_answers(backend: Any, wanted: list[SegmentRequest]) -> None:
    """Give each request a budget of 2 to 5 tokens a second: random weights never end an answer themselves."""
    random = np.random.default_rng(1)
    budgets = {id(request): max(1, int(request.duration * random.uniform(*ANSWER))) for request in wanted}
    backend.processor.budget = lambda request: budgets[id(request)]


def audio_seconds(wanted: list[SegmentRequest] | list[AlignmentRequest]) -> float:
    """Seconds of audio in requests."""
    return sum(request.duration for request in wanted)


def _hypothesis(result: Any) -> Any:
    if isinstance(result, Exception):
        raise result
    return result


@functools.cache
def _noise(length: int) -> np.ndarray:
    random = np.random.default_rng(0)
    loudness = np.abs(np.sin(np.arange(length) / RATE * 2 * np.pi * 2))
    return (random.standard_normal(length) * 3000 * loudness).astype("<i2")
