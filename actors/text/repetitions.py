"""Removal of repetitions: exactly that of the reference, and our own.

Our own keeps numbers and finds the loops of models.

The reference (qwen_asr 0.0.6) cuts a character repeated more than 20 times, then any unit of at most 20
characters repeated at least 20 times. It cuts "0000000000000000000000" to "0", misses a loop over a sentence
of 21 characters, and cuts inside words.
"""

from __future__ import annotations

import re
import unicodedata
import zlib

import numpy as np

_LONGEST_UNIT = 20  # characters: the reference's longest repeated unit
# Any unit that is repeated so often is a loop.
_COPIES = 20
# So is a phrase that is repeated so often until the text ends, if that fills at least so many characters.
_LONG_COPIES = 6
_LONG_CHARS = 100
# People do repeat numbers: only an endless tail of them is a loop.
_NUMBER_COPIES = 200
_LONGEST_PHRASE = 80  # tokens
_REPETITIVE = 10.0  # bytes of text per compressed byte; speech stays below 5

# A word, or a single ideograph, kana or Thai letter, because their scripts have no spaces.
_SINGLE = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af"
TOKEN = re.compile(rf"[{_SINGLE}]|[^\W{_SINGLE}]+(?:[-'’][^\W{_SINGLE}]+)*")
_LONGEST_INSIDE = 60  # characters
_INSIDE = re.compile(rf"(\S{{1,{_LONGEST_INSIDE}}}?|\s)\1{{{_COPIES - 1},}}")


def fix_repetitions(text: str, threshold: int = 20) -> str:
    """Cut repetitions exactly as the reference's `detect_and_fix_repetitions` does, in linear time.

    A run of more than `threshold` equal characters becomes one character. Then, from left to right and as
    long as `2 * threshold` characters remain, the shortest unit (at most 20 characters) that is repeated at
    least `threshold` times becomes one copy.
    """
    text = re.sub(rf"(.)\1{{{threshold},}}", r"\1", text, flags=re.DOTALL)
    total = len(text)
    last_start = total - 2 * threshold
    if last_start < 0:
        return text
    codes = _codes(text)
    # runs[k - 1][i]: the number of characters from i on that equal the one k later, so that 1 + runs // k
    # copies of a unit of k start at i.
    runs = [_run_lengths(codes[:-k] == codes[k:]) for k in range(1, min(_LONGEST_UNIT, total - 1) + 1)]
    pieces: list[str] = []
    position = 0
    starts = np.flatnonzero(_starts(runs, threshold, last_start))
    for start in starts.tolist():
        if start < position:
            continue
        unit = next(
            k for k, run in enumerate(runs, 1) if start < len(run) and run[start] >= k * (threshold - 1)
        )
        pieces.append(text[position : start + unit])
        position = start + unit * (1 + int(runs[unit - 1][start]) // unit)
    return "".join(pieces) + text[position:]


def collapse_loops(text: str) -> tuple[str, bool]:
    """Cut the loops of a model, but nothing that people say.

    These are cut to one copy:

    - any words repeated 20 times;
    - phrases (also longer than 20 characters) that fill the rest of the text with at least six copies;
    - symbols and syllables repeated 20 times inside a word.

    Whole words are compared without case and punctuation, so "no no ... nobody" keeps its "nobody". Numbers
    are kept: "0 0 0 ..." said 20 times is a serial number or a countdown.

    Returns:
        The text, and whether anything was cut.
    """
    before = text
    # Checked first, because the regular expression would take most of the time of parsing an output.
    if _may_repeat_inside(text):
        text = _INSIDE.sub(_collapse_inside, text)
    # A loop of loops needs another pass; the bound keeps hostile text cheap.
    for _ in range(4):
        shorter = _collapse_phrases(text)
        if shorter == text:
            break
        text = shorter
    return text, text != before


def is_repetitive(text: str) -> bool:
    """Whether a long text compresses better than any speech, as a loop with small changes does."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data) >= 400 and len(data) / len(zlib.compress(data)) > _REPETITIVE


def _may_repeat_inside(text: str) -> bool:
    """Whether `_INSIDE` can match: in 20 copies of k characters, 19 k characters equal the one k later."""
    codes = _codes(text)
    units = range(1, min(_LONGEST_INSIDE, len(codes) // _COPIES) + 1)
    return any(np.count_nonzero(codes[:-k] == codes[k:]) >= (_COPIES - 1) * k for k in units)


def _collapse_inside(match: re.Match[str]) -> str:
    """Shorten a unit that is repeated without spaces between its copies, unless it is a number."""
    unit = match.group(1)
    if any(c.isnumeric() for c in unit) and not any(c.isalpha() and not c.isnumeric() for c in unit):
        return match.group(0)
    follows = match.string[match.end() : match.end() + 1]
    if unicodedata.category(unit[-1]) in ("Ll", "Lu") and follows.isalpha():
        # The last copy begins the next word, as in "hahaha...happy".
        return unit + unit
    return unit


def _collapse_phrases(text: str) -> str:
    tokens = list(TOKEN.finditer(text))
    total = len(tokens)
    if total < _LONG_COPIES:
        return text
    vocabulary: dict[str, int] = {}
    codes = np.array([vocabulary.setdefault(t.group().casefold(), len(vocabulary)) for t in tokens])
    lengths = np.cumsum([0] + [len(t.group()) for t in tokens])
    is_number = np.cumsum([0] + [t.group().isnumeric() for t in tokens])
    # Start, tokens of the unit, tokens of the run.
    found: list[tuple[int, int, int]] = []
    for unit in range(1, min(_LONGEST_PHRASE, total // _LONG_COPIES) + 1):
        equal = codes[:-unit] == codes[unit:]
        # Too few for a loop, wherever they are.
        if np.count_nonzero(equal) < (_LONG_COPIES - 1) * unit:
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[False], equal, [False]]).astype(np.int8)))
        for start, end in edges.reshape(-1, 2).tolist():
            run = end - start + unit
            if _is_loop(unit, run // unit, int(lengths[start + run] - lengths[start]), start + run == total):
                numbers = int(is_number[start + unit] - is_number[start])
                if numbers < unit or run // unit >= _NUMBER_COPIES:
                    found.append((start, unit, run))
    pieces: list[str] = []
    position, next_token = 0, 0
    for start, unit, run in sorted(found):
        if start < next_token:
            continue
        at_end = start + run == total
        next_token = total if at_end else start + run // unit * unit
        pieces.append(text[position : tokens[start + unit].start()])
        position = len(text) if at_end else tokens[next_token].start()
    return "".join(pieces).rstrip() if pieces and position == len(text) else "".join(pieces) + text[position:]


def _is_loop(unit: int, copies: int, chars: int, at_end: bool) -> bool:
    return copies >= _COPIES or (at_end and unit >= 4 and copies >= _LONG_COPIES and chars >= _LONG_CHARS)


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _run_lengths(flags: np.ndarray) -> np.ndarray:
    """For each position, the number of consecutive true flags from there on."""
    positions = np.arange(len(flags))
    stops = np.where(flags, len(flags), positions)
    return np.minimum.accumulate(stops[::-1])[::-1] - positions


def _starts(runs: list[np.ndarray], threshold: int, last_start: int) -> np.ndarray:
    """Whether at least one unit is repeated `threshold` times or more, for each position."""
    found = np.zeros(last_start + 1, dtype=bool)
    for k, run in enumerate(runs, 1):
        hits = run[: last_start + 1] >= k * (threshold - 1)
        found[: len(hits)] |= hits
    return found
