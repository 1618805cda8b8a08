"""Judges the word times of a batch: collects evidence, beside the model where that takes time, sets flags."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from actors.config.trust import GuardsConfig
from actors.guards.evidence import WordEvidence
from actors.guards.sound import find_speech, heard_syllables
from actors.guards.words import needs_speech, word_flags
from actors.records import SAMPLING_RATE, AlignedTimes, SegmentRow
from actors.segmentation.levels import FRAME, frame_levels, runs
from actors.segmentation.silence import proven_silence

# dB relative to full scale above which nothing is silence, and seconds of the shortest silence.
_SILENCE_DBFS, _SHORTEST_SILENCE = -50.0, 0.3


@dataclass(frozen=True, slots=True)
class Sound:
    """What is heard in a segment: seconds from its start."""

    syllables: tuple[float, ...]
    silences: tuple[tuple[float, float], ...]


class WordGuard:
    """The guards of words, for an actor. Where they are switched off, nothing is computed.

    Args:
        limits: the settings.
    """

    def __init__(self, limits: GuardsConfig) -> None:
        self.limits = limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guards") if limits.enabled else None

    def listen(self, segments: Sequence[SegmentRow]) -> list[Future[Sound] | None]:
        """Begin to look at the sound of the segments that have text, in another thread."""
        if self._thread is None:
            return [None] * len(segments)
        return [
            self._thread.submit(listen_to, segment["samples"]) if segment["text"] else None
            for segment in segments
        ]

    def judged(
        self, segment: SegmentRow, aligned: SegmentRow, times: object, heard: Future[Sound] | None
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
        flags = flags_of(segment, aligned, repaired, heard.result(), self.limits)
        return {**aligned, "flags": [*aligned["flags"], *flags]} if flags else aligned


def listen_to(samples: bytes) -> Sound:
    """What is heard in the samples of a segment: int16 at 16 kHz, little-endian."""
    waveform = np.frombuffer(samples, dtype="<i2")
    silent = runs(proven_silence(frame_levels(waveform), _SILENCE_DBFS)) if len(waveform) else []
    seconds = FRAME / SAMPLING_RATE
    return Sound(
        syllables=tuple(heard_syllables(waveform).tolist()),
        silences=tuple(
            (run.start * seconds, run.end * seconds)
            for run in silent
            if (run.end - run.start) * seconds >= _SHORTEST_SILENCE
        ),
    )


def flags_of(
    segment: SegmentRow, aligned: SegmentRow, repaired: int, sound: Sound, limits: GuardsConfig
) -> tuple[str, ...]:
    """The flags that the guards give to an aligned segment, beyond its own: see `WordGuard.flags`."""
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
        silences=sound.silences,
        heard_syllables=sound.syllables,
        repaired=repaired,
        flags=tuple(aligned["flags"]),
    )
    if needs_speech(evidence, limits):
        waveform = np.frombuffer(segment["samples"], dtype="<i2")
        if (speech := find_speech(waveform)) is not None:
            spoken = tuple(heard_syllables(waveform, speech.mask).tolist())
            evidence = replace(evidence, speech_syllables=spoken)
    return word_flags(evidence, limits)
