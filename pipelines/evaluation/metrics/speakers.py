"""Error rates of speakers: who speaks when (DER, JER, by pyannote.metrics) and who says what (cpWER).

Overlapped speech counts: where two speak, both must be found. Sources: NIST, "The 2009 (RT-09) Rich
Transcription Meeting Recognition Evaluation Plan" (DER); Ryant et al., "The Second DIHARD Diarization
Challenge" (2019, JER); Watanabe et al., "CHiME-6 Challenge" (2020, cpWER).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.errors import UsageError

# Seconds around each border of a reference that are not judged, in all: half before and half after it, as
# pyannote.metrics counts. NIST's collar of 0.25 s on each side is 0.5 here.
COLLARS = (0.0, 0.25, 0.5)

Turn = tuple[float, float, str]


@dataclass(frozen=True)
class DiarizationErrors:
    """Seconds of errors of one recording with one collar."""

    missed: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0
    total: float = 0.0  # speech of the reference, counted for each speaker

    def __add__(self, other: DiarizationErrors) -> DiarizationErrors:
        return DiarizationErrors(
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
            self.total + other.total,
        )

    @property
    def rate(self) -> float | None:
        """The diarization error rate; None where nobody speaks."""
        return (self.missed + self.false_alarm + self.confusion) / self.total if self.total else None


def diarization_errors(
    reference: Sequence[Turn], hypothesis: Sequence[Turn], end: float, collar: float
) -> DiarizationErrors:
    """Compare turns, with the best assignment of the found speakers to the true ones.

    Args:
        reference: start, end and speaker of the true turns.
        hypothesis: of those that were found.
        end: of the recording in seconds.
        collar: one of COLLARS.

    Raises:
        UsageError: pyannote.metrics is not installed.
    """
    metric = _metrics().DiarizationErrorRate(collar=collar, skip_overlap=False)
    found = _components(metric, reference, hypothesis, end)
    return DiarizationErrors(
        float(found["missed detection"]),
        float(found["false alarm"]),
        float(found["confusion"]),
        float(found["total"]),
    )


def jaccard_errors(reference: Sequence[Turn], hypothesis: Sequence[Turn], end: float) -> tuple[float, int]:
    """The sum of the Jaccard error rates of the true speakers, and their number."""
    found = _components(_metrics().JaccardErrorRate(), reference, hypothesis, end)
    return float(found["speaker error"]), int(found["speaker count"])


def permuted_word_errors(
    reference: Mapping[str, Sequence[str]], hypothesis: Mapping[str, Sequence[str]]
) -> tuple[int, int]:
    """Word errors with the best assignment of the found speakers to the true ones (cpWER).

    Args:
        reference: the words of each true speaker.
        hypothesis: the words of each found speaker.

    Returns:
        Errors, and words of the reference.

    Raises:
        UsageError: kaldialign or scipy is not installed.
    """
    try:
        from kaldialign import edit_distance
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    true, found = list(reference.values()), list(hypothesis.values())
    size = max(len(true), len(found))
    # A speaker without a partner is compared with nothing.
    true += [[]] * (size - len(true))
    found += [[]] * (size - len(found))
    errors = np.array([[edit_distance(list(one), list(other))["total"] for other in found] for one in true])
    total = int(errors[linear_sum_assignment(errors)].sum()) if size else 0
    return total, sum(len(words) for words in true)


def _components(
    metric: Any, reference: Sequence[Turn], hypothesis: Sequence[Turn], end: float
) -> dict[str, Any]:
    from pyannote.core import Segment, Timeline

    latest = max([end, *(turn[1] for turn in (*reference, *hypothesis))])
    judged = Timeline([Segment(0.0, latest)]) if latest > 0 else Timeline()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        components: dict[str, Any] = metric(
            _annotation(reference), _annotation(hypothesis), uem=judged, detailed=True
        )
    return components


def _annotation(turns: Sequence[Turn]) -> Any:
    from pyannote.core import Annotation, Segment

    annotation = Annotation()
    for number, (start, end, speaker) in enumerate(turns):
        if end > start:
            annotation[Segment(start, end), number] = speaker
    return annotation


def _metrics() -> Any:
    try:
        from pyannote.metrics import diarization
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return diarization


def _missing(error: ModuleNotFoundError) -> UsageError:
    return UsageError(f"{error.name} is not installed: pip install 'scriptorium[evaluate]'")
