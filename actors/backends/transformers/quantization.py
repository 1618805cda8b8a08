"""The language model in 8 bits, for CPUs: its weights are most of what a step reads, and reading is what a step waits for."""

from __future__ import annotations

import warnings
from typing import Any


def quantize(model: Any) -> None:
    """Turn the weights of the decoder and of its head to int8, one scale for each output; changed in place.

    Activations stay float32 and are rounded to 8 bits for each multiplication, with one scale for all rows of a batch: a segment's text
    can depend on what is in its batch. The encoder and the embeddings stay as they are.

    Args:
        model: Qwen3ASRForConditionalGeneration or Qwen3ASRForTokenClassification on a CPU, its decoder and head in float32.
    """
    import torch
    from torch.ao import quantization

    scheme = {torch.nn.Linear: quantization.per_channel_dynamic_qconfig}
    with (
        warnings.catch_warnings()
    ):  # deprecated for torchao, which would be one more dependency for the same kernels
        warnings.simplefilter("ignore")
        quantization.quantize_dynamic(model.model.language_model, scheme, inplace=True)
        name = "lm_head" if hasattr(model, "lm_head") else "score"
        head = torch.nn.Sequential(
            getattr(model, name)
        )  # quantize_dynamic replaces what is inside a module, not the module
        setattr(model, name, quantization.quantize_dynamic(head, scheme)[0])
