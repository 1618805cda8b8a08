"""The forward pass of a Qwen3 language model over packed weights.

transformers' own forward launches 64 kernels a layer and takes its attention from padded batches. This one
takes packed tokens, multiplies once for queries, keys and values and once for gate and up, and leaves
attention to the caller, which knows whether it runs prompts or a decoding step. The weights are those of the
loaded model, in memory once: its separate layers become views of the packed weights, and its own forward
still works.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import nn

from actors.backends.transformers.kernels import operations

# Attention of one layer: (layer, query, key, value), each (tokens, heads, head size); returns the shape of
# the query.
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class DecoderLayer(nn.Module):
    """One layer: attention and a gated MLP, each behind a norm and beside a residual.

    Args:
        layer: a Qwen3DecoderLayer; its projections become views of the packed weights of this one.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.head_dim: int = attention.head_dim
        self.eps: float = layer.input_layernorm.variance_epsilon
        self.qkv = pack_linear(attention.q_proj, attention.k_proj, attention.v_proj)
        self.output = attention.o_proj
        self.gate_up = pack_linear(mlp.gate_proj, mlp.up_proj)
        self.down = mlp.down_proj
        self.attention_norm = layer.input_layernorm.weight
        self.mlp_norm = layer.post_attention_layernorm.weight
        self.query_heads: int = attention.q_proj.out_features // self.head_dim
        self.key_heads: int = attention.k_proj.out_features // self.head_dim
        # One norm and one rotation for queries and keys: the weight has a row for each head.
        query_norm = attention.q_norm.weight.expand(self.query_heads, -1)
        key_norm = attention.k_norm.weight.expand(self.key_heads, -1)
        self.head_norm = nn.Parameter(torch.cat([query_norm, key_norm]), requires_grad=False)

    def forward(
        self,
        hidden: torch.Tensor,
        normed: torch.Tensor,
        next_norm: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
        compute: ModuleType,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One layer, from the norm before its attention to the norm of what comes next.

        Args:
            hidden: the residual stream, (tokens, hidden size).
            normed: its norm, as `attention_norm` makes it.
            next_norm: weight of the norm that follows this layer, (hidden size,).
            cos: see `operations.norm_rotate`.
            sin: see `operations.norm_rotate`.
            attend: (query, key, value), each (tokens, heads, head size); returns the shape of the query.
            compute: `operations`, or a module with the same functions.

        Returns:
            The residual stream and its norm, both (tokens, hidden size).
        """
        heads = self.qkv(normed).unflatten(-1, (-1, self.head_dim))
        query, key = compute.norm_rotate(
            heads, self.head_norm, cos, sin, self.query_heads, self.key_heads, self.eps
        )
        attended = attend(query, key, heads[:, self.query_heads + self.key_heads :])
        hidden, normed = compute.add_norm(hidden, self.output(attended.flatten(1)), self.mlp_norm, self.eps)
        update = self.down(compute.gate(self.gate_up(normed)))
        found: tuple[torch.Tensor, torch.Tensor] = compute.add_norm(hidden, update, next_norm, self.eps)
        return found


class Decoder(nn.Module):
    """The language model without its head.

    Args:
        model: transformers' Qwen3Model, on its device and in its precision.

    Raises:
        ValueError: the model has attention windows, which this forward pass does not know.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config
        if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
            raise ValueError("the language model has layers with windowed attention, which are not supported")
        if config.hidden_act != "silu":
            raise ValueError(f"the language model has the activation {config.hidden_act!r}, not silu")
        self.embed = model.embed_tokens
        self.layers = nn.ModuleList(DecoderLayer(layer) for layer in model.layers)
        attention = model.layers[0].self_attn
        self.head_dim: int = attention.head_dim
        self.query_heads: int = attention.q_proj.out_features // self.head_dim
        self.key_heads: int = attention.k_proj.out_features // self.head_dim
        self.norm = model.norm.weight
        self.eps: float = model.norm.variance_epsilon
        self.scaling: float = model.rotary_emb.attention_scaling
        # No buffer: it stays in float32 whatever the model is converted to. In bfloat16 angles would be off
        # by half a radian after 400 tokens.
        self.frequencies: torch.Tensor = model.rotary_emb.inv_freq.float()
        # Triton's kernels where `loading` finds that they can be used.
        self.fused: ModuleType | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the activations."""
        dtype: torch.dtype = self.norm.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.norm.device
        return device

    def forward(self, embeds: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Hidden states of packed tokens.

        Args:
            embeds: (tokens, hidden size).
            positions: of each token in its sequence, (tokens,).
            attend: attention of each layer.

        Returns:
            (tokens, hidden size), behind the last norm.
        """
        compute = self.operations
        cos, sin = self.rotary(positions, embeds.dtype)
        norms = [*(layer.attention_norm for layer in self.layers), self.norm]
        hidden, normed = compute.add_norm(embeds, None, norms[0], self.eps)
        for number, layer in enumerate(self.layers):
            attend_layer = functools.partial(attend, number)
            hidden, normed = layer(hidden, normed, norms[number + 1], cos, sin, attend_layer, compute)
        found: torch.Tensor = normed
        return found

    @property
    def operations(self) -> ModuleType:
        """The module that computes what is no matrix product and no attention."""
        return operations if self.fused is None else self.fused

    def rotary(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and signed sine for `norm_rotate`, (tokens, 1, head size), computed in float32."""
        angles = positions.float()[:, None] * self.frequencies
        cos, sin = angles.cos() * self.scaling, angles.sin() * self.scaling
        return (
            torch.cat([cos, cos], -1).to(dtype)[:, None],
            torch.cat([-sin, sin], -1).to(dtype)[:, None],
        )


def pack_linear(*parts: nn.Linear) -> nn.Linear:
    """One linear layer that computes the outputs of several; their weights become views of its own.

    Args:
        parts: layers with the same input, all with a bias or none.
    """
    packed = nn.Linear(1, 1, bias=False, device="meta")
    packed.in_features = parts[0].in_features
    packed.out_features = sum(part.out_features for part in parts)
    for name in ("weight", "bias"):
        tensors = [getattr(part, name) for part in parts]
        if all(tensor is None for tensor in tensors):
            continue
        joined = nn.Parameter(torch.cat([tensor.detach() for tensor in tensors]), requires_grad=False)
        setattr(packed, name, joined)
        views = joined.detach().split([part.out_features for part in parts])
        for part, view in zip(parts, views, strict=True):
            setattr(part, name, nn.Parameter(view, requires_grad=False))
    return packed
