"""An utterance of a stream that is over, to its text and words: as a segment of a file would be."""

from __future__ import annotations

import logging
from typing import Any

from actors.languages import code_of, name_of
from actors.results import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.segmentation import segment
from actors.streaming import Ended
from pipelines.serving.service import Service

log = logging.getLogger(__name__)


async def finished(ended: Ended, language: str | None, prompt: str, service: Service) -> dict[str, Any]:
    """The utterance as a segment: start, end, text, language, confidence, words; times in seconds of the stream.

    Args:
        ended: its audio.
        language: ISO code, to force it.
        prompt: background text.
        service: the way to the models.

    Raises:
        RowError: the model cannot do it.
    """
    hypothesis = await _heard(ended, language, prompt, service)
    text = hypothesis.text.strip()
    found = {
        "start": ended.start / SAMPLING_RATE,
        "end": ended.end / SAMPLING_RATE,
        "text": text,
        "language": code_of(hypothesis.language) if text else None,
        "confidence": hypothesis.confidence if text else None,
        "flags": [],
        "words": [],
    }
    if not text:
        return found
    aligned, error = await service.models.align({**found, "samples": ended.waveform.tobytes()}, urgent=True)
    if error is not None:
        log.warning("no words for an utterance: %s", error)
    return aligned


async def _heard(ended: Ended, language: str | None, prompt: str, service: Service) -> Hypothesis:
    """What is said in it. Silence never reaches the model, which would invent text for it."""
    if not segment(ended.waveform, service.config.segmenter):
        return Hypothesis("", None)
    return await service.models.recognise(SegmentRequest(ended.waveform, name_of(language), prompt), urgent=True)
