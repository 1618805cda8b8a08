"""The bar: faults of a broken recogniser in front of the demo model are flagged, its right texts are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from actors.aligner import AlignerActor
from actors.asr import ASRActor
from actors.config import AlignerConfig, ASRConfig
from actors.guards.evidence import flag_names
from actors.guards.text import SUSPECT_TEXT_FLAGS
from actors.guards.words import SUSPECT_WORD_FLAGS
from actors.records import SAMPLING_RATE, Row
from tests.actors.guards.broken_recogniser import FAULTS, BrokenASR, Fault, seeded
from tests.actors.guards.demo_speech import DEMO, Utterance, error_free, utterances

SUSPECT = SUSPECT_TEXT_FLAGS | SUSPECT_WORD_FLAGS
# The flag that says what is wrong, for each fault; others may come with it.
NAMES: dict[Fault, set[str]] = {
    "loop": {"repetitive", "loop_collapsed", "truncated"},
    "truncation": {"truncated"},
    "leak": {"context_leaked"},
    "invention": {"text_without_speech", "too_much_text", "zero_length_run", "words_in_silence"},
    "wrong_tag": {"language_doubtful"},
    "wrong_language": {"language_doubtful"},
    "half": {"too_little_text", "speech_without_words"},
}
CONTEXT = "Technical terms: Kubernetes, Ray Data, Scriptorium, Grafana"


class Models:
    """The demo models, behind a broken recogniser."""

    def __init__(self) -> None:
        self.asr = ASRActor(ASRConfig(model=str(DEMO / "asr"), threads=1))
        self.aligner = AlignerActor(AlignerConfig(model=str(DEMO / "aligner"), threads=1))
        self.real = self.asr.backend

    def transcribe(
        self, waveforms: Sequence[np.ndarray], fault: Fault | None = None, seed: int = 0
    ) -> list[tuple[Row, bool]]:
        """The segments with their flags, and whether a fault was injected into each."""
        policy = seeded(seed, 1.0, [fault]) if fault else lambda request: None
        self.asr.backend = broken = BrokenASR(self.real, policy, seed)
        rows: list[Row] = [
            {
                "status": "ok",
                "language": None,
                "context": CONTEXT,
                "error_code": None,
                "segments": [_segment(waveform)],
            }
            for waveform in waveforms
        ]
        segments = [row["segments"][0] for row in self.aligner(self.asr(rows))]
        hit = {len(injected.request.waveform) for injected in broken.injected}
        return [
            (segment, bool(hit & {len(waveform), len(waveform) + SAMPLING_RATE // 10}))
            for segment, waveform in zip(segments, waveforms, strict=True)
        ]


def _segment(waveform: np.ndarray) -> Row:
    times: dict[str, Any] = {"start": 0.0, "end": len(waveform) / SAMPLING_RATE, "channel": None}
    return {**times, "samples": waveform.tobytes(), "flags": []}


@pytest.fixture(scope="module")
def models() -> Models:
    return Models()


@pytest.fixture(scope="module")
def spoken(models: Models) -> list[Utterance]:
    """Utterances that the demo model recognises without an error; all have different lengths."""
    found = {len(utterance.waveform): utterance for utterance in utterances(7, 3)}
    segments = models.transcribe([utterance.waveform for utterance in found.values()])
    right = [
        utterance
        for utterance, (segment, _) in zip(found.values(), segments, strict=True)
        if error_free(segment["text"], utterance)
    ]
    assert len(right) >= 20
    assert len({utterance.language for utterance in right}) >= 7
    return right


def test_right_texts_are_not_flagged(models: Models, spoken: list[Utterance]) -> None:
    segments = models.transcribe([utterance.waveform for utterance in spoken])
    flagged = [segment["text"] for segment, _ in segments if flag_names(segment["flags"]) & SUSPECT]
    # 2 % of few: one.
    assert len(flagged) <= max(1, 0.02 * len(spoken)), flagged


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "invention"])
def test_faults_are_flagged(models: Models, spoken: list[Utterance], fault: Fault) -> None:
    segments = models.transcribe([utterance.waveform for utterance in spoken], fault)
    _check(segments, fault, least=20)


def test_inventions_are_flagged(models: Models) -> None:
    _check(models.transcribe(_noises(), "invention"), "invention", least=20)


def _check(segments: list[tuple[Row, bool]], fault: Fault, least: int) -> None:
    broken = [segment for segment, is_broken in segments if is_broken]
    assert len(broken) >= least
    missed = [segment["text"] for segment in broken if not flag_names(segment["flags"]) & SUSPECT]
    assert len(missed) <= 0.05 * len(broken), missed
    named = [segment for segment in broken if flag_names(segment["flags"]) & NAMES[fault]]
    assert len(named) >= 0.9 * len(broken)


def _noises() -> list[np.ndarray]:
    """Noise and hum from inaudible to loud, all of different lengths."""
    noise = np.random.default_rng(1)
    waves = []
    for amplitude in (3, 30, 300, 3000):
        for seconds in (1, 3, 9):
            for hum in (0, 50):
                samples = seconds * SAMPLING_RATE + 16 * len(waves)
                tone = np.sin(np.arange(samples) * 2 * np.pi * hum / SAMPLING_RATE)
                waves.append((noise.normal(0, amplitude, samples) + 3 * amplitude * tone).astype("<i2"))
    return waves


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_bar_over_many_utterances(models: Models) -> None:
    """At least 95 % of the faults are flagged, and at most 2 % of the right texts."""
    found = {len(utterance.waveform): utterance for utterance in utterances(11, 12)}
    waveforms = [utterance.waveform for utterance in found.values()]
    right = [
        (utterance, segment)
        for utterance, (segment, _) in zip(found.values(), models.transcribe(waveforms), strict=True)
        if error_free(segment["text"], utterance)
    ]
    flagged = [segment["text"] for _, segment in right if flag_names(segment["flags"]) & SUSPECT]
    assert len(flagged) <= 0.02 * len(right), (len(right), flagged)
    spoken = [utterance.waveform for utterance, _ in right]
    total, missed = 0, []
    for seed, fault in enumerate(FAULTS):
        segments = models.transcribe(_noises() if fault == "invention" else spoken, fault, seed)
        broken = [segment for segment, is_broken in segments if is_broken]
        total += len(broken)
        missed += [(fault, part["text"]) for part in broken if not flag_names(part["flags"]) & SUSPECT]
    print(f"{len(right)} right texts, {len(flagged)} flagged; {total} faults, {len(missed)} missed")
    assert len(missed) <= 0.05 * total, missed
