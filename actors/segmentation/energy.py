"""Cuts recordings into model inputs by energy.

Cuts are at pauses, no segment exceeds the limit, and only proven silence is dropped.

All decisions use the levels of 10 ms frames. Proven silence is a long stretch in which every frame is quieter
than an absolute limit, far below the speech of the recording, and close to the recording's own noise floor. A
whisper fails one of the three conditions and is not dropped. In doubt, audio stays: a model can answer that
there is no speech in it, but dropped speech is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.config import SegmenterConfig
from actors.records import SAMPLING_RATE, Span

# Samples of a frame: 10 ms.
FRAME = 160
# Frames that are averaged to find pauses: 100 ms.
_SMOOTH = 10
# dB that silence lies below speech.
_BELOW_SPEECH = 30.0
# dB that a stationary noise may rise above its floor.
_ABOVE_FLOOR = 8.0
# dB between the floor and the loudest frame of a stationary noise.
_STATIONARY = 12.0
# dB relative to full scale of dither, +-2 steps of 16 bit.
_NEAR_DIGITAL = -84.0
# Frames that speech lasts in all, at least: a second. A click is shorter.
_SUSTAINED = 100
# Seconds. Longer silences separate segments; shorter ones stay inside as context for the model.
_LONG_SILENCE = 2.0
# dB above the lowest level of a window up to which a frame belongs to a pause.
_PAUSE_DEPTH = 6.0
# Frames that a pause has at least.
_MIN_PAUSE = 8
# dB of a recording in which only the last bit changes now and then. Lower levels are digital silence.
_DIGITAL = -100.0
# dB of samples that are all equal.
_LOWEST_LEVEL = -120.0


def segment(samples: np.ndarray, config: SegmenterConfig, speech: Sequence[Span] | None = None) -> list[Span]:
    """Cut a recording, or a shard of one, into spans of at most `config.max_duration`.

    Args:
        samples: int16 mono at 16 kHz.
        config: the limits.
        speech: speech regions of a VAD; None decides by energy.

    Returns:
        Disjoint spans in order. Between them is proven silence, or what the VAD did not find to be speech.
        Empty where all is silence.
    """
    total = len(samples)
    if total == 0:
        return []
    levels = frame_levels(samples)
    pad, shortest = round(config.speech_pad * SAMPLING_RATE), round(config.min_silence * SAMPLING_RATE)
    if speech is None:
        silences = _runs(proven_silence(levels, config.silence_dbfs))
        silences = [Span(run.start * FRAME, min(total, run.end * FRAME)) for run in silences]
    else:
        silences = _between(speech, total)
    silences = [_shrink(silence, pad, total) for silence in silences]
    silences = [
        silence
        for silence in silences
        if silence.end - silence.start >= shortest or (silence.start == 0 and silence.end == total)
    ]
    if any(silence.start == 0 and silence.end == total for silence in silences):
        return []
    long = [s for s in silences if s.duration >= _LONG_SILENCE or s.start == 0 or s.end == total]
    smooth = _smoothed(levels)
    spans: list[Span] = []
    for region in _between(long, total):
        spans.extend(_cut(region, smooth, silences, int(config.max_duration * SAMPLING_RATE)))
    return spans


def find_cut(samples: np.ndarray, nominal: int) -> int:
    """The sample at which to cut a recording near a nominal place: the middle of the best pause.

    Args:
        samples: the audio around the place: int16 at 16 kHz, shape (samples,) or (channels, samples).
        nominal: the place, a sample in it. Of two equally good pauses the nearer one is chosen.
    """
    channels = np.atleast_2d(samples)
    count = channels.shape[1]
    if count <= FRAME:
        return min(max(nominal, 0), count)
    power = np.mean([10 ** (frame_levels(channel) / 10) for channel in channels], axis=0)
    smooth = _smoothed(10 * np.log10(power))
    return min(count, _best_pause(smooth, 0, len(smooth), nominal / FRAME, len(smooth)) * FRAME)


def frame_levels(samples: np.ndarray) -> np.ndarray:
    """The level of each 10 ms frame in dB relative to full scale, without its DC offset.

    Args:
        samples: int16; the last frame may be shorter.

    Returns:
        float64, shape (frames,).
    """
    count = len(samples) // FRAME
    frames = samples[: count * FRAME].reshape(count, FRAME).astype(np.float32)
    variance = (
        np.einsum("ij,ij->i", frames, frames).astype(np.float64) / FRAME
        - frames.mean(axis=1, dtype=np.float64) ** 2
    )
    if len(samples) > count * FRAME:
        variance = np.append(variance, samples[count * FRAME :].astype(np.float64).var())
    return np.maximum(_LOWEST_LEVEL, 10 * np.log10(np.maximum(variance, 1e-3) / 2.0**30))


def proven_silence(levels: np.ndarray, silence_dbfs: float) -> np.ndarray:
    """Which frames are silent beyond doubt.

    Args:
        levels: of all frames, see `frame_levels`.
        silence_dbfs: dB relative to full scale above which no frame is silent.

    Returns:
        bool, shape (frames,).
    """
    audible = levels[levels > _NEAR_DIGITAL]
    if not len(audible):
        return np.ones(len(levels), bool)
    floor = float(np.percentile(levels[levels > _DIGITAL], 10))
    rank = min(_SUSTAINED, max(1, len(levels) // 10))
    speech_level = float(np.partition(levels, -rank)[-rank])
    loudest = float(audible.max())
    # Nothing but a stationary noise.
    if loudest <= silence_dbfs and loudest - floor < _STATIONARY:
        return np.ones(len(levels), bool)
    limit = min(silence_dbfs, speech_level - _BELOW_SPEECH, floor + _ABOVE_FLOOR)
    return levels <= max(limit, min(_NEAR_DIGITAL, speech_level - _BELOW_SPEECH))


def _cut(region: Span, smooth: np.ndarray, silences: list[Span], limit: int) -> list[Span]:
    """Cut a region into spans of at most `limit` samples.

    Cuts are at the best pause of the last third of the limit. A rest of at most 1.6 limits is cut near its
    middle, because otherwise its last span would be tiny.
    """
    spans: list[Span] = []
    start = region.start
    while region.end - start > limit:
        rest = region.end - start
        if rest <= 1.6 * limit:
            low, high = max(start + rest // 3, region.end - limit), min(start + 2 * rest // 3, start + limit)
            wanted = start + rest // 2
        else:
            low, high = start + 2 * limit // 3, start + limit
            wanted = high
        first, last = -(-low // FRAME), high // FRAME
        cut = (
            _best_pause(smooth, first, last, wanted / FRAME, max(1, last - first)) * FRAME
            if last > first
            else high
        )
        cut = min(max(cut, low), high)
        silence = next((s for s in silences if s.start < cut < s.end), Span(cut, cut))
        if silence.start > start:
            spans.append(Span(start, silence.start))
        start = silence.end
    if region.end > start:
        spans.append(Span(start, region.end))
    return spans


def _best_pause(smooth: np.ndarray, first: int, last: int, wanted: float, reach: float) -> int:
    """The frame in the middle of the best pause, or of the quietest 100 ms where there is no pause.

    Args:
        smooth: levels in dB, averaged over 100 ms.
        first: frame from which to search, ...
        last: ... and up to which.
        wanted: frame near which the pause should be.
        reach: frames of distance from `wanted` that weigh as much as 40 dB of depth.
    """
    window = smooth[first:last]
    if not len(window):
        return first
    lowest = float(window.min())
    usual = float(np.median(window))
    runs = [
        run
        for run in _runs(window <= max(lowest + _PAUSE_DEPTH, _NEAR_DIGITAL))
        if run.end - run.start >= _MIN_PAUSE
    ]
    # All of it is a pause.
    if usual <= _NEAR_DIGITAL and usual - lowest < _PAUSE_DEPTH:
        return round(min(max(wanted, first), last))
    # No pause stands out.
    if usual - lowest < _PAUSE_DEPTH or not runs:
        return first + int(window.argmin())

    def score(run: Span) -> float:
        length = min(run.end - run.start, 100) / 100
        depth = min(usual - float(window[run.start : run.end].mean()), 40.0) / 40
        distance = abs(first + (run.start + run.end) / 2 - wanted) / reach
        return length + 0.5 * depth - 0.5 * distance

    best = max(runs, key=score)
    return first + (best.start + best.end) // 2


def _smoothed(levels: np.ndarray) -> np.ndarray:
    """The mean level of the 100 ms around each frame."""
    if len(levels) <= _SMOOTH:
        return levels
    total = np.concatenate(
        ([0.0], np.cumsum(np.pad(10 ** (levels / 10), (_SMOOTH // 2, _SMOOTH // 2), mode="edge")))
    )
    power = (total[_SMOOTH:] - total[:-_SMOOTH]) / _SMOOTH
    return 10 * np.log10(np.maximum(power[: len(levels)], 1e-12))


def _runs(flags: np.ndarray) -> list[Span]:
    """Runs of True as spans of indices."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [Span(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _between(spans: Sequence[Span], total: int) -> list[Span]:
    """The gaps between spans in [0, total)."""
    gaps: list[Span] = []
    place = 0
    for span in sorted(spans, key=lambda s: s.start):
        if span.start > place:
            gaps.append(Span(place, min(span.start, total)))
        place = max(place, span.end)
    if place < total:
        gaps.append(Span(place, total))
    return gaps


def _shrink(silence: Span, pad: int, total: int) -> Span:
    """A silence without `pad` samples on each side that has audio next to it."""
    start = silence.start + (pad if silence.start > 0 else 0)
    end = silence.end - (pad if silence.end < total else 0)
    return Span(start, max(start, end))
