"""What the probabilities of a VAD say about speech in noise and music. Pure functions on arrays.

`silero` computes them.
"""

from __future__ import annotations

import numpy as np

from actors.records import Span
from actors.segmentation.levels import runs

# Probability of speech from which audio stays. Words over noise or music that is 5 dB quieter have more, at
# least at one place within the padding; noise has at most 0.03.
_POSSIBLE = 0.1
# Steps of a moment that is no speech unless its probability, or one within 0.8 s, is higher: 0.1 s.
_MOMENT, _NEAR, _LIKELY = 3, 25, 0.3
# Steps of the longest moment that is speech only for the short memory, with nothing near that is possible:
# 0.25 s. Notes of a piano and a band begin such moments, words over music do not stand alone.
_SHORT_MOMENT = 8
# Steps of fading probability that count as padding: 0.3 s. Behind the last word the probability needs 0.3 to
# 0.8 s to fall from 0.3 to 0.1 in noise.
_FADING = 9
# Steps of the VAD's pieces, and of their run-ups: 30 and 3 s, 4 and 1 s. After a long piece of music it takes
# speech over it for music, but music for speech after a short one.
_LONG, _SHORT = MEMORIES = (938, 94), (125, 31)
# Probability of speech from which audio stays after a short piece.
_FRESH = 0.7


def heard_runs(long: np.ndarray, short: np.ndarray) -> list[Span]:
    """The runs of steps in which there may be speech.

    Args:
        long: probabilities of speech with a long memory, see `MEMORIES`.
        short: those with a short memory.
    """
    found = np.where(short >= _FRESH, np.maximum(long, short), long)
    heard = []
    for run in runs(found >= _POSSIBLE):
        if _is_moment(run, found, long):
            continue
        # Behind speech the probability fades: the padding begins where it is no longer likely.
        likely = np.flatnonzero(found[run.start : run.end] >= _LIKELY)
        end = run.end if not len(likely) else max(run.start + int(likely[-1]) + 1, run.end - _FADING)
        heard.append(Span(run.start, end))
    return heard


def has_gaps(probabilities: np.ndarray) -> bool:
    """Whether there is a gap between speech that is longer than its padding, in more than one short piece."""
    if len(probabilities) <= _SHORT[0]:
        return False
    return any(run.end - run.start > _NEAR for run in runs(probabilities < _POSSIBLE))


def _is_moment(run: Span, found: np.ndarray, long: np.ndarray) -> bool:
    """Whether a run of possible speech is one of the moments in which music sounds like speech.

    Args:
        run: in steps.
        found: the probabilities that decide.
        long: those with a long memory.
    """
    steps = run.end - run.start
    near = np.concatenate((found[max(0, run.start - _NEAR) : run.start], found[run.end : run.end + _NEAR]))
    if steps <= _MOMENT and found[run.start : run.end].max() < _LIKELY and not (near >= _LIKELY).any():
        return True
    return bool(
        steps <= _SHORT_MOMENT
        and long[run.start : run.end].max() < _POSSIBLE
        and not (near >= _POSSIBLE).any()
    )
