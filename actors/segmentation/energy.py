"""Cuts recordings into model inputs by energy.

Cuts are at pauses, no segment exceeds the limit, and only proven silence is dropped.

All decisions use the levels of 10 ms frames. `silence` says what proven silence is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from actors.records import SAMPLING_RATE, Span
from actors.segmentation.levels import FRAME, between, frame_levels, runs, smoothed
from actors.segmentation.silence import NEAR_DIGITAL, padded_silences, silent_spans

if TYPE_CHECKING:
    from actors.config import SegmenterConfig

# Seconds. Longer silences separate segments; shorter ones stay inside as context for the model.
LONG_SILENCE = 2.0
# dB above the lowest level of a window, and below its highest one, up to which a frame belongs to a pause. A
# moment of digital silence must not hide the pauses of a quiet room.
_PAUSE_DEPTH, _BELOW_SPEECH = 6.0, 40.0
# Samples of the window in which a cut is searched, at least: nearly everybody pauses within 5 s.
_WINDOW = 5 * SAMPLING_RATE
# Frames beside a VAD's border in which the quietest place is searched: 0.5 s.
_BORDER = 50
# Frames that a pause has at least.
_MIN_PAUSE = 8


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
    smooth = smoothed(levels)
    silences = padded_silences(silent_spans(levels, config, total), config, total)
    if speech is None:
        return cut_regions(sound_regions(silences, total), smooth, silences, config)
    # A VAD hears words late or not at all: its borders are moved to the quietest place beside them, and a
    # short gap of its own is only left out where it is proven silence.
    gaps = [_narrowed(gap, smooth, total) for gap in padded_silences(between(speech, total), config, total)]
    return cut_regions(sound_regions(gaps, total), smooth, silences, config)


def _narrowed(gap: Span, smooth: np.ndarray, total: int) -> Span:
    """A gap between speech, of which a clearly quieter place in the half second at its ends is the border."""
    first, last = -(-gap.start // FRAME), gap.end // FRAME
    reach = min(_BORDER, (last - first) // 2)
    start, end = gap.start, gap.end
    if reach > 0 and start > 0:
        levels = smooth[first : first + reach]
        start = (first + _quieter(levels)) * FRAME if _quieter(levels) else start
    if reach > 0 and end < total:
        levels = smooth[last - reach : last][::-1]
        end = (last - _quieter(levels)) * FRAME if _quieter(levels) else end
    return Span(start, max(start, end))


def _quieter(levels: np.ndarray) -> int:
    """The quietest of levels, if it is clearly below the first one; else 0."""
    lowest = int(levels.argmin())
    return lowest if levels[0] - levels[lowest] > _PAUSE_DEPTH else 0


def sound_regions(silences: Sequence[Span], total: int, shortest: float = LONG_SILENCE) -> list[Span]:
    """What lies between long silences; a silence at the start or the end of the recording may be short.

    Args:
        silences: without the padding that belongs to speech.
        total: samples of the recording.
        shortest: seconds of a long silence.
    """
    return between([s for s in silences if s.duration >= shortest or s.start == 0 or s.end == total], total)


def cut_regions(
    regions: Sequence[Span], smooth: np.ndarray, silences: list[Span], config: SegmenterConfig
) -> list[Span]:
    """Cut regions into spans of at most `config.max_duration`, at pauses.

    Args:
        regions: disjoint spans in order.
        smooth: levels in dB, averaged over 100 ms.
        silences: spans that are dropped where a cut falls into one.
        config: the limit.
    """
    limit = int(config.max_duration * SAMPLING_RATE)
    return [span for region in regions for span in _cut(region, smooth, silences, limit)]


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
    smooth = smoothed(10 * np.log10(power))
    return min(count, _best_pause(smooth, 0, len(smooth), nominal / FRAME, len(smooth)) * FRAME)


def _cut(region: Span, smooth: np.ndarray, silences: list[Span], limit: int) -> list[Span]:
    """Cut a region into spans of at most `limit` samples.

    Cuts are at the best pause of the last third of the limit, or of its last 5 s where that is more, but not
    of its first third. A rest of at most 1.6 limits is cut near its middle, because otherwise its last span
    would be tiny.
    """
    spans: list[Span] = []
    start = region.start
    window = max(limit // 3, min(_WINDOW, 2 * limit // 3))
    while region.end - start > limit:
        rest = region.end - start
        if rest <= 1.6 * limit:
            low, high = max(start + rest // 3, region.end - limit), min(start + 2 * rest // 3, start + limit)
            wanted = start + rest // 2
        else:
            low, high = start + limit - window, start + limit
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
    highest = float(window.max())
    usual = float(np.median(window))
    pauses = [
        run
        for run in runs(window <= max(lowest + _PAUSE_DEPTH, highest - _BELOW_SPEECH, NEAR_DIGITAL))
        if run.end - run.start >= _MIN_PAUSE
    ]
    # All of it is a pause.
    if highest <= NEAR_DIGITAL and highest - lowest < _PAUSE_DEPTH:
        return round(min(max(wanted, first), last))
    # No pause stands out. Where most of the window is a pause, its usual level is that of the pause.
    if highest - lowest < _PAUSE_DEPTH or not pauses:
        return first + int(window.argmin())

    def score(run: Span) -> float:
        length = min(run.end - run.start, 100) / 100
        depth = min(usual - float(window[run.start : run.end].mean()), 40.0) / 40
        distance = abs(first + (run.start + run.end) / 2 - wanted) / reach
        return length + 0.5 * depth - 0.5 * distance

    best = max(pauses, key=score)
    return first + (best.start + best.end) // 2
