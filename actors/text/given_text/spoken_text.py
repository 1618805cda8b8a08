"""Which parts of a given text are said in a recording, and which speech the text lacks.

The text is matched with the recognised text of each segment. `actors.text.given_text.states` then divides
both texts into stretches that both have and stretches that only one of them has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

from actors.text.char_offsets import widen
from actors.text.given_text.anchoring import sentence_starts, token_cuts
from actors.text.given_text.states import find_states
from actors.text.given_text.token_matching import Pairs, Token, codes_of, match, tokenize

# heard: the recogniser heard this text. doubtful: it heard something else in its place, or nothing.
# unsaid: not in the recording. other: speech that the text lacks, as it was recognised.
Kind = Literal["heard", "doubtful", "unsaid", "other"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a piece of text, in its characters `[start, end)`.

    Attributes:
        kind: see `Kind`; parts of kind other are empty spans.
        start: first character of the piece.
        end: behind its last character.
        text: what was recognised, only of kind other.
    """

    kind: Kind
    start: int
    end: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one segment.

    Attributes:
        text: characters of the given text, white space included.
        parts: of the text, in order.
        unwritten: share of the segment's recognised tokens that the text lacks.
    """

    text: str
    parts: tuple[Part, ...]
    unwritten: float = 0.0


@dataclass(frozen=True, slots=True)
class SpokenText:
    """A text cut to the segments of its recording.

    Attributes:
        pieces: one for each segment; joined, their texts are exactly the given text.
        unsaid: share of the text's tokens that are not said.
        unwritten: share of the recognised tokens that the text lacks.
    """

    pieces: list[Piece]
    unsaid: float
    unwritten: float


def find_spoken(reference: str, hypotheses: Sequence[str | None], durations: Sequence[float]) -> SpokenText:
    """Cut a text to the segments of its recording, and tell what of it is said.

    Args:
        reference: the text of the whole recording.
        hypotheses: the recognised text of each segment, in order; None where recognition failed: text in
            such a place is not judged.
        durations: seconds of each segment.
    """
    tokens = tokenize(reference)
    heard = [tokenize(text or "") for text in hypotheses]
    flat = [(segment, token) for segment, of_segment in enumerate(heard) for token in of_segment]
    vocabulary: dict[str, int] = {}
    left = codes_of([token.key for token in tokens], vocabulary)
    right = codes_of([token.key for _, token in flat], vocabulary)
    pairs = match(left, right)
    is_said, is_written = find_states(
        tokens, [token for _, token in flat], pairs, _unknown(hypotheses, heard)
    )
    # A match inside of text that is not said is one by chance.
    pairs = [(i, j) for i, j in pairs if is_said[i]]
    for _, j in pairs:
        is_written[j] = True
    owner = _segments_of_tokens(reference, tokens, is_said, is_written, pairs, heard, durations)
    matched = {i for i, _ in pairs}
    kinds: list[Kind] = [
        "unsaid" if not said else "heard" if i in matched else "doubtful" for i, said in enumerate(is_said)
    ]
    others = _other_speech(tokens, flat, is_said, is_written, pairs, hypotheses)
    ends = np.cumsum([0, *(len(of_segment) for of_segment in heard)]).tolist()
    shares = [_share_of_false(is_written[start:end]) for start, end in pairwise(ends)]
    return SpokenText(
        _pieces(reference, tokens, kinds, owner, others, shares),
        _share_of_false(is_said),
        _share_of_false(is_written),
    )


def _share_of_false(flags: Sequence[bool]) -> float:
    return list(flags).count(False) / len(flags) if flags else 0.0


def _unknown(hypotheses: Sequence[str | None], heard: Sequence[Sequence[Token]]) -> set[int]:
    """Places between recognised tokens, by the number of tokens before, with a segment that has failed."""
    places, before = set(), 0
    for text, tokens in zip(hypotheses, heard, strict=True):
        if text is None:
            places.add(before)
        before += len(tokens)
    return places


def _segments_of_tokens(
    reference: str,
    tokens: Sequence[Token],
    is_said: Sequence[bool],
    is_written: Sequence[bool],
    pairs: Pairs,
    heard: Sequence[Sequence[Token]],
    durations: Sequence[float],
) -> list[int]:
    """The segment of each token of the text. What is not said stays with what is said before it."""
    said = [i for i, flag in enumerate(is_said) if flag]
    written = [j for j, flag in enumerate(is_written) if flag]
    place_of = {i: place for place, i in enumerate(said)}
    heard_at = {j: place for place, j in enumerate(written)}
    ends = np.cumsum([len(of_segment) for of_segment in heard]).tolist()
    counts = [sum(is_written[a:b]) for a, b in pairwise([0, *ends])]
    # Seconds in which something else is said take no text.
    shares = [
        count / len(of_segment) if of_segment else 1.0
        for count, of_segment in zip(counts, heard, strict=True)
    ]
    seconds = [duration * share for duration, share in zip(durations, shares, strict=True)]
    if not sum(seconds) > 0:
        seconds = [1.0] * len(seconds)
    begins = sentence_starts(reference, _starts(reference, tokens))
    cuts = token_cuts(
        [(place_of[i], heard_at[j]) for i, j in pairs], len(said), counts, seconds, [begins[i] for i in said]
    )
    owner = [-1] * len(tokens)
    for segment, (start, end) in enumerate(pairwise([0, *cuts, len(said)])):
        for place in range(start, end):
            owner[said[place]] = segment
    last = next((segment for segment in owner if segment >= 0), 0)
    for i, segment in enumerate(owner):
        last = owner[i] = segment if segment >= 0 else last
    return owner


def _other_speech(
    tokens: Sequence[Token],
    flat: Sequence[tuple[int, Token]],
    is_said: Sequence[bool],
    is_written: Sequence[bool],
    pairs: Pairs,
    hypotheses: Sequence[str | None],
) -> list[tuple[int, int, str]]:
    """Speech that the text lacks: segment, number of the text's tokens before it, and what was recognised."""
    found: list[tuple[int, int, str]] = []
    for (i, j), (k, m) in pairwise([(-1, -1), *pairs, (len(tokens), len(flat))]):
        missing = [number for number in range(j + 1, m) if not is_written[number]]
        if not missing:
            continue
        place = _place(tokens[i + 1 : k], is_said[i + 1 : k], [flat[number][1] for number in missing])
        for segment, numbers in groupby(missing, key=lambda number: flat[number][0]):
            run = list(numbers)
            text = hypotheses[segment] or ""
            found.append((segment, i + 1 + place, text[flat[run[0]][1].start : flat[run[-1]][1].end]))
    return found


def _place(block: Sequence[Token], is_said: Sequence[bool], other: Sequence[Token]) -> int:
    """How many of the unmatched tokens of the text come before speech that the text lacks."""
    if not all(is_said):
        return list(is_said).index(False)
    if not block:
        return 0
    # All of it is said, so it was recognised wrongly at one of the two ends.
    ours = "".join(token.key for token in block)
    theirs = "".join(token.key for token in other)
    at_start = Levenshtein.distance(ours, theirs[: len(ours)])
    at_end = Levenshtein.distance(ours, theirs[-len(ours) :])
    return len(block) if at_start <= at_end else 0


def _starts(text: str, tokens: Sequence[Token]) -> list[int]:
    return [start for start, _ in widen(text, [(token.start, token.end) for token in tokens])]


def _pieces(
    reference: str,
    tokens: Sequence[Token],
    kinds: Sequence[Kind],
    owner: Sequence[int],
    others: Sequence[tuple[int, int, str]],
    unwritten: Sequence[float],
) -> list[Piece]:
    count = len(unwritten)
    # Before the first token, between tokens, after the last.
    positions = [0, *_starts(reference, tokens)[1:], len(reference)] if tokens else [0, len(reference)]
    borders = [0]
    for segment in range(1, count):
        borders.append(next((positions[i] for i, of in enumerate(owner) if of >= segment), len(reference)))
    if count and not tokens:
        borders[1:] = [len(reference)] * (count - 1)
    borders.append(len(reference))
    made = []
    for segment, (start, end) in enumerate(pairwise(borders)):
        own = [i for i, of in enumerate(owner) if of == segment]
        speech = [(place, text) for of, place, text in others if of == segment]
        parts = tuple(_parts(own, kinds, positions, speech, start))
        made.append(Piece(reference[start:end], parts, unwritten[segment]))
    return made


def _parts(
    own: Sequence[int],
    kinds: Sequence[Kind],
    positions: Sequence[int],
    speech: Sequence[tuple[int, str]],
    start: int,
) -> Iterator[Part]:
    """The parts of a piece that begins at character `start` and has the tokens `own`."""
    first = own[0] if own else 0
    pending = [(min(max(place, first), first + len(own)), text) for place, text in speech]
    for run in _runs(own, kinds, {place for place, _ in pending}):
        while pending and pending[0][0] <= run[0]:
            yield _other(positions[run[0]] - start, pending.pop(0)[1])
        yield Part(kinds[run[0]], positions[run[0]] - start, positions[run[-1] + 1] - start)
    end = positions[own[-1] + 1] - start if own else 0
    for _, text in pending:
        yield _other(end, text)


def _runs(own: Sequence[int], kinds: Sequence[Kind], breaks: set[int]) -> Iterator[list[int]]:
    """Consecutive tokens of one kind, none of which but the first is in `breaks`."""
    run: list[int] = []
    for i in own:
        if run and (kinds[i] != kinds[run[0]] or i in breaks):
            yield run
            run = []
        run.append(i)
    if run:
        yield run


def _other(at: int, text: str) -> Part:
    return Part("other", at, at, text)
