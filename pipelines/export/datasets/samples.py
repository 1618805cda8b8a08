"""Samples of a training set: spans of recordings with their text. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from actors.audio.clips import Clip
from actors.records import Row, SegmentRow
from pipelines.export.documents.facts import (
    metadata_of,
    speaker_label,
    speaker_names,
    spoken_turns,
    timed_words,
    written_word,
)
from pipelines.export.names import flat_name
from pipelines.output.transcript_filters import recording_confidence
from pipelines.stitching import join_texts

# Seconds between segments that end a window.
_LONGEST_GAP = 5.0


@dataclass(frozen=True)
class SampleOptions:
    """What a sample is, and which are taken.

    Attributes:
        unit: segment (a turn of one speaker in it) | window | recording.
        window: seconds of a window at most, unless one segment is longer.
        min_duration: seconds.
        max_duration: seconds; None: any.
        min_confidence: of the sample; samples without a confidence do not pass.
        without_flags: as in `Filters`.
        languages: ISO codes; empty: any.
        speakers: names of speakers, or `speaker`; empty: any.
        keys: of the samples that `scriptorium select` kept; None: any.
    """

    unit: Literal["segment", "window", "recording"] = "segment"
    window: float = 30.0
    min_duration: float = 0.1
    max_duration: float | None = None
    min_confidence: float | None = None
    without_flags: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    keys: frozenset[str] | None = None


@dataclass(slots=True)
class Sample:
    """A span of a recording with its text; seconds of the file."""

    key: str  # unique, of ASCII letters, digits and `_`
    recording_id: str
    start: float
    end: float
    text: str
    language: str | None
    speaker: str | None  # as people name it; None: several, or not known
    confidence: float | None
    flags: list[str]
    words: list[dict[str, Any]] = field(default_factory=list)  # text, start, end from the sample's start
    text_source: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.end - self.start

    @property
    def clip(self) -> Clip:
        """What to decode."""
        numbers = {flag.partition(":")[0]: flag.partition(":")[2] for flag in self.flags if ":" in flag}
        channel, track = numbers.get("channel", ""), numbers.get("track", "")
        return Clip(
            self.start,
            self.end,
            int(channel) if channel.isdigit() else None,
            int(track) if track.isdigit() else None,
        )

    def facts(self) -> dict[str, Any]:
        """What formats state beside audio and text."""
        return {
            "id": self.key,
            "recording_id": self.recording_id,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "language": self.language,
            "speaker": self.speaker,
            "confidence": self.confidence,
            "flags": self.flags,
            "words": self.words,
            "text_source": self.text_source,
            "metadata": self.metadata,
        }


def samples_of(row: Row, options: SampleOptions, skipped: Counter[str] | None = None) -> Iterator[Sample]:
    """The samples of a TRANSCRIPT row that the options take, in the order of their starts.

    Args:
        row: the transcript.
        options: what a sample is.
        skipped: counts those that are left out, by reason.
    """
    for sample in _all_samples(row, options):
        reason = _reason_against(sample, options)
        if reason is None:
            yield sample
        elif skipped is not None:
            skipped[reason] += 1


def _all_samples(row: Row, options: SampleOptions) -> Iterator[Sample]:
    turns = list(spoken_turns(row))
    if options.unit == "segment":
        groups = [[turn] for turn in turns]
    elif options.unit == "window":
        groups = list(_windows(turns, options.window))
    else:
        groups = [turns] if turns else []
    names = speaker_names(row)
    base = flat_name(row["recording_id"])
    seen: Counter[str] = Counter()
    for group in groups:
        start, end = group[0]["start"], max(turn["end"] for turn in group)
        flags = list(dict.fromkeys(flag for turn in group for flag in turn["flags"] or ()))
        if options.unit == "recording":
            start = (row.get("window") or {}).get("start") or 0.0
            end = start + (row["duration"] or 0.0)
            flags = list(dict.fromkeys([*(row["flags"] or ()), *flags]))
            # Several channels in one sample: it is their mix.
            flags = [flag for flag in flags if not flag.startswith(("channel:", "track:"))]
        speakers = {speaker_label(turn, names) for turn in group}
        languages = {turn["language"] for turn in group}
        key = f"{base}_{round(start * 1000):09d}_{round(end * 1000):09d}"
        seen[key] += 1
        yield Sample(
            key=key if seen[key] == 1 else f"{key}_{seen[key]}",
            recording_id=row["recording_id"],
            start=start,
            end=end,
            text=_joined(group),
            language=group[0]["language"] if len(languages) == 1 else row["language"],
            speaker=(speakers.pop() or None) if len(speakers) == 1 else None,
            confidence=recording_confidence(group),
            flags=flags,
            words=[_word(turn, word, start) for turn in group for word in timed_words(turn)],
            text_source=row.get("text_source"),
            metadata=metadata_of(row),
        )


def _windows(turns: Sequence[SegmentRow], longest: float) -> Iterator[list[SegmentRow]]:
    """Consecutive turns of one channel, together at most `longest` seconds."""
    by_channel: dict[tuple[str, ...], list[SegmentRow]] = {}
    for turn in turns:
        origin = tuple(flag for flag in turn["flags"] or () if flag.startswith(("channel:", "track:")))
        by_channel.setdefault(origin, []).append(turn)
    for group in by_channel.values():
        window: list[SegmentRow] = []
        for turn in group:
            if window and (
                turn["end"] - window[0]["start"] > longest or turn["start"] - window[-1]["end"] > _LONGEST_GAP
            ):
                yield window
                window = []
            window.append(turn)
        if window:
            yield window


def _reason_against(sample: Sample, options: SampleOptions) -> str | None:
    longest = options.max_duration
    if not sample.text:
        return "no_text"
    if sample.duration < options.min_duration or (longest is not None and sample.duration > longest):
        return "duration"
    if options.languages and sample.language not in options.languages:
        return "language"
    if options.speakers and sample.speaker not in options.speakers:
        return "speaker"
    if options.keys is not None and sample.key not in options.keys:
        return "selection"
    kinds = {*sample.flags, *(flag.partition(":")[0] for flag in sample.flags)}
    if kinds.intersection(options.without_flags):
        return "flags"
    if options.min_confidence is not None and (sample.confidence or 0.0) < options.min_confidence:
        return "confidence"
    return None


def _joined(turns: Sequence[SegmentRow]) -> str:
    return join_texts([{**turn, "text": " ".join(turn["text"].split())} for turn in turns])


def _word(turn: SegmentRow, word: Any, start: float) -> dict[str, Any]:
    return {
        "text": written_word(turn, word),
        "start": round(word["start"] - start, 3),
        "end": round(word["end"] - start, 3),
        "confidence": word.get("confidence"),
    }


def compact_json(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
