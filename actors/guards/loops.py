"""Loops: a model repeats itself. Its probabilities stay high, so that only the text shows it."""

from __future__ import annotations

import zlib

import numpy as np

from actors.text.repetitions import TOKEN

# Characters of a window that is compressed: about what is said in 30 s, as Whisper compresses it.
WINDOW = 450
# Characters below which nothing compresses well.
_SHORTEST = 100
# Copies in a row from which a unit of one, of two to five, and of six and more tokens is a loop. People
# say "no no no no", and a chorus twice.
_COPIES = {1: 7, 2: 5, 6: 4}
# Copies of a unit of numbers only: people read serial numbers.
_NUMBER_COPIES = 13
_LONGEST_UNIT = 40  # tokens


def compression_ratio(text: str) -> float:
    """How much shorter the most repetitive stretch of 450 characters becomes by compression.

    It is the measure of Whisper (Radford et al., 2022, section 4.5), with one byte for each character, so
    that scripts with two or three bytes are judged alike, and by stretches, as longer texts compress better.

    Returns:
        Characters for each compressed byte; 0 for texts under 100 characters.
    """
    if len(text) < _SHORTEST:
        return 0.0
    codes = np.frombuffer(text.casefold().encode("utf-32-le", "surrogatepass"), np.uint32)
    _, numbers = np.unique(codes, return_inverse=True)
    # More than 256 different characters are two bytes each, which is what Chinese needs.
    data = numbers.astype(np.uint8 if numbers.max(initial=0) < 256 else np.uint16)
    starts = range(0, max(1, len(data) - WINDOW // 2), WINDOW // 2)
    windows = [data[start : start + WINDOW] for start in starts]
    return max(
        len(window) / len(zlib.compress(window.tobytes(), 1))
        for window in windows
        if len(window) >= _SHORTEST
    )


def is_looping(text: str, max_ratio: float) -> bool:
    """Whether a text is more repetitive than speech.

    Args:
        text: of a segment.
        max_ratio: highest compression ratio of speech.
    """
    return compression_ratio(text) > max_ratio or _repeats(text)


def _repeats(text: str) -> bool:
    """Whether words are repeated in a row more often than people repeat them."""
    tokens = [match.group().casefold() for match in TOKEN.finditer(text)]
    if len(tokens) < min(_COPIES.values()):
        return False
    vocabulary: dict[str, int] = {}
    codes = np.array([vocabulary.setdefault(token, len(vocabulary)) for token in tokens])
    is_number = np.array([token.isnumeric() for token in tokens])
    for unit in range(1, min(_LONGEST_UNIT, len(tokens) // 2) + 1):
        copies = _COPIES[max(size for size in _COPIES if size <= unit)]
        if len(tokens) < unit * copies:
            continue
        equal = codes[:-unit] == codes[unit:]
        if np.count_nonzero(equal) < unit * (copies - 1):
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], equal.astype(np.int8), [0]])))
        for start, end in edges.reshape(-1, 2).tolist():
            count = (end - start) // unit + 1
            if count >= (_NUMBER_COPIES if is_number[start : start + unit].all() else copies):
                return True
    return False
