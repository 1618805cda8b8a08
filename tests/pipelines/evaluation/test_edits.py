"""Edits are counted and divided as by hand."""

import pytest

from pipelines.evaluation.metrics.edits import (
    DELETE,
    EQUAL,
    INSERT,
    SUBSTITUTE,
    Edits,
    align,
    edits_by_part,
    side_by_side,
)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c d", "a b c d", Edits(4, 0, 0, 0)),
        ("a b c d", "a x c", Edits(2, 1, 1, 0)),
        ("a b c", "a b y c z", Edits(3, 0, 0, 2)),
        ("a b c", "", Edits(0, 0, 3, 0)),
        ("", "a b", Edits(0, 0, 0, 2)),
        ("", "", Edits(0, 0, 0, 0)),
    ],
)
def test_substitutions_deletions_and_insertions_are_counted(
    reference: str, hypothesis: str, expected: Edits
) -> None:
    edits, _ = align(reference.split(), hypothesis.split())
    assert edits == expected


def test_the_rate_is_errors_by_reference_units() -> None:
    edits = Edits(hits=6, substitutions=2, deletions=2, insertions=1)
    assert edits.reference == 10
    assert edits.rate == pytest.approx(0.5)


def test_the_rate_can_exceed_one() -> None:
    assert align(["a"], ["x", "y", "z"])[0].rate == 3.0


def test_without_a_reference_there_is_no_rate() -> None:
    assert Edits(insertions=3).rate is None


def test_an_alignment_is_shown_side_by_side() -> None:
    reference, hypothesis = ["the", "cat", "sat", "down"], ["the", "hat", "sat", "down", "now"]
    _, chunks = align(reference, hypothesis)
    assert side_by_side(chunks, reference, hypothesis) == [
        (EQUAL, "the", "the"),
        (SUBSTITUTE, "cat", "hat"),
        (EQUAL, "sat down", "sat down"),
        (INSERT, "", "now"),
    ]


def test_edits_are_divided_among_the_parts_of_the_hypothesis() -> None:
    # Parts: "a x" and "d e f"; b became x, c is missing after it, f is new.
    _, chunks = align(["a", "b", "c", "d", "e"], ["a", "x", "d", "e", "f"])
    assert [chunk.kind for chunk in chunks].count(DELETE) == 1
    assert edits_by_part(chunks, [2, 3]) == [Edits(1, 1, 1, 0), Edits(2, 0, 0, 1)]


def test_a_deletion_at_the_beginning_belongs_to_the_first_part() -> None:
    _, chunks = align(["a", "b", "c"], ["b", "c"])
    assert edits_by_part(chunks, [1, 1]) == [Edits(1, 0, 1, 0), Edits(1, 0, 0, 0)]


def test_parts_without_any_unit_have_no_edits_but_deletions() -> None:
    _, chunks = align(["a", "b"], [])
    assert sum(part.deletions for part in edits_by_part(chunks, [0, 0])) == 2
