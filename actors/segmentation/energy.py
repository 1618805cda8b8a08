"""Where a recording is cut into model inputs, in numpy alone: at pauses, never above the limit, and nothing is dropped but proven silence.

Everything works on the levels of 10 ms frames. "Proven silence" is a long stretch whose every frame is quieter than an absolute bound, far below what
is said in the recording, and close to its own noise floor: a whisper fails one of the three and is kept. When in doubt, keep: a model can say
"nothing was said", but nobody can say what was thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.config import SegmenterConfig
from actors.records import SAMPLING_RATE, Span

FRAME = 160  # samples: 10 ms
_SMOOTH = 10  # frames: pauses are looked for in 100 ms means
_BELOW_SPEECH = 30.0  # dB that silence lies below what is said
_ABOVE_FLOOR = 8.0  # dB that a stationary noise may swing above its floor
_STATIONARY = 12.0  # dB between floor and loudest frame of a noise that never changes
_NEAR_DIGITAL = -84.0  # dB relative to full scale: dither, +-2 steps of 16 bit
_SUSTAINED = 100  # frames: what is said lasts at least a second in all; a click does not
_LONG_SILENCE = (
    2.0  # seconds: longer silences part segments, shorter ones stay inside for the model's context
)
_PAUSE_DEPTH = 6.0  # dB above the lowest level of a window that still counts as pause
_SHORTEST_PAUSE = 8  # frames
_DIGITAL = -100.0  # dB: below even the last bit now and then
_QUIET = -120.0  # dB: the level of nothing at all


def segment(samples: np.ndarray, config: SegmenterConfig, speech: Sequence[Span] | None = None) -> list[Span]:
    """Cut a recording, or a shard of one, into spans of at most `config.max_duration`.

    Args:
        samples: int16 mono at 16 kHz.
        config: the limits.
        speech: regions that a VAD found; None decides by energy.

    Returns:
        Disjoint spans in order. What lies between them is proven silence (or what the VAD calls no speech). No spans: nothing but silence.
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
    silences = [_shrunk(silence, pad, total) for silence in silences]
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
    """The sample at which to part a recording near `nominal`: the middle of the best pause in `samples`.

    Args:
        samples: int16 at 16 kHz, shape (samples,) or (channels, samples): the neighbourhood of the wanted place.
        nominal: the wanted place in it; of two pauses equally good the nearer one wins.
    """
    channels = np.atleast_2d(samples)
    count = channels.shape[1]
    if count <= FRAME:
        return min(max(nominal, 0), count)
    power = np.mean([10 ** (frame_levels(channel) / 10) for channel in channels], axis=0)
    smooth = _smoothed(10 * np.log10(power))
    return min(count, _best_pause(smooth, 0, len(smooth), nominal / FRAME, len(smooth)) * FRAME)


def frame_levels(samples: np.ndarray) -> np.ndarray:
    """Level of each 10 ms frame in dB relative to full scale, whatever its DC offset; the last frame may be shorter. float64, shape (frames,)."""
    whole = len(samples) // FRAME
    frames = samples[: whole * FRAME].reshape(whole, FRAME).astype(np.float32)
    variance = (
        np.einsum("ij,ij->i", frames, frames).astype(np.float64) / FRAME
        - frames.mean(axis=1, dtype=np.float64) ** 2
    )
    if len(samples) > whole * FRAME:
        variance = np.append(variance, samples[whole * FRAME :].astype(np.float64).var())
    return np.maximum(_QUIET, 10 * np.log10(np.maximum(variance, 1e-3) / 2.0**30))


def proven_silence(levels: np.ndarray, silence_dbfs: float) -> np.ndarray:
    """Which frames are silent beyond doubt. bool, shape (frames,)."""
    heard = levels[levels > _NEAR_DIGITAL]
    if not len(heard):
        return np.ones(len(levels), bool)
    floor = float(np.percentile(levels[levels > _DIGITAL], 10))
    loud = float(np.partition(levels, -(rank := min(_SUSTAINED, max(1, len(levels) // 10))))[-rank])
    loudest = float(heard.max())
    if loudest <= silence_dbfs and loudest - floor < _STATIONARY:
        return np.ones(len(levels), bool)  # a stationary noise and nothing else
    bound = min(silence_dbfs, loud - _BELOW_SPEECH, floor + _ABOVE_FLOOR)
    return levels <= max(bound, min(_NEAR_DIGITAL, loud - _BELOW_SPEECH))


def _cut(region: Span, smooth: np.ndarray, silences: list[Span], limit: int) -> list[Span]:
    """Part a region into spans of at most `limit` samples: at the best pause of the last third, and what fits in two near its middle."""
    spans: list[Span] = []
    start = region.start
    while region.end - start > limit:
        rest = region.end - start
        if rest <= 1.6 * limit:  # a tail of its own would be tiny
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
    """The frame boundary in [first, last] in the middle of the best pause: long, deep and near `wanted`; without a pause, the quietest 100 ms."""
    window = smooth[first:last]
    if not len(window):
        return first
    lowest = float(window.min())
    usual = float(np.median(window))
    runs = [
        run
        for run in _runs(window <= max(lowest + _PAUSE_DEPTH, _NEAR_DIGITAL))
        if run.end - run.start >= _SHORTEST_PAUSE
    ]
    if usual <= _NEAR_DIGITAL and usual - lowest < _PAUSE_DEPTH:  # all of it is pause
        return round(min(max(wanted, first), last))
    if usual - lowest < _PAUSE_DEPTH or not runs:  # no pause stands out
        return first + int(window.argmin())

    def worth(run: Span) -> float:
        length = min(run.end - run.start, 100) / 100
        depth = min(usual - float(window[run.start : run.end].mean()), 40.0) / 40
        far = abs(first + (run.start + run.end) / 2 - wanted) / reach
        return length + 0.5 * depth - 0.5 * far

    best = max(runs, key=worth)
    return first + (best.start + best.end) // 2


def _smoothed(levels: np.ndarray) -> np.ndarray:
    """Mean level of the 100 ms around each frame."""
    if len(levels) <= _SMOOTH:
        return levels
    total = np.concatenate(
        ([0.0], np.cumsum(np.pad(10 ** (levels / 10), (_SMOOTH // 2, _SMOOTH // 2), mode="edge")))
    )
    power = (total[_SMOOTH:] - total[:-_SMOOTH]) / _SMOOTH
    return 10 * np.log10(np.maximum(power[: len(levels)], 1e-12))


def _runs(flags: np.ndarray) -> list[Span]:
    """Stretches of True as spans of indices."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [Span(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _between(spans: Sequence[Span], total: int) -> list[Span]:
    """What ordered spans leave free in [0, total)."""
    free: list[Span] = []
    place = 0
    for span in sorted(spans, key=lambda s: s.start):
        if span.start > place:
            free.append(Span(place, min(span.start, total)))
        place = max(place, span.end)
    if place < total:
        free.append(Span(place, total))
    return free


def _shrunk(silence: Span, pad: int, total: int) -> Span:
    """Leave `pad` samples to the audio on both sides; the edges of the recording have none."""
    start = silence.start + (pad if silence.start > 0 else 0)
    end = silence.end - (pad if silence.end < total else 0)
    return Span(start, max(start, end))
