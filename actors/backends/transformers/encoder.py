"""The audio encoder in slices of a batch, so that its memory does not grow with the batch.

The convolutions take about 6 MB for each padded second (0.6B, bf16), many times what the rest of the model needs for it, while only the
decoding wants large batches. No clip hears another in the encoder, so cutting the batch between clips changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

GPU_SLICE_SECONDS = 960.0  # padded seconds at once: 6 GB for the 0.6B, enough to fill any GPU
FRAMES_PER_SECOND = 100


def bound_encoder(model: Any, device: torch.device) -> None:
    """Replace a model's `get_audio_features` by one that encodes slices.

    On a CPU a slice is one clip: nothing is gained from more, no padding is computed, and a clip's encoding is then the same bit for bit
    in every batch.

    Args:
        model: Qwen3ASRForConditionalGeneration or Qwen3ASRForTokenClassification; changed in place.
        device: where it runs.
    """
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    encode = model.model.get_audio_features
    chunk = 2 * model.config.audio_config.n_window

    def encode_in_slices(
        input_features: torch.Tensor, input_features_mask: torch.Tensor, **arguments: Any
    ) -> Any:
        frames = input_features_mask.sum(-1).tolist()
        outputs: list[Any] = []
        for start, end in slices(frames, None if device.type == "cpu" else GPU_SLICE_SECONDS):
            longest = -(-max(frames[start:end]) // chunk) * chunk
            features, mask = input_features[start:end, :, :longest], input_features_mask[start:end, :longest]
            outputs.append(
                encode(
                    features.contiguous(), mask.contiguous(), **(arguments | {"return_dict": True})
                ).pooler_output
            )
        joined: Any = torch.cat(outputs)
        return BaseModelOutputWithPooling(pooler_output=joined)

    model.model.get_audio_features = encode_in_slices


def slices(frames: list[int], seconds: float | None) -> list[tuple[int, int]]:
    """Cut a batch into runs of clips of at most so many padded seconds; a longer clip alone; None: every clip alone."""
    bounds: list[tuple[int, int]] = []
    start = 0
    for end in range(1, len(frames) + 1):
        full = end == len(frames)
        if not full and seconds is not None:
            full = max(frames[start : end + 1]) * (end + 1 - start) > seconds * FRAMES_PER_SECOND
        if full or seconds is None:
            bounds.append((start, end))
            start = end
    return bounds
