"""Backends without a model: deterministic, instant, and free of heavy imports.

They serve load tests, fault tests and benchmarks of the pipeline.

Text: each half second that is not silent becomes one pseudo-word, chosen by its samples. Equal audio gives
equal text, and audio that was lost, duplicated or moved shows in the text.

Time: the model's name may say what a call takes, so that the fake stands for a GPU. `fake:A:B:C` takes A
seconds for each padded second of audio (the longest segment of the call times their number), B seconds for
each decoding step (the tokens of the longest output) and C seconds for the call itself. Omitted numbers count
as 0. What the fake computes meanwhile is part of that time.

Faults: for the tests of everything around them, the fakes really break on request. A context `fault:KIND`
makes the recogniser do KIND to its process. `fault:align:KIND` makes it output the word "faultKIND", which
the aligner obeys; it also obeys that word in a given text. The kinds:

    segfault  reads from address 0
    kill      kill -9, as the kernel does when memory runs out
    hang      sleeps for ever
    freeze    sleeps for ever while it holds Python's lock, as a C extension may
    raise     raises a ValueError
    oom       is out of memory with more than one segment
    never     is out of memory even with one segment
    engine    meets a sticky CUDA error

Traces: where SCRIPTORIUM_FAKE_TRACE names a folder, the recogniser writes one line `checksum seconds` there
for each segment that it gets, so that a test sees what was done twice. Where SCRIPTORIUM_FAKE_CALLS names a
folder, a line `begin end` (seconds of the machine's monotonic clock) is written for each call, so that a
benchmark sees how busy a GPU would have been.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import signal
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from actors.backends.base import AlignerBackend, ASRBackend
from actors.backends.out_of_memory import MemoryGuard
from actors.config import AlignerConfig, ASRConfig
from actors.errors import FatalError
from actors.records import SAMPLING_RATE, AlignmentRequest, Hypothesis, SegmentRequest

WORD_SAMPLES = SAMPLING_RATE // 2
# Root mean square of int16 samples: -60 dBFS.
SILENCE_RMS = 32.0
LANGUAGE = "English"

_FAULT, _ALIGNER_FAULT = "fault:", "fault:align:"
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


class FakeASR(ASRBackend):
    """Recognises one pseudo-word in each half second of sound."""

    def __init__(self, config: ASRConfig) -> None:
        self.model = "fake"
        self.revision = "1"
        self.clock = SimulatedClock(config.model)
        self.memory = MemoryGuard()

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis]:
        """See `ASRBackend`; the context only serves for faults."""
        return self.memory.run(requests, self._transcribe)

    def _transcribe(self, requests: Sequence[SegmentRequest]) -> list[Hypothesis]:
        _trace(requests)
        for request in requests:
            if request.context.startswith(_FAULT) and not request.context.startswith(_ALIGNER_FAULT):
                _break(request.context.removeprefix(_FAULT), len(requests))
        with self.clock.call(requests) as call:
            hypotheses = [self._hypothesis(request) for request in requests]
            call.steps = max((hypothesis.tokens for hypothesis in hypotheses), default=0)
        return hypotheses

    def _hypothesis(self, request: SegmentRequest) -> Hypothesis:
        # Silence behind a segment (`actors.asr`) does not change its last word.
        waveform = np.trim_zeros(request.waveform, "b")
        pieces = [waveform[start : start + WORD_SAMPLES] for start in range(0, len(waveform), WORD_SAMPLES)]
        words = [pseudo_word(piece) for piece in pieces if _rms(piece) >= SILENCE_RMS]
        if words and request.context.startswith(_ALIGNER_FAULT):
            words.append("fault" + request.context.removeprefix(_ALIGNER_FAULT))
        language = (request.language or LANGUAGE) if words else None
        text = f"{' '.join(words).capitalize()}." if words else ""
        confidence = round(1 - zlib.crc32(text.encode()) % 1000 / 10_000, 4) if words else None
        raw = f"language {language}<asr_text>{text}"
        settled = " ".join(raw.split(" ")[: -request.unsettled_tokens]) if request.unsettled_tokens else ""
        # A token is a word with the space before it.
        ends = [*itertools.accumulate((len(word) + 1 for word in words), initial=-1)][1:]
        if ends:
            ends[-1] = len(text)
        return Hypothesis(
            text,
            language,
            raw,
            confidence,
            len(words),
            settled=max(settled, request.prefix, key=len),
            language_confidence=0.99 if words and not request.language else None,
            token_ends=tuple(ends),
            token_log_probabilities=tuple(_log_probability(word) for word in words),
        )


def _log_probability(word: str) -> float:
    """A probability from 0.9 to 1 that depends on the word, as a logarithm."""
    return round(math.log(1 - zlib.crc32(word.encode()) % 1000 / 10_000), 6)


class FakeAligner(AlignerBackend):
    """Spreads the words evenly over the segment."""

    max_duration = 180.0

    def __init__(self, config: AlignerConfig) -> None:
        self.model = "fake"
        self.revision = "1"
        self.clock = SimulatedClock(config.model)
        self.memory = MemoryGuard()

    def align(self, requests: list[AlignmentRequest]) -> list[list[tuple[float, float]]]:
        """See `AlignerBackend`."""
        return self.memory.run(requests, self._align)

    def _align(self, requests: Sequence[AlignmentRequest]) -> list[list[tuple[float, float]]]:
        for unit in (unit for request in requests for unit in request.units if unit.startswith("fault")):
            _break(unit.removeprefix("fault"), len(requests))
        with self.clock.call(requests):
            return [self._times(request) for request in requests]

    def _times(self, request: AlignmentRequest) -> list[tuple[float, float]]:
        count = len(request.units)
        borders = (
            [round(request.duration * position / count, 3) for position in range(count + 1)] if count else []
        )
        return list(itertools.pairwise(borders))


class SimulatedClock:
    """Makes calls last as long as a model's name says (see the head of this file).

    Any other name takes no time.

    Raises:
        FatalError: `fake:` is not followed by up to three numbers.
    """

    def __init__(self, model: str) -> None:
        name, *numbers = model.split(":")
        expected = (
            f"model {model!r}: fake: must be followed by up to three numbers of seconds, per padded second "
            "of audio, "
            "per step, per call"
        )
        try:
            seconds = [float(number) for number in numbers] if name == "fake" and any(numbers) else []
        except ValueError as error:
            raise FatalError(expected) from error
        if len(seconds) > 3:
            raise FatalError(expected)
        self.per_second, self.per_step, self.per_call = [*seconds, 0.0, 0.0, 0.0][:3]
        self.steps = 0  # decoding steps of the current call

    @contextmanager
    def call(
        self, requests: Sequence[SegmentRequest] | Sequence[AlignmentRequest]
    ) -> Iterator[SimulatedClock]:
        """Make the block last at least as long as a call with these requests; it may set `steps`."""
        begin, self.steps = time.monotonic(), 0
        yield self
        padded = max((request.duration for request in requests), default=0.0) * len(requests)
        duration = self.per_second * padded + self.per_step * self.steps + self.per_call
        remaining = begin + duration - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)
        if folder := os.environ.get("SCRIPTORIUM_FAKE_CALLS"):
            with open(Path(folder) / str(os.getpid()), "a") as file:
                file.write(f"{begin:.6f} {time.monotonic():.6f}\n")


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
    amplitudes = samples.astype(np.float32)
    return float(np.sqrt(np.dot(amplitudes, amplitudes) / max(1, len(amplitudes))))


def _break(kind: str, batch_size: int) -> None:
    """Produce a fault; an unknown kind is none.

    Args:
        kind: see the head of this file.
        batch_size: segments of this call.
    """
    if kind == "segfault":
        ctypes.string_at(0)
    elif kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "hang":
        time.sleep(1e9)
    elif kind == "freeze":
        # PyDLL keeps Python's lock, which CDLL would release.
        ctypes.PyDLL(None).sleep(1_000_000_000)
    elif kind == "raise":
        raise ValueError("the fault that was asked for")
    elif kind == "never" or (kind == "oom" and batch_size > 1):
        raise MemoryError(f"CUDA out of memory. Tried to allocate {batch_size} GiB")
    elif kind == "engine":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _trace(requests: Sequence[SegmentRequest]) -> None:
    if folder := os.environ.get("SCRIPTORIUM_FAKE_TRACE"):
        lines = "".join(
            f"{zlib.crc32(request.waveform.tobytes()):08x} {request.duration:.3f}\n" for request in requests
        )
        # Unbuffered, because it must outlive a kill -9.
        with open(Path(folder) / str(os.getpid()), "ab", buffering=0) as file:
            file.write(lines.encode())
