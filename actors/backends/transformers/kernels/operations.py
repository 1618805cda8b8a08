"""The decoder's small operations by torch's kernels; `triton_kernels` computes each in one kernel."""

from __future__ import annotations

import torch
from torch.nn import functional


def add_norm(
    hidden: torch.Tensor, update: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add to the residual stream, and norm the sum (RMS norm, Zhang and Sennrich 2019, arXiv 1910.07467).

    Args:
        hidden: the residual stream, (tokens, hidden size).
        update: what is added to it; None: nothing.
        weight: of the norm, (hidden size,).
        eps: of the norm.

    Returns:
        The sum and its norm, both (tokens, hidden size).
    """
    summed = hidden if update is None else hidden + update
    return summed, functional.rms_norm(summed, summed.shape[-1:], weight, eps)


def norm_rotate(
    heads: torch.Tensor,
    weight: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    query_heads: int,
    key_heads: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Norm each head of queries and keys, and rotate it by its position (Su et al. 2021, arXiv 2104.09864).

    Args:
        heads: queries, keys and values, (tokens, heads of all three, head size).
        weight: of the norm for each head of queries and keys, (query heads + key heads, head size).
        cos: cosine of each angle, (tokens, 1, head size).
        sin: sine, negative in the first half, (tokens, 1, head size).
        query_heads: number of heads of the queries, which come first.
        key_heads: number of heads of the keys, which come next.
        eps: of the norm.

    Returns:
        Queries (tokens, query heads, head size) and keys (tokens, key heads, head size).
    """
    size = heads.shape[-1]
    normed = functional.rms_norm(heads[:, : query_heads + key_heads], (size,), None, eps) * weight
    swapped = torch.cat([normed[..., size // 2 :], normed[..., : size // 2]], -1)
    turned = torch.addcmul(normed * cos, swapped, sin)
    return turned[:, :query_heads], turned[:, query_heads:]


def gate(gate_up: torch.Tensor) -> torch.Tensor:
    """The gated activation of an MLP (SwiGLU, Shazeer 2020, arXiv 2002.05202).

    Args:
        gate_up: (tokens, 2 * width): the gate, then what it is multiplied with.

    Returns:
        (tokens, width).
    """
    gates, up = gate_up.chunk(2, -1)
    return functional.silu(gates) * up


def write_slots(
    keys: torch.Tensor, values: torch.Tensor, places: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> None:
    """Write the keys and values of tokens into a cache.

    Args:
        keys: of one layer, (places, key heads, head size); written in place.
        values: as `keys`.
        places: of each token, (tokens,).
        key: of the tokens, (tokens, key heads, head size).
        value: as `key`; may be a part of a larger tensor, with contiguous heads.
    """
    keys.index_copy_(0, places, key)
    values.index_copy_(0, places, value)
