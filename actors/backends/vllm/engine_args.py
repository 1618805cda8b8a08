"""What vLLM's engine is told at its start: everything follows from the longest segment, the device and the share of it. Pure.

vLLM takes its memory once. What a request may be long, and how much audio one step may encode, must be known then: an item of audio with more
tokens than a step has is refused when it comes (`max_num_batched_tokens` is its encoder's budget too).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from actors.backends.qwen.aligner_processor import MAX_SECONDS
from actors.backends.qwen.asr_processor import token_budget
from actors.backends.qwen.features import TOKENS_PER_SECOND
from actors.config import AlignerConfig, ASRConfig, ModelConfig

ASR_SEQUENCES = {
    "cuda": 256,
    "cpu": 16,
}  # a GPU's steps cost next to nothing more for 256 segments than for 16, a CPU's do
ALIGNER_SEQUENCES = {"cuda": 32, "cpu": 2}  # one pass over each clip, and eight clips of a minute fill a step
STEP_TOKENS = 8192  # of one step: ten minutes of audio
CONTEXT_TOKENS = 10_240  # room for context: hosted versions of the model take 10,000
TURNS_TOKENS = 64  # what else stands in a prompt
SPOKEN_TOKENS = 30  # of an aligner's prompt, for each second: ten units, each of a token and two slots
BUSY = 0.9  # part of its share of a card that a replica takes: kernels and others need the rest


@dataclass(frozen=True)
class Shape:
    """What a token costs in the cache of a decoder."""

    layers: int
    heads: int  # of keys
    head_size: int
    positions: int  # the longest sequence that the model can tell apart

    def cache_bytes(self, tokens: int, item_bytes: int) -> int:
        """Memory for the keys and values of so many tokens."""
        return 2 * self.layers * self.heads * self.head_size * item_bytes * tokens


def shape_of(content: dict[str, Any]) -> Shape:
    """The decoder's shape, from the content of a config.json of either layout."""
    text = content.get("thinker_config", content)["text_config"]
    heads = text["num_attention_heads"]
    return Shape(
        layers=text["num_hidden_layers"],
        heads=text.get("num_key_value_heads") or heads,
        head_size=text.get("head_dim") or text["hidden_size"] // heads,
        positions=text.get("max_position_embeddings") or 65_536,
    )


def asr_arguments(config: ASRConfig, shape: Shape, device: str, item_bytes: int) -> dict[str, Any]:
    """Arguments of vLLM's engine for a recogniser; those of `asr.vllm.engine` stand above them.

    Args:
        config: the settings.
        shape: the decoder's.
        device: cuda or cpu.
        item_bytes: of a number in the cache.
    """
    longest = config.vllm.max_duration or MAX_SECONDS
    audio, answer = _audio_tokens(longest), token_budget(longest, config)
    sequences = config.vllm.max_num_seqs or ASR_SEQUENCES[device]
    usual = audio + answer + TURNS_TOKENS
    most = min(usual + CONTEXT_TOKENS, shape.positions)
    return _arguments(
        config, device, sequences, most, audio, shape.cache_bytes(max(most, sequences * usual), item_bytes)
    )


def aligner_arguments(config: AlignerConfig, shape: Shape, device: str, item_bytes: int) -> dict[str, Any]:
    """Arguments of vLLM's engine for an aligner; otherwise as `asr_arguments`."""
    longest = min(config.vllm.max_duration or MAX_SECONDS, MAX_SECONDS)
    sequences = config.vllm.max_num_seqs or ALIGNER_SEQUENCES[device]
    most = min(
        _audio_tokens(longest) + math.ceil(SPOKEN_TOKENS * longest) + 4 * TURNS_TOKENS, shape.positions
    )
    # A clip in one step: its answer is read at all its slots together.
    return _arguments(config, device, sequences, most, most, shape.cache_bytes(sequences * most, item_bytes))


def _audio_tokens(seconds: float) -> int:
    return TOKENS_PER_SECOND * math.ceil(seconds)


def _arguments(
    config: ModelConfig, device: str, sequences: int, most: int, step: int, cache: int
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "max_num_seqs": sequences,
        "max_model_len": most,
        "max_num_batched_tokens": max(STEP_TOKENS, step, sequences),
        "enable_prefix_caching": False,  # no two segments begin alike: each has its audio right behind a few words
        "mm_processor_cache_gb": 0,
        "enable_mm_embeds": True,  # features come ready: vLLM makes its own one by one
        "limit_mm_per_prompt": {"audio": 1},
        "disable_log_stats": True,
    }
    if device == "cpu":
        # It would take most of the machine's memory.
        arguments |= {"enforce_eager": True, "kv_cache_memory_bytes": math.ceil(cache * 1.1) + (64 << 20)}
    else:
        arguments["gpu_memory_utilization"] = config.vllm.gpu_memory_utilization or gpu_share(
            config.pool.num_gpus
        )
    return arguments | config.vllm.engine


def gpu_share(num_gpus: float | None) -> float:
    """The part of a card's memory for a replica that has so much of it; None or 0: it has it to itself."""
    return round(BUSY * min(num_gpus or 1.0, 1.0), 4)
