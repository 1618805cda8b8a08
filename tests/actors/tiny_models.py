"""Tiny random Qwen3-ASR and aligner checkpoints: real architecture and file layout, no download."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>"]
# Not special: these tokens must survive skip_special_tokens.
PLAIN = ["<asr_text>", "<timestamp>"]
EXTRA = {
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
    "audio_token": "<|audio_pad|>",
}
# Time labels of 80 ms each: 12.8 s.
LABELS = 160

_USER = (
    "{%- set ns = namespace(context='', audio='', answer='', words=[]) -%}"
    "{%- for m in messages -%}{%- for c in m.content -%}"
    "{%- if c.type == 'audio' -%}"
    "{%- set ns.audio = ns.audio + '<|audio_start|><|audio_pad|><|audio_end|>' -%}"
    "{%- elif m.role == 'system' -%}{%- set ns.context = ns.context + c.text -%}"
    "{%- elif m.role == 'assistant' -%}{%- set ns.answer = ns.answer + c.text -%}"
    "{%- else -%}{%- set ns.words = ns.words + [c.text] -%}{%- endif -%}"
    "{%- endfor -%}{%- endfor -%}"
)
ASR_TEMPLATE = _USER + (
    "{{- '<|im_start|>system\n' + ns.context + '<|im_end|>\n' -}}"
    "{{- '<|im_start|>user\n' + ns.audio + '<|im_end|>\n' -}}"
    "{%- if messages[-1].role == 'assistant' or add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
    "{%- if messages[-1].role == 'assistant' -%}{{- ns.answer + '<|im_end|>\n' -}}{%- endif -%}"
)
ALIGNER_TEMPLATE = (
    _USER + "{{- ns.audio + ns.words | join('<timestamp><timestamp>') + '<timestamp><timestamp>' -}}"
)


@dataclass(frozen=True)
class TinyModels:
    """Folders of four checkpoints: two in the native layout, and the same weights in the original layout."""

    asr: Path
    aligner: Path
    asr_original: Path
    aligner_original: Path


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Checkpoints with seeded random weights: their output has no meaning, but is always the same."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("tiny_models")
    models = TinyModels(root / "asr", root / "aligner", root / "asr_original", root / "aligner_original")
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    for folder, name, template, labels in (
        (models.asr, "Qwen3ASRForConditionalGeneration", ASR_TEMPLATE, None),
        (models.aligner, "Qwen3ASRForTokenClassification", ALIGNER_TEMPLATE, LABELS),
    ):
        config = _config(tokenizer, labels)
        model = getattr(transformers, name)(config)
        _amplify(model)
        if labels is None:
            eos = config.eos_token_id
            model.generation_config = transformers.GenerationConfig(
                eos_token_id=eos, pad_token_id=eos[0], max_new_tokens=512
            )
        model.save_pretrained(folder)
        extractor = transformers.Qwen3ASRFeatureExtractor()
        transformers.Qwen3ASRProcessor(extractor, tokenizer, chat_template=template).save_pretrained(folder)
    _write_original(models.asr, models.asr_original)
    _write_original(models.aligner, models.aligner_original)
    return models


def _tokenizer() -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    corpus = [
        "language English language German language None system user assistant",
        "one two three four five, eins zwei drei.",
    ] * 4
    trainer = trainers.BpeTrainer(
        vocab_size=380, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    bpe.train_from_iterator(corpus, trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=EXTRA,
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in PLAIN])
    return tokenizer


def _config(tokenizer: Any, labels: int | None) -> Any:
    from transformers import Qwen3ASRConfig

    ids = tokenizer.convert_tokens_to_ids
    audio = {
        "d_model": 64,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 128,
        "output_dim": 64,
        "downsample_hidden_size": 8,
    }
    text = {
        "model_type": "qwen3",
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 65536,
        "tie_word_embeddings": labels is None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    }
    extra = {} if labels is None else {"num_labels": labels}
    return Qwen3ASRConfig(
        audio_config=audio,
        text_config=text,
        tie_word_embeddings=labels is None,
        audio_token_id=ids("<|audio_pad|>"),
        timestamp_token_id=ids("<timestamp>"),
        pad_token_id=ids("<|endoftext|>"),
        eos_token_id=[ids("<|endoftext|>"), ids("<|im_end|>")],
        **extra,
    )


def _amplify(model: Any) -> None:
    """Scale random weights up until the output depends on the audio.

    With the library's N(0, 0.02) every clip gives the same output.
    """
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() >= 2:
                fan_in = weight[0].numel()
                weight.mul_((4.0 if "multi_modal" in name else 1.5) / (0.02 * fan_in**0.5))


def _write_original(native: Path, target: Path) -> None:
    """Write the same weights with the names and config of an original checkpoint: the reverse of loading."""
    import shutil

    from safetensors.torch import load_file, save_file

    target.mkdir()
    for file in native.iterdir():
        if "token" in file.name or file.suffix == ".txt":
            shutil.copy(file, target)
    config = json.loads((native / "config.json").read_text())
    labels = len(config["id2label"]) if "score.weight" in load_file(native / "model.safetensors") else None
    audio = config["audio_config"] | {"model_type": "qwen3_asr_audio_encoder", "conv_chunksize": 500}
    text = {key: value for key, value in config["text_config"].items() if key != "rope_parameters"}
    half = text["head_dim"] // 2
    text |= {
        "model_type": "qwen3",
        "rope_theta": 1_000_000.0,
        "rope_scaling": {"mrope_section": [half - 10, 5, 5], "interleaved": True},
    }
    thinker = {
        "audio_config": audio,
        "text_config": text,
        "audio_token_id": config["audio_token_id"],
        "model_type": "qwen3_asr",
    }
    original = {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "thinker_config": thinker,
    }
    if labels is not None:
        thinker |= {"classify_num": labels, "model_type": "qwen3_forced_aligner"}
        original |= {"timestamp_token_id": config["timestamp_token_id"], "timestamp_segment_time": 80}
    (target / "config.json").write_text(json.dumps(original))
    weights = {}
    for name, weight in load_file(native / "model.safetensors").items():
        name = (
            "thinker.lm_head.weight"
            if name in ("score.weight", "lm_head.weight")
            else "thinker." + name.removeprefix("model.")
        )
        name = name.replace("thinker.multi_modal_projector.linear_", "thinker.audio_tower.proj")
        weights[name.replace("thinker.language_model.", "thinker.model.")] = weight
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
