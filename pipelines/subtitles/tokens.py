"""The text of a recording as tokens with times: what cues are made of. Pure.

A token is a word with its punctuation, or a phrase in scripts without spaces: lines and cues break only
between tokens. Times are whole milliseconds, so that rules hold exactly in what is written.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from actors.records import SegmentRow, WordRow
from actors.text.languages import is_spaced, name_of
from actors.text.speaker_turns import speaker_of, split_at_speakers
from pipelines.subtitles.profiles import Limits, Profile
from pipelines.subtitles.text_width import cells, pieces

# Milliseconds between words at which nothing joins the two sides: they are not one utterance.
LONG_PAUSE = 3000
# Milliseconds at which interleaved segments may be cut, so that two people who talk at once take turns.
_SHORT_PAUSE = 300
# Characters between timed words; what is longer holds words without times.
_LONG_GAP = 4
SENTENCE_END = ".!?…。！？؟।۔"
_CLOSING = "\"')]}»”’」』）】〉》"


@dataclass(slots=True)
class Token:
    """A piece of text that is never divided."""

    text: str
    width: int  # cells
    start: int  # ms
    end: int  # ms
    space: bool  # whether white space separates it from the token before
    is_word: bool  # False: a further piece of a word that was too wide
    language: str | None
    speaker: str | None
    segment: int  # number of its segment
    confidence: float | None


@dataclass(slots=True)
class Turn:
    """Tokens of one speaker in one language, without a long pause."""

    speaker: str | None
    limits: Limits
    tokens: list[Token] = field(default_factory=list)


def tokens_of(
    segments: Sequence[SegmentRow], profile: Profile, names: Mapping[str, str] | None = None
) -> list[Token]:
    """All tokens in the order of time.

    Args:
        segments: of one recording; those of several channels or speakers may overlap in time.
        profile: its widths of lines, and whether turns are labelled.
        names: names of speakers for the labels; a speaker without a name is labelled by `speaker`.
    """
    numbered = [
        (number, part)
        for number, segment in enumerate(segments)
        if (segment["text"] or "").strip()
        for part in split_at_speakers(segment)
        if part["text"].strip()
    ]
    groups = [list(_segment_tokens(number, part, profile)) for number, part in numbered]
    groups = [group for group in groups if group]
    groups.sort(key=lambda group: group[0].start)
    ends = [group[-1].end for group in groups]
    if any(group[0].start < end for group, end in zip(groups[1:], ends, strict=False)):
        groups = sorted(
            (part for group in groups for part in _phrases(group)), key=lambda part: part[0].start
        )
    for before, after in pairwise(groups):
        left, right = before[-1], after[0]
        language = name_of(right.language) if left.language == right.language else None
        right.space = is_spaced(language, left.text, right.text)
    tokens = [token for group in groups for token in group]
    latest = 0
    for token in tokens:
        latest = token.start = max(token.start, latest)
        token.end = max(token.end, token.start)
    if profile.speaker_labels:
        _add_labels(tokens, profile, names or {})
    return tokens


def turns_of(tokens: Sequence[Token], profile: Profile) -> list[Turn]:
    """Tokens divided where a cue must end: at other speakers, other limits, and long pauses."""
    turns: list[Turn] = []
    before: Token | None = None
    for token in tokens:
        limits = profile.limits_of(token.language)
        if (
            before is None
            or token.speaker != before.speaker
            or limits is not turns[-1].limits
            or token.start - before.end >= LONG_PAUSE
        ):
            turns.append(Turn(token.speaker, limits))
        turns[-1].tokens.append(token)
        before = token
    return turns


def ends_sentence(text: str) -> bool:
    """Whether a token ends a sentence, closing quotes and brackets aside."""
    bare = text.rstrip(_CLOSING)
    return bool(bare) and bare[-1] in SENTENCE_END


def _segment_tokens(number: int, segment: SegmentRow, profile: Profile) -> Iterator[Token]:
    text, language = segment["text"], segment.get("language")
    longest = profile.limits_of(language).line_cells
    if profile.dual_speakers:
        longest -= 2  # room for the hyphen of a speaker
    spans = list(pieces(text, language, longest))
    times = _times(segment, [(start, end) for start, end, _ in spans])
    speaker, confidences = speaker_of(segment), _confidences(segment, spans)
    previous_end = 0
    for (start, end, is_word), (begin, finish), confidence in zip(spans, times, confidences, strict=True):
        # An arrow would be read as a time line by SRT and WebVTT.
        piece = text[start:end].replace("-->", "→")
        yield Token(
            piece,
            cells(piece),
            begin,
            finish,
            start > previous_end,
            is_word,
            language,
            speaker,
            number,
            confidence,
        )
        previous_end = end


def _times(segment: SegmentRow, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Milliseconds of each span of a segment's text: of its words, or in proportion to the characters."""
    places: list[int] = []  # characters whose time is known, and the time: at starts and ends of words
    moments: list[float] = []
    for word, (first, last) in _located(segment):
        if word["start"] is None or word["end"] is None:
            continue
        start = max(word["start"], moments[-1] if moments else 0.0)
        if places and first < places[-1]:
            continue
        places += [first, max(last, first)]
        moments += [start, max(word["end"], start)]
    length, begin, finish = len(segment["text"]), segment["start"], max(segment["end"], segment["start"])
    if not places:
        places, moments = [0, length], [begin, finish]
    # Words without times before the first and behind the last known one.
    if places[0] > _LONG_GAP:
        places, moments = [0, 0, *places], [min(begin, moments[0])] * 2 + moments
    if length - places[-1] > _LONG_GAP:
        places, moments = [*places, length, length], moments + [max(finish, moments[-1])] * 2
    return [
        (_moment(places, moments, start, True), _moment(places, moments, end, False)) for start, end in spans
    ]


def _moment(places: Sequence[int], moments: Sequence[float], place: int, is_start: bool) -> int:
    """The time at a character: at borders between words that of the word after (start) or before (end)."""
    index = bisect_right(places, place) - 1 if is_start else bisect_right(places, place - 1) - 1
    if index < 0:
        return max(0, round(moments[0] * 1000))
    if index >= len(places) - 1:
        return max(0, round(moments[-1] * 1000))
    # Within a word, or among words without times.
    if not index % 2 or places[index + 1] - places[index] > _LONG_GAP:
        share = (place - places[index]) / ((places[index + 1] - places[index]) or 1)
        return max(0, round((moments[index] + share * (moments[index + 1] - moments[index])) * 1000))
    # In punctuation between two words: a start is that of the next word, an end that of the word before.
    return max(0, round(moments[index + 1 if is_start else index] * 1000))


def _located(segment: SegmentRow) -> Iterator[tuple[WordRow, tuple[int, int]]]:
    """Words with their characters; those that have no positions, as on the page, are searched in order."""
    place = 0
    for word in segment.get("words") or ():
        start, end = word.get("char_start"), word.get("char_end")
        if start is None or end is None:
            found = segment["text"].find(word["text"], place)
            start = found if found >= 0 else place
            end = min(len(segment["text"]), start + len(word["text"]))
        place = end
        yield word, (start, end)


def _confidences(segment: SegmentRow, spans: Sequence[tuple[int, int, bool]]) -> list[float | None]:
    words = [
        (first, word["confidence"])
        for word, (first, _) in _located(segment)
        if word.get("confidence") is not None
    ]
    if not words:
        return [segment.get("confidence")] * len(spans)
    firsts = [first for first, _ in words]
    return [words[max(0, bisect_right(firsts, end - 1) - 1)][1] for _, end, _ in spans]


def _phrases(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """A group of tokens cut after sentences and at pauses."""
    part: list[Token] = []
    for token in tokens:
        if part and (ends_sentence(part[-1].text) or token.start - part[-1].end >= _SHORT_PAUSE):
            yield part
            part = []
        part.append(token)
    if part:
        yield part


def _add_labels(tokens: Sequence[Token], profile: Profile, names: Mapping[str, str]) -> None:
    for speaker, group in groupby(tokens, key=lambda token: token.speaker):
        if speaker is None:
            continue
        first = next(group)
        label = names.get(speaker) or speaker
        room = profile.limits_of(first.language).line_cells - first.width - 4
        while label and cells(label) > room:
            label = label[:-1]
        if label:
            first.text = f"{label.strip()}: {first.text}"
            first.width = cells(first.text)
