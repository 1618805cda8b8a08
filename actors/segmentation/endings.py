"""The end of a segment: silence behind sound, without which a model loses the last word more often."""

from __future__ import annotations

import numpy as np

from actors.records import SAMPLING_RATE

# Samples of silence behind a segment that ends within sound: 0.1 s. Of 416 clips of the demo recordings, cut
# at the end of a word, 7 lost that word without it and none with it (docs/decisions.md).
_SILENT_SAMPLES = SAMPLING_RATE // 10
# A segment ends within sound where its last 50 ms are louder than this share of the whole.
_END_SAMPLES, _LOUD_END = SAMPLING_RATE // 20, 0.1


def end_in_silence(waveform: np.ndarray) -> np.ndarray:
    """Append silence to a segment that ends within sound, without which its last word is lost more often.

    It depends on the segment alone, so that a text does not depend on its neighbours in a batch.

    Args:
        waveform: int16, mono, 16 kHz.
    """
    end = waveform[-_END_SAMPLES:].astype(np.float32)
    if not len(end) or np.sqrt(np.mean(end**2)) <= _LOUD_END * np.sqrt(
        np.mean(waveform.astype(np.float32) ** 2)
    ):
        return waveform
    return np.concatenate([waveform, np.zeros(_SILENT_SAMPLES, waveform.dtype)])
