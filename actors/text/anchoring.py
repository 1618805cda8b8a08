"""Cuts a known text to the segments of its recording, by matching it with the text recognised in each.

Both texts become tokens: words, or single characters in scripts without spaces; case, punctuation and width
do not count. Runs of tokens that occur once in both are anchors. Text between two anchors is aligned by edit
distance. A border between segments then lies between the matched tokens on its two sides; unmatched reference
text there is divided between the segments.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from actors.text.char_offsets import widen
from actors.text.languages import is_unspaced_script

# Tokens of an anchor, tried from the longest.
_RUNS = (12, 8, 6, 5, 4, 3, 2)
# Largest edit-distance table: 32 MB, some tenths of a second. For a larger one, anchors are found first.
_MAX_CELLS = 16_000_000
_SENTENCE_ENDS = ".!?…。！？؟।"

Pairs = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Token:
    """A word or character: its key for comparison and its span in the text, without punctuation around it."""

    key: str
    start: int
    end: int


def assign_text(
    reference: str, hypotheses: Sequence[str], durations: Sequence[float] | None = None
) -> list[str]:
    """Cut a text into one piece per segment.

    Args:
        reference: the text of the whole recording.
        hypotheses: the recognised text of each segment, in order; "" where nothing was recognised.
        durations: seconds of each segment, by which unrecognised text is divided. Without them, segments
            count by the length of their hypotheses, or equally where nothing was recognised at all.

    Returns:
        As many pieces as hypotheses; joined, they are exactly `reference`. A piece may be empty.
    """
    if len(hypotheses) < 2:
        return [reference] * len(hypotheses)
    tokens = tokenize(reference)
    hypothesis_keys = [[token.key for token in tokenize(hypothesis)] for hypothesis in hypotheses]
    if durations is None:
        durations = [float(len(keys)) for keys in hypothesis_keys]
    if not sum(durations) > 0:
        durations = [1.0] * len(hypothesis_keys)
    vocabulary: dict[str, int] = {}
    reference_codes = _codes([token.key for token in tokens], vocabulary)
    recognised_codes = _codes([key for keys in hypothesis_keys for key in keys], vocabulary)
    starts = [start for start, _ in widen(reference, [(token.start, token.end) for token in tokens])]
    cuts = _cuts(
        match(reference_codes, recognised_codes),
        len(tokens),
        [len(keys) for keys in hypothesis_keys],
        durations,
        _sentence_starts(reference, starts),
    )
    # Before the first token, between tokens, after the last.
    positions = [0, *starts[1:], len(reference)]
    borders = [0, *(positions[cut] for cut in cuts), len(reference)]
    return [reference[start:end] for start, end in pairwise(borders)]


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


def _codes(keys: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    return np.array([vocabulary.setdefault(key, len(vocabulary)) for key in keys], dtype=np.int64)


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
    """Equal tokens on a path of least edits (substitution, deletion and insertion cost one each)."""
    if not len(left) or not len(right):
        return []
    columns = np.arange(len(right) + 1)
    table = np.empty(
        (len(left) + 1, len(right) + 1), dtype=np.int16 if max(len(left), len(right)) < 2**15 else np.int32
    )
    row = columns
    table[0] = row
    for i, token in enumerate(left, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (right != token))
        # An insertion costs one for each column: the running minimum of cost minus column, plus column.
        row = np.minimum.accumulate(np.concatenate([[i], best]) - columns) + columns
        table[i] = row
    pairs: Pairs = []
    i, j = len(left), len(right)
    while i and j:
        cost = table[i, j]
        if left[i - 1] == right[j - 1] and table[i - 1, j - 1] == cost:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif table[i - 1, j - 1] + 1 == cost:
            i, j = i - 1, j - 1
        elif table[i - 1, j] + 1 == cost:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _cuts(
    pairs: Pairs, total: int, counts: Sequence[int], durations: Sequence[float], sentences: Sequence[bool]
) -> list[int]:
    """For each border between segments, the number of reference tokens before it.

    Args:
        pairs: matched (reference, recognised) tokens.
        total: reference tokens.
        counts: recognised tokens of each segment.
        durations: seconds of each segment.
        sentences: whether a sentence begins with each reference token.
    """
    # Recognised tokens before each border, and in all.
    ends = np.cumsum(counts).tolist()
    clock = np.cumsum(durations).tolist()
    matched = [(-1, -1), *pairs, (total, ends[-1])]
    recognised = [j for _, j in matched]
    cuts: list[int] = []
    for border in range(len(counts) - 1):
        right = bisect_left(recognised, ends[border], lo=1)
        (i, j), (k, m) = matched[right - 1], matched[right]
        # Reference tokens that may belong to either side.
        free = k - i - 1
        if not free:
            cuts.append(i + 1)
            continue
        # Recognised but unmatched tokens: left of the border, and in all.
        before, between = ends[border] - j - 1, m - j - 1
        # Nothing was recognised for these: they are divided by time.
        missing = max(0, free - between)
        begin, finish = _time(j, 1, counts, clock), _time(m, 0, counts, clock)
        share = (clock[border] - begin) / (finish - begin) if finish > begin else 0.5
        guess = i + 1 + free * (before + missing * min(max(share, 0.0), 1.0)) / (between + missing)
        # Anchors that touch the border on both sides leave all of it open; unequal counts leave a token to
        # either side.
        reach = free if finish <= begin else 1.0 if free != between else 0.5
        begins = [n for n in range(i + 1, k + 1) if n < total and sentences[n] and abs(n - guess) <= reach]
        cut = min(begins, key=lambda n: abs(n - guess)) if begins else round(guess)
        cuts.append(max(cut, cuts[-1] if cuts else 0))
    return cuts


def _time(token: int, edge: int, counts: Sequence[int], clock: Sequence[float]) -> float:
    """Estimated time of a recognised token's start (edge 0) or end (edge 1), in seconds.

    Tokens are spread evenly over their segment.
    """
    before = 0
    for segment, count in enumerate(counts):
        if before <= token < before + count:
            start = clock[segment - 1] if segment else 0.0
            return start + (clock[segment] - start) * (token - before + edge) / count
        before += count
    return 0.0 if token < 0 else float(clock[-1])


def _sentence_starts(text: str, starts: Sequence[int]) -> list[bool]:
    """Whether the text before each token ends a sentence."""
    return [
        any(c in _SENTENCE_ENDS for c in text[max(0, start - 8) : start].rstrip()[-3:]) for start in starts
    ]
