"""The text of a recording while it is still in work: what clients who stream are told before the transcript is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from actors.languages import code_of
from actors.results import Hypothesis
from pipelines.stitching import join_texts

Row = dict[str, Any]

_TOLERANCE = 0.001  # seconds by which segments may overlap without having anything in common


@dataclass(frozen=True)
class Heard:
    """The text of a recording as far as it is known without a gap, and the language of its beginning (ISO code)."""

    text: str
    language: str | None


OnText = Callable[[Heard], None]


class Telling:
    """The text of a recording as far as it is known without a gap, while its segments are recognised in any order.

    What is told is the beginning of what `stitch` makes of it in the end.
    """

    def __init__(self, shards: int, on_text: OnText | None) -> None:
        self._on_text = on_text
        self._shards: list[list[Row] | None] = [None] * shards
        self._line: list[Row] = []  # the segments of all shards up to one that is not decoded yet, in the order of the transcript
        self._told = ""

    def begin(self, segments: list[Row], index: int) -> None:
        """A shard is decoded: its segments, without their texts."""
        kept = ("start", "end", "channel")
        self._shards[index] = [{**{name: segment[name] for name in kept}, "text": None, "language": None} for segment in segments]
        decoded = takewhile(lambda shard: shard is not None, self._shards)
        self._line = sorted((segment for shard in decoded for segment in shard or []), key=_position)
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
        known: list[Row] = []
        ends: dict[int | None, float] = {}
        for segment in self._line:
            # Where shards overlap, words said twice are taken out of the later one: what it says is known when it has words.
            if segment["text"] is None or segment["start"] < ends.get(segment["channel"], 0.0) - _TOLERANCE:
                break
            ends[segment["channel"]] = segment["end"]
            known.append(segment)
        text = join_texts(known)
        if len(text) > len(self._told) and text.startswith(self._told):
            self._told = text
            self._on_text(Heard(text, next((segment["language"] for segment in known if segment["text"]), None)))


def _position(segment: Row) -> tuple[float, int, float]:
    """Of a segment in a transcript, as `stitch` puts them in order."""
    return segment["start"], -1 if segment["channel"] is None else segment["channel"], segment["end"]
