"""Log-mel features, the same for a clip in every batch.

The stock processor pads *waveforms* to the longest of the batch. The STFT then sees other samples at the end
of a clip, and the last frames of its features depend on the clip's neighbours, and through the encoder's
attention the text does too. Here each clip's features come from its own samples, and the *features* are
zero-padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.records import SAMPLING_RATE

if TYPE_CHECKING:
    import torch

# Threads that make features on the CPU for a model on a GPU. Measured beside an H200: 5,270 s of features a
# second with 1 thread, 11,450 with 4, 11,040 with 8.
GPU_THREADS = 4
MIN_SAMPLES = 8_000  # 0.5 s: the model was not trained on less, so shorter clips are padded with silence
TOKENS_PER_SECOND = 13  # audio tokens of a full second: 100 frames through three convolutions of stride 2
SLICE_SAMPLES = 960 * SAMPLING_RATE  # padded samples in one STFT on a device: 2.8 GB of intermediate values
_FLOOR = 1e-10  # smallest power before the logarithm


@dataclass(frozen=True, slots=True)
class Mel:
    """Features of one clip."""

    features: torch.Tensor  # float32 (mel bins, padded frames), padded to whole encoder chunks
    frames: int  # valid frames, 100 a second

    @property
    def tokens(self) -> int:
        """How many audio tokens the encoder makes of it."""
        return audio_tokens(self.frames)


def extract(extractor: Any, waveform: np.ndarray, n_window: int = 50) -> Mel:
    """Features of one clip, exactly as the processor makes them for a batch of one.

    Args:
        extractor: a Qwen3ASRFeatureExtractor.
        waveform: int16, mono, 16 kHz, shape (samples,). Divided by 32,768, without peak normalisation, so
            that a level means the same in every segment of a recording.
        n_window: half an encoder chunk, in frames.
    """
    samples = waveform.astype(np.float32) / 32768
    if len(samples) < MIN_SAMPLES:
        samples = np.pad(samples, (0, MIN_SAMPLES - len(samples)))
    output = extractor(
        [samples], padding=True, sampling_rate=SAMPLING_RATE, return_attention_mask=True, n_window=n_window
    )
    return Mel(output["input_features"][0], int(output["attention_mask"][0].sum()))


def collate(mels: Sequence[Mel]) -> tuple[torch.Tensor, torch.Tensor]:
    """Zero-pad features to the longest clip.

    Returns:
        Features float32 (clips, mel bins, frames) and their mask int64 (clips, frames), 1 where a frame is
        real.
    """
    import torch

    bins = mels[0].features.shape[0]
    longest = max(mel.features.shape[1] for mel in mels)
    features = torch.zeros(len(mels), bins, longest)
    mask = torch.zeros(len(mels), longest, dtype=torch.long)
    for row, mel in enumerate(mels):
        features[row, :, : mel.features.shape[1]] = mel.features
        mask[row, : mel.frames] = 1
    return features, mask


def frames_of(samples: int) -> int:
    """Mel frames of a clip with so many samples."""
    return max(samples, MIN_SAMPLES) // (SAMPLING_RATE // 100)


def log_mel_on_device(
    extractor: Any, waveforms: Sequence[np.ndarray], device: torch.device, n_window: int = 50
) -> tuple[torch.Tensor, list[int]]:
    """Features of many clips, computed on the model's device: only samples travel, 32 KB a second of audio.

    The formula is the extractor's (Whisper's log-mel, without dither), within 1e-4. A clip's features do not
    depend on the others: its ends are reflected as if it stood alone, and its maximum is taken over its own
    frames.

    Args:
        extractor: a Qwen3ASRFeatureExtractor.
        waveforms: int16, mono, 16 kHz, each of shape (samples,); sorted by length they cost the least
            padding.
        device: where to compute.
        n_window: half an encoder chunk, in frames.

    Returns:
        Features float32 (clips, mel bins, frames) on the device, zero-padded to whole encoder chunks of the
        longest clip, and the number of valid frames of each clip.
    """
    import torch

    if extractor.dither:
        raise ValueError(f"features with dither {extractor.dither} depend on chance")
    frames = [frames_of(len(waveform)) for waveform in waveforms]
    chunk = 2 * n_window
    filters = torch.from_numpy(extractor.mel_filters).to(device, torch.float32).T
    window = torch.hann_window(extractor.n_fft, device=device)
    width = -(-max(frames) // chunk) * chunk
    features = torch.zeros(len(waveforms), filters.shape[0], width, device=device)
    for start, end in _slices([max(len(waveform), MIN_SAMPLES) for waveform in waveforms], SLICE_SAMPLES):
        samples = _reflected(waveforms[start:end], extractor.n_fft // 2, device).float() / 32768
        spectrum = torch.stft(
            samples, extractor.n_fft, extractor.hop_length, window=window, center=False, return_complex=True
        )
        longest = max(frames[start:end])
        # Contiguous, because products with a strided matrix are slow on some CPUs.
        power = (spectrum[..., :longest].abs() ** 2).contiguous()
        log = torch.clamp(filters @ power, min=_FLOOR).log10()
        lengths = torch.tensor(frames[start:end], device=device)
        padding = (torch.arange(longest, device=device) >= lengths[:, None])[:, None]
        # The floor of the logarithm never is above a clip's own maximum.
        log = log.masked_fill(padding, -10.0)
        log = (torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
        features[start:end, :, :longest] = log.masked_fill(padding, 0.0)
    return features, frames


def audio_tokens(frames: int, n_window: int = 50) -> int:
    """How many tokens the encoder makes of so many mel frames.

    13 for each full chunk; the rest is halved three times, rounded up.
    """
    chunks, rest = divmod(frames, 2 * n_window)
    for _ in range(3):
        rest = (rest + 1) // 2
    return chunks * TOKENS_PER_SECOND + rest


def _slices(lengths: list[int], limit: int) -> list[tuple[int, int]]:
    """Ranges of clips whose padded samples stay within a limit; a longer clip is a range of its own."""
    bounds: list[tuple[int, int]] = []
    start = longest = 0
    for end, length in enumerate(lengths):
        if end > start and max(longest, length) * (end + 1 - start) > limit:
            bounds.append((start, end))
            start, longest = end, 0
        longest = max(longest, length)
    return [*bounds, (start, len(lengths))]


def _reflected(waveforms: Sequence[np.ndarray], margin: int, device: torch.device) -> torch.Tensor:
    """Clips as int16 (clips, samples), the ends of each reflected as by `torch.stft` for a single clip."""
    import torch

    longest = max(max(len(waveform), MIN_SAMPLES) for waveform in waveforms)
    on_gpu = device.type == "cuda"
    # Pinned memory is copied asynchronously, and torch reuses it.
    batch = torch.zeros(len(waveforms), longest + 2 * margin, dtype=torch.int16, pin_memory=on_gpu)
    rows = batch.numpy()
    for row, waveform in zip(rows, waveforms, strict=True):
        end = margin + max(len(waveform), MIN_SAMPLES)
        row[margin : margin + len(waveform)] = waveform
        row[:margin] = row[2 * margin : margin : -1]
        row[end : end + margin] = row[end - 2 : end - 2 - margin : -1]
    return batch.to(device, non_blocking=on_gpu)
