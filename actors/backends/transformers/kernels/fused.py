"""Whether the decoder can use Triton's kernels here, found out by comparing them with torch's."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import ModuleType

import torch

from actors.backends.transformers.kernels import operations
from actors.backends.transformers.kernels.attention import attend_slots, slot_keys

# Largest difference to float32, relative to values around 1: half precision has 8 (bf16) to 11 bits.
_TOLERANCE = 0.06
_EPS = 1e-6


def triton_problem(
    device: torch.device, dtype: torch.dtype, hidden: int, heads: int, groups: int, size: int
) -> str | None:
    """Why the module `triton_kernels` cannot be used; None: it can, and gives what `operations` gives.

    Triton may be missing, may find no C compiler, or may compile to something wrong on a new card. That must
    cost speed and not a run.

    Args:
        device: where the decoder runs, a GPU of compute capability 8.0 or later.
        dtype: of its activations, half precision.
        hidden: size of its residual stream.
        heads: attention heads.
        groups: key heads.
        size: of a head.
    """
    if size not in (64, 128, 256) or heads % groups:
        return f"they are not made for {heads} heads of {size} with {groups} key heads"
    _choose_cache_folder()
    try:
        from actors.backends.transformers.kernels import triton_kernels

        with torch.inference_mode():
            error = difference(triton_kernels, device, dtype, hidden, heads, groups, size)
    except Exception as problem:  # Triton raises classes of its own, and those of the C compiler
        return first_line(problem)
    return None if error <= _TOLERANCE else f"they differ by {error:.3g} from torch's"


def difference(
    kernels: ModuleType,
    device: torch.device,
    dtype: torch.dtype,
    hidden: int,
    heads: int,
    groups: int,
    size: int,
) -> float:
    """The largest difference between `kernels` in `dtype` and `operations` in float32 on random numbers."""
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device, dtype=torch.float32).to(dtype)

    errors = [torch.zeros((), device=device)]

    def compare(found: torch.Tensor, wanted: torch.Tensor) -> None:
        # Relative to the size of the numbers, which sums and products of random ones exceed.
        errors.append(((found.float() - wanted).abs() / (1 + wanted.abs())).max())

    tokens = 5
    stream, update, weight = random(tokens, hidden), random(tokens, hidden), random(hidden)
    for added in (update, None):
        wanted = operations.add_norm(
            stream.float(), None if added is None else added.float(), weight.float(), _EPS
        )
        for one, other in zip(kernels.add_norm(stream, added, weight, _EPS), wanted, strict=True):
            compare(one, other)

    packed, head_weight = random(tokens, heads + 2 * groups, size), random(heads + groups, size)
    angle = random(tokens, 1, size // 2).float()
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([-angle.sin(), angle.sin()], -1)
    found = kernels.norm_rotate(packed, head_weight, cos.to(dtype), sin.to(dtype), heads, groups, _EPS)
    wanted = operations.norm_rotate(packed.float(), head_weight.float(), cos, sin, heads, groups, _EPS)
    for one, other in zip(found, wanted, strict=True):
        compare(one, other)

    gate_up = random(tokens, 2 * hidden)
    compare(kernels.gate(gate_up), operations.gate(gate_up.float()))

    places = torch.tensor([3, 17, 0, 9, 12], device=device)
    cache = torch.zeros(2, 20, groups, size, device=device, dtype=dtype)
    copy = cache.clone()
    kernels.write_slots(cache[0], cache[1], places, found[1], packed[:, heads + groups :])
    operations.write_slots(copy[0], copy[1], places, found[1], packed[:, heads + groups :])
    compare(cache, copy.float())

    # Few rows split their keys, many do not: both kinds of the kernel.
    for rows in (1, 3, 40, 80):
        capacity = 256
        query, keys, values = (
            random(rows, heads, size),
            random(rows, capacity, groups, size),
            random(rows, capacity, groups, size),
        )
        lengths = torch.arange(rows, device=device) * 37 % capacity + 1
        read = slot_keys(lengths, capacity, capacity, False)
        expected = attend_slots(query.float(), keys.float(), values.float(), read, flash=False)
        compare(kernels.attend_slots(query, keys, values, lengths.int()), expected)
    return float(torch.stack(errors).max())


def first_line(problem: Exception) -> str:
    """The first line of an error's message, or its class where it has none."""
    return next(iter(str(problem).strip().splitlines()), "") or type(problem).__name__


def _choose_cache_folder() -> None:
    """Let Triton keep what it compiles in a folder that can be written: its default is below HOME."""
    if "TRITON_CACHE_DIR" in os.environ:
        return
    home = Path(os.environ.get("HOME") or "/")
    if not os.access(home, os.W_OK) or home == Path("/"):
        os.environ["TRITON_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"triton-{os.getuid()}")
