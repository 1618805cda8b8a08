"""The project's own backends around random weights of the real shapes, made on the device itself."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers

from actors.backends.devices import disable_cudnn_attention
from actors.backends.transformers import aligner as aligner_module
from actors.backends.transformers import asr as asr_module
from actors.backends.transformers.loading import Checkpoint, Network
from actors.config import AlignerConfig, ASRConfig
from tests.benchmarks.gpu.run import TOKENS_PER_SECOND, Run

DEMO = Path(__file__).resolve().parents[3] / "configs/demo"

_LARGE_ENCODER = {
    "d_model": 1024,
    "encoder_layers": 24,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
}
# Encoder, and of the decoder its hidden size, the size of its MLP and its vocabulary.
SHAPES: dict[str, tuple[dict[str, int], tuple[int, int, int]]] = {
    "0.6B": (
        {
            "d_model": 896,
            "encoder_layers": 18,
            "encoder_attention_heads": 14,
            "encoder_ffn_dim": 3584,
            "output_dim": 1024,
        },
        (1024, 3072, 151_936),
    ),
    "1.7B": ({**_LARGE_ENCODER, "output_dim": 2048}, (2048, 6144, 151_936)),
    "aligner": ({**_LARGE_ENCODER, "output_dim": 1024}, (1024, 3072, 152_064)),
}
_TINY = (
    {
        "d_model": 64,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 128,
        "output_dim": 64,
        "downsample_hidden_size": 16,
    },
    (64, 128, 2048),
)
_made: dict[str, tuple[Any, Network]] = {}


def network(run: Run, name: str) -> tuple[Any, Network]:
    """A model of transformers with random weights, and its parts as the project runs them; made once."""
    if name not in _made:
        started = time.perf_counter()
        model = _random_model(run, name)
        run.sync()
        run.say(
            f"made {name}",
            seconds=time.perf_counter() - started,
            parameters=sum(weight.numel() for weight in model.parameters()) / 1e6,
            gib=torch.cuda.memory_allocated() / 2**30 if run.cuda else 0.0,
        )
        _made[name] = model, Network.of(model)
    return _made[name]


def asr(run: Run, name: str, **settings: Any) -> asr_module.TransformersASR:
    """The recogniser `0.6B` or `1.7B`; answers have 3.5 tokens a second unless settings say otherwise."""
    settings = {"max_tokens_per_second": TOKENS_PER_SECOND, "min_tokens": 1, **settings}
    config = ASRConfig(model=str(DEMO / "asr"), device=str(run.device), **settings)
    found: asr_module.TransformersASR = _backend(run, name, asr_module, asr_module.TransformersASR, config)
    return found


def aligner(run: Run, **settings: Any) -> aligner_module.TransformersAligner:
    """The forced aligner."""
    config = AlignerConfig(model=str(DEMO / "aligner"), device=str(run.device), **settings)
    found: aligner_module.TransformersAligner = _backend(
        run, "aligner", aligner_module, aligner_module.TransformersAligner, config
    )
    return found


def _backend(run: Run, name: str, module: Any, backend_class: Any, config: Any) -> Any:
    processor = transformers.AutoProcessor.from_pretrained(config.model)
    model, packed = network(run, name)
    if run.cuda:
        disable_cudnn_attention()
    checkpoint = Checkpoint(
        model, packed, processor.tokenizer, processor.feature_extractor, "random", run.device, run.dtype
    )
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(module, "load", lambda *_: checkpoint))
        if hasattr(module, "measure"):
            # A stage of its own measures the cost of calls.
            stack.enter_context(mock.patch.object(module, "measure", lambda *_: None))
        return backend_class(config)


def _random_model(run: Run, name: str) -> Any:
    kind = "aligner" if name == "aligner" else "asr"
    encoder, (hidden, inner, vocabulary) = _TINY if run.tiny else SHAPES[name]
    content = json.loads((DEMO / kind / "config.json").read_text())
    text = {
        **content["text_config"],
        "hidden_size": hidden,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "layer_types": None,
        "num_hidden_layers": 2 if run.tiny else 28,
        "max_window_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 32 if run.tiny else 128,
    }
    audio = {
        "downsample_hidden_size": 480,
        "n_window": 50,
        "n_window_infer": 800,
        "num_mel_bins": 128,
        **encoder,
    }
    names = ("audio_token_id", "timestamp_token_id", "pad_token_id", "eos_token_id")
    ids = {key: content[key] for key in names if key in content}
    labels = {"num_labels": 5000} if kind == "aligner" else {}
    config = transformers.Qwen3ASRConfig(
        audio_config=audio, text_config=text, tie_word_embeddings=kind == "asr", **ids, **labels
    )
    model_class = (
        transformers.Qwen3ASRForTokenClassification
        if kind == "aligner"
        else transformers.Qwen3ASRForConditionalGeneration
    )
    torch.manual_seed(0)
    torch.set_default_dtype(run.dtype)
    try:
        with run.device:
            return model_class(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)
