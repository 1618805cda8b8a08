"""Transcripts as SRT and WebVTT: cues that can be read in the time that they are shown. Pure text."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from actors.records import SegmentRow, WordRow
from actors.text.languages import UNSPACED_LANGUAGES, name_of

_CHARS = 84  # of a cue: two lines of 42, the usual limit of subtitles
_WIDE_CHARS = 32  # of a cue in scripts whose characters are twice as wide
_SECONDS = 6.0  # that a cue lasts at most
_PAUSE = 0.8  # seconds between words at which a cue ends
_SENTENCE_END = ".!?…。！？؟।"
_SHORT = 0.3  # of the characters of a full cue: a sentence that ends before is not a cue of its own
_LEAST = 0.2  # seconds: a cue of no time would never be shown


@dataclass(frozen=True)
class Cue:
    """What is shown, and when, in seconds of the recording."""

    start: float
    end: float
    text: str


def cues(segments: Sequence[SegmentRow]) -> list[Cue]:
    """Cut segments into cues: between words where their times are known; a segment without them is one cue."""
    made = [cue for segment in segments if segment["text"].strip() for cue in _cues(segment)]
    made = _joined(sorted(made, key=lambda cue: cue.start))
    after = [*(cue.start for cue in made[1:]), float("inf")]
    # A cue that had no time of its own may last into the pause behind it, but not into the next one.
    return [
        Cue(cue.start, max(cue.end, min(cue.start + _LEAST, limit)), cue.text)
        for cue, limit in zip(made, after, strict=False)
    ]


def srt(segments: Sequence[SegmentRow]) -> str:
    """Segments as SubRip."""
    blocks = [
        f"{number}\n{_stamp(cue.start, ',')} --> {_stamp(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues(segments), 1)
    ]
    return "\n".join(blocks)


def vtt(segments: Sequence[SegmentRow]) -> str:
    """Segments as WebVTT."""
    blocks = [
        f"{_stamp(cue.start, '.')} --> {_stamp(cue.end, '.')}\n{html.escape(cue.text, quote=False)}\n"
        for cue in cues(segments)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _cues(segment: SegmentRow) -> Iterator[Cue]:
    words = segment["words"]
    if not words:
        yield Cue(segment["start"], segment["end"], _one_line(segment["text"]))
        return
    longest = _WIDE_CHARS if name_of(segment["language"]) in UNSPACED_LANGUAGES else _CHARS
    group: list[WordRow] = []
    for word in words:
        if group and _ends(group, word, longest):
            yield _cue(segment, group, word["char_start"])
            group = []
        group.append(word)
    yield _cue(segment, group, len(segment["text"]))


def _joined(made: Sequence[Cue]) -> list[Cue]:
    """Cues that would have no time, because the next one begins with them, and that one: as lines of one cue."""
    found: list[Cue] = []
    for cue in made:
        last = found[-1] if found else None
        if last and _milliseconds(last.end) <= _milliseconds(last.start) == _milliseconds(cue.start):
            found[-1] = Cue(last.start, max(last.end, cue.end), f"{last.text}\n{cue.text}")
        else:
            found.append(cue)
    return found


def _ends(group: list[WordRow], word: WordRow, longest: int) -> bool:
    """Whether a cue ends before `word`."""
    chars = group[-1]["char_end"] - group[0]["char_start"]
    sentence = group[-1]["text"][-1:] in _SENTENCE_END and chars >= _SHORT * longest
    too_long = (
        word["char_end"] - group[0]["char_start"] > longest or word["end"] - group[0]["start"] > _SECONDS
    )
    return sentence or too_long or word["start"] - group[-1]["end"] >= _PAUSE


def _cue(segment: SegmentRow, group: list[WordRow], until: int) -> Cue:
    start = 0 if group[0] is segment["words"][0] else group[0]["char_start"]
    return Cue(group[0]["start"], group[-1]["end"], _one_line(segment["text"][start:until]))


def _one_line(text: str) -> str:
    # Neither format allows an empty line in a cue, and an arrow would end it.
    return " ".join(text.split()).replace("-->", "→")


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _stamp(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(_milliseconds(seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
