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
# Tokens of a text that nobody says twice by chance, and how many syllables more are heard in one of two equal
# texts, as a share, if they are not said twice.
_LONG, _OTHER_SOUND = 7, 1.12


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


def is_copy(text: str, heard: int, before: str, heard_before: int) -> bool:
    """Whether a text is that of the segment before it although it sounds otherwise.

    People say the same sentence twice, and songs have a refrain: then about as many syllables are heard.

    Args:
        text: of a segment.
        heard: syllables in it.
        before: text of the segment before it.
        heard_before: syllables in that one.
    """
    tokens, others = ([one.group().casefold() for one in TOKEN.finditer(part)] for part in (text, before))
    if len(tokens) < _LONG or tokens != others:
        return False
    return max(heard, heard_before) > _OTHER_SOUND * max(1, min(heard, heard_before))


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
