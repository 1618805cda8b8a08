"""Arguments of vLLM's engine, without vLLM."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.backends import check
from actors.backends.qwen.asr_processor import token_budget
from actors.backends.qwen.features import audio_tokens
from actors.backends.vllm.engine_args import (
    CONTEXT_TOKENS,
    aligner_arguments,
    asr_arguments,
    gpu_share,
    shape_of,
)
from actors.config import AlignerConfig, ASRConfig, VLLMConfig
from actors.config.base import PoolConfig
from actors.errors import FatalError

DEMO = Path(__file__).resolve().parents[4] / "configs/demo"
SMALL = {
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 65_536,
}
SHAPE = shape_of({"thinker_config": {"text_config": SMALL}})  # of Qwen3-ASR-0.6B and 1.7B


def test_the_shape_is_read_from_either_layout() -> None:
    assert shape_of({"text_config": SMALL}) == SHAPE
    assert SHAPE.cache_bytes(1, 2) == 112 * 1024  # a token in bf16
    assert shape_of(json.loads((DEMO / "asr/config.json").read_text())).head_size == 64


@given(seconds=st.floats(1, 1200), rate=st.floats(1, 20), device=st.sampled_from(["cuda", "cpu"]))
def test_the_longest_segment_fits(seconds: float, rate: float, device: str) -> None:
    config = ASRConfig(backend="vllm", max_tokens_per_second=rate, vllm=VLLMConfig(max_duration=seconds))
    arguments = asr_arguments(config, SHAPE, device, 2)
    audio = audio_tokens(round(seconds * 100))
    assert arguments["max_num_batched_tokens"] >= audio  # else its encoder refuses it
    assert arguments["max_model_len"] >= min(
        SHAPE.positions, audio + token_budget(seconds, config) + CONTEXT_TOKENS
    )
    assert arguments["max_model_len"] <= SHAPE.positions
    if device == "cpu":
        assert arguments["kv_cache_memory_bytes"] >= SHAPE.cache_bytes(
            arguments["max_model_len"], 2
        )  # else it does not start


@given(seconds=st.floats(1, 1200), device=st.sampled_from(["cuda", "cpu"]))
def test_the_aligner_takes_a_clip_in_one_step(seconds: float, device: str) -> None:
    config = AlignerConfig(backend="vllm", vllm=VLLMConfig(max_duration=seconds))
    arguments = aligner_arguments(config, SHAPE, device, 2)
    longest = min(seconds, 180)
    assert (
        arguments["max_num_batched_tokens"]
        >= arguments["max_model_len"]
        >= audio_tokens(round(longest * 100)) + 20 * longest
    )


def test_a_gpu_gets_hundreds_of_segments_at_once_and_cuda_graphs() -> None:
    arguments = asr_arguments(ASRConfig(backend="vllm"), SHAPE, "cuda", 2)
    assert (
        arguments["max_num_seqs"] == 256
        and "enforce_eager" not in arguments
        and "kv_cache_memory_bytes" not in arguments
    )
    assert arguments["enable_prefix_caching"] is False and arguments["enable_mm_embeds"] is True
    assert arguments["mm_processor_cache_gb"] == 0
    assert asr_arguments(ASRConfig(backend="vllm"), SHAPE, "cpu", 2)["enforce_eager"] is True


@pytest.mark.parametrize(
    ("num_gpus", "part"), [(None, 0.9), (0, 0.9), (1, 0.9), (2, 0.9), (0.7, 0.63), (0.3, 0.27)]
)
def test_a_share_of_a_card_is_a_share_of_its_memory(num_gpus: float | None, part: float) -> None:
    assert gpu_share(num_gpus) == pytest.approx(part)
    pool = PoolConfig(num_gpus=num_gpus)
    assert asr_arguments(ASRConfig(pool=pool), SHAPE, "cuda", 2)["gpu_memory_utilization"] == pytest.approx(
        part
    )
    chosen = ASRConfig(pool=pool, vllm=VLLMConfig(gpu_memory_utilization=0.5))
    assert asr_arguments(chosen, SHAPE, "cuda", 2)["gpu_memory_utilization"] == 0.5


def test_arguments_of_the_user_win() -> None:
    config = ASRConfig(vllm=VLLMConfig(engine={"kv_cache_dtype": "fp8", "max_model_len": 5000}))
    arguments = asr_arguments(config, SHAPE, "cuda", 2)
    assert (arguments["kv_cache_dtype"], arguments["max_model_len"]) == ("fp8", 5000)


def test_original_checkpoints_are_the_default() -> None:
    assert ASRConfig(backend="vllm").model == "Qwen/Qwen3-ASR-0.6B"
    assert AlignerConfig(backend="vllm").model == "Qwen/Qwen3-ForcedAligner-0.6B"
    assert ASRConfig(backend="vllm", model="Qwen/Qwen3-ASR-1.7B-hf").model == "Qwen/Qwen3-ASR-1.7B-hf"
    assert ASRConfig().model == "Qwen/Qwen3-ASR-0.6B-hf"


@pytest.mark.parametrize("setting", [{"dtype": "int8"}, {"dtype": "float64"}, {"attention": "sdpa"}])
def test_settings_of_transformers_only_are_refused(setting: dict[str, str]) -> None:
    for config in (ASRConfig, AlignerConfig):
        with pytest.raises(ValueError, match="is for backend transformers; with vllm it must be"):
            config(backend="vllm", **setting)


def test_an_aligner_in_the_other_layout_is_refused_before_anything_starts() -> None:
    asr = ASRConfig(backend="fake")
    for model in (str(DEMO / "aligner"), "Qwen/Qwen3-ForcedAligner-0.6B-hf"):
        with pytest.raises(
            FatalError,
            match=r"\(-hf\), of which vLLM cannot run an aligner: set aligner.model to the original",
        ):
            check(asr, AlignerConfig(backend="vllm", model=model), here=False)


def test_a_missing_vllm_is_reported_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    asr, aligner = ASRConfig(backend="vllm", model=str(DEMO / "asr")), AlignerConfig(backend="none")
    check(asr, aligner, here=False)  # another machine may have it
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FatalError, match=r"vllm is not installed: pip install 'scriptorium\[vllm\]'"):
        check(asr, aligner, here=True)
