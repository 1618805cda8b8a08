"""How much one model call and one block may hold, from the settings and the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Kind = Literal["asr", "aligner"]

# In segments. Small on a CPU: padding costs time and memory, a further call only time.
CPU_CALL_COST = 0.75
# In segments, where nothing was measured. An H200 with the 0.6B and 30 s segments: 400 eager, 73 with CUDA
# graphs.
GPU_CALL_COST = 100.0
# Padded seconds of a call by the GiB of GPU memory that a replica has, weights included; linear in between.
# A padded second of the 0.6B in bf16 takes 3 MB of keys and values, and 6 MB of activations while it is
# encoded.
_GPU_SECONDS: dict[Kind, tuple[tuple[float, float], ...]] = {
    "asr": ((3, 120), (14.5, 960), (22, 1_920), (78, 7_680), (138, 15_360)),
    "aligner": ((3, 240), (6, 480), (22, 1_920)),
}
# 256 rows cost a decoding step little more than 32. The aligner has no steps: 64 clips of 30 s fill any GPU.
_GPU_SIZE: dict[Kind, int] = {"asr": 256, "aligner": 64}


@dataclass(frozen=True)
class BatchLimits:
    """What one model call may hold, and what a call costs."""

    max_seconds: float  # padded: longest segment * segments
    max_size: int  # segments
    call_cost_segments: float = CPU_CALL_COST  # see `actors.batching`


_CPU_LIMITS: dict[Kind, BatchLimits] = {"asr": BatchLimits(960, 128), "aligner": BatchLimits(480, 16)}


class BatchSettings(Protocol):
    """Settings of a model that limit its batches; `auto` follows the device."""

    @property
    def kind(self) -> Kind:
        """Which model."""
        ...

    @property
    def max_batch_seconds(self) -> float | Literal["auto"]:
        """Padded seconds in one model call."""
        ...

    @property
    def max_batch_size(self) -> int | Literal["auto"]:
        """Segments in one model call."""
        ...


def batch_limits(
    settings: BatchSettings, gpu_memory: float | None, call_cost_segments: float | None = None
) -> BatchLimits:
    """Resolve the batch settings of a model for its device.

    Args:
        settings: of the model.
        gpu_memory: GiB of GPU memory that the replica has, weights included; None: it runs on a CPU.
        call_cost_segments: measured cost of a call in segments; None: the constant of the kind of device.
    """
    if gpu_memory is None:
        limits = _CPU_LIMITS[settings.kind]
    else:
        memory, seconds = zip(*_GPU_SECONDS[settings.kind], strict=True)
        padded = float(np.interp(gpu_memory, memory, seconds)) // 120 * 120
        limits = BatchLimits(padded, _GPU_SIZE[settings.kind], GPU_CALL_COST)
    return BatchLimits(
        limits.max_seconds if settings.max_batch_seconds == "auto" else settings.max_batch_seconds,
        limits.max_size if settings.max_batch_size == "auto" else settings.max_batch_size,
        limits.call_cost_segments if call_cost_segments is None else call_cost_segments,
    )


def largest_limits(settings: BatchSettings, on_gpu: bool) -> BatchLimits:
    """The most that `batch_limits` gives on any such device; for processes that wait for a model."""
    return batch_limits(settings, float("inf") if on_gpu else None)


def block_bytes(on_gpu: bool, default: int = 64 << 20) -> int:
    """Size of a block of samples between the stages, in bytes.

    A block is what a model gets at once, so no batch is larger than a block. 64 MiB are 2,097 s of audio:
    enough for a CPU. Calls of a GPU take up to 7,680 padded seconds, so it gets 256 MiB: 8,388 s.

    Args:
        on_gpu: whether a model stage runs on GPUs.
        default: the size without GPUs.
    """
    return max(default, 256 << 20) if on_gpu else default
