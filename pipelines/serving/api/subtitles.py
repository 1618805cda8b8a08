"""Transcripts as SRT and WebVTT, with cues short enough to be read while they are shown. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from actors.records import SegmentRow, WordRow
from actors.text.languages import UNSPACED_LANGUAGES, name_of

_MAX_CHARS = 84  # of a cue: two lines of 42, the usual limit of subtitles
_MAX_WIDE_CHARS = 32  # of a cue in scripts whose characters are twice as wide
_MAX_SECONDS = 6.0  # of a cue
_PAUSE = 0.8  # seconds between words at which a cue ends
_SENTENCE_END = ".!?…。！？؟।"
_SHORT = 0.3  # part of the longest cue: a sentence shorter than this is not a cue of its own
_MIN_SECONDS = 0.2  # of a cue: one without duration would never be shown


@dataclass(frozen=True)
class Cue:
    """One subtitle; times are seconds of the recording."""

    start: float
    end: float
    text: str


def cues(segments: Sequence[SegmentRow]) -> list[Cue]:
    """Cut segments into cues between words. A segment without words is one cue."""
    made = [cue for segment in segments if segment["text"].strip() for cue in _cues(segment)]
    made = _join_instant_cues(sorted(made, key=lambda cue: cue.start))
    next_starts = [*(cue.start for cue in made[1:]), float("inf")]
    # A cue without duration is extended into the pause behind it, but not into the next cue.
    return [
        Cue(cue.start, max(cue.end, min(cue.start + _MIN_SECONDS, next_start)), cue.text)
        for cue, next_start in zip(made, next_starts, strict=False)
    ]


def srt(segments: Sequence[SegmentRow]) -> str:
    """Segments as SubRip."""
    blocks = [
        f"{number}\n{_timestamp(cue.start, ',')} --> {_timestamp(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues(segments), 1)
    ]
    return "\n".join(blocks)


def vtt(segments: Sequence[SegmentRow]) -> str:
    """Segments as WebVTT."""
    blocks = [
        f"{_timestamp(cue.start, '.')} --> {_timestamp(cue.end, '.')}\n{html.escape(cue.text, quote=False)}\n"
        for cue in cues(segments)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _cues(segment: SegmentRow) -> Iterator[Cue]:
    words = segment["words"]
    if not words:
        yield Cue(segment["start"], segment["end"], _one_line(segment["text"]))
        return
    max_chars = _MAX_WIDE_CHARS if name_of(segment["language"]) in UNSPACED_LANGUAGES else _MAX_CHARS
    group: list[WordRow] = []
    for word in words:
        # Words without times are not said, and not shown.
        is_said = word["start"] is not None
        if group and (not is_said or _ends_before(group, word, max_chars)):
            yield _cue(segment, group, word["char_start"])
            group = []
        if is_said:
            group.append(word)
    if group:
        yield _cue(segment, group, len(segment["text"]))


def _join_instant_cues(made: Sequence[Cue]) -> list[Cue]:
    """Join each cue without duration with a next one that starts at the same time, as lines of one cue."""
    joined: list[Cue] = []
    for cue in made:
        last = joined[-1] if joined else None
        if last and _milliseconds(last.end) <= _milliseconds(last.start) == _milliseconds(cue.start):
            joined[-1] = Cue(last.start, max(last.end, cue.end), f"{last.text}\n{cue.text}")
        else:
            joined.append(cue)
    return joined


def _ends_before(group: list[WordRow], word: WordRow, max_chars: int) -> bool:
    """Whether the cue of the words in `group` ends before `word`."""
    first, last = group[0], group[-1]
    chars = last["char_end"] - first["char_start"]
    (start, end), (_, last_end), (first_start, _) = _times(word), _times(last), _times(first)
    sentence = last["text"][-1:] in _SENTENCE_END and chars >= _SHORT * max_chars
    too_long = word["char_end"] - first["char_start"] > max_chars or end - first_start > _MAX_SECONDS
    return sentence or too_long or start - last_end >= _PAUSE


def _times(word: WordRow) -> tuple[float, float]:
    """Start and end of a word that is said."""
    assert word["start"] is not None and word["end"] is not None
    return word["start"], word["end"]


def _cue(segment: SegmentRow, group: list[WordRow], until: int) -> Cue:
    start = 0 if group[0] is segment["words"][0] else group[0]["char_start"]
    return Cue(_times(group[0])[0], _times(group[-1])[1], _one_line(segment["text"][start:until]))


def _one_line(text: str) -> str:
    # Neither format allows an empty line in a cue, and an arrow would be parsed as a time line.
    return " ".join(text.split()).replace("-->", "→")


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _timestamp(seconds: float, separator: str) -> str:
    minutes, milliseconds = divmod(_milliseconds(seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{separator}{milliseconds % 1000:03}"
