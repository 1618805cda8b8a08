"""Checkpoints for the benchmarks: random weights of the real shapes, and the layout that the official package
reads.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[3] / "configs" / "demo"

# Qwen3-ASR-0.6B and Qwen3-ForcedAligner-0.6B, from their configurations.
REAL_ENCODER = {
    "d_model": 896,
    "encoder_layers": 18,
    "encoder_attention_heads": 14,
    "encoder_ffn_dim": 3584,
    "output_dim": 1024,
}
REAL_ALIGNER_ENCODER = {
    "d_model": 1024,
    "encoder_layers": 24,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "output_dim": 1024,
}
REAL_DECODER = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
}
REAL_VOCABULARY = 151_936
REAL_CLASSES = 5_000


def random_checkpoint(
    folder: Path,
    kind: str,
    encoder: dict[str, int],
    decoder: dict[str, int],
    vocabulary: int | None = None,
    classes: int = REAL_CLASSES,
) -> Path:
    """Save random weights of a given shape in bfloat16 with the demo's tokenizer: the output is meaningless,
    the cost is real.

    Args:
        folder: where to write; created.
        kind: asr or aligner.
        encoder: fields of the audio configuration; the others are the real models'.
        decoder: fields of the text configuration.
        vocabulary: of the decoder; None: the demo's own 1,718 tokens.
        classes: of an aligner's head, 80 ms each.
    """
    import torch
    import transformers

    content = json.loads((DEMO / kind / "config.json").read_text())
    text = {
        **content["text_config"],
        **decoder,
        "head_dim": 128,
        "layer_types": None,
        "max_window_layers": 28,
    }
    text["vocab_size"] = vocabulary or text["vocab_size"]
    labels = {"num_labels": classes} if kind == "aligner" else {}
    config = transformers.Qwen3ASRConfig(
        audio_config={
            "downsample_hidden_size": 480,
            "n_window": 50,
            "n_window_infer": 800,
            "num_mel_bins": 128,
            **encoder,
        },
        text_config=text,
        tie_word_embeddings=kind == "asr",
        **{
            name: content[name]
            for name in ("audio_token_id", "timestamp_token_id", "pad_token_id", "eos_token_id")
            if name in content
        },
        **labels,
    )
    classes_of = {"asr": "Qwen3ASRForConditionalGeneration", "aligner": "Qwen3ASRForTokenClassification"}
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = getattr(transformers, classes_of[kind])(config)
    finally:
        torch.set_default_dtype(default)
    model.to(torch.bfloat16).save_pretrained(folder)
    for file in (DEMO / kind).iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            shutil.copy(file, folder)
    return folder


def to_original(native: Path, target: Path) -> Path:
    """Write a native checkpoint with the names and files of the original ones, which the official package
    `qwen-asr` reads.
    """
    from safetensors.torch import load_file, save_file

    config = json.loads((native / "config.json").read_text())
    aligner = "TokenClassification" in config["architectures"][0]
    target.mkdir(parents=True)
    weights = {}
    for path in native.glob("*.safetensors"):
        for name, weight in load_file(path).items():
            weights[_original_name(name)] = weight
    if not aligner and "thinker.lm_head.weight" not in weights:
        weights["thinker.lm_head.weight"] = weights["thinker.model.embed_tokens.weight"].clone()
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_text(json.dumps(_original_config(config, aligner)))
    _write_inputs(native, target)
    return target


def _original_name(name: str) -> str:
    if name in ("score.weight", "lm_head.weight"):
        return "thinker.lm_head.weight"
    name = "thinker." + name.removeprefix("model.")
    name = name.replace("thinker.multi_modal_projector.linear_", "thinker.audio_tower.proj")
    return name.replace("thinker.language_model.", "thinker.model.")


def _original_config(config: dict[str, Any], aligner: bool) -> dict[str, Any]:
    audio = {**config["audio_config"], "model_type": "qwen3_asr_audio_encoder", "conv_chunksize": 500}
    text = {
        key: value for key, value in config["text_config"].items() if key not in ("rope_parameters", "dtype")
    }
    half = text["head_dim"] // 2
    text |= {
        "model_type": "qwen3_asr_text",
        "rope_theta": config["text_config"]["rope_parameters"]["rope_theta"],
        "rope_scaling": {
            "rope_type": "default",
            "mrope_section": [half - 2 * (half // 3), half // 3, half // 3],
            "mrope_interleaved": True,
        },
        # The head is stored, whatever it is tied to.
        "tie_word_embeddings": False,
    }
    thinker = {
        "audio_config": audio,
        "text_config": text,
        "audio_token_id": config["audio_token_id"],
        "model_type": "qwen3_asr",
    }
    original: dict[str, Any] = {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "thinker_config": thinker,
    }
    if aligner:
        thinker |= {"classify_num": len(config["id2label"]), "model_type": "qwen3_forced_aligner"}
        original |= {"timestamp_token_id": config["timestamp_token_id"], "timestamp_segment_time": 80}
    return original


def _write_inputs(native: Path, target: Path) -> None:
    """Tokenizer, features and chat template in the form that the official processor of transformers 4.57
    expects.
    """
    shutil.copy(native / "tokenizer.json", target)
    shutil.copy(native / "chat_template.jinja", target)
    tokens = {
        "audio_token": "<|audio_pad|>",
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
    }
    tokenizer = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    tokenizer |= {"padding_side": "left", "model_max_length": 1_000_000} | tokens
    (target / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"extra_special_tokens": tokens}))
    features = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 128,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
    }
    features |= {
        "sampling_rate": 16_000,
        "padding_value": 0.0,
        "return_attention_mask": True,
        "processor_class": "Qwen3ASRProcessor",
    }
    (target / "preprocessor_config.json").write_text(json.dumps(features))
