"""Scores one recording against its reference, and collects the scores of all as plain numbers."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.records import Row
from pipelines.evaluation.metrics import word_times
from pipelines.evaluation.metrics.edits import Chunk, Edits, align, edits_by_part, side_by_side
from pipelines.evaluation.metrics.normalizers import Normalizer, characters_of, words_of
from pipelines.evaluation.outputs import timed_words
from pipelines.evaluation.protocol import CER, UNSPACED, Protocol
from pipelines.evaluation.references import Reference

_KINDS = ("hits", "substitutions", "deletions", "insertions")
# One number of each kind for every recording. Units are words or characters: the metric of the language.
FIELDS = (
    *(f"word_{kind}" for kind in _KINDS),
    *(f"character_{kind}" for kind in _KINDS),
    *(f"unit_{kind}" for kind in _KINDS),
    *("language_known", "language_right"),
    *("timed_words", "matched_words", "shift_ms"),
    *(f"within_{limit}" for limit in word_times.LIMITS_MS),
)


@dataclass(frozen=True, slots=True)
class Score:
    """The comparison of one recording."""

    language: str | None  # of the reference; of the transcript where the reference has none
    words: Edits
    characters: Edits
    units: Edits  # words or characters, whichever is the metric of the language
    language_right: bool | None  # None: unknown, or not the model's answer
    shifts: word_times.Shifts
    # The units that were compared, for people.
    reference: list[str]
    hypothesis: list[str]
    chunks: list[Chunk]
    joint: str  # between units

    def numbers(self) -> list[float]:
        """One number for each of FIELDS."""
        return [
            *(
                float(getattr(edits, kind))
                for edits in (self.words, self.characters, self.units)
                for kind in _KINDS
            ),
            float(self.language_right is not None),
            float(bool(self.language_right)),
            float(self.shifts.words),
            float(self.shifts.matched),
            self.shifts.shift_ms,
            *map(float, self.shifts.within),
        ]


def score(
    reference: Reference,
    row: Row | None,
    protocol: Protocol,
    normalize: Normalizer,
    language_forced: bool = False,
) -> Score:
    """Compare a recording with its reference.

    Args:
        reference: what was said.
        row: the transcript; None: there is none, which counts as an empty one.
        protocol: the metric of each language.
        normalize: from `normalizers.normalizer`.
        language_forced: the language of the transcript was given, so it says nothing about the model.
    """
    language = reference.language or (row["language"] if row else None)
    metric, said, heard = (
        protocol.metric(language),
        normalize(reference.text, language),
        normalize(row["text"] or "", language) if row else "",
    )
    words = words_of(said, language), words_of(heard, language)
    unspaced = metric == CER or language in UNSPACED
    characters = characters_of(said, unspaced), characters_of(heard, unspaced)
    word_edits, word_chunks = align(*words)
    character_edits, character_chunks = align(*characters)
    by_character = metric == CER
    judged = row is not None and bool(reference.language and reference.text) and not language_forced
    return Score(
        language=language,
        words=word_edits,
        characters=character_edits,
        units=character_edits if by_character else word_edits,
        language_right=row["language"] == reference.language if judged and row else None,
        shifts=(
            word_times.compare(reference.words, timed_words(row) if row else [])
            if reference.words
            else word_times.Shifts()
        ),
        reference=characters[0] if by_character else words[0],
        hypothesis=characters[1] if by_character else words[1],
        chunks=character_chunks if by_character else word_chunks,
        joint="" if by_character else " ",
    )


def segment_edits(
    whole: Score, reference: str, segments: Sequence[Row], protocol: Protocol, normalize: Normalizer
) -> list[tuple[float, Edits]]:
    """The confidence and the edits of each segment of a recording that has a confidence.

    A single segment has those of its recording. Several are normalised one by one and aligned together, and
    each unit counts for the segment that it is in.

    Args:
        whole: the score of the recording.
        reference: the text that was said.
        segments: of its transcript.
        protocol: the metric of each language.
        normalize: from `normalizers.segment_normalizer`.
    """
    spoken = [segment for segment in segments if segment["text"]]
    if len(spoken) == 1:
        edits = [whole.units]
    else:
        by_character = protocol.metric(whole.language) == CER
        said, *parts = (
            characters_of(text, True) if by_character else words_of(text, whole.language)
            for text in (
                normalize(text, whole.language)
                for text in (reference, *(segment["text"] for segment in spoken))
            )
        )
        _, chunks = align(said, [unit for part in parts for unit in part])
        edits = edits_by_part(chunks, [len(part) for part in parts])
    return [
        (segment["confidence"], part)
        for segment, part in zip(spoken, edits, strict=True)
        if segment.get("confidence") is not None
    ]


def word_edits(
    reference: str, segments: Sequence[Row], language: str | None, protocol: Protocol, normalize: Normalizer
) -> list[tuple[float, Edits]]:
    """The confidence and the edits of each word of a recording that has a confidence.

    A word is right if all its units are: a word that is left out counts for none.

    Args:
        reference: the text that was said.
        segments: of the transcript.
        language: ISO code of the reference.
        protocol: the metric of each language.
        normalize: from `normalizers.segment_normalizer`.
    """
    words = [word for segment in segments for word in segment["words"] or []]
    if all(word["confidence"] is None for word in words):
        return []
    by_character = protocol.metric(language) == CER or language in UNSPACED
    said, *parts = (
        characters_of(text, True) if by_character else words_of(text, language)
        for text in (normalize(text, language) for text in (reference, *(word["text"] for word in words)))
    )
    _, chunks = align(said, [unit for part in parts for unit in part])
    edits = edits_by_part(chunks, [len(part) for part in parts])
    return [
        # One word is one case: right, or wrong.
        (word["confidence"], Edits(hits=1) if found.hits == len(part) else Edits(insertions=1))
        for word, part, found in zip(words, parts, edits, strict=True)
        if part and word["confidence"] is not None
    ]


class ScoreTable:
    """The numbers of all recordings, and the group that each belongs to in every column."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._numbers = array("d")
        self._codes = {column: array("q") for column in columns}
        self._names: dict[str, dict[str, int]] = {column: {} for column in columns}

    def add(self, score: Score, groups: dict[str, str]) -> None:
        """Add a recording.

        Args:
            score: its numbers.
            groups: its value in each column.
        """
        self._numbers.extend(score.numbers())
        for column, codes in self._codes.items():
            names = self._names[column]
            codes.append(names.setdefault(groups[column], len(names)))

    def __len__(self) -> int:
        return len(self._numbers) // len(FIELDS)

    def matrix(self) -> NDArray[np.float64]:
        """All numbers, float64 [recordings, FIELDS]."""
        return np.array(self._numbers, np.float64).reshape(-1, len(FIELDS))

    def groups(self, column: str) -> dict[str, NDArray[np.bool_]]:
        """For each value of a column a mask of its recordings: most recordings first, `-` (no value) last."""
        codes = np.array(self._codes[column], np.int64)
        masks = {name: codes == code for name, code in self._names[column].items()}
        return dict(sorted(masks.items(), key=lambda item: (item[0] == "-", -int(item[1].sum()), item[0])))


class WorstCases:
    """The recordings with the most errors."""

    def __init__(self, size: int) -> None:
        self._size, self._added = size, 0
        self._heap: list[tuple[int, int, dict[str, Any]]] = []

    def add(self, recording_id: str, scored: Score, status: str) -> None:
        """Consider a recording; one without errors is never listed."""
        self._added += 1
        key = (scored.units.errors, -self._added)
        if not key[0] or (len(self._heap) >= self._size and (not self._heap or self._heap[0][:2] >= key)):
            return
        case = {
            "recording_id": recording_id,
            "language": scored.language,
            "status": status,
            "errors": scored.units.errors,
            "units": scored.units.reference,
            "error_rate": scored.units.rate,
            "joint": scored.joint,
            "alignment": side_by_side(scored.chunks, scored.reference, scored.hypothesis, scored.joint),
        }
        heapq.heappush(self._heap, (*key, case))
        if len(self._heap) > self._size:
            heapq.heappop(self._heap)

    def cases(self) -> list[dict[str, Any]]:
        """The cases, worst first."""
        return [case for *_, case in sorted(self._heap, key=lambda item: item[:2], reverse=True)]
