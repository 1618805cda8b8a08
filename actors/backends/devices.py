"""Where a model runs, in which precision and with which attention, and what an error of the device means."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import TYPE_CHECKING, Literal

from actors.errors import FatalError

if TYPE_CHECKING:
    import torch

# Below this many parameters a decoder's step costs its Python and kernel launches whatever the precision, and float64 next to nothing.
# It puts the differences that a batch's composition makes (the order of sums) below what any rounding shows: see transformers_asr.
SMALL_MODEL = 20_000_000

# CUDA errors after which every later call of the process fails too (a sticky context error).
_BROKEN_DEVICE = re.compile(
    r"CUDA error|device-side assert|illegal memory access|unspecified launch failure|CUDNN_STATUS_(EXECUTION|INTERNAL)|ECC error"
    r"|CUBLAS_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|NOT_INITIALIZED)|NCCL error",
    re.IGNORECASE,
)
_NO_MEMORY = re.compile(
    r"out of memory|DefaultCPUAllocator|CUBLAS_STATUS_ALLOC_FAILED|can't allocate memory", re.IGNORECASE
)


def pick_device(setting: str) -> torch.device:
    """The device that a setting (`auto`, `cpu`, `cuda`, `cuda:1`) means here.

    Raises:
        FatalError: the setting wants a GPU where there is none, or is no device at all.
    """
    import torch

    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(setting)
    except RuntimeError as error:
        raise FatalError(
            f"device {setting!r} is none that torch knows: use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise FatalError(
            f"device {setting!r} was asked for, but torch {torch.__version__} sees no GPU here: use device: auto or cpu"
        )
    return device


def pick_dtype(setting: str, device: torch.device, parameters: int, decodes: bool = True) -> torch.dtype:
    """The precision to compute in.

    `auto` is bf16 on GPUs that have it (compute capability 8.0, Ampere) and fp16 on older ones. On a CPU it is bf16 where the
    processor multiplies bf16 in hardware (twice as fast as fp32), fp32 elsewhere; a small model that decodes does so in fp64.

    Args:
        setting: `auto` or the name of a torch dtype.
        device: where the model will run.
        parameters: how many the model has.
        decodes: whether it says token after token, all rows of a batch together; what takes clips one by one on a CPU, as the aligner
            does, needs no fp64 to be the same in every batch.

    Raises:
        FatalError: int8 on a GPU.
    """
    import torch

    if setting == "int8":
        if device.type != "cpu":
            raise FatalError(
                f"dtype int8 is for CPUs, and the model is to run on {device}: use auto (bf16) there"
            )
        return torch.float32  # of what is not turned to int8, see quantization
    if setting != "auto":
        dtype: torch.dtype = getattr(torch, setting)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if parameters < SMALL_MODEL:
        return torch.float64 if decodes else torch.float32
    return torch.bfloat16 if cpu_multiplies_bf16() else torch.float32


def pick_attention(setting: str, device: torch.device, dtype: str) -> str:
    """The attention implementation to ask transformers for: flash_attention_2 where it is installed and applies, else sdpa.

    It applies to half precision on cards of compute capability 8.0 (Ampere) or later, in a version that transformers takes.
    """
    if setting != "auto":
        return setting
    if (
        device.type != "cuda"
        or dtype not in ("auto", "bfloat16", "float16")
        or importlib.util.find_spec("flash_attn") is None
    ):
        return "sdpa"
    import torch
    from transformers.utils import is_flash_attn_2_available

    usable = torch.cuda.get_device_capability(device) >= (8, 0) and is_flash_attn_2_available()
    return "flash_attention_2" if usable else "sdpa"


def cpu_multiplies_bf16() -> bool:
    """Whether this processor has AVX512_BF16 or AMX."""
    import torch

    capabilities: dict[str, bool] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # absent in older torch: then no
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def set_threads(threads: int | None) -> None:
    """Limit torch to this many CPU threads; None leaves what the process was started with (Ray sets OMP_NUM_THREADS)."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def meaning_of(error: BaseException) -> Literal["memory", "broken", "other"]:
    """What an exception from a model call says about the device.

    `memory`: a smaller batch may fit. `broken`: nothing will work in this process any more. `other`: it is about the input or our code.
    """
    torch = sys.modules.get(
        "torch"
    )  # not imported for this: where nobody has loaded it, no error is of its making
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return "memory"
    if isinstance(error, RuntimeError):
        # Out of memory first: "CUDA error: out of memory" is both in words, but only a matter of size.
        if _NO_MEMORY.search(str(error)):
            return "memory"
        if _BROKEN_DEVICE.search(str(error)):
            return "broken"
    return "other"
