"""Segments as by energy, without what is no speech: noise, hum, and music without a voice.

Sound is judged in three steps, each on what the one before leaves open:

1. Clear speech is found by its level and a few spectra (`speech_cues`), which costs little. That is most of a
   recording of speech.
2. A VAD hears the rest, at an even loudness, because it does not hear quiet speech. What it gives any probability
   of speech stays.
3. Of what is left, only noise and music of fixed notes are dropped. A VAD does not hear singing, so what may be a
   voice stays. A segment in which nothing was found to be speech is `unlikely`.

Cuts are those of `energy`: a VAD's borders are inside words more often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actors.config import SegmenterConfig
from actors.records import SAMPLING_RATE, Span
from actors.segmentation.energy import LONG_SILENCE, cut_regions, sound_regions
from actors.segmentation.levels import FRAME, between, frame_levels, runs, smoothed
from actors.segmentation.silence import padded_silences, silent_spans
from actors.segmentation.silero import speech_probabilities
from actors.segmentation.silero_network import STEP
from actors.segmentation.speech_cues import WINDOW, is_clear_speech, may_be_voice

# Probability of speech from which audio stays. Words over noise or music that is 5 dB quieter have more, at least
# at one place within the padding; noise has at most 0.03.
_POSSIBLE = 0.1
# Frames that stay on both sides of speech: 0.4 s.
_PAD = 40
# Frames of the shortest span between speech that is dropped, and of one that is next to silence.
_SHORTEST, _SHORTEST_AT_EDGE = round(LONG_SILENCE * SAMPLING_RATE / FRAME), 50
# Frames before a doubtful span that the VAD also gets: 1 s.
_RUN_UP = 100
# dB relative to full scale at which the VAD gets everything, and by how much it is made louder or softer for it.
_LOUDNESS, _MIN_GAIN, _MAX_GAIN = -25.0, -20.0, 60.0
# Frames of a block that has a gain of its own: 0.5 s. Quiet speech right behind something loud is heard.
_GAIN_BLOCK = 50
# Frames of a block that are softer than its loudness: nine tenths.
_LOUD = 45
# Frames around what may be a voice that stay, too: a song has passages that sound like instruments.
_AROUND_VOICE = 1200


@dataclass(frozen=True)
class Judged:
    """What became of a recording, or a shard of one. All spans are disjoint and in order."""

    # The segments.
    spans: list[Span]
    # Of each segment: whether nothing in it was found to be speech.
    unlikely: list[bool]
    # What is neither silence nor a part of a segment.
    dropped: list[Span]


def segment(channels: list[np.ndarray], config: SegmenterConfig) -> list[Judged]:
    """Cut recordings, or shards or channels of them, into spans of at most `config.max_duration`.

    Args:
        channels: int16 mono at 16 kHz. The VAD's work on all of them is done together.
        config: the limits.
    """
    sounds = [_Sound(samples, config) for samples in channels]
    waves = [sound.for_vad(span) for sound in sounds for span in sound.doubtful]
    # The VAD, and torch with it, is only loaded where it is needed.
    found = iter(speech_probabilities(waves) if waves else [])
    return [sound.judged([next(found) for _ in sound.doubtful]) for sound in sounds]


class _Sound:
    """The sound of one channel, and what of it is speech. Masks have one entry for each frame of 10 ms."""

    def __init__(self, samples: np.ndarray, config: SegmenterConfig) -> None:
        self._samples, self._config = samples, config
        self._levels = frame_levels(samples)
        silent = silent_spans(self._levels, config, len(samples))
        self._silences = padded_silences(silent, config, len(samples))
        self._regions = sound_regions(self._silences, len(samples))
        self._sound = _mask(self._regions, len(self._levels))
        self._clear = self._clear_speech()
        # Frames for the VAD.
        self.doubtful = runs(self._sound & ~self._clear)

    def _clear_speech(self) -> np.ndarray:
        """The mask of clear speech, in whole windows of 2 s."""
        clear: np.ndarray = np.concatenate(([False], is_clear_speech(self._samples, self._levels), [False]))
        sound = self._sound[: (len(clear) - 2) * WINDOW].reshape(-1, WINDOW).any(axis=1)
        silent = np.concatenate(([True], ~sound, [True]))
        # Drums sound like speech for single windows: a window needs a neighbour, unless it has no sound there.
        clear[1:-1] &= sound & (clear[:-2] | clear[2:] | (silent[:-2] & silent[2:]))
        mask = np.zeros(len(self._levels), bool)
        mask[: len(sound) * WINDOW] = np.repeat(clear[1:-1], WINDOW)
        mask &= self._sound
        # What is in doubt next to clear speech, and no longer than a window, is not worth a closer look.
        for run in runs(self._sound & ~mask):
            if run.end - run.start <= WINDOW and mask[max(0, run.start - 1) : run.end + 1].any():
                mask[run.start : run.end] = True
        return mask

    def for_vad(self, span: Span) -> np.ndarray:
        """The audio of a span of frames, with a run-up, at an even loudness: float32."""
        start = max(0, span.start - _RUN_UP)
        levels = self._levels[start : span.end]
        short = -len(levels) % _GAIN_BLOCK
        blocks = np.pad(levels, (0, short), mode="edge").reshape(-1, _GAIN_BLOCK)
        loudness = np.partition(blocks, _LOUD, axis=1)[:, _LOUD]
        gains = np.clip(_LOUDNESS - loudness, _MIN_GAIN, _MAX_GAIN)
        centres = (np.arange(len(gains)) + 0.5) * _GAIN_BLOCK
        gain = 10 ** (np.interp(np.arange(len(levels)) + 0.5, centres, gains) / 20) / 32768
        samples = self._samples[start * FRAME : span.end * FRAME].astype(np.float32)
        samples *= np.repeat(gain.astype(np.float32), FRAME)[: len(samples)]
        clipped: np.ndarray = np.clip(samples, -1, 1)
        return clipped

    def judged(self, probabilities: list[np.ndarray]) -> Judged:
        """The result, from the VAD's probabilities for the audio of each doubtful span."""
        speech = self._clear.copy()
        for span, found in zip(self.doubtful, probabilities, strict=True):
            start = max(0, span.start - _RUN_UP)
            for run in runs(found >= _POSSIBLE):
                first, last = start + run.start * STEP // FRAME, start + -(-run.end * STEP // FRAME)
                speech[max(first, span.start) : min(last, span.end)] = True
        dropped = [
            Span(part.start * FRAME, min(part.end * FRAME, len(self._samples)))
            for gap in runs(self._sound & ~_widened(speech, _PAD))
            for part in self._without_voice(gap)
        ]
        regions = [part for region in self._regions for part in _subtract(region, dropped)]
        spans = cut_regions(regions, smoothed(self._levels), self._silences, self._config)
        unlikely = [not speech[span.start // FRAME : -(-span.end // FRAME)].any() for span in spans]
        return Judged(spans, unlikely, dropped)

    def _without_voice(self, gap: Span) -> list[Span]:
        """The spans of frames in a gap between speech that are dropped."""
        at_start = gap.start == 0 or not self._sound[gap.start - 1]
        at_end = gap.end == len(self._sound) or not self._sound[gap.end]
        shortest = _SHORTEST_AT_EDGE if at_start or at_end else _SHORTEST
        if gap.end - gap.start < shortest and not (at_start and at_end):
            return []
        voice = may_be_voice(self._samples[gap.start * FRAME : gap.end * FRAME])
        edges = np.linspace(gap.start, gap.end, len(voice) + 1).astype(int)
        mask = np.zeros(gap.end - gap.start, bool)
        for run in runs(voice):
            first, last = edges[run.start] - gap.start, edges[run.end] - gap.start
            mask[max(0, first - _AROUND_VOICE) : last + _AROUND_VOICE] = True
        parts = [Span(gap.start + run.start, gap.start + run.end) for run in runs(~mask)]
        return [part for part in parts if part == gap or part.end - part.start >= shortest]


def _mask(spans: list[Span], frames: int) -> np.ndarray:
    """Which frames spans of samples touch."""
    mask = np.zeros(frames, bool)
    for span in spans:
        mask[span.start // FRAME : -(-span.end // FRAME)] = True
    return mask


def _widened(mask: np.ndarray, by: int) -> np.ndarray:
    """The mask, where each True reaches `by` frames further on both sides."""
    total = np.cumsum(np.pad(mask.astype(np.int32), (by + 1, by)))
    widened: np.ndarray = total[2 * by + 1 :] > total[: -2 * by - 1]
    return widened


def _subtract(region: Span, spans: list[Span]) -> list[Span]:
    """What is left of a region without spans, which may reach beyond it."""
    inside = [
        Span(max(span.start, region.start) - region.start, min(span.end, region.end) - region.start)
        for span in spans
        if span.start < region.end and span.end > region.start
    ]
    left = between(inside, region.end - region.start)
    return [Span(region.start + span.start, region.start + span.end) for span in left]
