"""Faults that only word times show: the text is decoded again by the first model, and the words decide. Pure.

A text may pass all guards and be wrong all the same: half of a fast sentence is missing, or words stand where
nobody speaks. The alignment shows it. Such a segment goes through the ladder after the first pass, and what
that finds is only taken where its own words are better.
"""

from __future__ import annotations

from dataclasses import replace

from actors.guards.evidence import flag_names
from actors.guards.text import SUSPECT_TEXT_FLAGS
from actors.guards.words import EDGE, WORD_FAULTS
from actors.records import CandidateRow, Hypothesis, SegmentRow
from actors.repair.agreement import AGREEMENT, agreement
from actors.repair.choice import ORIGINAL
from actors.text.languages import code_of
from actors.text.syllables import count_syllables

# Sound that no word covers: a better text has so many syllables more, as a share of those that are uncovered
# at least, or where a word is missing at an end.
_MISSING, _SHARE, _WORD = "speech_without_words", 0.5, 1.0
# The flag of a text that comes from a step of the ladder, up to its name.
_REPAIRED = "repaired:"
# What was tried already, or cannot be.
_SETTLED = frozenset({"repaired", "repair_refused", "repair_failed", "languages_mixed", "text_given"})


def has_word_faults(segment: SegmentRow) -> bool:
    """Whether word times alone speak against a text, and no repair of it was tried."""
    flags = flag_names(segment.get("flags") or [])
    tried = bool(segment.get("candidates")) or bool(_SETTLED & flags) or bool(SUSPECT_TEXT_FLAGS & flags)
    return bool(WORD_FAULTS & flags) and not tried


def with_word_faults(original: Hypothesis, candidate: Hypothesis, uncovered: int) -> Hypothesis:
    """A candidate with those flags of the original's word times that will be its own, too.

    The same words have the same times. A text that misses speech is no better until it has more to say.

    Args:
        original: with the flags of its word times.
        candidate: another text of the same segment.
        uncovered: syllables in a row from which speech without words is flagged.
    """
    faults = WORD_FAULTS & flag_names(original.flags)
    gained = _syllables(candidate) - _syllables(original)
    missing = {_MISSING} if gained < _SHARE * uncovered else set()
    missing |= {EDGE} if gained < _WORD else set()
    if agreement(original.text, candidate.text) < AGREEMENT:
        faults &= missing
    elif EDGE not in missing:
        faults -= {EDGE}
    added = sorted(faults - flag_names(candidate.flags))
    return replace(candidate, flags=(*candidate.flags, *added)) if added else candidate


def better(earlier: SegmentRow, found: SegmentRow) -> SegmentRow:
    """The segment that is kept: the one with fewer flags of suspicion; of equals the earlier one.

    Args:
        earlier: a segment with its words.
        found: the same segment with another text and its words.
    """
    if _faults(found) < _faults(earlier):
        return found
    flags = [flag for flag in found.get("flags") or [] if not flag.startswith(_REPAIRED)]
    rejected: CandidateRow = {
        "source": _source(found),
        "text": found.get("text") or "",
        "language": found.get("language"),
        "confidence": found.get("confidence"),
        "flags": flags,
    }
    others = [one for one in found.get("candidates") or [] if one["source"] != ORIGINAL]
    if (found.get("text") or "") != (earlier.get("text") or ""):
        others.append(rejected)
    refused = [flag for flag in flags if flag == "repair_refused"]
    kept = {**earlier, "flags": [*(earlier.get("flags") or []), *refused]}
    return {**kept, "candidates": others or None}  # type: ignore[typeddict-item]


def _faults(segment: SegmentRow) -> int:
    return len((SUSPECT_TEXT_FLAGS | WORD_FAULTS) & flag_names(segment.get("flags") or []))


def _source(segment: SegmentRow) -> str:
    return next(
        (flag.partition(":")[2] for flag in segment.get("flags") or [] if flag.startswith(_REPAIRED)),
        ORIGINAL,
    )


def _syllables(hypothesis: Hypothesis) -> float:
    return count_syllables(hypothesis.text, code_of(hypothesis.language))
