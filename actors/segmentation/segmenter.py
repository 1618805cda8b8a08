"""Cuts the channels of a recording, or of a shard of one, into segments, by the backend of the settings."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from actors.segmentation import energy, hybrid, silero
from actors.segmentation.hybrid import Judged
from actors.segmentation.levels import between

if TYPE_CHECKING:
    from actors.config import SegmenterConfig

log = logging.getLogger(__name__)


def cut_channels(channels: np.ndarray, config: SegmenterConfig) -> list[Judged]:
    """The segments of each channel.

    Args:
        channels: int16 at 16 kHz, shape (channels, samples).
        config: backend and limits. `hybrid` is `energy` where the extra `vad` is not installed, or where
            `audio.max_memory` is too small for it.
    """
    waves = list(channels)
    if not channels.size:
        return [Judged([], [], []) for _ in waves]
    if config.backend == "hybrid" and silero.is_installed() and silero.fits_in_memory():
        return hybrid.segment(waves, config)
    speech = silero.find_speech(waves, config) if config.backend == "silero" else [None] * len(waves)
    spans = [energy.segment(wave, config, regions) for wave, regions in zip(waves, speech, strict=True)]
    return [Judged(found, [False] * len(found), []) for found in spans]


def silent_samples(channels: list[Judged], total: int) -> int:
    """How many samples of a recording are in no segment of any channel.

    Args:
        channels: of the same recording.
        total: its samples.
    """
    spans = [span for judged in channels for span in judged.spans]
    return sum(gap.end - gap.start for gap in between(spans, total))


@cache
def warn_without_vad(config: SegmenterConfig) -> None:
    """Write one line to the log, once for each process, where `hybrid` falls back to `energy`."""
    if config.backend == "hybrid" and not silero.is_installed():
        log.warning(
            "segmenter.backend is hybrid, but the extra `vad` is not installed: only silence is removed, "
            "noise and music are sent to the model"
        )
