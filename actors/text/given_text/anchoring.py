"""Cuts a known text to the segments of its recording, by matching it with the text recognised in each.

Both texts become tokens: words, or single characters in scripts without spaces; case, punctuation and width
do not count. Runs of tokens that occur once in both are anchors. Text between two anchors is aligned by edit
distance. A border between segments then lies between the matched tokens on its two sides; unmatched reference
text there is divided between the segments.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from actors.text.char_offsets import widen
from actors.text.given_text.token_matching import Pairs, codes_of, match, tokenize

_SENTENCE_ENDS = ".!?…。！？؟।"


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
    reference_codes = codes_of([token.key for token in tokens], vocabulary)
    recognised_codes = codes_of([key for keys in hypothesis_keys for key in keys], vocabulary)
    starts = [start for start, _ in widen(reference, [(token.start, token.end) for token in tokens])]
    cuts = token_cuts(
        match(reference_codes, recognised_codes),
        len(tokens),
        [len(keys) for keys in hypothesis_keys],
        durations,
        sentence_starts(reference, starts),
    )
    # Before the first token, between tokens, after the last.
    positions = [0, *starts[1:], len(reference)]
    borders = [0, *(positions[cut] for cut in cuts), len(reference)]
    return [reference[start:end] for start, end in pairwise(borders)]


def token_cuts(
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


def sentence_starts(text: str, starts: Sequence[int]) -> list[bool]:
    """Whether the text before each token ends a sentence."""
    return [
        any(c in _SENTENCE_ENDS for c in text[max(0, start - 8) : start].rstrip()[-3:]) for start in starts
    ]
