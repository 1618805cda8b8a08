"""Which of several texts of a segment is kept: agreement, then guards passed, then confidence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from actors.confidence.words import least_confidence
from actors.guards.evidence import flag_names
from actors.guards.text import REPEATED, SUSPECT_TEXT_FLAGS
from actors.guards.words import WORD_FAULTS
from actors.records import CandidateRow, Hypothesis, Piece
from actors.repair.agreement import AGREEMENT, agreement
from actors.text.languages import code_of

ORIGINAL = "original"
# Confidence of the least certain word up to which the text of a new cut wants a second one.
_SURE = 0.85
# Flags of doubt about a text that is sound otherwise. A text with any other flag of `SUSPECT_TEXT_FLAGS`,
# such as a loop, is broken: that another one has the same fault is no argument for it.
_DOUBTS = frozenset({"low_confidence", "language_doubtful", "text_unlike_audio", "unknown_language"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text of a segment.

    Attributes:
        source: the step that it comes from; `ORIGINAL` for the first answer.
        hypothesis: the text; its flags are those of the parser and of the guards.
        pieces: of the segment, in different languages; empty: it is one.
    """

    source: str
    hypothesis: Hypothesis
    pieces: tuple[Piece, ...] = ()

    @property
    def suspects(self) -> frozenset[str]:
        """The flags of this text that call for a repair; those of word times in a pass of their own."""
        return (SUSPECT_TEXT_FLAGS | WORD_FAULTS) & flag_names(self.hypothesis.flags)

    @property
    def faults(self) -> int:
        """How many flags call for a repair; a language that is not allowed weighs more than all others."""
        return len(self.suspects) + 100 * ("language_not_allowed" in self.suspects)

    @property
    def is_sure(self) -> bool:
        """Whether the model is sure of every word, as far as it says."""
        one = self.hypothesis
        least = least_confidence(one.token_ends, one.token_log_probabilities, one.text)
        return least is None or least >= _SURE

    @property
    def is_sound(self) -> bool:
        """Whether nothing but doubts speaks against it."""
        return self.suspects <= _DOUBTS


def best(candidates: Sequence[Candidate]) -> int:
    """The number of the candidate that is kept.

    1. Agreement: one that another sound candidate agrees with, and that is sound itself.
    2. Guards: the fewest flags of suspicion.
    3. Confidence, and of equals the earlier one.

    The first one, the original, is only replaced by one that agrees with another one or has fewer flags.

    Args:
        candidates: of one segment; the first is the original.
    """
    agreed = [_is_agreed(number, candidates) for number in range(len(candidates))]
    allowed = [
        number
        for number, candidate in enumerate(candidates)
        if number == 0 or (agreed[number] and not agreed[0]) or candidate.faults < candidates[0].faults
    ]

    def key(number: int) -> tuple[bool, int, float, int]:
        candidate = candidates[number]
        confidence = candidate.hypothesis.confidence or 0.0
        return agreed[number], -candidate.faults, confidence, -number

    return max(allowed, key=key)


def confirms(original: Candidate, candidate: Candidate) -> bool:
    """Whether another answer has the same words as one of which only its length speaks against it.

    A model that leaves a part out does not leave out the same in another cut. Then the count of syllables is
    wrong, as with voices that have more peaks than syllables.
    """
    same = agreement(original.hypothesis.text, candidate.hypothesis.text) >= AGREEMENT
    return original.suspects == {"too_little_text"} and candidate.source == "recut" and same


def with_fault_of(original: Candidate, candidate: Candidate) -> Candidate:
    """A candidate with the fault that only neighbours show, where it has the text of the original."""
    one = candidate.hypothesis
    is_same = agreement(original.hypothesis.text, one.text) >= AGREEMENT
    if REPEATED not in original.suspects or not is_same or REPEATED in one.flags:
        return candidate
    return replace(candidate, hypothesis=replace(one, flags=(*one.flags, REPEATED)))


def is_agreed(candidates: Sequence[Candidate]) -> bool:
    """Whether another sound candidate agrees with the last one."""
    return _is_agreed(len(candidates) - 1, candidates)


def _is_agreed(number: int, candidates: Sequence[Candidate]) -> bool:
    one = candidates[number]
    return one.is_sound and any(
        other.is_sound and agreement(one.hypothesis.text, other.hypothesis.text) >= AGREEMENT
        for place, other in enumerate(candidates)
        if place != number
    )


def as_row(candidate: Candidate) -> CandidateRow:
    """A candidate that was rejected, for the segment's row."""
    hypothesis = candidate.hypothesis
    return {
        "source": candidate.source,
        "text": hypothesis.text.strip(),
        "language": code_of(hypothesis.language) if hypothesis.text.strip() else None,
        "confidence": hypothesis.confidence,
        "flags": list(hypothesis.flags),
    }
