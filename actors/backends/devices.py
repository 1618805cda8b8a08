"""The device that a model runs on: precision, memory shared with others, and its errors."""

from __future__ import annotations

import fcntl
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from actors.errors import FatalError

if TYPE_CHECKING:
    import torch

# A decoding step of a smaller model costs its Python and kernel launches, whatever the precision: float64 is
# almost free. It makes the differences that the composition of a batch causes (the order of sums) smaller
# than any rounding shows.
SMALL_MODEL = 20_000_000  # parameters

# CUDA errors after which every later call of the process fails too (a sticky context error).
_BROKEN_DEVICE = re.compile(
    r"CUDA error|device-side assert|illegal memory access|unspecified launch failure"
    r"|CUDNN_STATUS_(EXECUTION|INTERNAL)"
    r"|CUBLAS_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|NOT_INITIALIZED)|NCCL error|ECC error",
    re.IGNORECASE,
)
# cuDNN says that it finds no engine when its workspace does not fit any more.
_NO_MEMORY = re.compile(
    r"out of memory|DefaultCPUAllocator|can't allocate memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED"
    r"|unable to find an engine to execute this computation",
    re.IGNORECASE,
)
# Both names, the newer one first: torch reads PYTORCH_ALLOC_CONF before PYTORCH_CUDA_ALLOC_CONF.
_ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_ALLOCATOR = "expandable_segments:True"


def set_allocator() -> None:
    """Have torch's CUDA allocator grow its segments, unless the user configured it. Must run before CUDA.

    Batches have a different shape each time. With segments of fixed size the memory becomes fragmented, and a
    batch does not fit although enough memory is free. vLLM configures its own allocator: do not call this for
    it.
    """
    if not any(os.environ.get(name) for name in _ALLOCATOR_VARIABLES):
        os.environ[_ALLOCATOR_VARIABLES[1]] = _ALLOCATOR


def disable_cudnn_attention() -> None:
    """Have torch not use cuDNN for scaled dot product attention.

    torch prefers cuDNN on Hopper and Blackwell, and cuDNN builds a plan for each exact shape: keys grow by a
    token in each decoding step, so each step builds one. Measured on an H200: 79 ms (at worst 1,245) for a
    length not seen before, against 0.14 ms without cuDNN. pytorch issue 193893 reports wrong results for
    fewer than 8 key heads.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


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
        raise FatalError(f"device {setting!r} is unknown to torch: use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise FatalError(
            f"device {setting!r} was requested, but torch {torch.__version__} sees no GPU here: "
            "use device: auto or cpu"
        )
    return device


def pick_dtype(setting: str, device: torch.device, parameters: int, decodes: bool = True) -> torch.dtype:
    """The precision to compute in.

    `auto` is bf16 on GPUs that compute in it (compute capability 8.0, Ampere) and fp16 on older ones. On a
    CPU it is bf16 where the processor multiplies bf16 in hardware (twice as fast as fp32), fp32 elsewhere; a
    small decoder uses fp64.

    Args:
        setting: `auto` or the name of a torch dtype.
        device: where the model will run.
        parameters: how many the model has.
        decodes: whether it generates token by token, all rows of a batch together. The aligner processes
            clips one by one on a CPU, so it needs no fp64 for equal results in every batch.

    Raises:
        FatalError: int8 on a GPU.
    """
    import torch

    if setting == "int8":
        if device.type != "cpu":
            raise FatalError(
                f"dtype int8 is for CPUs, and the model is to run on {device}: use auto (bf16) there"
            )
        return torch.float32  # of the parts that stay floating-point, see quantization
    if setting != "auto":
        dtype: torch.dtype = getattr(torch, setting)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if parameters < SMALL_MODEL:
        return torch.float64 if decodes else torch.float32
    return torch.bfloat16 if cpu_multiplies_bf16() else torch.float32


def cpu_multiplies_bf16() -> bool:
    """Whether this processor has AVX512_BF16 or AMX."""
    import torch

    # Older versions of torch do not tell.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def set_threads(threads: int | None) -> None:
    """Limit torch to this many CPU threads; None keeps the process's number (Ray sets OMP_NUM_THREADS)."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def gpu_memory(device: torch.device | None, num_gpus: float | None = None) -> float | None:
    """GiB of GPU memory that this process has: what it holds already and what is free, at most its share.

    Args:
        device: where the model runs; None or a CPU: the result is None.
        num_gpus: the replica's GPUs; a fraction of one is a share of its memory.
    """
    if device is None or device.type != "cuda":
        return None
    import torch

    free, total = torch.cuda.mem_get_info(device)
    share = num_gpus if num_gpus is not None and 0 < num_gpus < 1 else 1.0
    return min(free + torch.cuda.memory_reserved(device), share * total) / 2**30


def device_name(device: torch.device | None) -> str:
    """Name of a GPU, or `cpu`."""
    if device is None or device.type != "cuda":
        return "cpu"
    import torch

    return str(torch.cuda.get_device_name(device))


@contextmanager
def exclusive_cards(on_gpu: bool) -> Iterator[None]:
    """Lock this process's cards, so that models start on a card one after the other.

    vLLM measures the free memory of a card before and after its start, and fails where a neighbour's memory
    changes meanwhile. The kernel releases the lock when its holder dies.

    Args:
        on_gpu: whether there is a card at all.
    """
    with ExitStack() as stack:
        for card in sorted(_cards()) if on_gpu else ():
            file = stack.enter_context(open(_lock(card), "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def limit_memory(num_gpus: float | None) -> None:
    """Limit torch to a replica's share of a card: its allocator never returns memory to the neighbours.

    Args:
        num_gpus: the replica's GPUs; a fraction of one is a share of its memory.
    """
    import torch

    if num_gpus is not None and 0 < num_gpus < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(num_gpus)


def classify_error(error: BaseException) -> Literal["memory", "broken", "other"]:
    """What an exception from a model call says about the device.

    `memory`: a smaller batch may fit. `broken`: nothing will work in this process any more. `other`: the
    input or our code is at fault.
    """
    # Not imported here: in a process without torch no error comes from it.
    torch: Any = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return "memory"
    if isinstance(error, RuntimeError):
        # Memory first: "CUDA error: out of memory" matches both, and is only a matter of size.
        if _NO_MEMORY.search(str(error)):
            return "memory"
        if _BROKEN_DEVICE.search(str(error)):
            return "broken"
    return "other"


def _cards() -> list[str]:
    """Names of this process's cards. All processes lock them in sorted order, against deadlocks."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all").split(",")


def _lock(card: str) -> Path:
    name = re.sub(r"[^\w-]", "-", card.strip())
    return Path(tempfile.gettempdir()) / f"scriptorium-{os.getuid()}-card-{name}.lock"
