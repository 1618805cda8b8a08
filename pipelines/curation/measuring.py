"""Measures the audio of candidates in this process; child processes decode it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from actors.audio.clips import decode_samples
from actors.config import AudioConfig
from actors.errors import RetryableError, RowError
from actors.guards.sound_quality import Signal, measure
from actors.process.isolation import Child
from actors.records import SAMPLING_RATE, Row
from pipelines.curation.candidates import Candidate
from pipelines.export.parallel import LARGE_SECONDS, run_tasks, workers_for
from pipelines.output.transcript_reader import audio_sources

# A span of audio: start and end in seconds, channel, track.
Span = tuple[float, float, int | None, int | None]
Found = dict[str, list[Signal | None]]
_RECORDINGS_PER_TASK = 40
# Seconds around a span in which its noise is looked for.
_AROUND = 0.5


class _Measurer:
    """Measures some recordings; a class, so that it can be pickled."""

    def __init__(self, out: str) -> None:
        self._out = out

    def __call__(self, task: Sequence[tuple[str, str, Sequence[Span]]]) -> Found:
        audio = AudioConfig()
        child = Child(audio.max_memory)
        planned = audio_sources(self._out, [recording_id for recording_id, _, _ in task])
        found: Found = {}
        try:
            for recording_id, address, spans in task:
                source = planned.get(recording_id) or {"audio": address}
                found[recording_id] = list(self._measured(child, audio, source, spans))
        finally:
            child.close()
        return found

    def _measured(
        self, child: Child, audio: AudioConfig, source: Row, spans: Sequence[Span]
    ) -> Iterator[Signal | None]:
        by_origin: dict[tuple[int | None, int | None], list[Span]] = {}
        for span in spans:
            by_origin.setdefault(span[2:], []).append(span)
        signals: dict[Span, Signal] = {}
        for (channel, track), group in by_origin.items():
            chosen = {"channel": channel, "track": track}
            of_group = {**source, **{name: str(value) for name, value in chosen.items() if value is not None}}
            try:
                for span in group:
                    signals[span] = _signal(child, audio, of_group, span)
            except (RowError, RetryableError):
                continue
        for span in spans:
            yield signals.get(span)


def _signal(child: Child, audio: AudioConfig, source: Row, span: Span) -> Signal:
    first, last = (round(seconds * SAMPLING_RATE) for seconds in span[:2])
    margin = round(_AROUND * SAMPLING_RATE)
    begin = max(0, first - margin)
    function = f"{decode_samples.__module__}:{decode_samples.__name__}"
    data = child.call(function, source, begin, last + margin, audio.retries, timeout=audio.timeout)
    around = np.frombuffer(data, "<i2")
    return measure(around[first - begin : last - begin], around)


def measure_all(out: str, candidates: Sequence[Candidate], parallel: int | None) -> int:
    """Set `signal` of the candidates with text.

    Args:
        out: the output directory, whose plan knows where the audio is.
        candidates: those of a recording stand together.
        parallel: processes; None: decided by the amount of audio.

    Returns:
        How many could not be measured.
    """
    by_recording: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.sample.text:
            by_recording.setdefault(candidate.sample.recording_id, []).append(candidate)
    work = [
        (recording_id, group[0].audio, [_span(candidate) for candidate in group])
        for recording_id, group in by_recording.items()
    ]
    tasks = [
        work[first : first + _RECORDINGS_PER_TASK] for first in range(0, len(work), _RECORDINGS_PER_TASK)
    ]
    seconds = sum(candidate.sample.duration for group in by_recording.values() for candidate in group)
    workers = workers_for(seconds, LARGE_SECONDS, len(tasks), parallel)
    missing = 0
    for found in run_tasks(_Measurer(out), tasks, workers):
        for recording_id, signals in found.items():
            for candidate, signal in zip(by_recording[recording_id], signals, strict=True):
                candidate.signal = signal
                missing += signal is None
    return missing


def _span(candidate: Candidate) -> Span:
    clip = candidate.sample.clip
    return clip.start, clip.end, clip.channel, clip.track
