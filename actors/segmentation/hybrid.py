"""Segments as by energy, without what is no speech: noise, hum, and music without a voice.

Sound is judged in three steps, each on what the one before leaves open:

1. Clear speech is found by its level and a few spectra (`speech_cues`), which costs little. That is most of a
   recording of speech.
2. A VAD hears the rest, at an even loudness, because it does not hear quiet speech. What it
   gives any probability of speech stays.
3. Of what is left, only noise and music of fixed notes are dropped. A VAD does not hear singing, so what may
   be a voice stays. A segment in which nothing was found to be speech is `unlikely`.

Cuts are those of `energy`: a VAD's borders are inside words more often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from actors.records import SAMPLING_RATE, Span
from actors.segmentation.energy import LONG_SILENCE, cut_regions, sound_regions
from actors.segmentation.levels import FRAME, frame_levels, runs, smoothed, touched, widened, without_spans
from actors.segmentation.silence import padded_silences, silent_spans
from actors.segmentation.silero import probabilities_by_memory
from actors.segmentation.silero_network import STEP
from actors.segmentation.speech_cues import WINDOW, is_clear_speech, may_be_voice
from actors.segmentation.vad_answers import MEMORIES, has_gaps, heard_runs

if TYPE_CHECKING:
    from actors.config import SegmenterConfig

# Frames that stay on both sides of speech: 0.4 s.
_PAD = 40
# Frames more before speech: 0.3 s, where there are so many frames of it in about twice the time.
_ONSET, _SPOKEN = 30, 75
# Frames of the shortest span between speech that is dropped, a pause of 2 s without its padding, and of one
# that is next to silence.
_SHORTEST, _SHORTEST_AT_EDGE = round(LONG_SILENCE * SAMPLING_RATE / FRAME) - 2 * _PAD - _ONSET, 50
# Frames of a pause in clear speech that the VAD is asked about: 2 s. It is so many dB softer than the speech,
# which is less than what words and breath differ by, as the VAD decides.
_PAUSES, _PAUSE_DEPTH = 200, 15.0
# How often the VAD is asked at most: about what is in doubt, and about the clear speech next to what is none.
_ROUNDS = 4
# Frames before a doubtful span that the VAD also gets: 1 s.
_RUN_UP = 100
# dB relative to full scale at which the VAD gets everything, and dB by which that is raised or lowered.
_LOUDNESS, _MIN_GAIN, _MAX_GAIN = -25.0, -20.0, 60.0
# Frames of a block that has a gain of its own: 0.5 s. Quiet speech right behind something loud is heard.
_GAIN_BLOCK = 50
# Frames at the ends of a gap that stay where they are so many dB louder than the percentile of its levels,
# with pauses of so many frames, and frames that stay with them.
_LOUD_END, _USUAL, _LOUDER, _PAUSE, _MARGIN = 200, 90, 3.0, 30, 10
# Frames of a block that are softer than its loudness: nine tenths.
_LOUD = 45
# Frames around what may be a voice that stay, too: a song has passages that sound like instruments.
_AROUND_VOICE = 3000
# Probability of speech, with a short memory, that every voice has at some place of 12 s: songs have 0.1 and
# more, motors up to 0.03.
_TRACE = 0.04
# Passages of 4 s on both sides among which another one must have a voice, too.
_ALONE = 3


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
    spans = [sound.doubtful() for sound in sounds]
    for _ in range(_ROUNDS):
        waves = [sound.for_vad(span) for sound, part in zip(sounds, spans, strict=True) for span in part]
        # The VAD is only loaded where it is needed.
        if not waves:
            break
        found = zip(*probabilities_by_memory(waves, MEMORIES, has_gaps), strict=True)
        for sound, part in zip(sounds, spans, strict=True):
            sound.hear(part, [next(found) for _ in part])
        spans = [sound.borders() for sound in sounds]
    return [sound.judged() for sound in sounds]


class _Sound:
    """The sound of one channel, and what of it is speech. Masks have one entry for each frame of 10 ms."""

    def __init__(self, samples: np.ndarray, config: SegmenterConfig) -> None:
        self._samples, self._config = samples, config
        self._levels = frame_levels(samples)
        silent = silent_spans(self._levels, config, len(samples))
        self._silences = padded_silences(silent, config, len(samples))
        # A pause of 2 s separates segments: it is that much shorter without its padding.
        shortest = max(config.min_silence, LONG_SILENCE - 2 * config.speech_pad)
        self._regions = sound_regions(self._silences, len(samples), shortest)
        self._sound = touched(self._regions, len(self._levels))
        # What is speech by the cues alone, by the VAD, and by the VAD for certain.
        self._clear = self._clear_speech()
        self._heard = np.zeros(len(self._levels), bool)
        self._certain = np.zeros(len(self._levels), bool)
        # The highest probability of speech that the VAD gave with a short memory, where it was asked.
        self._faint = np.ones(len(self._levels), np.float32)

    def doubtful(self) -> list[Span]:
        """The spans of frames that are not clear speech."""
        return runs(self._sound & ~self._clear)

    def borders(self) -> list[Span]:
        """The windows of clear speech next to what is no speech, for the VAD to find the border."""
        spans = np.zeros(len(self._levels), bool)
        for gap in self._gaps():
            if gap.end - gap.start >= _SHORTEST_AT_EDGE:
                spans[max(0, gap.start - _PAD - WINDOW) : gap.end + _PAD + WINDOW] = True
        return runs(spans & self._clear)

    def _gaps(self) -> list[Span]:
        """The spans of frames between speech, without its padding."""
        return runs(self._sound & ~widened(self._clear | self._heard, _PAD))

    def _clear_speech(self) -> np.ndarray:
        """The mask of clear speech, in whole windows of 2 s."""
        clear: np.ndarray = np.concatenate(([False], is_clear_speech(self._samples, self._levels), [False]))
        sound = self._sound[: (len(clear) - 2) * WINDOW].reshape(-1, WINDOW).max(axis=1)
        silent = np.concatenate(([True], ~sound, [True]))
        # Drums sound like speech in single windows: a window needs a neighbour, unless there is no sound.
        clear[1:-1] &= sound & (clear[:-2] | clear[2:] | (silent[:-2] & silent[2:]))
        mask = np.zeros(len(self._levels), bool)
        mask[: len(sound) * WINDOW] = np.repeat(clear[1:-1], WINDOW)
        mask &= self._sound
        # What is in doubt next to clear speech is not worth a closer look if it is no longer than a window,
        # or than two between clear speech.
        for run in runs(self._sound & ~mask):
            neighbours = int(mask[run.start - 1 : run.start].any()) + int(mask[run.end : run.end + 1].any())
            if run.end - run.start <= neighbours * WINDOW:
                mask[run.start : run.end] = True
        for pause in self._pauses(mask):
            mask[pause.start : pause.end] = False
        return mask

    def _pauses(self, clear: np.ndarray) -> list[Span]:
        """The long pauses in clear speech whose noise is too loud to be silence."""
        pauses: list[Span] = []
        for run in runs(clear):
            if run.end - run.start < 2 * _PAUSES:
                continue
            levels = self._levels[run.start : run.end]
            low = levels < np.percentile(levels, _USUAL) - _PAUSE_DEPTH
            low &= levels > self._config.silence_dbfs
            # Only long pauses are of interest: the frames that are louder are few.
            loud = np.flatnonzero(np.concatenate(([True], ~low, [True])))
            for place in np.flatnonzero(np.diff(loud) > _PAUSES):
                start, end = run.start + int(loud[place]), run.start + int(loud[place + 1]) - 1
                pauses.append(Span(start, end))
        return pauses

    def for_vad(self, span: Span) -> np.ndarray:
        """The audio of a span of frames, with a run-up of a second, at an even loudness: float32."""
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
        # At the start of the recording, its first second backwards: the VAD's first answers are often wrong.
        missing = samples[: (start + _RUN_UP - span.start) * FRAME][::-1]
        missing = np.pad(missing, ((start + _RUN_UP - span.start) * FRAME - len(missing), 0))
        clipped: np.ndarray = np.clip(np.concatenate((missing, samples)), -1, 1)
        return clipped

    def hear(self, spans: list[Span], probabilities: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Let the VAD decide about spans of frames.

        Args:
            spans: from `doubtful` or `borders`.
            probabilities: of speech in the audio of each span, see `for_vad`, with a long and a short memory.
        """
        for span, (long, short) in zip(spans, probabilities, strict=True):
            start = span.start - _RUN_UP
            self._clear[span.start : span.end] = False
            frames = np.arange(span.start, span.end)
            self._faint[frames] = short[np.minimum((frames - start) * FRAME // STEP, len(short) - 1)]
            for run in heard_runs(long, short):
                first, last = start + run.start * STEP // FRAME, start + -(-run.end * STEP // FRAME)
                part = slice(max(first, span.start), max(span.start, min(last, span.end)))
                self._heard[part] = True
                self._certain[part] |= bool(long[run.start : run.end].max() >= self._config.vad_threshold)

    def judged(self) -> Judged:
        """The segments, and what is in none."""
        smooth = smoothed(self._levels)
        gaps = [_without_loud_ends(gap, smooth) for gap in map(self._without_onset, self._gaps())]
        voice = self._may_be_voice() if gaps else self._sound
        dropped = [
            Span(part.start * FRAME, min(part.end * FRAME, len(self._samples)))
            for gap in gaps
            for part in self._parts_without(voice, gap)
        ]
        regions = [part for region in self._regions for part in without_spans(region, dropped)]
        spans = cut_regions(regions, smooth, self._silences, self._config)
        speech = self._clear | self._heard
        unlikely = [not speech[span.start // FRAME : -(-span.end // FRAME)].any() for span in spans]
        return Judged(spans, unlikely, dropped)

    def _may_be_voice(self) -> np.ndarray:
        """The mask of what is near a voice that the VAD takes for no speech, or is not sure of."""
        mask = np.zeros(len(self._levels), bool)
        for run in runs(self._sound & ~widened(self._clear | self._certain, _PAD)):
            voice = may_be_voice(
                self._samples[run.start * FRAME : run.end * FRAME], self._levels[run.start : run.end]
            )
            edges = np.linspace(run.start, run.end, len(voice) + 1).astype(int)
            voice &= self._has_traces(run, edges)
            if len(voice) > _ALONE:
                # Instruments sound like a voice now and then, a singer does more often.
                near = np.convolve(voice, np.ones(2 * _ALONE + 1))[_ALONE : _ALONE + len(voice)]
                voice &= near > 1.5
            for part in runs(voice):
                first, last = edges[part.start] - _AROUND_VOICE, edges[part.end] + _AROUND_VOICE
                mask[max(run.start, first) : min(run.end, last)] = True
        return mask

    def _without_onset(self, gap: Span) -> Span:
        """A gap without the last moment before speech: the VAD hears a voice a little late."""
        behind = slice(gap.end, gap.end + _PAD + 2 * _SPOKEN)
        if int((self._clear | self._heard)[behind].sum()) >= _SPOKEN:
            return Span(gap.start, max(gap.start, gap.end - _ONSET))
        return gap

    def _has_traces(self, run: Span, edges: np.ndarray) -> np.ndarray:
        """Whether the VAD hears a trace of a voice in or next to each passage between `edges`.

        A motor has harmonics that move, like a voice. Even of a song the VAD hears a trace.
        """
        faint = self._faint[run.start : run.end].copy()
        if len(faint) > 4 * _LOUD_END:
            # What is next to speech is full of it.
            faint[:_LOUD_END] = faint[-_LOUD_END:] = 0.0
        found = np.array([faint[max(0, first) : last].max(initial=0.0) for first, last in _neighbours(edges)])
        traces: np.ndarray = found >= _TRACE
        return traces

    def _parts_without(self, voice: np.ndarray, gap: Span) -> list[Span]:
        """The spans of frames in a gap between speech that are dropped."""
        at_start = gap.start == 0 or not self._sound[gap.start - 1]
        at_end = gap.end == len(self._sound) or not self._sound[gap.end]
        shortest = _SHORTEST_AT_EDGE if at_start or at_end else _SHORTEST
        parts = [
            Span(gap.start + run.start, gap.start + run.end) for run in runs(~voice[gap.start : gap.end])
        ]
        whole = at_start and at_end
        return [part for part in parts if part.end - part.start >= shortest or (whole and part == gap)]


def _without_loud_ends(gap: Span, smooth: np.ndarray) -> Span:
    """A gap between speech without what is louder at its ends than nearly all of it.

    After a long noise the VAD may hear a voice only from its second word on.

    Args:
        gap: in frames.
        smooth: the smoothed levels.
    """
    levels = smooth[gap.start : gap.end]
    if len(levels) < 2 * _LOUD_END:
        return gap
    loud = levels > np.percentile(levels, _USUAL) + _LOUDER
    first, last = _reach(loud[:_LOUD_END]), _reach(loud[::-1][:_LOUD_END])
    return Span(gap.start + first, gap.end - last)


def _neighbours(edges: np.ndarray) -> list[tuple[int, int]]:
    """Each passage between edges with the one before and the one behind it, counted from the first edge."""
    places = [int(edge - edges[0]) for edge in edges]
    return [
        (places[max(0, number - 1)], places[min(len(places) - 1, number + 2)])
        for number in range(len(places) - 1)
    ]


def _reach(loud: np.ndarray) -> int:
    """Frames from the start to the end of the loud ones that follow each other with short pauses."""
    place = 0
    for frame in np.flatnonzero(loud):
        if frame - place > _PAUSE:
            break
        place = int(frame) + 1
    return min(len(loud), place + _MARGIN) if place else 0
