"""Backends without a model: deterministic, instant, and free of heavy imports. For load tests, fault tests and benchmarks of the pipeline.

Each half second that is not silent becomes one pseudo-word, chosen by its samples: equal audio gives equal text, and audio that was lost,
doubled or moved shows in the text. The model's name may tell what a call costs, and with that stand for a GPU: `fake:A:B:C` takes A seconds
for each padded second of audio (the longest of the call times their number), B for each step of its decoding (the tokens of the longest answer)
and C for the call itself; what is left out costs nothing. What the fake computes meanwhile is part of that time.

They also break on request, truly, for the tests of everything around them: a context `fault:KIND` makes the recogniser do KIND to its
process, and `fault:align:KIND` makes it say "faultKIND", which the aligner obeys (as it does in a given text). The kinds:

    segfault  a read from address 0        hang    sleeps for ever              raise   raises a ValueError
    kill      kill -9, as the kernel would freeze  the same, holding Python's   oom     is out of memory with more than one segment
              when memory runs out                 lock as a C extension may    never   is out of memory even with one
                                                                                engine  meets a sticky CUDA error
Where SCRIPTORIUM_FAKE_TRACE names a folder, the recogniser writes there what it is asked, one line of `checksum seconds` a segment: so
a test sees what was done twice. SCRIPTORIUM_FAKE_CALLS names a folder for a line of `begin end` (seconds of the machine's monotonic clock) for
each call: so a benchmark sees how busy a GPU would have been.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from actors.backends.out_of_memory import MemoryGuard
from actors.config import AlignerConfig, ASRConfig
from actors.errors import FatalError
from actors.records import SAMPLING_RATE, AlignmentRequest, Hypothesis, SegmentRequest

WORD_SAMPLES = SAMPLING_RATE // 2
_FAULT, _LATER = "fault:", "fault:align:"
SILENCE_RMS = 32.0  # of int16: -60 dBFS
LANGUAGE = "English"

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


class FakeASR:
    """Says one pseudo-word for each half second of sound. Satisfies `ASRBackend`."""

    def __init__(self, config: ASRConfig) -> None:
        self.model = "fake"
        self.revision = "1"
        self.cost = Cost(config.model)
        self.memory = MemoryGuard()

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis]:
        """See `ASRBackend`; of the context only faults are heard."""
        return self.memory.run(requests, self._transcribe)

    def _transcribe(self, requests: Sequence[SegmentRequest]) -> list[Hypothesis]:
        _trace(requests)
        for request in requests:
            if request.context.startswith(_FAULT) and not request.context.startswith(_LATER):
                _break(request.context.removeprefix(_FAULT), len(requests))
        with self.cost.spent(requests) as spending:
            hypotheses = [self._hypothesis(request) for request in requests]
            spending.steps = max((hypothesis.tokens for hypothesis in hypotheses), default=0)
        return hypotheses

    def _hypothesis(self, request: SegmentRequest) -> Hypothesis:
        pieces = [
            request.waveform[start : start + WORD_SAMPLES]
            for start in range(0, len(request.waveform), WORD_SAMPLES)
        ]
        words = [pseudo_word(piece) for piece in pieces if _rms(piece) >= SILENCE_RMS]
        if words and request.context.startswith(_LATER):
            words.append("fault" + request.context.removeprefix(_LATER))
        language = (request.language or LANGUAGE) if words else None
        text = f"{' '.join(words).capitalize()}." if words else ""
        confidence = round(1 - zlib.crc32(text.encode()) % 1000 / 10_000, 4) if words else None
        raw = f"language {language}<asr_text>{text}"
        settled = " ".join(raw.split(" ")[: -request.unsettled_tokens]) if request.unsettled_tokens else ""
        return Hypothesis(
            text, language, raw, confidence, len(words), settled=max(settled, request.prefix, key=len)
        )


class FakeAligner:
    """Spreads the words evenly over the segment. Satisfies `AlignerBackend`."""

    max_duration = 180.0

    def __init__(self, config: AlignerConfig) -> None:
        self.model = "fake"
        self.revision = "1"
        self.cost = Cost(config.model)
        self.memory = MemoryGuard()

    def align(self, requests: list[AlignmentRequest]) -> list[list[tuple[float, float]]]:
        """See `AlignerBackend`."""
        return self.memory.run(requests, self._align)

    def _align(self, requests: Sequence[AlignmentRequest]) -> list[list[tuple[float, float]]]:
        for unit in (unit for request in requests for unit in request.units if unit.startswith("fault")):
            _break(unit.removeprefix("fault"), len(requests))
        with self.cost.spent(requests):
            return [self._times(request) for request in requests]

    def _times(self, request: AlignmentRequest) -> list[tuple[float, float]]:
        count = len(request.units)
        borders = (
            [round(request.duration * position / count, 3) for position in range(count + 1)] if count else []
        )
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
    loud = samples.astype(np.float32)
    return float(np.sqrt(np.dot(loud, loud) / max(1, len(loud))))


class Cost:
    """What calls take, from a model's name (see the head of this file); any other name costs nothing.

    Raises:
        FatalError: what follows `fake:` are not up to three numbers.
    """

    def __init__(self, model: str) -> None:
        name, *numbers = model.split(":")
        wanted = f"model {model!r}: what follows fake: must be up to three numbers of seconds, per padded second of audio, per step, per call"
        try:
            costs = [float(number) for number in numbers] if name == "fake" and any(numbers) else []
        except ValueError as error:
            raise FatalError(wanted) from error
        if len(costs) > 3:
            raise FatalError(wanted)
        self.second, self.step, self.call = [*costs, 0.0, 0.0, 0.0][:3]
        self.steps = 0  # of the call under way

    @contextmanager
    def spent(self, requests: Sequence[SegmentRequest] | Sequence[AlignmentRequest]) -> Iterator[Cost]:
        """Make the block last as long as such a call does, at least; `steps` may be set within it."""
        begin, self.steps = time.monotonic(), 0
        yield self
        padded = max((request.duration for request in requests), default=0.0) * len(requests)
        left = begin + self.second * padded + self.step * self.steps + self.call - time.monotonic()
        if left > 0:
            time.sleep(left)
        if folder := os.environ.get("SCRIPTORIUM_FAKE_CALLS"):
            with open(Path(folder) / str(os.getpid()), "a") as file:
                file.write(f"{begin:.6f} {time.monotonic():.6f}\n")


def _break(kind: str, together: int) -> None:
    """Do what a fault says; an unknown word is no fault.

    Args:
        kind: see the head of this file.
        together: segments of this call.
    """
    if kind == "segfault":
        ctypes.string_at(0)
    elif kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "hang":
        time.sleep(1e9)
    elif kind == "freeze":
        ctypes.PyDLL(None).sleep(1_000_000_000)  # PyDLL keeps Python's lock, which CDLL would let go
    elif kind == "raise":
        raise ValueError("the fault that was asked for")
    elif kind == "never" or (kind == "oom" and together > 1):
        raise MemoryError(f"CUDA out of memory. Tried to allocate {together} GiB")
    elif kind == "engine":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _trace(requests: Sequence[SegmentRequest]) -> None:
    if folder := os.environ.get("SCRIPTORIUM_FAKE_TRACE"):
        lines = "".join(
            f"{zlib.crc32(request.waveform.tobytes()):08x} {request.duration:.3f}\n" for request in requests
        )
        with open(
            Path(folder) / str(os.getpid()), "ab", buffering=0
        ) as file:  # unbuffered: it must outlive a kill -9
            file.write(lines.encode())
