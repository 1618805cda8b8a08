"""The reference's audio splitter, sample by sample; only tests use it, `actors.segmentation` is our own.

qwen_asr 0.0.6 cuts as long as the rest of the recording is longer than the limit: near start + limit, at the
quietest sample of the quietest 100 ms within 5 s on both sides. So its chunks may be up to 5 s longer than
the limit. Only the chunks of a recording that was cut are padded to 0.5 s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_ASR_INPUT_SECONDS = 1200
# Also the limit for recognition where word times are requested.
MAX_FORCE_ALIGN_INPUT_SECONDS = 180
MIN_ASR_INPUT_SECONDS = 0.5

_SEARCH_SECONDS = 5.0  # on both sides of the nominal cut
_WINDOW_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class CompatibleChunk:
    """One chunk of the reference: its samples, padded where the reference pads, and its position."""

    waveform: np.ndarray  # float32, mono
    offset: int  # samples
    length: int  # samples of the recording in it, without padding
    offset_seconds: float  # the reference's running sum


def split_compatible(waveform: np.ndarray, sampling_rate: int, max_seconds: float) -> list[CompatibleChunk]:
    """Split a recording as the reference's `split_audio_into_chunks` does.

    Window sums are differences of exact float64 sums, so that equal windows tie as they do in the reference,
    where the first one wins.

    Args:
        waveform: mono samples, shape (n,), float32.
        sampling_rate: Hz.
        max_seconds: nominal longest chunk.

    Returns:
        Chunks that cover the recording without gap or overlap. A recording that is not longer than the limit
        is one chunk, without padding.
    """
    samples = np.asarray(waveform, dtype=np.float32)
    total = len(samples)
    if total / sampling_rate <= max_seconds:
        return [CompatibleChunk(samples, 0, total, 0.0)]
    limit = max(1, int(max_seconds * sampling_rate))
    cuts = [0]
    while total - cuts[-1] > limit:
        cuts.append(_cut(samples, cuts[-1], limit, sampling_rate))
    chunks: list[CompatibleChunk] = []
    offset_seconds = 0.0
    shortest = int(MIN_ASR_INPUT_SECONDS * sampling_rate)
    for start, end in zip(cuts, [*cuts[1:], total], strict=True):
        padding = max(0, shortest - (end - start))
        chunks.append(
            CompatibleChunk(np.pad(samples[start:end], (0, padding)), start, end - start, offset_seconds)
        )
        offset_seconds += (end - start) / sampling_rate
    return chunks


def _cut(samples: np.ndarray, start: int, limit: int, sampling_rate: int) -> int:
    """End of the chunk that begins at `start`, in samples."""
    nominal = start + limit
    reach = int(_SEARCH_SECONDS * sampling_rate)
    first, last = max(start, nominal - reach), min(len(samples), nominal + reach)
    window = max(4, int(_WINDOW_SECONDS * sampling_rate))
    if last - first <= window:
        return nominal
    loudness = np.abs(samples[first:last])
    sums = np.concatenate([[0.0], np.cumsum(loudness, dtype=np.float64)])
    quietest = int(np.argmin(sums[window:] - sums[:-window]))
    cut = first + quietest + int(np.argmin(loudness[quietest : quietest + window]))
    return min(max(cut, start + 1), len(samples))
