"""Greedy decoding of a batch, made for transcripts: no beams, no sampling, and nothing computed for a row that has ended.

What it does otherwise than transformers' `generate`, with the same tokens:
- Each row has a token budget of its own, so that none is cut later because of a longer neighbour, and rows that have ended leave the
  batch: one row that talks on (or loops until its budget) costs a row's steps, not a batch's.
- Keys and values are written in place into memory taken once; transformers copies all of them at every step to append one.
- With grouped queries the heads that share keys ask them together (`cache.grouped_attention`), instead of copying the keys for every head.
- On a CPU the prompts are run one by one: nothing is gained from more at once, no padding is computed, and what a prompt leaves in the
  cache is the same bit for bit in every batch.
- Of each token only the log-probability is kept: all logits of a batch of 128 would be 78 MB at every step (vocabulary 151,936).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from actors.backends.transformers.kv_cache import GROUPED, KeyValues

_WORTH_IT = 0.75  # rows leave the batch when so few of them are still talking: each time, the others' keys and values are copied once


@dataclass(frozen=True)
class Generated:
    """What was generated for one row."""

    tokens: list[int]  # up to and with the token that ended it, or to its budget
    logprobs: list[float]  # of each of them


def generate(
    network: Any,
    inputs: dict[str, torch.Tensor],
    budgets: Sequence[int],
    ends: Sequence[int],
    prefiller: Any = None,
) -> list[Generated]:
    """The most probable continuation of each row, token by token.

    Args:
        network: Qwen3ASRForConditionalGeneration.
        inputs: `input_ids` and `attention_mask`, padded on the left, `input_features` and `input_features_mask`; see `TransformersASR.prepare`.
        budgets: most tokens of each row, at least 1.
        ends: tokens that end a row.
        prefiller: language model that runs the prompts; None: the network's own. It may compute in another precision.
    """
    decoder = network.model.language_model
    prompt_mask = inputs["attention_mask"].bool()
    rows, width = prompt_mask.shape
    device = prompt_mask.device
    cache = KeyValues(decoder, rows, width + max(budgets))
    hidden = _prefill(network, prefiller or decoder, inputs, prompt_mask, cache)

    places = list(range(rows))  # the row of the call in each row of the batch
    left = torch.tensor(budgets, device=device)
    stops = torch.tensor(list(ends), device=device)
    mask = torch.cat([prompt_mask, prompt_mask.new_ones(rows, max(budgets))], 1)
    positions = prompt_mask.sum(1, keepdim=True)
    # Our own attention takes its mask as it is; what others want, the model makes of a plain one at every step.
    grouped, padded = decoder.config._attn_implementation == GROUPED, not bool(prompt_mask.all())
    said: list[list[int]] = [[] for _ in range(rows)]
    scores: list[list[float]] = [[] for _ in range(rows)]
    alive = list(range(rows))  # rows of the batch that have not ended
    embed = decoder.get_input_embeddings()
    while True:
        # float32, like transformers: the confidence is not worth more, and ties fall as they do there
        logits = network.lm_head(hidden).float()
        best = logits.max(-1)
        over = (best.indices[:, None] == stops).any(1) | (left <= 1)
        logprobs = best.values - logits.logsumexp(-1)
        tokens, ended, probable = best.indices.tolist(), over.tolist(), logprobs.double().tolist()
        for row in alive:
            said[places[row]].append(tokens[row])
            scores[places[row]].append(probable[row])
        alive = [row for row in alive if not ended[row]]
        if not alive:
            return [Generated(*row) for row in zip(said, scores, strict=True)]
        chosen, left = best.indices, left - 1
        if len(alive) <= _WORTH_IT * len(places):
            index = torch.tensor(alive, device=device)
            chosen, left, mask, positions = chosen[index], left[index], mask[index], positions[index]
            cache.keep(index, room=int(left.max()))
            places, alive = [places[row] for row in alive], list(range(len(alive)))
        seen = mask[:, : cache.length + 1]
        hidden = decoder(
            inputs_embeds=embed(chosen[:, None]),
            attention_mask={"full_attention": seen[:, None, None] if padded else None} if grouped else seen,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        positions = positions + 1


def _prefill(
    network: Any, prefiller: Any, inputs: dict[str, torch.Tensor], mask: torch.Tensor, cache: KeyValues
) -> torch.Tensor:
    """Run the prompts; the last hidden states, (rows, hidden), in the precision of the cache."""
    features = network.model.get_audio_features(
        inputs["input_features"], inputs["input_features_mask"]
    ).pooler_output
    embeds = prefiller.get_input_embeddings()(inputs["input_ids"])
    audio = inputs["input_ids"] == network.config.audio_token_id
    if int(audio.sum()) != len(features):
        raise ValueError(
            f"the prompts have {int(audio.sum())} places for audio, the encoder made {len(features)} tokens"
        )
    embeds[audio] = features.to(embeds.dtype)
    lengths: list[int] = mask.sum(1).tolist()
    rows, width = mask.shape
    together = 1 if mask.device.type == "cpu" else rows
    hidden = []
    for start in range(0, rows, together):
        chosen = slice(start, start + together)
        padding = width - max(lengths[chosen])
        with cache.prompt(chosen, padding) as prompt:
            output = prefiller(
                inputs_embeds=embeds[chosen, padding:],
                attention_mask=mask[chosen, padding:],
                position_ids=(mask[chosen, padding:].cumsum(1) - 1).clamp(min=0),
                past_key_values=prompt,
                use_cache=True,
            )
        hidden.append(output.last_hidden_state[:, -1])
    cache.length = width
    return torch.cat(hidden).to(cache.dtype)
