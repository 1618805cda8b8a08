"""Gives words and segments their speakers, from turns. Pure.

Where two people speak at once, a word has no speaker and its segment the flag `overlapped_speech`: the
recogniser writes down one of them or both, and nothing tells which.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from actors.records import SegmentRow, WordRow

OVERLAPPED = "overlapped_speech"
# Share of a word in which several people speak, from which it has no speaker.
_OVERLAP_SHARE = 0.5
# Seconds of overlapped speech that flag a segment without words.
_OVERLAP_SECONDS = 0.5
# Seconds between a word and a turn within which the turn still gets it: turns end where the voice fades.
_REACH = 2.0
# Share of the speech of a segment without words that makes it one speaker's.
_ALONE = 0.9


@dataclass(frozen=True, slots=True)
class SpeakerTurn:
    """A span in which a speaker speaks, in seconds of the recording."""

    start: float
    end: float
    speaker: str


class Turns:
    """The turns of a recording, or of one of its channels.

    Args:
        turns: in any order. Those of one speaker do not overlap.
    """

    def __init__(self, turns: Sequence[SpeakerTurn]) -> None:
        self._turns = sorted(turns, key=lambda turn: (turn.start, turn.end, turn.speaker))
        self._starts = [turn.start for turn in self._turns]
        self._longest = max((turn.end - turn.start for turn in turns), default=0.0)

    def within(self, start: float, end: float) -> list[SpeakerTurn]:
        """The turns that overlap a span."""
        first = bisect_left(self._starts, start - self._longest - _REACH)
        last = bisect_left(self._starts, end)
        return [turn for turn in self._turns[first:last] if turn.end > start]

    def shares(self, start: float, end: float) -> dict[str, float]:
        """Seconds of a span in which each speaker speaks."""
        seconds: dict[str, float] = {}
        for turn in self.within(start, end):
            shared = min(end, turn.end) - max(start, turn.start)
            seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + shared
        return seconds

    def overlap(self, start: float, end: float) -> float:
        """Seconds of a span in which several people speak."""
        turns = self.within(start, end)
        edges = sorted(
            {start, end, *(edge for turn in turns for edge in (turn.start, turn.end) if start < edge < end)}
        )
        total = 0.0
        for left, right in pairwise(edges):
            middle = (left + right) / 2
            speakers = {turn.speaker for turn in turns if turn.start <= middle < turn.end}
            total += right - left if len(speakers) > 1 else 0.0
        return total

    def nearest(self, time: float) -> SpeakerTurn | None:
        """The turn that is nearest to a moment, within reach; None where there is none."""
        near = self.within(time - _REACH, time + _REACH)
        return min(near, key=lambda turn: (_distance(turn, time), turn.start), default=None)


def with_speakers(segment: SegmentRow, turns: Turns) -> SegmentRow:
    """The segment with `speaker`, in its words too, and the flag `overlapped_speech` where it applies."""
    words: list[WordRow] = []
    overlapped = False
    for word in segment.get("words") or []:
        speaker, several = _speaker_of(word, turns)
        overlapped |= several
        words.append({**word, "speaker": speaker})
    if words:
        named = {word["speaker"] for word in words if word["speaker"]}
        speaker = named.pop() if len(named) == 1 else None
    else:
        speaker = _speaker_without_words(segment, turns)
        overlapped = turns.overlap(segment["start"], segment["end"]) >= _OVERLAP_SECONDS
    flags = list(segment.get("flags") or [])
    if overlapped and OVERLAPPED not in flags:
        flags.append(OVERLAPPED)
    return {**segment, "words": words, "speaker": speaker, "flags": flags}


def _speaker_of(word: WordRow, turns: Turns) -> tuple[str | None, bool]:
    """The speaker of a word, and whether it has none because several people speak."""
    # A word without a length, or without times, is a moment.
    start, end = word["start"], word["end"]
    if start is None or end is None:
        return None, False
    end = max(end, start + 0.02)
    shares = turns.shares(start, end)
    if len(shares) > 1 and turns.overlap(start, end) > _OVERLAP_SHARE * (end - start):
        return None, True
    if shares:
        return max(sorted(shares), key=lambda speaker: shares[speaker]), False
    nearest = turns.nearest((start + end) / 2)
    return (nearest.speaker if nearest else None), False


def _speaker_without_words(segment: SegmentRow, turns: Turns) -> str | None:
    shares = turns.shares(segment["start"], segment["end"])
    if not shares:
        nearest = turns.nearest((segment["start"] + segment["end"]) / 2)
        return nearest.speaker if nearest else None
    first = max(sorted(shares), key=lambda speaker: shares[speaker])
    return first if shares[first] >= _ALONE * sum(shares.values()) else None


def _distance(turn: SpeakerTurn, time: float) -> float:
    return max(0.0, turn.start - time, time - turn.end)
