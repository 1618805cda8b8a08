"""Tokens of texts, and the equal ones of two token sequences: unique runs first, least edits between them.

Tokens are words, or single characters in scripts without spaces; case, punctuation and width do not count.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from actors.text.languages import is_unspaced_script

# Tokens of an anchor, tried from the longest.
_RUNS = (12, 8, 6, 5, 4, 3, 2)
# Largest table: 64 MB, a second or two. For a larger one, anchors are found first.
_MAX_CELLS = 64_000_000
# Scores of an alignment. A gap costs its opening once and then little a token, so that a stretch that only
# one side has becomes one gap, and tokens in it that are equal by chance are no matches. Gaps at the ends
# cost no opening.
_MATCH, _MISMATCH, _OPEN, _EXTEND = 4, -2, 4, 1
# How a cell of the table was reached, and whether the gaps that end there are longer than one token.
_DIAGONAL, _ROW_GAP, _COLUMN_GAP = 0, 1, 2
_ROW_GAP_GOES_ON, _COLUMN_GAP_GOES_ON = 4, 8

Pairs = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Token:
    """A word or character: its key for comparison and its span in the text, without punctuation around it."""

    key: str
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """Cut a text into tokens for comparison."""
    tokens: list[Token] = []
    start: int | None = None
    previous_single = False
    for i, char in enumerate([*text, " "]):
        single = is_unspaced_script(char)
        if start is not None and (char.isspace() or single or previous_single):
            tokens.extend(_token(text, start, i))
            start = None
        if start is None and not char.isspace():
            start, previous_single = i, single
    return tokens


def codes_of(keys: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    """A number for each token; new tokens are added to the vocabulary."""
    return np.array([vocabulary.setdefault(key, len(vocabulary)) for key in keys], dtype=np.int64)


def match(left: np.ndarray, right: np.ndarray) -> Pairs:
    """Indices of equal tokens in two sequences, rising in both: anchors first, edit distance between them.

    Parts that are too long for a table and have no anchor stay unmatched.
    """
    pairs: Pairs = []
    todo = [(0, len(left), 0, len(right))]
    while todo:
        l0, l1, r0, r1 = todo.pop()
        if (l1 - l0) * (r1 - r0) <= _MAX_CELLS:
            pairs += [(l0 + i, r0 + j) for i, j in _edit_matches(left[l0:l1], right[r0:r1])]
            continue
        anchors = next(filter(None, (_anchors(left[l0:l1], right[r0:r1], run) for run in _RUNS)), [])
        pairs += [(l0 + i, r0 + j) for i, j in anchors]
        edges = [(-1, -1), *anchors, (l1 - l0, r1 - r0)] if anchors else []
        todo += [
            (l0 + i + 1, l0 + k, r0 + j + 1, r0 + m)
            for (i, j), (k, m) in pairwise(edges)
            if k > i + 1 and m > j + 1
        ]
    return sorted(pairs)


def _token(text: str, start: int, end: int) -> Iterator[Token]:
    key = "".join(c for c in unicodedata.normalize("NFKC", text[start:end]).casefold() if c.isalnum())
    if not key:
        return
    letters = [i for i in range(start, end) if text[i].isalnum()]
    yield Token(key, letters[0] if letters else start, letters[-1] + 1 if letters else end)


def _anchors(left: np.ndarray, right: np.ndarray, run: int) -> Pairs:
    """Pairs of tokens in the longest rising series of runs that occur exactly once on both sides."""
    if min(len(left), len(right)) < run:
        return []
    left_hash, left_at = _unique_runs(left, run)
    right_hash, right_at = _unique_runs(right, run)
    _, i, j = np.intersect1d(left_hash, right_hash, assume_unique=True, return_indices=True)
    found = sorted(zip(left_at[i].tolist(), right_at[j].tolist(), strict=True))
    rising = _longest_rising([b for _, b in found])
    pairs: Pairs = []
    for a, b in (found[k] for k in rising):
        for offset in range(run):
            if not pairs or (a + offset > pairs[-1][0] and b + offset > pairs[-1][1]):
                pairs.append((a + offset, b + offset))
    return pairs


def _unique_runs(codes: np.ndarray, run: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the runs that occur once, and their positions."""
    total = len(codes) - run + 1
    hashes = np.zeros(total, dtype=np.uint64)
    for offset in range(run):
        hashes = (
            hashes * np.uint64(0x9E3779B97F4A7C15)
            + codes[offset : offset + total].astype(np.uint64)
            + np.uint64(1)
        )
    values, positions, counts = np.unique(hashes, return_index=True, return_counts=True)
    return values[counts == 1], positions[counts == 1]


def _longest_rising(values: Sequence[int]) -> list[int]:
    """Indices of a longest strictly rising subsequence."""
    tails: list[int] = []
    ends: list[int] = []
    parents: list[int] = []
    for i, value in enumerate(values):
        length = bisect_left(tails, value)
        tails[length:] = [value, *tails[length + 1 :]] if length < len(tails) else [value]
        ends[length : length + 1] = [i]
        parents.append(ends[length - 1] if length else -1)
    chain = []
    i = ends[-1] if ends else -1
    while i >= 0:
        chain.append(i)
        i = parents[i]
    return chain[::-1]


def _edit_matches(left: np.ndarray, right: np.ndarray) -> Pairs:
    """Equal tokens on a best path with affine gap costs.

    Source: Gotoh, An improved algorithm for matching biological sequences, 1982; row by row in numpy.
    """
    if not len(left) or not len(right):
        return []
    columns = np.arange(len(right) + 1, dtype=np.int64)
    path = np.zeros((len(left) + 1, len(right) + 1), dtype=np.uint8)
    path[0, 1:] = _COLUMN_GAP | _COLUMN_GAP_GOES_ON
    path[0, 1] = _COLUMN_GAP
    score = -_EXTEND * columns
    last_column = [int(score[-1])]
    row_gap = np.full(len(right) + 1, -(2**40), dtype=np.int64)
    for i, token in enumerate(left, 1):
        opened = score - _OPEN
        goes_on = row_gap > opened
        row_gap = np.where(goes_on, row_gap, opened) - _EXTEND
        diagonal = score[:-1] + np.where(right == token, _MATCH, _MISMATCH)
        is_gap = row_gap[1:] > diagonal
        base = np.concatenate([[-_EXTEND * i], np.where(is_gap, row_gap[1:], diagonal)])
        # The best cell from which a gap leads here: the running maximum of score plus column, less column.
        reached = np.maximum.accumulate(base + _EXTEND * columns)
        column_gap = reached[:-1] - _OPEN - _EXTEND * columns[1:]
        is_column_gap = column_gap > base[1:]
        steps = path[i]
        steps[0] = _ROW_GAP
        steps[1:] = np.where(is_column_gap, _COLUMN_GAP, is_gap)
        steps |= np.where(goes_on, _ROW_GAP_GOES_ON, 0).astype(np.uint8)
        steps[1:] |= np.where(
            reached[:-1] > base[:-1] + _EXTEND * columns[:-1], _COLUMN_GAP_GOES_ON, 0
        ).astype(np.uint8)
        score = np.concatenate([base[:1], np.where(is_column_gap, column_gap, base[1:])])
        last_column.append(int(score[-1]))
    # The gap at the end, of either side.
    row_ends = np.array(last_column) - _EXTEND * np.arange(len(left), -1, -1)
    column_ends = score - _EXTEND * columns[::-1]
    if row_ends.max() > column_ends.max():
        return _traced(path, left, right, int(row_ends.argmax()), len(right))
    return _traced(path, left, right, len(left), int(column_ends.argmax()))


def _traced(path: np.ndarray, left: np.ndarray, right: np.ndarray, i: int, j: int) -> Pairs:
    """The equal tokens on the path that ends in the cell (i, j)."""
    pairs: Pairs = []
    inside = _DIAGONAL
    while i and j:
        step = int(path[i, j])
        kind = inside or step & 3
        if kind == _DIAGONAL:
            i, j = i - 1, j - 1
            if left[i] == right[j]:
                pairs.append((i, j))
        elif kind == _ROW_GAP:
            inside = _ROW_GAP if step & _ROW_GAP_GOES_ON else _DIAGONAL
            i -= 1
        else:
            inside = _COLUMN_GAP if step & _COLUMN_GAP_GOES_ON else _DIAGONAL
            j -= 1
    return pairs[::-1]
