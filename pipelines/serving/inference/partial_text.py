"""The text of a recording while it is transcribed, for clients that stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from actors.records import Hypothesis, Row
from actors.text.languages import code_of
from pipelines.stitching import join_texts

_TOLERANCE = 0.001  # seconds by which segments may overlap without having text in common


@dataclass(frozen=True)
class PartialTranscript:
    """The text of a recording up to the first gap, and the language of its beginning (ISO code).

    `done` and `total` are seconds that are recognised and that there are, where they were asked for.
    """

    text: str
    language: str | None
    done: float | None = None
    total: float | None = None


OnText = Callable[[PartialTranscript], None]


class PartialText:
    """Collects the text of a recording up to the first gap, while its segments are recognised in any order.

    Emitted text is always a prefix of the final transcript.

    Args:
        shards: number of shards of the recording.
        on_text: called whenever the text has grown.
        durations: seconds of each shard; `on_text` is then also called for each segment, with the progress.
    """

    def __init__(self, shards: int, on_text: OnText | None, durations: Sequence[float] | None = None) -> None:
        self._on_text = on_text
        self._durations = durations
        self._recognised = [0.0] * shards  # seconds of segments with text, by shard
        self._shards: list[list[Row] | None] = [None] * shards
        # The segments of all shards up to the first one that is not decoded, in the order of the transcript.
        self._segments: list[Row] = []
        self._emitted = ""
        self._reset()

    def _reset(self) -> None:
        """Discard the joined text, which otherwise grows without joining all segments again."""
        self._joined, self._text = 0, ""  # the number of joined segments, and their text
        self._ends: dict[int | None, float] = {}  # end of the joined segments by channel
        self._last_spoken: Row | None = None  # the last joined segment with text
        self._language: str | None = None  # of the first joined segment with text

    def add_shard(self, segments: list[Row], index: int) -> None:
        """Add the segments of a decoded shard, which have no text yet."""
        columns = ("start", "end", "channel")
        self._shards[index] = [
            {**{name: segment[name] for name in columns}, "text": None, "language": None}
            for segment in segments
        ]
        decoded = takewhile(lambda shard: shard is not None, self._shards)
        ordered = sorted((segment for shard in decoded for segment in shard or []), key=_position)
        joined = self._segments[: self._joined]
        if any(new is not old for new, old in zip(ordered, joined, strict=False)):
            self._reset()  # the shard has segments before the end of the joined text
        self._segments = ordered
        self._emit()

    def add_hypothesis(self, index: int, number: int, hypothesis: Hypothesis) -> None:
        """Add the text of a segment, given by the index of its shard and its number in the shard."""
        shard = self._shards[index]
        assert shard is not None
        shard[number].update(text=hypothesis.text.strip(), language=code_of(hypothesis.language))
        self._recognised[index] += _seconds(shard[number])
        self._emit()

    def _emit(self) -> None:
        if self._on_text is None:
            return
        while self._joined < len(self._segments):
            segment = self._segments[self._joined]
            # Where shards overlap, stitching removes repeated words from the later segment; that needs the
            # words.
            overlaps = segment["start"] < self._ends.get(segment["channel"], 0.0) - _TOLERANCE
            if segment["text"] is None or overlaps:
                break
            self._joined += 1
            self._ends[segment["channel"]] = segment["end"]
            if segment["text"]:
                before = self._last_spoken or {"text": "", "language": None}
                self._text += join_texts([before, segment])[len(before["text"]) :]
                self._language = segment["language"] if self._last_spoken is None else self._language
                self._last_spoken = segment
        has_grown = len(self._text) > len(self._emitted) and self._text.startswith(self._emitted)
        if has_grown:
            self._emitted = self._text
        if self._durations is not None:
            progress = round(self._done(self._durations), 3), round(sum(self._durations), 3)
            self._on_text(PartialTranscript(self._emitted, self._language, *progress))
        elif has_grown:
            self._on_text(PartialTranscript(self._text, self._language))

    def _done(self, durations: Sequence[float]) -> float:
        """Seconds that are recognised. The pauses of a shard count in proportion to its segments."""
        done = 0.0
        for duration, segments, recognised in zip(durations, self._shards, self._recognised, strict=True):
            if segments is not None:
                total = sum(map(_seconds, segments))
                done += duration * min(1.0, recognised / total) if total else duration
        return done


def _seconds(segment: Row) -> float:
    return float(segment["end"] - segment["start"])


def _position(segment: Row) -> tuple[float, int, float]:
    """Sort key of a segment, the same as in `stitch`."""
    return segment["start"], -1 if segment["channel"] is None else segment["channel"], segment["end"]
