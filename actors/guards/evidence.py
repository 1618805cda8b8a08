"""What a guard may look at: values that the stages have already, so that a guard costs next to nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from actors.records import ServerJudgement


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
    heard_syllables: int | None = None  # see `actors.guards.sound`
    # By a VAD, which is only asked where cheaper evidence leaves a doubt.
    speech_seconds: float | None = None
    speech_probability: float | None = None  # the highest one that lasts 0.1 s
    speech_syllables: int | None = None  # that are heard where there may be speech
    confidence: float | None = None  # geometric mean of the probabilities of the text's tokens
    language_confidence: float | None = None  # probability of the language's name
    context: str = ""  # what the model was given as background
    tokens: int | None = None  # generated tokens
    budget_spent: bool = False  # the limit of tokens ended the answer, not the model
    server_judgements: tuple[ServerJudgement, ...] = ()  # of the parts of the text
    flags: tuple[str, ...] = ()  # that the segment has already


@dataclass(frozen=True, slots=True, kw_only=True)
class WordEvidence:
    """What is known about the words of one segment. Times are in seconds from the start of the segment."""

    words: tuple[tuple[str, float, float], ...]  # text, start, end
    duration: float  # seconds of the segment
    language: str | None = None  # ISO code
    silences: tuple[tuple[float, float], ...] = ()  # proven silence inside the segment: start, end
    heard_syllables: tuple[float, ...] | None = None  # times, see `actors.guards.sound`; None: not known
    # The same by a VAD where there may be speech; None: it was not asked.
    speech_syllables: tuple[float, ...] | None = None
    repaired: int = 0  # time stamps that `timestamp_repair` changed, of two for each word
    flags: tuple[str, ...] = ()  # that the segment has already


def flag_names(flags: Iterable[str]) -> set[str]:
    """Flags without what follows a colon: `unknown_language:Klingon` is `unknown_language`."""
    return {flag.partition(":")[0] for flag in flags}
