"""Batch limits follow the device, and settings win."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.batch_limits import GPU_CALL_COST, BatchLimits, batch_limits, block_bytes, largest_limits
from actors.config import AlignerConfig, ASRConfig


@pytest.mark.parametrize(
    ("memory", "seconds", "aligner"),
    [(14.5, 960, 1_200), (22, 1_920, 1_920), (78, 7_680, 1_920), (138, 15_360, 1_920), (999, 15_360, 1_920)],
)
def test_batches_follow_the_memory_of_the_gpu(memory: float, seconds: float, aligner: float) -> None:
    assert batch_limits(ASRConfig(), memory) == BatchLimits(seconds, 256, GPU_CALL_COST)
    assert batch_limits(AlignerConfig(), memory) == BatchLimits(aligner, 64, GPU_CALL_COST)


def test_a_cpu_has_small_batches_and_cheap_calls() -> None:
    assert batch_limits(ASRConfig(), None) == BatchLimits(960, 128, 0.75)
    assert batch_limits(AlignerConfig(), None) == BatchLimits(480, 16, 0.75)


def test_settings_and_measured_costs_win() -> None:
    settings = ASRConfig(max_batch_seconds=100, max_batch_size=7)
    assert batch_limits(settings, 80, 40.0) == BatchLimits(100, 7, 40.0)
    assert batch_limits(settings, None) == BatchLimits(100, 7, 0.75)


@given(memory=st.floats(0, 300))
def test_no_gpu_gets_more_than_the_largest_limits(memory: float) -> None:
    largest = largest_limits(ASRConfig(), on_gpu=True)
    assert 0 < batch_limits(ASRConfig(), memory).max_seconds <= largest.max_seconds
    assert largest_limits(ASRConfig(), on_gpu=False) == batch_limits(ASRConfig(), None)


def test_blocks_are_larger_where_there_are_gpus() -> None:
    assert (block_bytes(False), block_bytes(True)) == (64 << 20, 256 << 20)
    assert block_bytes(True, default=512 << 20) == 512 << 20
