"""Original checkpoints (`Qwen/Qwen3-ASR-0.6B`, without `-hf`), mapped in memory to transformers' classes.

Their config nests everything in `thinker_config`, and their weights have other names. The results are the
same: the interleaved M-RoPE of the original rotates all three axes alike, which is plain RoPE.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.errors import FatalError

_AUDIO_FIELDS = (
    "num_mel_bins",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "d_model",
    "dropout",
    "attention_dropout",
    "activation_function",
    "activation_dropout",
    "scale_embedding",
    "initializer_range",
    "n_window",
    "output_dim",
    "n_window_infer",
    "downsample_hidden_size",
)
_TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "tie_word_embeddings",
    "attention_bias",
    "attention_dropout",
)
_DEFAULT_ROPE_THETA = 1_000_000.0
_EXTRA_TOKENS = {
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
    "audio_token": "<|audio_pad|>",
}


def is_original(config: dict[str, Any]) -> bool:
    """Whether the content of a config.json has the original layout."""
    return "thinker_config" in config


def is_aligner(config: dict[str, Any]) -> bool:
    """Whether an original checkpoint is a forced aligner: its head has classes instead of a vocabulary."""
    return "classify_num" in config["thinker_config"]


def check_layout(name: str, config: dict[str, Any] | None) -> None:
    """Refuse an aligner that vLLM cannot read.

    Args:
        name: hub id or folder.
        config: content of its config.json; None if only the name is known.

    Raises:
        FatalError: it is in the layout of transformers (`-hf`).
    """
    if name.endswith("-hf") if config is None else not is_original(config):
        raise FatalError(
            f"aligner.model {name!r} is in the layout of transformers (-hf), of which vLLM cannot "
            "run an aligner: set aligner.model to the original checkpoint (Qwen/Qwen3-ForcedAligner-0.6B), "
            "or aligner.backend=transformers"
        )


def native_config(config: dict[str, Any]) -> Any:
    """The native Qwen3ASRConfig for the content of an original config.json."""
    from transformers import Qwen3ASRConfig

    thinker = config["thinker_config"]
    text = {field: thinker["text_config"][field] for field in _TEXT_FIELDS if field in thinker["text_config"]}
    theta = thinker["text_config"].get("rope_theta", _DEFAULT_ROPE_THETA)
    text |= {"model_type": "qwen3", "rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    fields: dict[str, Any] = {
        "audio_config": {
            field: thinker["audio_config"][field]
            for field in _AUDIO_FIELDS
            if field in thinker["audio_config"]
        },
        "text_config": text,
        "audio_token_id": thinker["audio_token_id"],
    }
    if is_aligner(config):
        # The head of an aligner has a shape of its own, so its weights cannot be tied to the embeddings.
        text["tie_word_embeddings"] = False
        fields |= {"tie_word_embeddings": False, "num_labels": thinker["classify_num"]}
        fields["timestamp_token_id"] = config["timestamp_token_id"]
    else:
        fields["tie_word_embeddings"] = text.get("tie_word_embeddings", True)
    return Qwen3ASRConfig(**fields)


def native_name(name: str, aligner: bool) -> str:
    """The native name of a weight in an original checkpoint."""
    head = "score." if aligner else "lm_head."
    for old, new in (
        ("thinker.audio_tower.proj1.", "model.multi_modal_projector.linear_1."),
        ("thinker.audio_tower.proj2.", "model.multi_modal_projector.linear_2."),
        ("thinker.lm_head.", head),
        ("thinker.model.", "model.language_model."),
        ("thinker.", "model."),
    ):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def load_model(
    model_class: Any, config: dict[str, Any], folder: Path, arguments: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Build the native model of an original checkpoint.

    Args:
        model_class: the native class of its kind.
        config: content of its config.json.
        folder: the folder of its safetensors files.
        arguments: further arguments of `from_pretrained`, with `output_loading_info`.

    Returns:
        The model and the report on missing and mismatched weights.
    """
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no *.safetensors in {folder}")
    aligner = is_aligner(config)
    weights = {
        native_name(name, aligner): weight for file in files for name, weight in load_file(file).items()
    }
    # "auto" reads the precision from a file, and there is none here. All weights of a checkpoint share one
    # precision.
    dtype = next(weight.dtype for weight in weights.values() if weight.is_floating_point())
    model, report = model_class.from_pretrained(
        None, config=native_config(config), state_dict=weights, **(arguments | {"dtype": dtype})
    )
    return model, report


def load_inputs(config: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """Tokenizer of an original checkpoint, and the feature extractor that all of them share."""
    from transformers import AutoTokenizer, Qwen3ASRFeatureExtractor

    audio = config["thinker_config"]["audio_config"]
    tokenizer = AutoTokenizer.from_pretrained(str(folder), extra_special_tokens=_EXTRA_TOKENS)
    return tokenizer, Qwen3ASRFeatureExtractor(
        feature_size=audio.get("num_mel_bins", 128), n_window=audio.get("n_window", 50)
    )
