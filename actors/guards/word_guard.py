"""Judges the word times of a batch: collects evidence, beside the model where that takes time, sets flags."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from actors.config.trust import GuardsConfig
from actors.guards.evidence import WordEvidence
from actors.guards.sound import find_speech, heard_syllables
from actors.guards.words import needs_silences, needs_speech, withdrawn_flags, word_flags
from actors.records import SAMPLING_RATE, AlignedTimes, SegmentRow
from actors.segmentation.levels import FRAME, frame_levels, runs
from actors.segmentation.silence import proven_silence

# dB relative to full scale above which nothing is silence, and seconds of the shortest silence.
_SILENCE_DBFS, _SHORTEST_SILENCE = -50.0, 0.3


Syllables = tuple[float, ...]


class WordGuard:
    """The guards of words, for an actor. Where they are switched off, nothing is computed.

    Args:
        limits: the settings.
    """

    def __init__(self, limits: GuardsConfig) -> None:
        self.limits = limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guards") if limits.enabled else None

    def listen(self, segments: Sequence[SegmentRow]) -> list[Future[Syllables] | None]:
        """Begin to look at the sound of the segments that have text, in another thread."""
        if self._thread is None:
            return [None] * len(segments)
        return [
            self._thread.submit(listen_to, segment["samples"]) if segment["text"] else None
            for segment in segments
        ]

    def judged(
        self, segment: SegmentRow, aligned: SegmentRow, times: object, heard: Future[Syllables] | None
    ) -> SegmentRow:
        """An aligned segment with the flags of the guards.

        Args:
            segment: before it was aligned, with its samples.
            aligned: with its words.
            times: the aligner's answer.
            heard: from `listen`; None: nothing is judged.
        """
        if heard is None or not aligned["words"]:
            return aligned
        repaired = times.repaired if isinstance(times, AlignedTimes) else 0
        added, withdrawn = flags_of(segment, aligned, repaired, heard.result(), self.limits)
        if not added and not withdrawn:
            return aligned
        kept = [flag for flag in aligned["flags"] if flag not in withdrawn]
        return {**aligned, "flags": [*kept, *added]}


def listen_to(samples: bytes) -> Syllables:
    """The times of the syllables in the samples of a segment: int16 at 16 kHz, little-endian."""
    return tuple(heard_syllables(np.frombuffer(samples, dtype="<i2")).tolist())


def _silences(waveform: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The proven silences of a segment, in seconds from its start."""
    silent = runs(proven_silence(frame_levels(waveform), _SILENCE_DBFS)) if len(waveform) else []
    seconds = FRAME / SAMPLING_RATE
    return tuple(
        (run.start * seconds, run.end * seconds)
        for run in silent
        if (run.end - run.start) * seconds >= _SHORTEST_SILENCE
    )


def flags_of(
    segment: SegmentRow, aligned: SegmentRow, repaired: int, syllables: Syllables, limits: GuardsConfig
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The flags that the guards give to an aligned segment, and those of its text that its words disprove."""
    start = segment["start"]
    evidence = WordEvidence(
        # Words of a given text that are not said have no times.
        words=tuple(
            (word["text"], word["start"] - start, word["end"] - start)
            for word in aligned["words"]
            if word["start"] is not None and word["end"] is not None
        ),
        duration=segment["end"] - start,
        language=segment.get("language"),
        heard_syllables=syllables,
        repaired=repaired,
        flags=tuple(aligned["flags"]),
    )
    waveform = np.frombuffer(segment["samples"], dtype="<i2")
    if needs_silences(evidence):
        evidence = replace(evidence, silences=_silences(waveform))
    if needs_speech(evidence, limits) and (speech := find_speech(waveform)) is not None:
        spoken = tuple(heard_syllables(waveform, speech.mask).tolist())
        evidence = replace(evidence, speech_syllables=spoken)
    added = word_flags(evidence, limits)
    if "too_little_text" not in evidence.flags:
        return added, ()
    return added, withdrawn_flags(replace(evidence, flags=(*evidence.flags, *added)))
