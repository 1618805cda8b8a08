"""Which kernels the encoder and the decoder run, by the setting `attention` and by what works here."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import torch

from actors.backends.transformers.kernels.attention import flash_problem
from actors.backends.transformers.kernels.fused import triton_problem

log = logging.getLogger(__name__)

_TRITON = "actors.backends.transformers.kernels.triton_kernels"


class Shape(NamedTuple):
    """What decides whether a network can use a kernel.

    Attributes:
        device: where it runs.
        dtype: of its activations.
        hidden: size of its residual stream.
        heads: attention heads.
        groups: key heads.
        size: of a head.
    """

    device: torch.device
    dtype: torch.dtype
    hidden: int
    heads: int
    groups: int
    size: int


@dataclass(frozen=True)
class Kernels:
    """The kernels of a model.

    Attributes:
        encoder_flash: whether the encoder uses flash attention.
        flash: whether the decoder uses flash attention.
        fused: Triton's kernels for the decoder; None: torch's operations.
    """

    encoder_flash: bool = False
    flash: bool = False
    fused: ModuleType | None = None


def choose_kernels(setting: str, encoder: Shape, decoder: Shape) -> Kernels:
    """The kernels that the setting `attention` means here.

    `auto` takes what works, and logs what does not though the hardware supports it: that must cost speed and
    not a run. `triton` and `flash` demand what they name. `sdpa` takes neither.

    Args:
        setting: `auto`, `triton`, `flash` or `sdpa`.
        encoder: shape of the audio encoder.
        decoder: shape of the language model.

    Raises:
        ValueError: what was demanded cannot be used here; the message says why.
    """
    if setting == "sdpa":
        return Kernels()
    demanded = setting != "auto"
    if problem := unsupported(encoder) or unsupported(decoder):
        if demanded:
            raise ValueError(f"attention={setting} {problem}; attention=auto takes what works")
        return Kernels()

    def works(kernels: str, problem: str | None) -> bool:
        if problem is None:
            return True
        if demanded:
            raise ValueError(f"attention={setting}, but {kernels} cannot be used: {problem}")
        log.warning("%s cannot be used, the model will be slower: %s", kernels, problem)
        return False

    version = f"flash attention of torch {torch.__version__}"
    encoder_flash = works(version, flash_problem(encoder.device, encoder.dtype, *encoder[3:]))
    flash = works(version, flash_problem(decoder.device, decoder.dtype, *decoder[3:]))
    if setting == "flash":
        return Kernels(encoder_flash, flash)
    fused = works("the decoder's Triton kernels", triton_problem(*decoder))
    return Kernels(encoder_flash, flash, importlib.import_module(_TRITON) if fused else None)


def unsupported(shape: Shape) -> str | None:
    """What hardware or precision lacks for flash attention and Triton's kernels; None: nothing."""
    if shape.device.type != "cuda":
        return f"needs a GPU, and the model runs on {shape.device.type}"
    if shape.dtype not in (torch.bfloat16, torch.float16):
        return f"needs dtype bfloat16 or float16, and the model has {str(shape.dtype).removeprefix('torch.')}"
    major, minor = torch.cuda.get_device_capability(shape.device)
    if major < 8:
        return f"needs a GPU of compute capability 8.0 (Ampere) or later, and this one has {major}.{minor}"
    return None
