"""Where the tokens of an answer stand in the text that is made of it. Pure.

A text is an answer without its language tag, loops, markup and outer spaces, so a token of the answer may
stand elsewhere in the text, or nowhere. The spans of tokens in a text are two lists of the same length: the
character at which each token ends, and its log-probability. A token begins where the one before it ends. An
entry without a log-probability is text that no token stands for, such as the settled beginning of a stream.
Bytes of one character may be several tokens: those have the same end.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TAG = "<asr_text>"
_NEEDLES = (16, 8, 4, 2, 1)  # characters by which a text is found again in its source


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """The tokens of a text: see the head of this file."""

    ends: tuple[int, ...] = ()
    log_probabilities: tuple[float | None, ...] = ()

    def shifted(self, by: int, length: int) -> TokenSpans:
        """The spans in a text that has lost its first `by` characters and is `length` characters long now."""
        kept = [
            (min(end - by, length), score)
            for start, end, score in spans(self.ends, self.log_probabilities)
            if end > by and start - by < length
        ]
        return TokenSpans(tuple(end for end, _ in kept), tuple(score for _, score in kept))


def spans(
    ends: Sequence[int], log_probabilities: Sequence[float | None]
) -> Iterator[tuple[int, int, float | None]]:
    """(start, end, log-probability) of each entry; a token inside a character spans all of it."""
    before = 0
    for end, score in zip(ends, log_probabilities, strict=True):
        yield min(before, end - 1), end, score
        before = end


def ends_of(pieces: Sequence[bytes]) -> tuple[str, list[int]]:
    """The text of tokens, and the character at which each ends.

    Args:
        pieces: the bytes of each token, which may end within a character.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    texts, ends, length = [], [], 0
    for piece in pieces:
        texts.append(decoder.decode(piece))
        length += len(texts[-1])
        ends.append(length + bool(decoder.getstate()[0]))
    texts.append(decoder.decode(b"", final=True))
    return "".join(texts), ends


def locate(
    source: str, ends: Sequence[int], log_probabilities: Sequence[float | None], text: str
) -> TokenSpans:
    """The spans in `text` of the tokens of the answer that it was made of.

    Args:
        source: the answer, with its tag; it may begin with characters that no token stands for.
        ends: the character of `source` at which each token ends.
        log_probabilities: of each token; a token begins where the one before it ends.
        text: the characters of `source` in their order, without some of them and with some spaces between.
    """
    first = source.find(TAG)
    runs = list(matching_runs(source, text, 0 if first < 0 else first + len(TAG)))
    found_ends: list[int] = []
    found_scores: list[float | None] = []
    at = last = 0
    for start, end, score in spans(ends, log_probabilities):
        while at < len(runs) and runs[at][0] + runs[at][2] <= start:
            at += 1
        begin = stop = -1
        # A token may stand for characters of several runs: the end of one and the beginning of the next.
        for in_source, in_text, length in runs[at:]:
            if in_source >= end:
                break
            shift = in_text - in_source
            begin = max(in_source, start) + shift if begin < 0 else begin
            stop = min(in_source + length, end) + shift
        if stop < 0:
            continue
        if text[last:begin].strip():
            found_ends.append(begin)
            found_scores.append(None)
        last = stop
        found_ends.append(stop)
        found_scores.append(score)
    return TokenSpans(tuple(found_ends), tuple(found_scores))


def matching_runs(source: str, text: str, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """The stretches of `source` that are in `text`: (position in source, position in text, length), in order.

    Characters of `text` that are not found, such as a space in the place of a removed tag, are in none.

    Args:
        source: the longer string.
        text: see `locate`.
        start: where to begin in `source`.
    """
    whole = source.find(text, start) if text else -1
    if whole >= 0:
        yield whole, 0, len(text)
        return
    latest = _latest(source, text, start)
    position, at = start, 0
    while at < len(text):
        found = -1
        if not text[at].isspace():
            # The longest beginning of the rest that occurs early enough: one character may occur by chance.
            for size in _NEEDLES:
                found = source.find(text[at : at + size], position, latest[at] + size)
                if found >= 0:
                    break
        if found < 0:
            at += 1
            continue
        length = _common(source, found, text, at)
        # A space that the source has here may be one that the text has elsewhere.
        late = (size for size in range(length) if found + size > latest[at + size])
        length = next(late, length)
        yield found, at, length
        position, at = found + length, at + length


def _latest(source: str, text: str, start: int) -> list[int]:
    """For each character of a text the last position in the source that leaves room for what follows it."""
    latest = [0] * len(text)
    position = len(source)
    for at in range(len(text) - 1, -1, -1):
        found = -1 if text[at].isspace() else source.rfind(text[at], start, position)
        position = found if found >= 0 else position
        latest[at] = found if found >= 0 else position - 1
    return latest


def _common(source: str, position: int, text: str, at: int) -> int:
    """How many characters from both positions on are equal."""
    limit = min(len(source) - position, len(text) - at)
    low = 0
    # Doubled steps of comparison, which are fast, then single characters.
    step = 1
    while low < limit:
        size = min(step, limit - low)
        if source[position + low : position + low + size] == text[at + low : at + low + size]:
            low += size
            step *= 2
        elif size == 1:
            break
        else:
            step = max(1, size // 2)
    return low
