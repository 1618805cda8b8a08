"""Arguments of vLLM's engine, from the longest segment, the device and the share of it. Pure.

vLLM allocates its memory once, so the longest request and the audio that one step may encode must be known at
the start. `max_num_batched_tokens` is also the budget of its encoder and the size of its encoder cache: a
segment with more audio tokens is refused.

On a GPU vLLM keeps its CUDA graphs (no `enforce_eager`): a decoding step is bound by kernel launches without
them. They need a C++ compiler in the image. Replicas are those of our pools, one engine on each (part of a)
card, without vLLM's data
parallelism: Ray replaces a replica that dies, and the replicas share nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from actors.backends.qwen.aligner_processor import MAX_SECONDS
from actors.backends.qwen.asr_processor import token_budget
from actors.backends.qwen.features import TOKENS_PER_SECOND
from actors.config import AlignerConfig, ASRConfig, ModelConfig

# Segments at once. A step of a GPU costs hardly more for 256 segments than for 16; one of a CPU does.
ASR_SEQUENCES = {"cuda": 256, "cpu": 16}
# One pass over each clip, and eight clips of a minute fill a step.
ALIGNER_SEQUENCES = {"cuda": 32, "cpu": 2}
STEP_TOKENS = 8192  # tokens of one step: ten minutes of audio
CONTEXT_TOKENS = 10_240  # tokens of context that fit: hosted versions of the model take 10,000
TURNS_TOKENS = 64  # all other tokens of a prompt
SPOKEN_TOKENS = 30  # tokens of an aligner's prompt per second: ten units, each of a token and two slots
BUSY = 0.9  # part of its share of a card that a replica takes; kernels and other processes need the rest


@dataclass(frozen=True)
class Shape:
    """The shape of a decoder, which determines the size of its cache."""

    layers: int
    heads: int  # key heads
    head_size: int
    positions: int  # longest sequence that the model supports

    def cache_bytes(self, tokens: int, item_bytes: int) -> int:
        """Bytes of the keys and values of so many tokens."""
        return 2 * self.layers * self.heads * self.head_size * item_bytes * tokens


def shape_of(content: dict[str, Any]) -> Shape:
    """The decoder's shape, from the content of a config.json in either layout."""
    text = content.get("thinker_config", content)["text_config"]
    heads = text["num_attention_heads"]
    return Shape(
        layers=text["num_hidden_layers"],
        heads=text.get("num_key_value_heads") or heads,
        head_size=text.get("head_dim") or text["hidden_size"] // heads,
        positions=text.get("max_position_embeddings") or 65_536,
    )


def asr_arguments(config: ASRConfig, shape: Shape, device: str, item_bytes: int) -> dict[str, Any]:
    """Arguments of vLLM's engine for a recogniser; those of the setting `asr.vllm.engine` win.

    Args:
        config: the settings.
        shape: shape of the decoder.
        device: cuda or cpu.
        item_bytes: bytes of a number in the cache.
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
    """Arguments of vLLM's engine for an aligner; see `asr_arguments`."""
    longest = min(config.vllm.max_duration or MAX_SECONDS, MAX_SECONDS)
    sequences = config.vllm.max_num_seqs or ALIGNER_SEQUENCES[device]
    most = min(
        _audio_tokens(longest) + math.ceil(SPOKEN_TOKENS * longest) + 4 * TURNS_TOKENS, shape.positions
    )
    # A clip is one step: its answer is read at all its slots together.
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
        # No two segments begin alike: each has its audio after a few tokens.
        "enable_prefix_caching": False,
        # No segment comes twice, so hashing and keeping its features (up to 4 GiB) costs time and memory for
        # nothing.
        "mm_processor_cache_gb": 0,
        # The features are ready: vLLM makes its own one by one, in one process.
        "enable_mm_embeds": True,
        "limit_mm_per_prompt": {"audio": 1},
        "disable_log_stats": True,
    }
    if device == "cpu":
        # By default it takes most of the machine's memory.
        arguments |= {"enforce_eager": True, "kv_cache_memory_bytes": math.ceil(cache * 1.1) + (64 << 20)}
    else:
        arguments["gpu_memory_utilization"] = config.vllm.gpu_memory_utilization or gpu_share(
            config.pool.num_gpus
        )
    return arguments | config.vllm.engine


def gpu_share(num_gpus: float | None) -> float:
    """Part of a card's memory for a replica with so many GPUs; None or 0: it has the card to itself."""
    return round(BUSY * min(num_gpus or 1.0, 1.0), 4)
