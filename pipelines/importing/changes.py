"""What a corrected document changes in a transcript. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.records import Row
from actors.text.speaker_turns import split_at_speakers
from pipelines.corrections.overlay import speaker_id
from pipelines.export.documents.facts import speaker_label, speaker_names
from pipelines.importing.documents import Document, Piece
from pipelines.importing.formats import NO_SPEAKER
from pipelines.importing.projection import Unit, project, reading_order

# Seconds by which the borders of a piece may differ, together, from those of the turn that it corrects.
_TOLERANCE = 0.3
# Words from which a text is that of another recording if they have less than this share in common.
_MANY, _IN_COMMON = 50, 0.2
_SUBTITLES = ("srt", "vtt")


@dataclass(slots=True)
class Change:
    """What a segment should be."""

    number: int
    text: str
    language: str | None = None  # None: as it is
    speaker: str | None = None  # None: as it is; a name, or `speaker`
    # Speakers of parts of the segment: characters of `text`, and `speaker`.
    speakers: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass(slots=True)
class Changes:
    """The changes of a recording, and counts: segments by what happened to them, pieces without a place."""

    changed: list[Change]
    counts: Counter[str]
    is_stranger: bool = False  # the texts have next to nothing in common


def find_changes(row: Row, document: Document) -> Changes:
    """Compare a document with a transcript.

    Args:
        row: the TRANSCRIPT row, with earlier corrections.
        document: what people made of its export.
    """
    is_subtitle = document.form in _SUBTITLES
    units = units_of(row, whole_segments=is_subtitle)
    texts: list[str | None] = [unit.text for unit in units]
    counts: Counter[str] = Counter()
    matched: dict[int, Piece] = {}
    pieces = sorted(document.pieces, key=lambda piece: (piece.start, piece.end))
    rest = pieces
    if not is_subtitle:
        matched = _same_spans(units, pieces)
        taken = {id(piece) for piece in matched.values()}
        rest = [piece for piece in pieces if id(piece) not in taken and piece.text.strip()]
    loose = [unit for unit in units if unit.number not in matched]
    if rest and not is_subtitle:
        # Borders were moved, or spans joined or divided: the turns that the pieces lie on are read again.
        touched = [unit for unit in units if any(_overlap(unit, piece) > 0 for piece in rest)]
        loose = list({unit.number: unit for unit in [*loose, *touched]}.values())
        rest += [matched.pop(unit.number) for unit in loose if unit.number in matched]
        rest.sort(key=lambda piece: (piece.start, piece.end))
        loose.sort(key=lambda unit: (unit.start, unit.end))
        homeless = [piece for piece in rest if not any(_overlap(unit, piece) > 0 for unit in loose)]
        counts["unplaced"] = len(homeless)
        rest = [piece for piece in rest if piece not in homeless]
    common = 0
    if rest and loose:
        labels = {unit.label for unit in units_of(row, whole_segments=False) if unit.label}
        order = reading_order(row, loose, is_subtitle)
        projected, common = project(loose, order, rest, labels)
        for unit in loose:
            if document.is_whole or projected[unit.number].strip():
                texts[unit.number] = projected[unit.number]
    elif is_subtitle and rest:
        counts["unplaced"] = len(rest)
    elif document.is_whole:
        for unit in loose:
            texts[unit.number] = ""
    for number, piece in matched.items():
        texts[number] = _kept(units[number].text, piece.text)
    total = sum(len(unit.text.split()) for unit in loose)
    is_stranger = not matched and total >= _MANY and common < _IN_COMMON * total
    changed = _changes(row, units, texts, matched)
    counts["segments"] = len({unit.segment for unit in units})
    counts["changed"] = len(changed)
    counts["removed"] = sum(not change.text for change in changed)
    return Changes(changed, counts, is_stranger)


def units_of(row: Row, whole_segments: bool) -> list[Unit]:
    """The segments of a transcript, or its turns, in the order of time."""
    names = speaker_names(row)
    units: list[Unit] = []
    order = sorted(enumerate(row["segments"] or ()), key=lambda item: (item[1]["start"], item[1]["end"]))
    for segment_number, segment in order:
        place = 0
        for part in [segment] if whole_segments else split_at_speakers(segment):
            first = max(segment["text"].find(part["text"], place), 0)
            place = first + len(part["text"])
            label = speaker_label(part, names)
            units.append(
                Unit(
                    len(units), segment_number, first, place, part["start"], max(part["end"], part["start"]),
                    part["text"], label, segment["language"],
                )
            )  # fmt: skip
    return units


def _same_spans(units: Sequence[Unit], pieces: Sequence[Piece]) -> dict[int, Piece]:
    """The pieces by the number of the turn with the same borders; nearest pairs first."""
    pairs = []
    first = 0
    for index, piece in enumerate(pieces):
        while first < len(units) and units[first].start < piece.start - _TOLERANCE:
            first += 1
        for unit in units[first:]:
            if unit.start > piece.start + _TOLERANCE:
                break
            away = abs(unit.start - piece.start) + abs(unit.end - piece.end)
            if away <= _TOLERANCE:
                is_same = (unit.label or "") == (piece.speaker or "")
                has_text = unit.text.split() == piece.text.split()
                pairs.append((round(away, 3), not has_text, not is_same, unit.number, index))
    matched: dict[int, Piece] = {}
    used: set[int] = set()
    for *_, number, index in sorted(pairs):
        if number not in matched and index not in used:
            matched[number] = pieces[index]
            used.add(index)
    return matched


def _kept(before: str, after: str) -> str:
    """A text, or the one before if they differ in white space only: formats do not keep it."""
    return before if before.split() == after.split() else " ".join(after.split())


def _overlap(unit: Unit, piece: Piece) -> float:
    return min(unit.end, piece.end) - max(unit.start, piece.start)


def _changes(
    row: Row, units: Sequence[Unit], texts: Sequence[str | None], matched: dict[int, Piece]
) -> list[Change]:
    by_segment: dict[int, list[Unit]] = {}
    for unit in units:
        by_segment.setdefault(unit.segment, []).append(unit)
    found = []
    for number, parts in sorted(by_segment.items()):
        segment = row["segments"][number]
        text, speakers, place = "", [], 0
        languages = set()
        for part in sorted(parts, key=lambda unit: unit.char_start):
            said = texts[part.number] or ""
            gap = segment["text"][place : part.char_start] if text and said else ""
            first = len(text) + len(gap)
            text += gap + said
            place = part.char_end
            piece = matched.get(part.number)
            if piece is not None and piece.speaker and piece.speaker not in (part.label, *NO_SPEAKER):
                label = speaker_id(row, piece.speaker) or piece.speaker
                speakers.append((first, first + len(said), label))
            if piece is not None and piece.language and piece.language != part.language:
                languages.add(piece.language)
        is_same = text.split() == (segment["text"] or "").split()
        language = languages.pop() if len(languages) == 1 else None
        if is_same and not speakers and not language:
            continue
        one = {label for _, _, label in speakers}
        speaker = one.pop() if len(speakers) == len(parts) and len(one) == 1 else None
        found.append(Change(number, text.strip(), language, speaker, [] if speaker else speakers))
    return found
