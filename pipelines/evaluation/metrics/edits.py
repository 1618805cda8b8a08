"""Edit distance between two lists of words or characters, by jiwer: counts and alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.errors import UsageError

EQUAL, SUBSTITUTE, DELETE, INSERT = "equal", "substitute", "delete", "insert"


@dataclass(frozen=True, slots=True)
class Edits:
    """Units of an alignment by kind."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def reference(self) -> int:
        """Units of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors for each unit of the reference; None without a reference."""
        return self.errors / self.reference if self.reference else None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of an alignment: reference[ref_start:ref_end] became hypothesis[hyp_start:hyp_end]."""

    kind: str  # EQUAL, SUBSTITUTE, DELETE or INSERT
    ref_start: int
    ref_end: int
    hyp_start: int
    hyp_end: int


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[Edits, list[Chunk]]:
    """Align two lists of units with the fewest edits.

    Args:
        reference: words, or characters.
        hypothesis: the same of the other text.

    Raises:
        UsageError: jiwer is not installed.
    """
    result = _jiwer().process_words([list(reference)], [list(hypothesis)], _as_is, _as_is)
    edits = Edits(result.hits, result.substitutions, result.deletions, result.insertions)
    chunks = [
        Chunk(chunk.type, chunk.ref_start_idx, chunk.ref_end_idx, chunk.hyp_start_idx, chunk.hyp_end_idx)
        for chunk in result.alignments[0]
    ]
    return edits, chunks


def edits_by_part(chunks: Sequence[Chunk], part_lengths: Sequence[int]) -> list[Edits]:
    """Divide the edits of an alignment among consecutive parts of the hypothesis.

    Every unit of the hypothesis belongs to its part. A deletion belongs to the part of the unit before it, or
    to the first part at the very beginning.

    Args:
        chunks: from `align`.
        part_lengths: units of each part; their sum is that of the hypothesis.
    """
    part_of = [part for part, length in enumerate(part_lengths) for _ in range(length)]
    counts = [[0, 0, 0, 0] for _ in part_lengths]
    column = {EQUAL: 0, SUBSTITUTE: 1, INSERT: 3}
    for chunk in chunks:
        if chunk.kind == DELETE:
            before = part_of[max(0, chunk.hyp_start - 1)] if part_of else 0
            if counts:
                counts[before][2] += chunk.ref_end - chunk.ref_start
            continue
        for position in range(chunk.hyp_start, chunk.hyp_end):
            counts[part_of[position]][column[chunk.kind]] += 1
    return [Edits(*part) for part in counts]


def side_by_side(
    chunks: Sequence[Chunk], reference: Sequence[str], hypothesis: Sequence[str], joint: str = " "
) -> list[tuple[str, str, str]]:
    """An alignment for people: (kind, text of the reference, text of the hypothesis) in order.

    Args:
        chunks: from `align`.
        reference: the units that were aligned.
        hypothesis: the units that were aligned.
        joint: between units: a space for words, nothing for characters.
    """
    return [
        (
            chunk.kind,
            joint.join(reference[chunk.ref_start : chunk.ref_end]),
            joint.join(hypothesis[chunk.hyp_start : chunk.hyp_end]),
        )
        for chunk in chunks
    ]


def _as_is(units: Any) -> Any:
    return units


def _jiwer() -> Any:
    try:
        import jiwer
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'scriptorium[evaluate]'") from None
    return jiwer
