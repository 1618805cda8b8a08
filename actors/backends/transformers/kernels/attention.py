"""Attention over packed sequences and over the slots of a key-value cache, by flash attention or by SDPA.

Sequences are packed: the tokens of several sequences stand one behind the other, (tokens, heads, head size),
without padding. Flash attention takes their bounds. It is used on CUDA in half precision; everything else
runs `scaled_dot_product_attention`.

One decoded token per row reads the whole static cache: flash attention takes the cache as one packed tensor,
of which `seqused_k` says how much of each slot is valid. The heads that share keys become queries of one
head, and long keys are split over the card (flash decoding). All shapes are static, so that a step can be
captured as a CUDA graph.
Where Triton's kernels are used (`choice`), they take the decoding step over from flash attention.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

# Largest difference between the two ways, relative to values around 1: half precision has 8 (bf16) to 11
# bits.
_TOLERANCE = 0.06


@dataclass(frozen=True)
class Packing:
    """Where the sequences of a packed tensor begin and end."""

    # Tokens of each sequence, known to the host: no kernel has to wait for the device.
    lengths: tuple[int, ...]
    # int32, (sequences + 1,), on the device: where each begins, and the end.
    bounds: torch.Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Packing:
        """The packing of sequences of these lengths."""
        bounds = list(itertools.accumulate(lengths, initial=0))
        return cls(tuple(lengths), to_device(bounds, device, torch.int32))


@dataclass(frozen=True)
class SlotKeys:
    """How much of each slot of a cache one decoding step reads.

    Attributes:
        used: int32, (rows,): valid tokens of each slot, the new one included.
        capacity: tokens of a slot.
        span: no slot has more valid tokens; SDPA reads so many of each.
        mask: bool, (rows, 1, 1, span), True where a token is valid; None: all are, or flash attention is
            used.
        query_bounds: int32, (rows + 1,): one query for each row. For flash attention.
        slot_bounds: int32, (rows + 1,): where each slot begins. For flash attention.
    """

    used: torch.Tensor
    capacity: int
    span: int
    mask: torch.Tensor | None
    query_bounds: torch.Tensor | None = None
    slot_bounds: torch.Tensor | None = None


def to_device(
    values: Sequence[int] | np.ndarray, device: torch.device, dtype: torch.dtype = torch.long
) -> torch.Tensor:
    """Integers on a device; on CUDA by a pinned copy that the host does not wait for."""
    tensor = torch.as_tensor(values, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def slot_keys(lengths: torch.Tensor, capacity: int, span: int, flash: bool, equal: bool = False) -> SlotKeys:
    """What a step reads of each slot.

    Args:
        lengths: integers, (rows,): valid tokens of each slot, the new one included.
        capacity: tokens of a slot.
        span: most valid tokens of a slot.
        flash: whether flash attention will be used.
        equal: whether all lengths are `span`.
    """
    used = lengths.int()
    device, rows = used.device, len(used)
    if not flash:
        mask = (
            None
            if equal
            else (torch.arange(span, device=device, dtype=torch.int32) < used[:, None])[:, None, None]
        )
        return SlotKeys(used, capacity, span, mask)
    starts = torch.arange(rows + 1, device=device, dtype=torch.int32)
    return SlotKeys(used, capacity, span, None, starts, starts * capacity)


def attend_packed(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packing: Packing,
    *,
    causal: bool,
    flash: bool,
) -> torch.Tensor:
    """Attention within each sequence of a packed tensor.

    Args:
        query: (tokens, heads, head size).
        key: (tokens, heads or a divisor of them, head size).
        value: as `key`.
        packing: bounds of the sequences.
        causal: whether a token sees only itself and what is before it.
        flash: whether to use flash attention.

    Returns:
        (tokens, heads, head size).
    """
    if flash:
        longest = max(packing.lengths)
        return _flash(
            query, key, value, packing.bounds, packing.bounds, longest, longest, causal=causal, used=None
        )
    outputs = []
    start = 0
    # Neighbours of one length run as one batch: the windows of an encoder are nearly all alike.
    for length, group in itertools.groupby(packing.lengths):
        count = len(list(group))
        end = start + count * length
        q, k, v = (
            tensor[start:end].unflatten(0, (count, length)).transpose(1, 2) for tensor in (query, key, value)
        )
        if (copies := q.shape[1] // k.shape[1]) > 1:
            k, v = k.repeat_interleave(copies, 1), v.repeat_interleave(copies, 1)
        output = functional.scaled_dot_product_attention(q, k, v, is_causal=causal and length > 1)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
        start = end
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def attend_slots(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, slots: SlotKeys, *, flash: bool
) -> torch.Tensor:
    """Attention of one token of each row over the slot of the row.

    Source: grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245): the heads of a group are the
    queries of one key head, so that no key is copied for each head.

    Args:
        query: (rows, heads, head size).
        keys: (rows, capacity, key heads, head size), contiguous.
        values: as `keys`.
        slots: how much of each slot is valid.
        flash: whether to use flash attention.

    Returns:
        (rows, heads, head size).
    """
    if flash:
        return _flash(
            query,
            keys.flatten(0, 1),
            values.flatten(0, 1),
            slots.query_bounds,
            slots.slot_bounds,
            1,
            slots.capacity,
            causal=False,
            used=slots.used,
        )
    rows, heads, size = query.shape
    groups = keys.shape[2]
    output = functional.scaled_dot_product_attention(
        query.reshape(rows, groups, heads // groups, size),
        keys[:, : slots.span].transpose(1, 2),
        values[:, : slots.span].transpose(1, 2),
        attn_mask=slots.mask,
    )
    return output.reshape(rows, heads, size)


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_bounds: torch.Tensor | None,
    key_bounds: torch.Tensor | None,
    longest_query: int,
    longest_key: int,
    *,
    causal: bool,
    used: torch.Tensor | None,
) -> torch.Tensor:
    """torch's own flash attention, by the arguments that versions 2.11 to 2.13 have in common."""
    named: dict[str, Any] = {"scale": query.shape[-1] ** -0.5}
    if used is not None:
        named["seqused_k"] = used
    return flash_operator(
        query, key, value, query_bounds, key_bounds, longest_query, longest_key, 0.0, causal, False, **named
    )


def flash_operator(*arguments: Any, **named: Any) -> torch.Tensor:
    """`aten::_flash_attention_forward`, its output without the statistics."""
    output: torch.Tensor = torch.ops.aten._flash_attention_forward(*arguments, **named)[0]
    return output


def flash_problem(device: torch.device, dtype: torch.dtype, heads: int, groups: int, size: int) -> str | None:
    """Why flash attention cannot be used, found out by comparing it with SDPA on random input; None: it can.

    Another version of torch may have another signature. That must cost speed and not a run.

    Args:
        device: where the model runs, a GPU of compute capability 8.0 or later.
        dtype: of its activations, half precision.
        heads: attention heads.
        groups: key heads.
        size: of a head.
    """
    if size % 8 or size > 256:
        return f"it has no kernel for heads of {size}"
    try:
        with torch.inference_mode():
            error = _difference(device, dtype, heads, groups, size)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as problem:
        return str(problem) or type(problem).__name__
    return None if error <= _TOLERANCE else f"it differs by {error:.3g} from SDPA"


def _difference(device: torch.device, dtype: torch.dtype, heads: int, groups: int, size: int) -> float:
    """The largest difference between flash attention and SDPA in float32 on packed sequences and on slots."""
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device, dtype=torch.float32).to(dtype)

    errors = []
    packing = Packing.of((5, 130, 5, 64), device)
    tokens = sum(packing.lengths)
    query, key, value = (random(tokens, heads, size), *(random(tokens, groups, size) for _ in range(2)))
    for causal in (True, False):
        found = attend_packed(query, key, value, packing, causal=causal, flash=True)
        wanted = attend_packed(query.float(), key.float(), value.float(), packing, causal=causal, flash=False)
        errors.append((found.float() - wanted).abs().max())
    rows, capacity = 3, 256
    query, keys, values = (
        random(rows, heads, size),
        random(rows, capacity, groups, size),
        random(rows, capacity, groups, size),
    )
    lengths = torch.tensor([1, 200, 37], device=device)
    found = attend_slots(query, keys, values, slot_keys(lengths, capacity, capacity, True), flash=True)
    wanted = attend_slots(
        query.float(),
        keys.float(),
        values.float(),
        slot_keys(lengths, capacity, capacity, False),
        flash=False,
    )
    errors.append((found.float() - wanted).abs().max())
    return float(torch.stack(errors).max())
