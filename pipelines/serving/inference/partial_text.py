"""The text of a recording while it is still in work: what clients who stream are told before the transcript is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from actors.records import Hypothesis, Row
from actors.text.languages import code_of
from pipelines.stitching import join_texts

_TOLERANCE = 0.001  # seconds by which segments may overlap without having anything in common


@dataclass(frozen=True)
class PartialTranscript:
    """The text of a recording as far as it is known without a gap, and the language of its beginning (ISO code)."""

    text: str
    language: str | None


OnText = Callable[[PartialTranscript], None]


class PartialText:
    """The text of a recording as far as it is known without a gap, while its segments are recognised in any order.

    What is told is the beginning of what `stitch` makes of it in the end.
    """

    def __init__(self, shards: int, on_text: OnText | None) -> None:
        self._on_text = on_text
        self._shards: list[list[Row] | None] = [None] * shards
        self._line: list[
            Row
        ] = []  # the segments of all shards up to one that is not decoded yet, in the order of the transcript
        self._told = ""
        self._forget()

    def _forget(self) -> None:
        """Begin anew with the joining. What is joined stays: thousands of segments are not joined again for each that comes."""
        self._known, self._text = 0, ""  # segments of the line that are joined, and their text
        self._ends: dict[int | None, float] = {}
        self._spoken: Row | None = None  # the last of them with a text
        self._language: str | None = None  # of the first of them with a text

    def begin(self, segments: list[Row], index: int) -> None:
        """A shard is decoded: its segments, without their texts."""
        kept = ("start", "end", "channel")
        self._shards[index] = [
            {**{name: segment[name] for name in kept}, "text": None, "language": None} for segment in segments
        ]
        decoded = takewhile(lambda shard: shard is not None, self._shards)
        line = sorted((segment for shard in decoded for segment in shard or []), key=_position)
        if any(new is not old for new, old in zip(line, self._line[: self._known], strict=False)):
            self._forget()  # the shard reaches back behind what was told
        self._line = line
        self._tell()

    def heard(self, index: int, number: int, hypothesis: Hypothesis) -> None:
        """A segment is recognised."""
        shard = self._shards[index]
        assert shard is not None
        shard[number].update(text=hypothesis.text.strip(), language=code_of(hypothesis.language))
        self._tell()

    def _tell(self) -> None:
        if self._on_text is None:
            return
        while self._known < len(self._line):
            segment = self._line[self._known]
            # Where shards overlap, words said twice are taken out of the later one: what it says is known when it has words.
            if (
                segment["text"] is None
                or segment["start"] < self._ends.get(segment["channel"], 0.0) - _TOLERANCE
            ):
                break
            self._known += 1
            self._ends[segment["channel"]] = segment["end"]
            if segment["text"]:
                before = self._spoken or {"text": "", "language": None}
                self._text += join_texts([before, segment])[len(before["text"]) :]
                self._language = segment["language"] if self._spoken is None else self._language
                self._spoken = segment
        if len(self._text) > len(self._told) and self._text.startswith(self._told):
            self._told = self._text
            self._on_text(PartialTranscript(self._text, self._language))


def _position(segment: Row) -> tuple[float, int, float]:
    """Of a segment in a transcript, as `stitch` puts them in order."""
    return segment["start"], -1 if segment["channel"] is None else segment["channel"], segment["end"]
