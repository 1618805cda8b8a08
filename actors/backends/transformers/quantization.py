"""The language model in 8 bits, for CPUs: a step waits for what it reads, and most of that is its weights."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.ao import quantization

if TYPE_CHECKING:
    from actors.backends.transformers.loading import Network

_SCHEME = {torch.nn.Linear: quantization.per_channel_dynamic_qconfig}


def quantize(model: Any, network: Network) -> Network:
    """Turn the weights of the decoder and of its head to int8, one scale for each output.

    Activations stay float32 and are rounded to 8 bits for each multiplication, with one scale for all rows of
    a batch: a segment's text can depend on what is in its batch. The encoder and the embeddings stay as they
    are.

    Args:
        model: the model on a CPU, its decoder and head in float32. The packed decoder takes the place of its
            language model, whose weights are freed: its own forward pass does not work any more.
        network: its parts.
    """
    with warnings.catch_warnings():
        # Deprecated for torchao, which would be one more dependency for the same kernels.
        warnings.simplefilter("ignore")
        decoder = quantization.quantize_dynamic(network.decoder, _SCHEME, inplace=True)
        # It replaces what is inside of a module, not the module.
        head = quantization.quantize_dynamic(torch.nn.Sequential(network.head), _SCHEME)[0]
    model.model.language_model = decoder
    setattr(model, "lm_head" if hasattr(model, "lm_head") else "score", head)
    return replace(network, decoder=decoder, prefiller=decoder, head=head)
