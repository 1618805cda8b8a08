"""Turns and words of a transcript as tiers of intervals, for TextGrid and ELAN. Pure.

One tier for the turns of each speaker, and below it tiers of the words, the confidence and the flags of these
turns. Intervals of a tier never overlap and are never empty: what overlaps goes to a further tier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.records import Row
from pipelines.export.documents.facts import (
    speaker_label,
    speaker_names,
    spoken_turns,
    timed_words,
    written_word,
)

# Milliseconds of the shortest interval, and by how much one may be moved to keep it in its tier.
_SHORTEST = 1
_MOVE = 50
NO_SPEAKER = "speech"


@dataclass(frozen=True, slots=True)
class Interval:
    """A label from `start` to `end`, in milliseconds of the recording."""

    start: int
    end: int
    text: str


@dataclass(slots=True)
class Annotated:
    """A turn with what is known about it."""

    interval: Interval
    words: list[Interval]
    confidence: str
    flags: str


@dataclass(slots=True)
class SpeakerTier:
    """The turns of one speaker, none of which overlap."""

    name: str
    speaker: str
    language: str
    turns: list[Annotated] = field(default_factory=list)


def speaker_tiers(row: Row) -> list[SpeakerTier]:
    """The tiers of a TRANSCRIPT row, by speaker in the order of appearance."""
    names = speaker_names(row)
    tiers: list[SpeakerTier] = []
    for turn in spoken_turns(row):
        speaker = speaker_label(turn, names, NO_SPEAKER)
        start, end = _milliseconds(turn["start"]), _milliseconds(turn["end"])
        tier = next((tier for tier in tiers if tier.speaker == speaker and _free(tier, start)), None)
        if tier is None:
            number = sum(other.speaker == speaker for other in tiers) + 1
            name = speaker if number == 1 else f"{speaker} ({number})"
            tier = SpeakerTier(name, speaker, turn["language"] or "")
            tiers.append(tier)
        start = max(start, tier.turns[-1].interval.end if tier.turns else 0)
        interval = Interval(start, max(end, start + _SHORTEST), " ".join(turn["text"].split()))
        words = [
            (_milliseconds(word["start"]), _milliseconds(word["end"]), written_word(turn, word))
            for word in timed_words(turn)
        ]
        confidence = "" if turn["confidence"] is None else f"{turn['confidence']:.3f}"
        fitted, interval = _fitted(words, interval)
        tier.turns.append(Annotated(interval, fitted, confidence, " ".join(turn["flags"] or ())))
    return tiers


def _free(tier: SpeakerTier, start: int) -> bool:
    return not tier.turns or tier.turns[-1].interval.end <= start + _MOVE


def _fitted(words: Sequence[tuple[int, int, str]], around: Interval) -> tuple[list[Interval], Interval]:
    """Words as intervals in order that do not overlap, and the turn's interval, long enough for all of "
    "them."""
    fitted: list[Interval] = []
    end_before = around.start
    for number, (start, end, text) in enumerate(words):
        start = max(start, end_before)
        next_start = words[number + 1][0] if number + 1 < len(words) else end
        end = max(min(end, max(next_start, start)), start + _SHORTEST)
        fitted.append(Interval(start, end, text))
        end_before = end
    return fitted, Interval(around.start, max(around.end, end_before), around.text)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
