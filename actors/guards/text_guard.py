"""Judges the texts of a batch: collects evidence, beside the model where that takes time, and sets flags."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from actors.config.trust import GuardsConfig
from actors.guards import languages, loops
from actors.guards.evidence import TextEvidence
from actors.guards.sound import find_speech, heard_syllables
from actors.guards.text import REPEATED, needs_speech, text_flags
from actors.records import Hypothesis, SegmentRequest
from actors.text.languages import code_of

Heard = Sequence["Future[int]"]


class TextGuard:
    """The guards of texts, for an actor. Where they are switched off, nothing is computed.

    Args:
        limits: the settings.
    """

    def __init__(self, limits: GuardsConfig) -> None:
        self.limits = limits
        # Sound is looked at while the model runs.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guards") if limits.enabled else None
        if self._thread is not None:
            self._thread.submit(languages.load)

    def listen(self, requests: Sequence[SegmentRequest]) -> Heard:
        """Begin to count the syllables that are heard in the segments, in another thread."""
        if self._thread is None:
            return []
        return [self._thread.submit(_heard, request) for request in requests]

    def judged(
        self,
        requests: Sequence[SegmentRequest],
        results: Sequence[Hypothesis | Exception],
        heard: Heard,
    ) -> list[Hypothesis | Exception]:
        """The results with the flags of the guards; errors are returned unchanged.

        Args:
            requests: of the segments.
            results: the hypothesis of each, or its error.
            heard: from `listen`.
        """
        if self._thread is None:
            return list(results)
        found: list[Hypothesis | Exception] = []
        text, syllables = "", 0
        for request, result, count in zip(requests, results, heard, strict=True):
            if isinstance(result, Exception) or request.unsettled_tokens:
                found.append(result)
                continue
            judged = self.judged_text(request, result, count.result())
            if loops.is_copy(result.text, count.result(), text, syllables):
                judged = replace(judged, flags=(*judged.flags, REPEATED))
            text, syllables = result.text, count.result()
            found.append(judged)
        return found

    def judged_text(
        self, request: SegmentRequest, hypothesis: Hypothesis, heard: int | None = None
    ) -> Hypothesis:
        """A hypothesis with the flags of the guards.

        Args:
            request: what the model was given.
            hypothesis: its answer.
            heard: syllables that are heard in the segment; None: they are counted here.
        """
        flags = flags_of(request, hypothesis, self.limits, heard)
        return replace(hypothesis, flags=(*hypothesis.flags, *flags)) if flags else hypothesis


def flags_of(
    request: SegmentRequest, hypothesis: Hypothesis, limits: GuardsConfig, heard: int | None = None
) -> tuple[str, ...]:
    """The flags that the guards give to an answer, beyond those that it has.

    Args:
        request: what the model was given.
        hypothesis: its answer.
        limits: the settings.
        heard: syllables that are heard in the segment; None: they are counted here.
    """
    if not limits.enabled:
        return ()
    evidence = evidence_of(request, hypothesis, _heard(request) if heard is None else heard)
    if needs_speech(evidence, limits):
        evidence = with_speech(evidence, request)
    return text_flags(evidence, limits)


def evidence_of(request: SegmentRequest, hypothesis: Hypothesis, heard: int | None) -> TextEvidence:
    """What is known about an answer without a further look at the sound."""
    return TextEvidence(
        text=hypothesis.text.strip(),
        duration=request.duration,
        raw=hypothesis.raw,
        language=code_of(hypothesis.language),
        tag=None if request.language else code_of(hypothesis.language),
        forced_language=code_of(request.language),
        allowed_languages=tuple(code for name in request.languages if (code := code_of(name))),
        heard_syllables=heard,
        confidence=hypothesis.confidence,
        language_confidence=hypothesis.language_confidence,
        context=request.context,
        tokens=hypothesis.tokens,
        budget_spent="truncated" in hypothesis.flags,
        server_judgements=hypothesis.server_judgements,
        flags=(*request.flags, *hypothesis.flags),
    )


def with_speech(evidence: TextEvidence, request: SegmentRequest) -> TextEvidence:
    """The evidence with what a VAD hears; unchanged where the extra `vad` is not installed."""
    speech = find_speech(request.waveform)
    if speech is None:
        return evidence
    return replace(
        evidence,
        speech_seconds=speech.seconds,
        speech_probability=speech.probability,
        speech_syllables=speech.syllables,
    )


def _heard(request: SegmentRequest) -> int:
    return len(heard_syllables(request.waveform))
