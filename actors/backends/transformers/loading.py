"""Loading checkpoints into transformers' classes, and refusing those that are incomplete.

transformers loads an original (not `-hf`) Qwen3-ASR checkpoint without an error as *random* weights: its
config has another layout. Such checkpoints are mapped to the native classes (`qwen.original_checkpoint`).
Whatever is loaded, no weight may be missing or of another shape.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from actors.backends.devices import (
    cpu_multiplies_bf16,
    disable_cudnn_attention,
    exclusive_cards,
    limit_memory,
    pick_device,
    pick_dtype,
    set_threads,
)
from actors.backends.qwen import original_checkpoint
from actors.backends.qwen.checkpoint import (
    Kind,
    check_kind,
    check_tokens,
    first_line,
    load_inputs,
    local_folder,
    quiet_libraries,
    read_settings,
)
from actors.backends.qwen.hub import download
from actors.backends.transformers.decoder import Decoder
from actors.backends.transformers.encoder import Encoder
from actors.backends.transformers.kernels.choice import Shape, choose_kernels
from actors.backends.transformers.quantization import quantize
from actors.config import ModelConfig
from actors.errors import FatalError

_CLASSES = {"asr": "Qwen3ASRForConditionalGeneration", "aligner": "Qwen3ASRForTokenClassification"}


@dataclass(frozen=True)
class Network:
    """The parts of a model that are run.

    Attributes:
        encoder: from features to audio tokens in the language model.
        decoder: the language model.
        head: from hidden states to logits.
        prefiller: runs the prompts in another precision; the decoder itself where that would gain nothing.
        audio_token: placeholder of an audio token in a prompt.
        flash: whether the decoder uses flash attention.
    """

    encoder: Encoder
    decoder: Decoder
    head: Any
    prefiller: Decoder
    audio_token: int
    flash: bool

    @classmethod
    def of(cls, model: Any, attention: str = "auto") -> Network:
        """Pack the weights of a loaded model, whose own forward pass still works, on views of them.

        Args:
            model: Qwen3ASRForConditionalGeneration or Qwen3ASRForTokenClassification, on its device and in
                its precision.
            attention: the setting, see `kernels.choice`.

        Raises:
            ValueError: the setting demands kernels that cannot be used here.
        """
        inner = model.model
        text, audio = model.config.text_config, model.config.audio_config
        tower, heads, width = inner.audio_tower, audio.encoder_attention_heads, audio.d_model
        decoder = Decoder(inner.language_model)
        kernels = choose_kernels(
            attention,
            Shape(tower.device, tower.dtype, width, heads, heads, width // heads),
            Shape(
                decoder.device,
                decoder.dtype,
                text.hidden_size,
                text.num_attention_heads,
                text.num_key_value_heads,
                text.head_dim,
            ),
        )
        decoder.fused = kernels.fused
        encoder = Encoder(tower, inner.multi_modal_projector, flash=kernels.encoder_flash)
        head = model.lm_head if hasattr(model, "lm_head") else model.score
        return cls(encoder, decoder, head, decoder, model.config.audio_token_id, kernels.flash)


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to run, with what prepares its input.

    Attributes:
        model: of the class for its kind, in eval mode on `device`.
        network: its parts, over the same weights.
        tokenizer: the model's.
        extractor: makes its features.
        revision: commit of the hub, or `sha256:...` of a local folder.
        device: where it runs.
        dtype: of the decoder.
        timestamp_ms: milliseconds per class of an aligner.
    """

    model: Any
    network: Network
    tokenizer: Any
    extractor: Any
    revision: str
    device: torch.device
    dtype: torch.dtype
    timestamp_ms: float = 80.0


def load(name: str, kind: Kind, config: ModelConfig) -> Checkpoint:
    """Load a checkpoint for its purpose.

    Args:
        name: hub id, or folder.
        kind: what it must be.
        config: revision, device, dtype, attention and threads.

    Raises:
        FatalError: not found, no connection, not a Qwen3-ASR model, the other kind, or incomplete. The
            message says what to do.
    """
    with quiet_libraries():
        return _load(name, kind, config)


def _load(name: str, kind: Kind, config: ModelConfig) -> Checkpoint:
    set_threads(config.threads)
    device = pick_device(config.device)
    folder = local_folder(name, kind)
    settings = read_settings(name, kind, folder, config.revision)
    check_kind(name, kind, settings.content)
    model_class = getattr(transformers, _CLASSES[kind])
    arguments: dict[str, Any] = {
        "dtype": "auto",
        # Of transformers' own forward pass, which no run uses: see `kernels.choice` for ours.
        "attn_implementation": "sdpa",
        "output_loading_info": True,
    }
    folder = folder or download(name, kind, settings.revision)
    try:
        if original_checkpoint.is_original(settings.content):
            model, report = original_checkpoint.load_model(model_class, settings.content, folder, arguments)
        else:
            model, report = model_class.from_pretrained(str(folder), **arguments)
        tokenizer, extractor, timestamp_ms = load_inputs(settings.content, folder)
    except FatalError:
        raise
    # OSError, ValueError, SafetensorError, KeyError, MemoryError ...: whatever the libraries choose
    except Exception as error:
        raise FatalError(f"{kind}.model {name!r} cannot be loaded: {first_line(error)}") from error
    _check_complete(name, kind, report)
    check_tokens(name, kind, model.config.to_dict(), tokenizer)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    dtype = pick_dtype(config.dtype, device, parameters, decodes=kind == "asr")
    try:
        with exclusive_cards(device.type == "cuda"):
            if device.type == "cuda":
                disable_cudnn_attention()
                limit_memory(config.pool.num_gpus)
            network = _place(model, device, dtype, config)
    except (RuntimeError, MemoryError) as error:
        need = parameters * dtype.itemsize / 2**30
        raise FatalError(
            f"{kind}.model {name!r} needs {need:.1f} GiB on {device}, which did not take it "
            f"({first_line(error)}): end what else runs there, or give the replicas more of a GPU "
            "(pool.num_gpus)",
            code="device_out_of_memory",
        ) from error
    except ValueError as error:
        raise FatalError(f"{kind}.model {name!r} cannot be run: {error}") from error
    return Checkpoint(model, network, tokenizer, extractor, settings.revision, device, dtype, timestamp_ms)


def _place(model: Any, device: torch.device, dtype: torch.dtype, config: ModelConfig) -> Network:
    """Move a model to its device and precision, changed in place, and pack its weights."""
    model = _convert(model, device, dtype).eval().requires_grad_(False)
    inner = model.model
    # Clips are encoded and prompts run one by one on a CPU: nothing there depends on the batch, and float32
    # is twice as fast as float64.
    split = device.type == "cpu" and dtype == torch.float64
    if split:
        inner.audio_tower.float()
        inner.multi_modal_projector.float()
    if config.dtype == "int8" and cpu_multiplies_bf16():
        _convert(inner.audio_tower, device, torch.bfloat16)
        inner.multi_modal_projector.bfloat16()
    network = Network.of(model, config.attention)
    if split:
        prefiller = copy.deepcopy(network.decoder).float()
        return Network(**{**vars(network), "prefiller": prefiller})
    return quantize(model, network) if config.dtype == "int8" else network


def _convert(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A module on a device, its weights in `dtype`. Buffers that positions are computed from keep float32.

    A library that loads a model in `dtype` keeps them too. `model.to(dtype)` would round the rotary
    frequencies: in bfloat16 angles are off by half a radian after 400 tokens.
    """
    exact = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if buffer.is_floating_point()
        and buffer.dtype.itemsize > dtype.itemsize
        and name in module._non_persistent_buffers_set
    ]
    model = model.to(device=device, dtype=dtype)
    for module, name, buffer in exact:
        setattr(module, name, buffer.to(device))
    return model


def _check_complete(name: str, kind: Kind, report: dict[str, Any]) -> None:
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if problems := sorted(map(str, report.get(what) or [])):
            some = ", ".join(problems[:3]) + (", ..." if len(problems) > 3 else "")
            counted = f"{len(problems)} weights are {what.removesuffix('_keys')} ({some})"
            raise FatalError(
                f"{kind}.model {name!r} is incomplete: {counted}; it would run on random numbers. "
                "Fetch it again, or name another checkpoint"
            )
