"""Batches that do not fit are halved and the size is remembered; device errors are classified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")

from actors.backends.devices import classify_error, pick_device, pick_dtype  # noqa: E402
from actors.backends.out_of_memory import MemoryGuard  # noqa: E402
from actors.errors import FatalError, RowError  # noqa: E402


@dataclass(frozen=True)
class Clip:
    duration: float


class Device:
    """Fits batches of up to `limit` padded seconds and records their sizes."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.sizes: list[int] = []

    def __call__(self, clips: Sequence[Clip]) -> list[float]:
        self.sizes.append(len(clips))
        if max(clip.duration for clip in clips) * len(clips) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return [clip.duration for clip in clips]


def test_a_batch_is_halved_until_it_fits_and_the_size_is_remembered() -> None:
    guard, device = MemoryGuard(), Device(limit=30)
    clips = [Clip(10 - index / 10) for index in range(8)]
    assert guard.run(clips, device) == [clip.duration for clip in clips]
    assert device.sizes == [8, 4, 2, 2, 2, 2]
    device.sizes.clear()
    assert guard.run(clips, device) == [clip.duration for clip in clips]
    assert device.sizes == [2, 2, 2, 2]  # the size that did not fit is not tried again


def test_an_item_that_never_fits_does_not_lower_the_limit() -> None:
    guard, device = MemoryGuard(), Device(limit=50)
    with pytest.raises(RowError, match=r"60\.0 s does not fit"):
        guard.run([Clip(60), *[Clip(5)] * 7], device)
    assert guard.max_seconds is None
    device.sizes.clear()
    guard.run([Clip(5)] * 8, device)
    assert device.sizes == [8]


def test_the_limit_never_grows_again() -> None:
    guard = MemoryGuard()
    guard.run([Clip(10)] * 8, Device(limit=30))
    assert guard.max_seconds == 20
    guard.run([Clip(10)] * 8, Device(limit=1000))
    assert guard.max_seconds == 20


def test_a_batch_that_fits_is_not_cut() -> None:
    guard, device = MemoryGuard(), Device(limit=100)
    guard.run([Clip(10)] * 8, device)
    assert device.sizes == [8] and guard.max_seconds is None


def test_an_item_that_never_fits_is_an_error_of_its_row() -> None:
    with pytest.raises(
        RowError, match=r"60\.0 s does not fit the device \(CUDA out of memory. Tried to allocate 2 GiB\)"
    ) as caught:
        MemoryGuard().run([Clip(60)], Device(limit=30))
    assert caught.value.code == "device_out_of_memory"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (MemoryError(), "memory"),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
            ),
            "memory",
        ),
        (RuntimeError("CUDA error: out of memory"), "memory"),
        (RuntimeError("GET was unable to find an engine to execute this computation"), "memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "memory",
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "broken"),
        (RuntimeError("CUDA error: device-side assert triggered"), "broken"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "broken"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"), "broken"),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), "other"),
        (ValueError("CUDA error in a text of ours"), "other"),
    ],
)
def test_device_errors_are_classified(error: BaseException, kind: str) -> None:
    assert classify_error(error) == kind


def test_the_requested_device_is_picked() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(FatalError, match="unknown to torch"):
        pick_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="checks the message without a GPU")
def test_a_missing_gpu_is_refused() -> None:
    with pytest.raises(FatalError, match="sees no GPU"):
        pick_device("cuda")


@pytest.mark.parametrize(("has_bf16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_precision_on_a_cpu(has_bf16: bool, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.backends.devices.cpu_multiplies_bf16", lambda: has_bf16)
    cpu = torch.device("cpu")
    assert pick_dtype("auto", cpu, 800_000_000) == getattr(torch, dtype)
    assert pick_dtype("auto", cpu, 1_500_000) == torch.float64
    assert pick_dtype("auto", cpu, 1_500_000, decodes=False) == torch.float32
    assert pick_dtype("float16", cpu, 1) == torch.float16


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_precision_on_a_gpu(capability: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick_dtype("auto", torch.device("cuda"), 1) == getattr(torch, dtype)
