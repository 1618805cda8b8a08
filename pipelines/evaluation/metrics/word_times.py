"""How far the times of words are from those of a reference: AAS, and the share of words within limits.

AAS, the accumulated average shift, is the mean absolute difference of the starts and ends of words (Qwen3-ASR
technical report, arXiv 2601.21337).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from pipelines.evaluation.metrics.edits import EQUAL, align
from pipelines.evaluation.metrics.normalizers import comparable

LIMITS_MS = (50, 100, 200)

# Text, start and end in seconds of the recording.
TimedWord = tuple[str, float, float]
Times = tuple[float, float]  # start and end


@dataclass(frozen=True, slots=True)
class Shifts:
    """Sums over the words of a reference."""

    words: int = 0  # of the reference
    matched: int = 0  # found in the hypothesis, so that their times can be compared
    shift_ms: float = 0.0  # sum of the absolute differences of all starts and ends of matched words
    within: tuple[int, ...] = (0,) * len(LIMITS_MS)  # matched words whose start and end are within each limit


def compare(reference: Sequence[TimedWord], hypothesis: Sequence[TimedWord]) -> Shifts:
    """Compare the times of words that both sides have.

    Words are aligned first. Where they differ, their characters are aligned, because words may be cut
    differently: in Chinese our units are characters, those of a reference may be words.

    Args:
        reference: the words of a recording in order.
        hypothesis: the words of its transcript in order.
    """
    ours, theirs = _comparable(reference), _comparable(hypothesis)
    matched, shift_ms, within = 0, 0.0, [0] * len(LIMITS_MS)
    for (start, end), (found_start, found_end) in _matches(ours, theirs):
        # Rounded, so that a shift of exactly 50 ms is within 50 ms in spite of binary fractions.
        shifts = round(1000 * abs(found_start - start), 6), round(1000 * abs(found_end - end), 6)
        matched += 1
        shift_ms += sum(shifts)
        within = [count + (max(shifts) <= limit) for count, limit in zip(within, LIMITS_MS, strict=True)]
    return Shifts(len(ours), matched, shift_ms, tuple(within))


def _matches(ours: Sequence[TimedWord], theirs: Sequence[TimedWord]) -> Iterator[tuple[Times, Times]]:
    """The times of each reference word that was found, with those that were found."""
    _, chunks = align([word for word, _, _ in ours], [word for word, _, _ in theirs])
    for equal, group in groupby(chunks, key=lambda chunk: chunk.kind == EQUAL):
        part = list(group)
        left = ours[part[0].ref_start : part[-1].ref_end]
        right = theirs[part[0].hyp_start : part[-1].hyp_end]
        if equal:
            yield from ((one[1:], other[1:]) for one, other in zip(left, right, strict=True))
        elif left and right:
            yield from _matches_by_character(left, right)


def _matches_by_character(
    ours: Sequence[TimedWord], theirs: Sequence[TimedWord]
) -> Iterator[tuple[Times, Times]]:
    """As `_matches`, for words that are cut differently.

    A word is found if all its characters stand next to each other in the hypothesis, and if units of the
    hypothesis begin and end where it does.
    """
    _, chunks = align([*"".join(word for word, _, _ in ours)], [*"".join(word for word, _, _ in theirs)])
    # Character of the hypothesis for each one of the reference.
    position = {
        chunk.ref_start + step: chunk.hyp_start + step
        for chunk in chunks
        if chunk.kind == EQUAL
        for step in range(chunk.ref_end - chunk.ref_start)
    }
    ends = [*accumulate(len(word) for word, _, _ in theirs)]
    start_at = {end - len(word): start for (word, start, _), end in zip(theirs, ends, strict=True)}
    end_at = {last: end for (_, _, end), last in zip(theirs, ends, strict=True)}
    first = 0
    for word, start, end in ours:
        found = [position.get(index) for index in range(first, first + len(word))]
        first += len(word)
        begin = found[0]
        if begin is None or found != list(range(begin, begin + len(word))):
            continue
        if begin in start_at and begin + len(word) in end_at:
            yield (start, end), (start_at[begin], end_at[begin + len(word)])


def _comparable(words: Sequence[TimedWord]) -> list[TimedWord]:
    return [(text, start, end) for word, start, end in words if (text := comparable(word))]
