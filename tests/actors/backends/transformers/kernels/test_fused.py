"""When Triton's kernels are used, and that their check finds wrong ones."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from actors.backends.transformers.kernels import fused, operations  # noqa: E402
from actors.backends.transformers.kernels.attention import attend_slots, slot_keys  # noqa: E402

CPU = torch.device("cpu")
SHAPE = (64, 4, 2, 64)
INTERPRETED = """
import torch
from actors.backends.transformers.kernels import fused, triton_kernels
print(fused.difference(triton_kernels, torch.device("cpu"), torch.float32, 96, 4, 2, 64))
"""


def torch_kernels() -> ModuleType:
    """The functions of `triton_kernels`, by torch."""
    made: Any = ModuleType("kernels")
    made.__dict__.update(
        {name: getattr(operations, name) for name in ("add_norm", "norm_rotate", "gate", "write_slots")}
    )

    def attend(query: Any, keys: Any, values: Any, used: Any) -> Any:
        capacity = keys.shape[1]
        return attend_slots(query, keys, values, slot_keys(used, capacity, capacity, False), flash=False)

    made.attend_slots = attend
    found: ModuleType = made
    return found


def test_a_machine_without_triton_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "actors.backends.transformers.kernels.triton_kernels", raising=False)
    assert "triton" in str(fused.triton_problem(torch.device("cuda"), torch.bfloat16, *SHAPE))


def test_heads_that_the_kernels_are_not_made_for_are_told() -> None:
    assert "4 heads of 80" in str(fused.triton_problem(CPU, torch.bfloat16, 64, 4, 2, 80))
    assert "with 3 key heads" in str(fused.triton_problem(CPU, torch.bfloat16, 64, 4, 3, 64))


def test_right_kernels_pass_the_check() -> None:
    assert fused.difference(torch_kernels(), CPU, torch.float32, *SHAPE) < 1e-5
    assert fused.difference(torch_kernels(), CPU, torch.bfloat16, *SHAPE) < fused._TOLERANCE


@pytest.mark.parametrize("name", ["add_norm", "norm_rotate", "gate", "write_slots", "attend_slots"])
def test_each_wrong_kernel_is_found(name: str) -> None:
    kernels: Any = torch_kernels()
    right = getattr(kernels, name)

    def wrong(*arguments: Any) -> Any:
        if name == "write_slots":
            return None
        found = right(*arguments)
        return tuple(part * 1.2 for part in found) if isinstance(found, tuple) else found * 1.2

    setattr(kernels, name, wrong)
    assert fused.difference(kernels, CPU, torch.float32, *SHAPE) > fused._TOLERANCE


@pytest.mark.parametrize("home", [None, "/", "/nonexistent"])
def test_triton_compiles_into_a_folder_that_can_be_written(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setitem(os.environ, "TRITON_CACHE_DIR", "x")
    monkeypatch.delitem(os.environ, "TRITON_CACHE_DIR")
    fused._choose_cache_folder()
    assert os.environ["TRITON_CACHE_DIR"].endswith(f"triton-{os.getuid()}")


def test_triton_interprets_the_kernels_to_what_torch_computes() -> None:
    pytest.importorskip("triton", reason="Triton comes with the CUDA builds of torch")
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 1e-5
