"""How far the times of words are from those of a reference: AAS, and the share of words within limits.

AAS, the accumulated average shift, is the mean absolute difference of the starts and ends of words (Qwen3-ASR
technical report, arXiv 2601.21337).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from pipelines.evaluation.edits import EQUAL, align
from pipelines.evaluation.normalizers import comparable

LIMITS_MS = (50, 100, 200)

# Text, start and end in seconds of the recording.
TimedWord = tuple[str, float, float]


@dataclass(frozen=True, slots=True)
class Shifts:
    """Sums over the words of a reference."""

    words: int = 0  # of the reference
    matched: int = 0  # found in the hypothesis, so that their times can be compared
    shift_ms: float = 0.0  # sum of the absolute differences of all starts and ends of matched words
    within: tuple[int, ...] = (0,) * len(LIMITS_MS)  # matched words whose start and end are within each limit


def compare(reference: Sequence[TimedWord], hypothesis: Sequence[TimedWord]) -> Shifts:
    """Compare the times of words that both sides have.

    The characters of both sides are aligned, because their words may be cut differently: in Chinese our units
    are characters, those of a reference may be words. A reference word counts if all its characters are found
    next to each other, and if units of the hypothesis begin and end where it does.

    Args:
        reference: the words of a recording in order.
        hypothesis: the words of its transcript in order.
    """
    ours, theirs = _comparable(reference), _comparable(hypothesis)
    if not ours or not theirs:
        return Shifts(words=len(ours))
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
    matched, shift_ms, within, first = 0, 0.0, [0] * len(LIMITS_MS), 0
    for word, start, end in ours:
        found = [position.get(index) for index in range(first, first + len(word))]
        first += len(word)
        begin = found[0]
        if begin is None or found != list(range(begin, begin + len(word))):
            continue
        if begin not in start_at or begin + len(word) not in end_at:
            continue
        # Rounded, so that a shift of exactly 50 ms is within 50 ms in spite of binary fractions.
        shifts = (
            round(1000 * abs(start_at[begin] - start), 6),
            round(1000 * abs(end_at[begin + len(word)] - end), 6),
        )
        matched += 1
        shift_ms += sum(shifts)
        within = [count + (max(shifts) <= limit) for count, limit in zip(within, LIMITS_MS, strict=True)]
    return Shifts(len(ours), matched, shift_ms, tuple(within))


def _comparable(words: Sequence[TimedWord]) -> list[TimedWord]:
    return [(text, start, end) for word, start, end in words if (text := comparable(word))]
