"""A recogniser that is broken on purpose: a real one, some of whose answers are replaced by typical faults.

Which requests are hit is decided by a policy. The default depends on the seed and the sound alone, so that
it is repeatable, and independent of batches. `cured_by` makes a fault go away, as a repair does.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from actors.backends.base import ASRBackend
from actors.records import Hypothesis, SegmentRequest
from actors.text.languages import CODES, UNSPACED_LANGUAGES
from actors.text.parsing import parse_output
from infra.demo_models.words import BY_CODE

Fault = Literal["loop", "truncation", "leak", "invention", "wrong_tag", "wrong_language", "half"]
FAULTS: tuple[Fault, ...] = (
    "loop",
    "truncation",
    "leak",
    "invention",
    "wrong_tag",
    "wrong_language",
    "half",
)
Policy = Callable[[SegmentRequest], Fault | None]
# Words of the texts that models invent where nothing is said.
_INVENTED = (
    "Thank you for watching.",
    "Please subscribe to the channel.",
    "I think that is all for today, thank you very much.",
    "Untertitel der Amara.org-Community.",
    "Merci d'avoir regardé cette vidéo.",
)


@dataclass(frozen=True)
class Injected:
    """A fault that was injected."""

    fault: Fault
    request: SegmentRequest
    true_text: str


class BrokenASR(ASRBackend):
    """Puts faults into the answers of another recogniser.

    Args:
        backend: the other recogniser.
        policy: the fault for a request; None: its answer is right.
        seed: of the details of the faults.
    """

    def __init__(self, backend: ASRBackend, policy: Policy, seed: int = 0) -> None:
        self._backend, self._policy, self._seed = backend, policy, seed
        self.model, self.revision = f"broken {backend.model}", backend.revision
        self.device, self.gpu_memory = backend.device, backend.gpu_memory
        self.cost_model = backend.cost_model
        self.injected: list[Injected] = []

    def transcribe(self, requests: list[SegmentRequest]) -> Sequence[Hypothesis | Exception]:
        """See `ASRBackend`."""
        return [
            result if isinstance(result, Exception) else self._answer(request, result)
            for request, result in zip(requests, self._backend.transcribe(requests), strict=True)
        ]

    def _answer(self, request: SegmentRequest, right: Hypothesis) -> Hypothesis:
        fault = self._policy(request)
        chance = random.Random(f"{self._seed} {fingerprint(request)}")
        # A text is needed for what spoils one, and silence for what invents one.
        if (
            fault is None
            or (fault == "invention") == bool(right.text)
            or (fault == "leak") > bool(request.context)
        ):
            return right
        wrong = _broken(fault, request, right, chance)
        if wrong is None:
            return right
        self.injected.append(Injected(fault, request, right.text))
        return replace(wrong, confidence=round(chance.uniform(0.7, 0.97), 4))


def fingerprint(request: SegmentRequest) -> int:
    """A number for the sound of a request."""
    return zlib.crc32(np.ascontiguousarray(request.waveform, "<i2").tobytes())


def seeded(seed: int, share: float, faults: Sequence[Fault] = FAULTS) -> Policy:
    """A policy that hits this share of the requests with one of the faults, by their sound."""

    def policy(request: SegmentRequest) -> Fault | None:
        chance = random.Random(f"{seed} {fingerprint(request)}")
        return chance.choice(faults) if chance.random() < share else None

    return policy


def cured_by(
    policy: Policy, *, shorter_than: float = 0.0, without_context: bool = False, penalty: bool = False
) -> Policy:
    """A policy whose faults go away with what a repair does.

    Args:
        policy: without the cure.
        shorter_than: seconds below which a segment is recognised rightly.
        without_context: a request without context is recognised rightly.
        penalty: a request with a repetition penalty is recognised rightly.
    """

    def cured(request: SegmentRequest) -> Fault | None:
        healthy = (
            request.duration < shorter_than
            or (without_context and not request.context)
            or (penalty and request.repetition_penalty > 1)
        )
        return None if healthy else policy(request)

    return cured


def _broken(
    fault: Fault, request: SegmentRequest, right: Hypothesis, chance: random.Random
) -> Hypothesis | None:
    """The answer with a fault; None where the right one is too short for it."""
    language = right.language or "English"
    words, joiner = _words(right.text, language)
    if fault == "invention":
        return _parsed("English", chance.choice(_INVENTED), request)
    if fault == "leak":
        return _parsed(language, request.context, request)
    if fault == "wrong_tag":
        # Languages that share their words cannot be told apart by them.
        others = [name for name in CODES if {name, language} not in _ALIKE and name != language]
        return _parsed(chance.choice(others), right.text, request)
    if len(words) < 4:
        return None
    if fault == "wrong_language":
        other = chance.choice([entry for entry in BY_CODE.values() if entry.name != language])
        text = other.text([chance.randrange(len(other.words)) for _ in words])
        return _parsed(language, text, request)
    if fault == "loop":
        start, unit = chance.randrange(1, len(words) - 2), chance.randint(1, 4)
        copies = chance.choice((8, 15, 60))
        text = joiner.join([*words[:start], *words[start : start + unit] * copies])
        return _parsed(language, text, request, truncated=copies == 60)
    if fault == "truncation":
        return _parsed(language, joiner.join(words[: max(1, len(words) // 3)]), request, truncated=True)
    half = len(words) // 2
    kept = chance.choice((words[:half], words[-half:], [*words[: half // 2], *words[half // 2 - half :]]))
    return _parsed(language, joiner.join(kept), request)


# Pairs of languages with the same script and mostly the same words.
_ALIKE = ({"Chinese", "Cantonese"}, {"Indonesian", "Malay"}, {"Russian", "Macedonian"})


def _words(text: str, language: str) -> tuple[list[str], str]:
    return (list(text), "") if language in UNSPACED_LANGUAGES else (text.split(), " ")


def _parsed(language: str, text: str, request: SegmentRequest, truncated: bool = False) -> Hypothesis:
    """An answer as the engines make it of a raw output."""
    raw = text if request.language else f"language {language}<asr_text>{text}"
    found, parsed, flags = parse_output(raw, request.language)
    return Hypothesis(
        parsed, found, raw, None, len(text.split()), (*flags, "truncated") if truncated else flags
    )
