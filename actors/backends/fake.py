"""Backends without a model: deterministic, instant, and free of heavy imports. For load tests, fault tests and benchmarks of the pipeline.

Each half second that is not silent becomes one pseudo-word, chosen by its samples: equal audio gives equal text, and audio that was lost,
doubled or moved shows in the text. `model: fake:0.01` makes every call take 0.01 s for each second of audio.
"""

from __future__ import annotations

import itertools
import time
import zlib

import numpy as np

from actors.config import AlignerConfig, ASRConfig
from actors.errors import FatalError
from actors.results import SAMPLING_RATE, AlignmentRequest, Hypothesis, SegmentRequest

WORD_SAMPLES = SAMPLING_RATE // 2
SILENCE_RMS = 32.0  # of int16: -60 dBFS
LANGUAGE = "English"

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


class FakeASR:
    """Says one pseudo-word for each half second of sound. Satisfies `ASRBackend`."""

    def __init__(self, config: ASRConfig) -> None:
        self.model = "fake"
        self.revision = "1"
        self.cost = _cost(config.model)

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis]:
        """See `ASRBackend`; the context is ignored."""
        _spend(self.cost, requests)
        return [self._hypothesis(request) for request in requests]

    def _hypothesis(self, request: SegmentRequest) -> Hypothesis:
        pieces = [request.waveform[start : start + WORD_SAMPLES] for start in range(0, len(request.waveform), WORD_SAMPLES)]
        words = [pseudo_word(piece) for piece in pieces if _rms(piece) >= SILENCE_RMS]
        language = (request.language or LANGUAGE) if words else None
        text = f"{' '.join(words).capitalize()}." if words else ""
        confidence = round(1 - zlib.crc32(text.encode()) % 1000 / 10_000, 4) if words else None
        return Hypothesis(text, language, f"language {language}<asr_text>{text}", confidence, len(words))


class FakeAligner:
    """Spreads the words evenly over the segment. Satisfies `AlignerBackend`."""

    max_duration = 180.0

    def __init__(self, config: AlignerConfig) -> None:
        self.model = "fake"
        self.revision = "1"
        self.cost = _cost(config.model)

    def align(self, requests: list[AlignmentRequest]) -> list[list[tuple[float, float]]]:
        """See `AlignerBackend`."""
        _spend(self.cost, requests)
        return [self._times(request) for request in requests]

    def _times(self, request: AlignmentRequest) -> list[tuple[float, float]]:
        count = len(request.units)
        borders = [round(request.duration * position / count, 3) for position in range(count + 1)] if count else []
        return list(itertools.pairwise(borders))


def pseudo_word(samples: np.ndarray) -> str:
    """A word of one to three syllables that depends on every sample."""
    code = zlib.crc32(np.ascontiguousarray(samples, dtype="<i2").tobytes())
    length = 1 + code % 3
    syllables = []
    for _ in range(length):
        code, syllable = divmod(code, len(_SYLLABLES))
        syllables.append(_SYLLABLES[syllable])
    return "".join(syllables)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _cost(model: str) -> float:
    """Seconds per second of audio from `fake:COST`; any other name costs nothing."""
    name, _, cost = model.partition(":")
    if name != "fake" or not cost:
        return 0.0
    try:
        return float(cost)
    except ValueError as error:
        raise FatalError(f"model {model!r}: what follows fake: must be a number of seconds per second of audio") from error


def _spend(cost: float, requests: list[SegmentRequest] | list[AlignmentRequest]) -> None:
    if cost > 0:
        time.sleep(cost * sum(request.duration for request in requests))
