"""Greedy decoding of a static batch by transformers' own forward pass: what the engine is compared with.

A copy of the loop that the backend had before it had an engine of its own (commit 645f5f7), less what made it
fast: left-padded prompts run one by one through the model into a dynamic cache, and every row takes part
until the last one has ended.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from actors.backends.qwen.features import Mel


def load_reference(folder: Path | str, dtype: torch.dtype) -> tuple[Any, Any]:
    """transformers' model, and the language model that runs its prompts; only steps run in float64."""
    model = transformers.Qwen3ASRForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    prefiller = model.model.language_model
    if dtype == torch.float64:
        prefiller = copy.deepcopy(prefiller)
        rotary = model.model.language_model.rotary_emb
        frequencies = rotary.inv_freq
        model.model.language_model.double()
        model.lm_head.double()
        rotary.inv_freq = frequencies
    return model, prefiller


@torch.inference_mode()
def reference_encode(model: Any, features: Mel) -> torch.Tensor:
    """The encoding of one clip by transformers, (tokens, width)."""
    mask = torch.zeros(1, features.features.shape[1], dtype=torch.long)
    mask[0, : features.frames] = 1
    encoded: torch.Tensor = model.model.get_audio_features(features.features[None], mask).pooler_output
    return encoded


@torch.inference_mode()
def reference_decode(
    model: Any,
    prefiller: Any,
    prompt: Sequence[int],
    features: Mel,
    budget: int,
    ends: Sequence[int],
    penalty: float = 1.0,
) -> tuple[list[int], list[float]]:
    """Tokens and log-probabilities of the answer to one prompt, up to and with what ended it.

    A repetition penalty counts the tokens of the answer only, and does not change the log-probabilities.
    """
    penalise = transformers.RepetitionPenaltyLogitsProcessor(penalty)
    ids = torch.tensor([list(prompt)])
    embeds = prefiller.get_input_embeddings()(ids)
    embeds[ids == model.config.audio_token_id] = reference_encode(model, features).to(embeds.dtype)
    decoder = model.model.language_model
    output = prefiller(inputs_embeds=embeds, use_cache=True)
    cache = output.past_key_values
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys.to(decoder.dtype), layer.values.to(decoder.dtype)
    hidden = output.last_hidden_state[:, -1].to(decoder.dtype)
    tokens: list[int] = []
    logprobs: list[float] = []
    while True:
        logits = model.lm_head(hidden).float()
        scores = penalise(torch.tensor([tokens]), logits) if tokens else logits
        chosen = scores.argmax(-1)
        tokens.append(int(chosen))
        logprobs.append(float((logits[0, chosen[0]] - logits.logsumexp(-1)).double()))
        if tokens[-1] in ends or len(tokens) == budget:
            return tokens, logprobs
        output = decoder(
            input_ids=chosen[:, None],
            position_ids=torch.tensor([[len(prompt) + len(tokens) - 1]]),
            past_key_values=cache,
            use_cache=True,
        )
        hidden = output.last_hidden_state[:, -1]
