"""Puts the words of a corrected text back into the segments that they come from. Pure.

Subtitles divide a text anew, and people move borders. The words of the file are aligned with those of the
transcript by the fewest edits (Levenshtein); what is equal stays as it was, with its white space, and what
differs goes to the segment of the words in whose place it is, or else to the nearest one in time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rapidfuzz.distance import Levenshtein

from actors.records import Row
from actors.text.languages import is_spaced, name_of
from pipelines.importing.documents import Piece
from pipelines.subtitles.profiles import PROFILES
from pipelines.subtitles.tokens import tokens_of

# Scripts without spaces are compared by character: subtitles and people break them anywhere.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_TOKEN = re.compile(rf"[{_UNSPACED}\U00020000-\U0003ffff]|[^\s{_UNSPACED}\U00020000-\U0003ffff]+")
_SHORT = 3  # characters of a name that was cut, from which it is taken for one
_DASHES = frozenset("-–—‐‑")


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of a transcript that keeps its identity: a segment, or a turn in it.

    Attributes:
        number: of the unit.
        segment: number of its segment.
        char_start: where its text begins in that of the segment.
        char_end: where it ends.
        start: seconds of the recording.
        end: seconds of the recording.
        text: what is said.
        label: of the speaker, as people see it.
        language: ISO code.
    """

    number: int
    segment: int
    char_start: int
    char_end: int
    start: float
    end: float
    text: str
    label: str | None
    language: str | None


# A token of a unit: number of the unit, characters of its text.
Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Word:
    """A token of the file; `space` None: at a line break, so that the script decides."""

    text: str
    time: float
    space: bool | None


def tokens(text: str) -> list[tuple[int, int]]:
    """The tokens of a text that are compared, without dashes, which mark turns in subtitles."""
    spans = [found.span() for found in _TOKEN.finditer(text)]
    return [(start, end) for start, end in spans if not _DASHES.issuperset(text[start:end])]


def reading_order(row: Row, units: Sequence[Unit], as_subtitles: bool) -> list[Place]:
    """The tokens of units in the order in which a file has them.

    Args:
        row: the TRANSCRIPT row.
        units: in the order of time; whole segments for subtitles.
        as_subtitles: people who speak at once take turns phrase by phrase.
    """
    if not as_subtitles:
        return [(unit.number, *span) for unit in units for span in tokens(unit.text)]
    by_segment = {unit.segment: unit for unit in units}
    left = {unit.segment: iter(tokens(unit.text)) for unit in units}
    reached = dict.fromkeys(left, 0)
    order: list[Place] = []
    for token in tokens_of(row["segments"] or (), PROFILES["netflix"]):
        unit = by_segment.get(token.segment)
        if unit is None:
            continue
        found = unit.text.find(token.text.replace("→", "-->"), reached[unit.segment])
        found = found if found >= 0 else unit.text.find(token.text, reached[unit.segment])
        if found < 0:
            continue
        reached[unit.segment] = end = found + len(token.text)
        while (span := next(left[unit.segment], None)) is not None:
            order.append((unit.number, *span))
            if span[1] >= end:
                break
    for unit in units:
        order += [(unit.number, *span) for span in left[unit.segment]]
    return order


def project(
    units: Sequence[Unit], order: Sequence[Place], pieces: Sequence[Piece], labels: set[str]
) -> tuple[dict[int, str], int]:
    """The new text of each unit.

    Args:
        units: that the pieces may belong to.
        order: their tokens, from `reading_order`.
        pieces: of the file, in order.
        labels: of speakers, which subtitles may have before a turn, with a colon.

    Returns:
        Texts by the unit's number, and how many of its tokens the file has.
    """
    by_number = {unit.number: unit for unit in units}
    words = _words(pieces, labels)
    old = [by_number[number].text[start:end].replace("-->", "→") for number, start, end in order]
    new = [word.text.replace("-->", "→") for word in words]
    built: dict[int, list[tuple[Place | None, _Word | None]]] = {unit.number: [] for unit in units}
    common = 0
    for first, last, begin, end in _blocks(old, new):
        if "".join(old[first:last]) == "".join(new[begin:end]):
            common += last - first
            as_written = words[begin:end] if end - begin == last - first else [None] * (last - first)
            for place, written in zip(order[first:last], as_written, strict=True):
                built[place[0]].append((place, written))
            continue
        candidates = list(dict.fromkeys(place[0] for place in order[first:last]))
        if not candidates:
            around = [order[index][0] for index in (first - 1, first) if 0 <= index < len(order)]
            candidates = list(dict.fromkeys(around)) or [unit.number for unit in units]
        for word in words[begin:end]:
            nearest = min(candidates, key=lambda number: _distance(by_number[number], word.time))
            built[nearest].append((None, word))
            # Words stay in their order.
            candidates = candidates[candidates.index(nearest) :]
    return {number: _rebuilt(by_number[number], parts) for number, parts in built.items()}, common


def _blocks(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Stretches that are equal, and between them stretches that differ, of two lists of tokens."""
    blocks: list[tuple[int, int, int, int]] = []
    was_equal = True
    for step in Levenshtein.opcodes(old, new):
        is_equal = step.tag == "equal"
        if blocks and not is_equal and not was_equal:
            first, _, begin, _ = blocks[-1]
            blocks[-1] = (first, step.src_end, begin, step.dest_end)
        else:
            blocks.append((step.src_start, step.src_end, step.dest_start, step.dest_end))
        was_equal = is_equal
    return blocks


def _rebuilt(unit: Unit, parts: Sequence[tuple[Place | None, _Word | None]]) -> str:
    """The text of a unit from tokens that stayed and words of the file."""
    spans = tokens(unit.text)
    if [place for place, _ in parts] == [(unit.number, *span) for span in spans]:
        return unit.text
    text, reached = "", 0
    following = {0: spans[0][0]} if spans else {}  # by end of a token, the start of the next one
    following |= {left[1]: right[0] for left, right in pairwise(spans)}
    for place, word in parts:
        if place is not None:
            _, start, end = place
            # Next to the token that it follows in the transcript, with what stands between them.
            if following.get(reached) == start and reached >= 0:
                text += unit.text[reached:start]
            else:
                text += _gap(unit, text, unit.text[start:end], word)
            text += unit.text[start:end]
            reached = end
        elif word is not None:
            text += _gap(unit, text, word.text, word) + word.text
            reached = -1
    if spans and reached == spans[-1][1]:
        text += unit.text[reached:]
    return text.strip()


def _gap(unit: Unit, left: str, right: str, word: _Word | None) -> str:
    """What stands before a token: as in the file, and at a line break as the script has it."""
    if not left:
        return ""
    is_space = word.space if word is not None else None
    if is_space is None:
        is_space = is_spaced(name_of(unit.language), left, right)
    return " " if is_space else ""


def _words(pieces: Sequence[Piece], labels: set[str]) -> list[_Word]:
    words: list[_Word] = []
    for piece in pieces:
        length = max(len(piece.text), 1)
        place = 0
        for line in piece.text.split("\n"):
            shown = _without_label(line, labels)
            place += len(line) - len(shown)
            before = 0
            for number, (start, end) in enumerate(tokens(shown)):
                time = piece.start + (piece.end - piece.start) * (place + start) / length
                is_break = number == 0
                space = None if is_break else any(char.isspace() for char in shown[before:start])
                words.append(_Word(shown[start:end], time, space))
                before = end
            place += len(shown) + 1
    return words


def _without_label(line: str, labels: set[str]) -> str:
    """A line without `NAME: ` at its start; a name may be cut short to fit."""
    bare = line.lstrip("-–— ")
    head, colon, rest = bare.partition(": ")
    is_label = colon and any(
        label == head or (len(head) > _SHORT and label.startswith(head)) for label in labels
    )
    return rest if is_label else line


def _distance(unit: Unit, time: float) -> float:
    return max(unit.start - time, time - unit.end, 0.0)
