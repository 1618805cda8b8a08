"""The decoder's small operations and its decode attention as Triton kernels, for CUDA in half precision.

A decode step is bound by launches and by reading the key-value cache. On an H200 torch's flash attention
reads the slots at 2.1 TB/s (256 rows), and the kernel below at 4.0 TB/s, the bandwidth of the card. The
others replace two to seven kernels of torch each. `operations` says what they compute, and `fused` compares
them with it before they are used.

Triton comes with the CUDA builds of torch. It compiles a kernel when it is first called, which needs a C
compiler; without one torch's own kernels are used.
"""
# mypy: disable-error-code="no-untyped-def"
# No `from __future__ import annotations`: Triton reads the annotations of its kernels.

import torch
import triton
import triton.language as tl

# Programs that fill a card: with fewer rows the keys of a row are split over several.
_PROGRAMS = 256
_LOG2_E = 1.4426950408889634
# The smallest number of rows that a matrix product of the card takes.
_DOT_ROWS = 16


@triton.jit
def _add_norm_kernel(
    hidden, update, weight, summed, normed, eps, size, HAS_UPDATE: tl.constexpr, BLOCK: tl.constexpr
):
    token = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    valid = at < size
    value = tl.load(hidden + token * size + at, mask=valid, other=0.0).to(tl.float32)
    if HAS_UPDATE:
        value += tl.load(update + token * size + at, mask=valid, other=0.0).to(tl.float32)
        # The norm sees what the residual keeps: the rounded sum.
        rounded = value.to(summed.dtype.element_ty)
        tl.store(summed + token * size + at, rounded, mask=valid)
        value = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 0) / size + eps)
    weights = tl.load(weight + at, mask=valid, other=0.0).to(tl.float32)
    tl.store(normed + token * size + at, (value * scale * weights).to(normed.dtype.element_ty), mask=valid)


@triton.jit
def _norm_rotate_kernel(
    heads,
    weight,
    cos,
    sin,
    query,
    key,
    eps,
    QUERY_HEADS: tl.constexpr,
    KEY_HEADS: tl.constexpr,
    ALL_HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, BLOCK)[:, None]
    at = tl.arange(0, SIZE)[None, :]
    swapped = (at + SIZE // 2) % SIZE
    rotated: tl.constexpr = QUERY_HEADS + KEY_HEADS
    valid = head < rotated
    base = (token * ALL_HEADS + head) * SIZE
    value = tl.load(heads + base + at, mask=valid, other=0.0).to(tl.float32)
    other = tl.load(heads + base + swapped, mask=valid, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 1) / SIZE + eps)[:, None]
    value *= scale * tl.load(weight + head * SIZE + at, mask=valid, other=0.0).to(tl.float32)
    other *= scale * tl.load(weight + head * SIZE + swapped, mask=valid, other=0.0).to(tl.float32)
    turned = value * tl.load(cos + token * SIZE + at).to(tl.float32)
    turned += other * tl.load(sin + token * SIZE + at).to(tl.float32)
    is_query = head < QUERY_HEADS
    query_at = (token * QUERY_HEADS + head) * SIZE + at
    tl.store(query + query_at, turned.to(query.dtype.element_ty), mask=is_query)
    key_at = (token * KEY_HEADS + head - QUERY_HEADS) * SIZE + at
    tl.store(key + key_at, turned.to(key.dtype.element_ty), mask=valid & (head >= QUERY_HEADS))


@triton.jit
def _gate_kernel(gate_up, output, size, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = at < size
    gate = tl.load(gate_up + token * 2 * size + at, mask=valid, other=0.0).to(tl.float32)
    up = tl.load(gate_up + token * 2 * size + size + at, mask=valid, other=0.0).to(tl.float32)
    tl.store(
        output + token * size + at,
        (gate / (1.0 + tl.exp(-gate)) * up).to(output.dtype.element_ty),
        mask=valid,
    )


@triton.jit
def _write_kernel(key, value, keys, values, places, value_stride, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = at < SIZE
    place = tl.load(places + token).to(tl.int64)
    tl.store(keys + place * SIZE + at, tl.load(key + token * SIZE + at, mask=valid), mask=valid)
    tl.store(values + place * SIZE + at, tl.load(value + token * value_stride + at, mask=valid), mask=valid)


@triton.jit
def _attend_kernel(
    query,
    keys,
    values,
    used,
    output,
    partial,
    statistics,
    scale,
    capacity,
    KEY_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    SIZE: tl.constexpr,
    GROUP_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    split = tl.program_id(2)
    valid_keys = tl.load(used + row).to(tl.int32)
    share = tl.cdiv(tl.cdiv(valid_keys, SPLITS), BLOCK) * BLOCK
    begin = split * share
    end = tl.minimum(begin + share, valid_keys)
    at = tl.arange(0, SIZE)
    member = tl.arange(0, GROUP_ROWS)
    exists = (member < GROUP)[:, None]
    query_at = ((row * KEY_HEADS + head) * GROUP + member)[:, None] * SIZE + at[None, :]
    queries = tl.load(query + query_at, mask=exists, other=0.0)
    largest = tl.full([GROUP_ROWS], -1.0e30, tl.float32)
    total = tl.zeros([GROUP_ROWS], tl.float32)
    sums = tl.zeros([GROUP_ROWS, SIZE], tl.float32)
    for start in range(begin, end, BLOCK):
        token = start + tl.arange(0, BLOCK)
        valid = token < end
        key_at = ((row * capacity + token) * KEY_HEADS + head)[:, None] * SIZE + at[None, :]
        key = tl.load(keys + key_at, mask=valid[:, None], other=0.0)
        scores = tl.dot(queries, tl.trans(key)) * scale
        scores = tl.where(valid[None, :], scores, -1.0e30)
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - new_largest[:, None])
        decay = tl.exp2(largest - new_largest)
        total = total * decay + tl.sum(weights, 1)
        value = tl.load(values + key_at, mask=valid[:, None], other=0.0)
        sums = sums * decay[:, None] + tl.dot(weights.to(value.dtype), value)
        largest = new_largest
    if SPLITS == 1:
        tl.store(output + query_at, (sums / total[:, None]).to(output.dtype.element_ty), mask=exists)
    else:
        part = ((row * KEY_HEADS + head) * GROUP + member) * SPLITS + split
        tl.store(partial + part[:, None] * SIZE + at[None, :], sums, mask=exists)
        tl.store(statistics + part * 2, largest, mask=member < GROUP)
        tl.store(statistics + part * 2 + 1, total, mask=member < GROUP)


@triton.jit
def _combine_kernel(partial, statistics, output, SIZE: tl.constexpr, SPLITS: tl.constexpr):
    head = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, SIZE)
    part = head * SPLITS + tl.arange(0, SPLITS)
    largest = tl.load(statistics + part * 2)
    total = tl.load(statistics + part * 2 + 1)
    weight = tl.exp2(largest - tl.max(largest, 0))
    sums = tl.load(partial + part[:, None] * SIZE + at[None, :])
    result = tl.sum(sums * weight[:, None], 0) / tl.sum(total * weight, 0)
    tl.store(output + head * SIZE + at, result.to(output.dtype.element_ty))


def add_norm(
    hidden: torch.Tensor, update: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `operations.add_norm`."""
    tokens, size = hidden.shape
    normed = torch.empty_like(hidden)
    summed = hidden if update is None else torch.empty_like(hidden)
    block = triton.next_power_of_2(size)
    warps = min(8, max(1, block // 256))
    _add_norm_kernel[(tokens,)](
        hidden, update, weight, summed, normed, eps, size, update is not None, block, num_warps=warps
    )
    return summed, normed


def norm_rotate(
    heads: torch.Tensor,
    weight: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    query_heads: int,
    key_heads: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `operations.norm_rotate`."""
    tokens, all_heads, size = heads.shape
    query = heads.new_empty(tokens, query_heads, size)
    key = heads.new_empty(tokens, key_heads, size)
    block = triton.next_power_of_2(query_heads + key_heads)
    _norm_rotate_kernel[(tokens,)](
        heads, weight, cos, sin, query, key, eps, query_heads, key_heads, all_heads, size, block, num_warps=4
    )
    return query, key


def gate(gate_up: torch.Tensor) -> torch.Tensor:
    """See `operations.gate`."""
    tokens, size = gate_up.shape[0], gate_up.shape[1] // 2
    output = gate_up.new_empty(tokens, size)
    _gate_kernel[(tokens, triton.cdiv(size, 1024))](gate_up, output, size, 1024, num_warps=4)
    return output


def write_slots(
    keys: torch.Tensor, values: torch.Tensor, places: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> None:
    """See `operations.write_slots`."""
    tokens, heads, width = key.shape
    size = heads * width
    block = min(1024, triton.next_power_of_2(size))
    _write_kernel[(tokens, triton.cdiv(size, block))](
        key, value, keys, values, places, value.stride(0), size, block, num_warps=4
    )


def attend_slots(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, used: torch.Tensor
) -> torch.Tensor:
    """Attention of one token of each row over its slot.

    Source: flash decoding (Dao et al. 2023). The keys of a row are split where there are few rows, and the
    parts are combined by their largest scores and sums.

    Args:
        query: (rows, heads, head size), contiguous.
        keys: (rows, capacity, key heads, head size), contiguous.
        values: as `keys`.
        used: int32, (rows,): valid tokens of each slot, at least 1.

    Returns:
        (rows, heads, head size).
    """
    rows, heads, size = query.shape
    _, capacity, key_heads, _ = keys.shape
    group = heads // key_heads
    splits = 1
    while splits < 16 and rows * key_heads * splits < _PROGRAMS:
        splits *= 2
    output = torch.empty_like(query)
    partial, statistics = output, output
    if splits > 1:
        partial = query.new_empty(rows * heads * splits, size, dtype=torch.float32)
        statistics = query.new_empty(rows * heads * splits, 2, dtype=torch.float32)
    few = rows * key_heads < 2 * _PROGRAMS
    _attend_kernel[(rows, key_heads, splits)](
        query,
        keys,
        values,
        used,
        output,
        partial,
        statistics,
        size**-0.5 * _LOG2_E,
        capacity,
        key_heads,
        group,
        size,
        max(_DOT_ROWS, triton.next_power_of_2(group)),
        64 if few else 32,
        splits,
        num_warps=2,
        num_stages=3 if few else 2,
    )
    if splits > 1:
        _combine_kernel[(rows * heads,)](partial, statistics, output, size, splits, num_warps=1)
    return output
