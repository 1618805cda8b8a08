"""Tokenizer, configuration and files of the demo checkpoints: the same as the hub's, only small.

The tokenizer is a byte-level BPE made for the vocabulary, so nearly every word is one token; text outside the
vocabulary falls back to bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Qwen2Tokenizer,
    Qwen3ASRConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRForTokenClassification,
    Qwen3ASRProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from infra.demo_models.words import LANGUAGES

LABELS = 375
"""Classes of the aligner: 30 s in steps of 80 ms."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>")
"""Tokens that decoding leaves out."""

PLAIN = ("<asr_text>", "<timestamp>")
"""Added tokens that decoding keeps: the output is parsed by them."""

_CONTENT = (
    "{%- set ns = namespace(system='', audio='') -%}"
    "{%- for m in messages -%}"
    "{%- if m.role == 'system' -%}"
    "{%- if m.content is string -%}{%- set ns.system = ns.system + m.content -%}"
    "{%- else -%}{%- for c in m.content if c.type == 'text' -%}{%- set ns.system = ns.system + c.text -%}{%- "
    "endfor -%}{%- endif -%}"
    "{%- elif m.content is not string -%}"
    "{%- for c in m.content if c.type == 'audio' or 'audio' in c or 'audio_url' in c -%}"
    "{%- set ns.audio = ns.audio + '<|audio_start|><|audio_pad|><|audio_end|>' -%}{%- endfor -%}"
    "{%- endif -%}{%- endfor -%}"
)

ASR_TEMPLATE = (
    _CONTENT + "{{- '<|im_start|>system\\n' + ns.system + '<|im_end|>\\n<|im_start|>user\\n' + ns.audio + "
    "'<|im_end|>\\n' -}}"
    "{%- for m in messages if m.role == 'assistant' -%}"
    "{%- set turn = namespace(text='') -%}"
    "{%- if m.content is string -%}{%- set turn.text = m.content -%}"
    "{%- else -%}{%- for c in m.content if c.type == 'text' -%}{%- set turn.text = turn.text + c.text -%}{%- "
    "endfor -%}{%- endif -%}"
    "{{- '<|im_start|>assistant\\n' -}}{%- generation -%}{{- turn.text + '<|im_end|>\\n' -}}{%- "
    "endgeneration -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""Chat template of the recogniser: the system turn is always there, an assistant turn is a prefill."""

ALIGNER_TEMPLATE = (
    "{%- set ns = namespace(audio='', words=[]) -%}"
    "{%- for m in messages if m.content is not string -%}{%- for c in m.content -%}"
    "{%- if c.type == 'audio' or 'audio' in c or 'audio_url' in c -%}"
    "{%- set ns.audio = ns.audio + '<|audio_start|><|audio_pad|><|audio_end|>' -%}"
    "{%- elif c.type == 'text' -%}{%- set ns.words = ns.words + [c.text] -%}{%- endif -%}"
    "{%- endfor -%}{%- endfor -%}"
    "{{- ns.audio + ns.words | join('<timestamp><timestamp>') + '<timestamp><timestamp>' -}}"
)
"""Chat template of the aligner: the audio, then each unit followed by two timestamps."""

SHAPE = {
    "d_model": 128,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 384,
    "downsample_hidden_size": 32,
}
"""Shape of the audio encoder."""

TEXT_SHAPE = {
    "hidden_size": 192,
    "intermediate_size": 448,
    "num_hidden_layers": 5,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
}
"""Shape of the language model; its heads are 64 wide.

The encoder only knows a token's place within its second, so it cannot tell neighbours from tokens a second
apart: putting the sounds of a word together is left to the language model, which has rotary positions. That
is why it is the larger of the two.
"""


def make_tokenizer(vocabulary: int = 2000) -> Qwen2Tokenizer:
    """Trains the tokenizer on the demo vocabulary."""
    corpus = ["system\n", "user\n", "assistant\n", "language", " None", ".", "。", "、"] * 200
    for language in LANGUAGES:
        corpus += [f" {language.name}"] * 200
        for word in language.words:
            first = word[0].upper() + word[1:]
            if language.joiner == " ":
                corpus += [f" {word}"] * 40 + [first] * 30 + [word] * 20
            else:
                corpus += [word] * 40 + [f"、{word}"] * (40 if language.code == "ja" else 0) + list(word) * 60
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
    )
    bpe.train_from_iterator(corpus, trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [
        tuple(merge) if not isinstance(merge, str) else tuple(merge.split(" ")) for merge in model["merges"]
    ]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={
            "audio_bos_token": "<|audio_start|>",
            "audio_eos_token": "<|audio_end|>",
            "audio_token": "<|audio_pad|>",
        },
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in PLAIN])
    return tokenizer


def make_config(tokenizer: Qwen2Tokenizer, labels: int | None = None) -> Qwen3ASRConfig:
    """Describes the recogniser, or the aligner when ``labels`` is given."""
    token = tokenizer.convert_tokens_to_ids
    extra = {"num_labels": labels, "tie_word_embeddings": False} if labels else {"tie_word_embeddings": True}
    return Qwen3ASRConfig(
        audio_config={
            **SHAPE,
            "output_dim": TEXT_SHAPE["hidden_size"],
            "n_window": 50,
            "n_window_infer": 800,
            "num_mel_bins": 128,
        },
        text_config={
            "model_type": "qwen3",
            "vocab_size": len(tokenizer),
            "head_dim": 64,
            "max_position_embeddings": 65536,
            "tie_word_embeddings": not labels,
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
            **TEXT_SHAPE,
        },
        audio_token_id=token("<|audio_pad|>"),
        timestamp_token_id=token("<timestamp>"),
        pad_token_id=token("<|endoftext|>"),
        eos_token_id=[token("<|endoftext|>"), token("<|im_end|>")],
        **extra,
    )


def make_model(
    tokenizer: Qwen2Tokenizer, labels: int | None = None
) -> Qwen3ASRForConditionalGeneration | Qwen3ASRForTokenClassification:
    """Builds an untrained model whose weights are scaled by fan-in.

    The library's N(0, 0.02) starves so narrow a network: the convolutions' output drowns in the position
    embedding.
    """
    config = make_config(tokenizer, labels)
    model = Qwen3ASRForTokenClassification(config) if labels else Qwen3ASRForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 4:
                torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            elif parameter.dim() == 2 and "embed" not in name and "lm_head" not in name:
                residual = name.endswith(
                    ("o_proj.weight", "down_proj.weight", "out_proj.weight", "fc2.weight")
                )
                parameter.normal_(0, (0.5 if residual else 1.0) / parameter.shape[1] ** 0.5)
    return model


def save(
    model: torch.nn.Module, tokenizer: Qwen2Tokenizer, folder: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Writes a checkpoint in the hub's file layout."""
    aligner = isinstance(model, Qwen3ASRForTokenClassification)
    model = model.to(dtype)
    model.config.dtype = dtype
    if not aligner:
        model.generation_config = GenerationConfig(
            eos_token_id=model.config.eos_token_id,
            pad_token_id=model.config.pad_token_id,
            do_sample=False,
            max_new_tokens=512,
        )
    model.save_pretrained(folder)
    template = ALIGNER_TEMPLATE if aligner else ASR_TEMPLATE
    Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), tokenizer, chat_template=template).save_pretrained(folder)
