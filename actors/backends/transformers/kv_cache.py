"""Keys and values of a batch in memory taken once, and attention that reads them without a copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

GROUPED = "grouped_sdpa"  # name of `grouped_attention` among transformers' attention implementations


class KeyValues:
    """What a decoder's attention remembers of a batch; `update` is all that the model's layers ask of a cache.

    Args:
        decoder: the language model.
        rows: of the batch.
        capacity: most tokens of a row, prompt and answer.
    """

    def __init__(self, decoder: Any, rows: int, capacity: int) -> None:
        config = decoder.config
        self.dtype: torch.dtype = decoder.dtype
        shape = (rows, config.num_key_value_heads, capacity, config.head_dim)
        # Zeros where no prompt will be: what is masked must still be a number.
        self.layers = [
            (
                torch.zeros(shape, dtype=self.dtype, device=decoder.device),
                torch.zeros(shape, dtype=self.dtype, device=decoder.device),
            )
            for _ in range(config.num_hidden_layers)
        ]
        self.length = 0  # tokens that every row has, padding on the left included

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *arguments: Any, **named: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one token's keys and values, (rows, heads, 1, head size); all that the rows have so far, as views."""
        end = self.length + 1
        for memory, new in zip(self.layers[layer], (keys, values), strict=True):
            memory[:, :, self.length : end] = new
        everything = self.layers[layer][0][:, :, :end], self.layers[layer][1][:, :, :end]
        if layer == len(self.layers) - 1:
            self.length = end
        return everything

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens of a row so far."""
        return self.length

    def get_query_offset(self, layer: int = 0) -> int:
        """Where the next token stands."""
        return self.length

    def get_mask_sizes(self, tokens: int, layer: int = 0) -> tuple[int, int]:
        """How many tokens a mask for so many new ones covers, and from which one on."""
        return self.length + tokens, 0

    def keep(self, rows: torch.Tensor, room: int) -> None:
        """Forget all rows but these, given by their numbers in order, and keep room for so many more tokens of each."""
        self.layers = [
            (self._of(keys, rows, room), self._of(values, rows, room)) for keys, values in self.layers
        ]

    def _of(self, memory: torch.Tensor, rows: torch.Tensor, room: int) -> torch.Tensor:
        _, heads, _, size = memory.shape
        kept = memory.new_zeros(len(rows), heads, self.length + room, size)
        kept[:, :, : self.length] = memory[rows, :, : self.length]
        return kept

    @contextmanager
    def prompt(self, rows: slice, padding: int) -> Iterator[Any]:
        """A cache for running the prompts of some rows, which end up in this one behind so much padding."""
        prompt = DynamicCache()
        yield prompt
        layers: list[Any] = prompt.layers
        for (keys, values), layer in zip(self.layers, layers, strict=True):
            end = padding + layer.keys.shape[2]
            keys[rows, :, padding:end] = layer.keys
            values[rows, :, padding:end] = layer.values


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **arguments: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token per row whose heads share keys; anything else goes to transformers' own sdpa.

    `query` is (rows, heads, 1, size), `key` and `value` (rows, fewer heads, tokens, size). The heads of a group become the queries of one
    head: (rows, fewer heads, heads of a group, size). transformers would repeat keys and values for each head instead, a copy of all of
    them in every layer at every step. Source: the definition of grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245).
    """
    rows, heads, tokens, size = query.shape
    if tokens != 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **arguments)
    groups = key.shape[1]
    together = query.reshape(rows, groups, heads // groups, size)
    output = functional.scaled_dot_product_attention(
        together, key, value, attn_mask=attention_mask, scale=scaling
    )
    return output.reshape(rows, 1, heads, size), None


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, sdpa_mask)
