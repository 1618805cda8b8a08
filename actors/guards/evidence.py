"""What a guard may look at: values that the stages have already, so that a guard costs next to nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEvidence:
    """What is known about the text of one segment. None: not known; no guard concludes anything from it."""

    text: str  # as it stands in the row: parsed and stripped
    duration: float  # seconds of the segment
    raw: str | None = None  # the model's output, tags included
    language: str | None = None  # ISO code of the segment; None: the model named no known language
    tag: str | None = None  # ISO code of the language that the model itself wrote, if it wrote one
    forced_language: str | None = None  # ISO code
    allowed_languages: tuple[str, ...] = ()  # ISO codes; empty: all are allowed
    speech_seconds: float | None = None  # seconds of the segment that sound like speech
    speech_probability: float | None = None  # highest probability of speech that lasted 0.1 s, by a VAD
    confidence: float | None = None  # geometric mean of the probabilities of the text's tokens
    language_confidence: float | None = None  # probability of the language's name
    context: str = ""  # what the model was given as background
    tokens: int | None = None  # generated tokens
    budget_spent: bool = False  # the limit of tokens ended the answer, not the model
    # A server's own judgement: Whisper's `no_speech_prob` and `compression_ratio`.
    no_speech_probability: float | None = None
    compression_ratio: float | None = None
    flags: tuple[str, ...] = ()  # that the segment has already


@dataclass(frozen=True, slots=True, kw_only=True)
class WordEvidence:
    """What is known about the words of one segment. Times are in seconds from the start of the segment."""

    words: tuple[tuple[str, float, float], ...]  # text, start, end
    duration: float  # seconds of the segment
    language: str | None = None  # ISO code
    silences: tuple[tuple[float, float], ...] = ()  # proven silence inside the segment: start, end
    # The stretches that sound like speech: start, end; None: not known.
    speech: tuple[tuple[float, float], ...] | None = None
    repaired: int = 0  # time stamps that `timestamp_repair` changed, of two for each word
    flags: tuple[str, ...] = ()  # that the segment has already


def names(flags: tuple[str, ...] | list[str]) -> set[str]:
    """Flags without what follows a colon: `unknown_language:Klingon` is `unknown_language`."""
    return {flag.partition(":")[0] for flag in flags}
