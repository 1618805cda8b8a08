"""The language of a segment that the model named wrongly, and segments in which languages mix."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from actors.confidence.token_spans import spans
from actors.guards import languages as guard
from actors.records import Hypothesis
from actors.text.languages import code_of, name_of

# Seconds from which a segment may have several languages.
LONGEST_ALONE = 12.0
# Words of a window whose language is judged, and how many times more probable another one must be there.
_WINDOW, _ODDS = 12, 20.0
# A stretch that a model is unsure of: a sixth of the tokens, but at least so many; their confidence up to
# which it is, and from which length on a higher one is. Of 45 segments of 12 to 15 s of the demo voices it
# was at most 0.65 in 17 of 18 in which the language changes, and in 3 of 27 others; of 21 of 60 s at most
# 0.66 in 10 with 24 s of another language, and at least 0.81 in 11 others.
_SIXTH, _SHORTEST_STRETCH, _UNSURE = 6, 5, 0.65
_LONG_STRETCH, _UNSURE_FOR_LONG = 9, 0.72


def most_probable(
    allowed: Sequence[str],
    probabilities: Mapping[str, float],
    text: str,
    neighbours: Iterable[str | None],
) -> str | None:
    """The most probable of the languages that are allowed.

    By the model's own probabilities, where the backend has them; else by the words of the text; else by the
    languages of other segments of the recording. None: nothing is known.

    Args:
        allowed: the model's English names.
        probabilities: by name; empty where the backend cannot tell.
        text: of the segment, in the language that is not allowed.
        neighbours: names of the languages of the recording's other segments.
    """
    if len(allowed) == 1:
        return allowed[0]
    if known := {name: value for name, value in probabilities.items() if name in allowed}:
        return max(known, key=lambda name: known[name])
    codes = tuple(code for name in allowed if (code := code_of(name)))
    if codes and (code := guard.most_probable(text, codes)):
        return name_of(code)
    counts = Counter(name for name in neighbours if name in allowed)
    return counts.most_common(1)[0][0] if counts else None


def is_mixed(text: str, language: str | None) -> bool:
    """Whether some stretches of a text are in another language than the one that was named, and some in it.

    Args:
        text: of a segment.
        language: its English name.
    """
    code = code_of(language)
    if code is None:
        return False
    words = text.split()
    windows = [" ".join(words[start : start + _WINDOW]) for start in range(0, len(words), _WINDOW)]
    if len(windows) < 2:
        return False
    foreign = [guard.doubt(window, code) > math.log(_ODDS) for window in windows]
    return any(foreign) and not all(foreign)


def is_unsure_in_between(hypothesis: Hypothesis) -> bool:
    """Whether a model was unsure of a whole stretch of a text, as where it writes down another language."""
    scores = [
        score
        for start, end, score in spans(hypothesis.token_ends, hypothesis.token_log_probabilities)
        if score is not None and any(map(str.isalnum, hypothesis.text[start:end]))
    ]
    stretch = max(_SHORTEST_STRETCH, len(scores) // _SIXTH)
    if len(scores) < 2 * stretch:
        return False
    total = sum(scores[:stretch])
    least = total
    for place in range(stretch, len(scores)):
        total += scores[place] - scores[place - stretch]
        least = min(least, total)
    limit = _UNSURE_FOR_LONG if stretch >= _LONG_STRETCH else _UNSURE
    return math.exp(least / stretch) < limit
