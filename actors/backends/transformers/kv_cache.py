"""Keys and values of all rows that are being decoded, in slots of one static tensor, and the memory for them.

A row has a slot and begins at its first token: nothing is padded, and a slot whose row has ended takes the
next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from actors.backends.transformers.decoder import Decoder
from actors.backends.transformers.encoder import CALL_SECONDS, peak_bytes
from actors.backends.transformers.prompts import PASS_TOKENS

if TYPE_CHECKING:
    from actors.backends.transformers.loading import Network

# Tokens of a slot on a GPU: few sizes, as every one has CUDA graphs of its own.
_CAPACITIES = (256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 65536)
_CPU_MULTIPLE = 16
# Of the memory that a replica has: the rest is for CUDA graphs, libraries and fragments.
_USABLE = 0.92
_GIB = 2**30


class KeyValueCache:
    """Keys and values in one allocation, which is cut into slots of any size.

    Args:
        decoder: whose keys and values they are.
        tokens: of all slots together.
        device: where it is.
    """

    def __init__(self, decoder: Decoder, tokens: int, device: torch.device) -> None:
        size = (len(decoder.layers), 2, tokens, decoder.key_heads, decoder.head_dim)
        # Zeros: SDPA multiplies what is masked by zero, and must not find a NaN there.
        self._memory = torch.zeros(size, dtype=decoder.dtype, device=device)
        self.tokens = tokens
        self._operations = decoder.operations

    def keys(self, layer: int) -> torch.Tensor:
        """Keys of a layer, (tokens, key heads, head size)."""
        return self._memory[layer, 0]

    def values(self, layer: int) -> torch.Tensor:
        """Values of a layer, (tokens, key heads, head size)."""
        return self._memory[layer, 1]

    def slots(self, layer: int, rows: int, capacity: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the first slots, each (rows, capacity, key heads, head size)."""
        memory = self._memory[layer, :, : rows * capacity].unflatten(1, (rows, capacity))
        return memory[0], memory[1]

    def write(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write tokens to their places, counted over all slots.

        Args:
            layer: number of the layer.
            places: (tokens,), all different.
            keys: (tokens, key heads, head size).
            values: as `keys`.
        """
        self._operations.write_slots(
            self.keys(layer),
            self.values(layer),
            places,
            keys.to(self._memory.dtype),
            values.to(self._memory.dtype),
        )

    def move(self, sources: Sequence[int], targets: Sequence[int], capacity: int, used: int) -> None:
        """Copy slots over others.

        Args:
            sources: numbers of the slots to copy; none of them is a target.
            targets: numbers of the slots to overwrite.
            capacity: tokens of a slot.
            used: tokens of a slot to copy; the rest does not matter.
        """
        for source, target in zip(sources, targets, strict=True):
            first, second = source * capacity, target * capacity
            self._memory[:, :, second : second + used] = self._memory[:, :, first : first + used]


def capacity_for(tokens: int, on_gpu: bool) -> int:
    """Tokens of the slots for rows that need up to `tokens`."""
    if on_gpu:
        for capacity in _CAPACITIES:
            if tokens <= capacity:
                return capacity
    return -(-tokens // _CPU_MULTIPLE) * _CPU_MULTIPLE


def bytes_per_token(decoder: Decoder) -> int:
    """Bytes that the cache takes for each token of a slot."""
    return 2 * len(decoder.layers) * decoder.key_heads * decoder.head_dim * decoder.dtype.itemsize


def slots_for(free_bytes: float, capacity: int, decoder: Decoder) -> int:
    """Number of slots of `capacity` tokens that fit `free_bytes`, at least 1."""
    return max(1, int(free_bytes / (capacity * bytes_per_token(decoder))))


def weight_bytes(network: Network) -> int:
    """Bytes of all weights; shared ones count once."""
    modules = (network.encoder, network.decoder, network.head)
    weights = {weight.data_ptr(): weight for module in modules for weight in module.parameters()}
    return sum(weight.numel() * weight.element_size() for weight in weights.values())


def prompt_bytes(network: Network, tokens: int) -> int:
    """About what a forward pass over so many tokens takes beside its result, in bytes."""
    layer: Any = network.decoder.layers[0]
    width = 3 * layer.gate_up.out_features + 4 * layer.qkv.out_features
    return int(tokens * width * network.decoder.dtype.itemsize)


def step_bytes(network: Network, rows: int) -> int:
    """About what the logits of a step take, in bytes: once as they are, twice in float32."""
    return rows * int(network.decoder.embed.num_embeddings) * (network.decoder.dtype.itemsize + 8)


def cache_bytes(network: Network, gpu_memory: float | None, rows: int = 256) -> float | None:
    """Bytes that are left for keys and values.

    Args:
        network: the model.
        gpu_memory: GiB that this process has of the card; None: it runs on a CPU, and nothing limits the
            cache.
        rows: most rows of a step.
    """
    if gpu_memory is None:
        return None
    # The encoder and the prompts run one after the other.
    peak = max(peak_bytes(network.encoder, CALL_SECONDS), prompt_bytes(network, PASS_TOKENS))
    used = weight_bytes(network) + peak + step_bytes(network, rows)
    return max(0.0, gpu_memory * _GIB * _USABLE - used)
