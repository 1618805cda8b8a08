"""Loading checkpoints, and refusing those that would only seem to work.

transformers loads an original (not `-hf`) Qwen3-ASR checkpoint without an error as *random* weights: its config has another layout. Such
checkpoints are mapped to the native classes here (`original.py`); whatever is loaded, no weight may be missing or of another shape.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from actors.backends.devices import (
    cpu_multiplies_bf16,
    disable_cudnn_attention,
    exclusive_cards,
    limit_memory,
    pick_attention,
    pick_device,
    pick_dtype,
    set_threads,
)
from actors.backends.qwen import original_checkpoint
from actors.backends.qwen.hub import download, fetch_config
from actors.backends.transformers.encoder import bound_encoder
from actors.backends.transformers.quantization import quantize
from actors.config import ModelConfig
from actors.errors import FatalError

if TYPE_CHECKING:
    import torch

Kind = Literal["asr", "aligner"]

_CLASSES = {"asr": "Qwen3ASRForConditionalGeneration", "aligner": "Qwen3ASRForTokenClassification"}
_NOUNS = {"asr": "a recogniser", "aligner": "a forced aligner"}
_WHOLE_DIGEST = 64 * 2**20  # bytes: weight files up to this size are hashed whole
_SAMPLES = 16  # larger ones: their size and this many MiB of them, evenly spread


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to run, with what prepares its input."""

    model: Any  # of the class for its kind, in eval mode on `device`
    tokenizer: Any
    extractor: Any
    revision: str  # commit of the hub, or `sha256:...` of a local folder
    device: torch.device
    dtype: torch.dtype  # of the decoder
    timestamp_ms: float = 80.0  # milliseconds per class of an aligner
    prefiller: Any = (
        None  # decoder that runs the prompts, where another precision will do for them; None: the model's own
    )

    @property
    def features_dtype(self) -> torch.dtype:
        """What the encoder computes in, and wants its features in."""
        dtype: torch.dtype = self.model.model.audio_tower.dtype
        return dtype


def load(name: str, kind: Kind, config: ModelConfig) -> Checkpoint:
    """Load a checkpoint for its purpose.

    Args:
        name: hub id, or folder.
        kind: what it must be.
        config: revision, device, dtype, attention and threads.

    Raises:
        FatalError: not found, no connection, not a Qwen3-ASR model, the other kind, or incomplete. The message says what to do.
    """
    with _quiet():
        return _load(name, kind, config)


def fetch(name: str, kind: Kind, config: ModelConfig) -> Files:
    """Have a checkpoint on this machine without loading it. Arguments and errors as for `load`."""
    with _quiet():
        folder = _local_folder(name, kind)
        settings = _read_config(name, kind, folder, config.revision)
        _check_kind(name, kind, settings.content)
        folder = folder or download(name, kind, settings.revision)
        try:
            tokenizer, extractor, timestamp_ms = _inputs(settings.content, folder)
        except Exception as error:
            raise FatalError(f"{kind}.model {name!r} cannot be loaded: {_first_line(error)}") from error
    content = settings.content.get("thinker_config", settings.content)
    _check_tokens(name, kind, {**settings.content, **content}, tokenizer)
    return Files(
        folder,
        settings.content,
        settings.revision,
        tokenizer,
        extractor,
        timestamp_ms,
        content["audio_config"].get("n_window", 50),
    )


def check_folder(name: str, kind: Kind) -> dict[str, Any] | None:
    """Refuse a local checkpoint that is not there or of the other kind, from its config.json alone: cheap, without torch.

    A hub id passes; whether it can be had is for the workers to find out, which may have a network or a cache that this machine lacks.

    Returns:
        The content of its config.json; None for a hub id.

    Raises:
        FatalError: the message says what to do.
    """
    if (folder := _local_folder(name, kind)) is None:
        return None
    content = _parse(_config_path(name, kind, folder), name, kind)
    _check_kind(name, kind, content)
    return content


def _load(name: str, kind: Kind, config: ModelConfig) -> Checkpoint:
    import torch
    import transformers

    set_threads(config.threads)
    device = pick_device(config.device)
    folder = _local_folder(name, kind)
    settings = _read_config(name, kind, folder, config.revision)
    _check_kind(name, kind, settings.content)
    attention = pick_attention(config.attention, device, config.dtype)
    model_class = getattr(transformers, _CLASSES[kind])
    arguments: dict[str, Any] = {
        "dtype": "auto",
        "attn_implementation": attention,
        "output_loading_info": True,
    }
    folder = folder or download(name, kind, settings.revision)
    try:
        if original_checkpoint.is_original(settings.content):
            model, report = original_checkpoint.load_model(model_class, settings.content, folder, arguments)
        else:
            model, report = model_class.from_pretrained(str(folder), **arguments)
        tokenizer, extractor, timestamp_ms = _inputs(settings.content, folder)
    except FatalError:
        raise
    except (
        Exception
    ) as error:  # OSError, ValueError, SafetensorError, KeyError, MemoryError ...: the libraries' own choice
        raise FatalError(f"{kind}.model {name!r} cannot be loaded: {_first_line(error)}") from error
    _check_complete(name, kind, report)
    _check_tokens(name, kind, model.config.to_dict(), tokenizer)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    dtype = pick_dtype(config.dtype, device, parameters, decodes=kind == "asr")
    try:
        with exclusive_cards(device.type == "cuda"):
            if device.type == "cuda":
                disable_cudnn_attention()
                limit_memory(config.pool.num_gpus)
            model = _moved(model, device, dtype).eval()
    except (RuntimeError, MemoryError) as error:
        need = parameters * dtype.itemsize / 2**30
        raise FatalError(
            f"{kind}.model {name!r} needs {need:.1f} GiB on {device}, which did not take it ({_first_line(error)}): end what else runs there, "
            "or give the replicas more of a GPU (pool.num_gpus)",
            code="device_out_of_memory",
        ) from error
    prefiller = None
    if device.type == "cpu" and dtype == torch.float64:
        # Clips are encoded and prompts run one by one on a CPU: nothing there depends on the batch, and float32 is twice as fast.
        model.model.audio_tower.float()
        model.model.multi_modal_projector.float()
        prefiller = copy.deepcopy(model.model.language_model).float()
    model.requires_grad_(False)
    if config.dtype == "int8":
        quantize(model)
        if cpu_multiplies_bf16():
            model.model.audio_tower.bfloat16()
            model.model.multi_modal_projector.bfloat16()
    bound_encoder(model, device)
    return Checkpoint(model, tokenizer, extractor, settings.revision, device, dtype, timestamp_ms, prefiller)


def _moved(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A model on a device, its weights in `dtype`. What it computes its positions from keeps float32 there, as where a library loads it so.

    `model.to(dtype)` would round the rotary frequencies too: in bfloat16 angles are off by half a radian after 400 tokens.
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


@dataclass(frozen=True)
class Files:
    """A checkpoint on this machine, for an engine that loads it itself, with what prepares its input."""

    folder: Path
    content: dict[str, Any]  # of config.json
    revision: str  # as in `Checkpoint`
    tokenizer: Any
    extractor: Any
    timestamp_ms: float  # milliseconds per class of an aligner
    n_window: int  # half an encoder chunk, in frames


def _inputs(content: dict[str, Any], folder: Path) -> tuple[Any, Any, float]:
    """Tokenizer, feature extractor, and milliseconds per class, of a checkpoint's folder."""
    if original_checkpoint.is_original(content):
        tokenizer, extractor = original_checkpoint.load_inputs(content, folder)
        return tokenizer, extractor, float(content.get("timestamp_segment_time", 80.0))
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(str(folder))
    return processor.tokenizer, processor.feature_extractor, float(processor.timestamp_segment_time)


@dataclass(frozen=True)
class _Settings:
    content: dict[str, Any]  # of config.json
    revision: str


def _local_folder(name: str, kind: Kind) -> Path | None:
    """The folder that a name means; None for a hub id."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    # A hub id is `owner/name` or `name`; anything else can only have been meant as a path.
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or path.exists():
        raise FatalError(
            f"{kind}.model: there is no folder {name!r} (from {Path.cwd()}); give a checkpoint's folder or a hub id"
        )
    return None


def _read_config(name: str, kind: Kind, folder: Path | None, revision: str | None) -> _Settings:
    if folder is None:
        path = fetch_config(name, kind, revision)
        # The hub's cache keeps snapshots/COMMIT/config.json.
        return _Settings(_parse(path, name, kind), path.parent.name)
    return _Settings(_parse(_config_path(name, kind, folder), name, kind), digest(folder))


def _config_path(name: str, kind: Kind, folder: Path) -> Path:
    path = folder / "config.json"
    if not path.is_file():
        raise FatalError(
            f"{kind}.model: {name!r} has no config.json; give the folder of a checkpoint as saved by save_pretrained"
        )
    return path


def _parse(path: Path, name: str, kind: Kind) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FatalError(
            f"{kind}.model: the config.json of {name!r} is not JSON: {_first_line(error)}"
        ) from error
    if not isinstance(content, dict):
        raise FatalError(f"{kind}.model: the config.json of {name!r} is not an object")
    return content


def digest(folder: Path) -> str:
    """Identify the weights of a local folder as `sha256:` and 16 hex digits.

    Over config.json and every safetensors file: the whole file up to 64 MiB, else its size and 16 MiB spread evenly over it, which finds
    any training step, as that moves every weight, and costs no more than a fraction of a second.
    """
    total = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        total.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            if size <= _WHOLE_DIGEST:
                total.update(file.read())
                continue
            for part in range(_SAMPLES):
                file.seek(part * (size - 2**20) // (_SAMPLES - 1))
                total.update(file.read(2**20))
    return f"sha256:{total.hexdigest()[:16]}"


def _check_kind(name: str, kind: Kind, content: dict[str, Any]) -> None:
    if content.get("model_type") != "qwen3_asr" and not original_checkpoint.is_original(content):
        raise FatalError(
            f"{kind}.model {name!r} is of type {content.get('model_type')!r}, not a Qwen3-ASR model"
        )
    if original_checkpoint.is_original(content):
        is_aligner = original_checkpoint.is_aligner(content)
    else:
        is_aligner = any(
            "TokenClassification" in architecture for architecture in content.get("architectures") or []
        )
    actual: Kind = "aligner" if is_aligner else "asr"
    if actual != kind:
        message = (
            f"{kind}.model {name!r} is {_NOUNS[actual]}, not {_NOUNS[kind]}; it belongs in {actual}.model"
        )
        raise FatalError(message)


def _check_complete(name: str, kind: Kind, report: dict[str, Any]) -> None:
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if problems := sorted(map(str, report.get(what) or [])):
            some = ", ".join(problems[:3]) + (", ..." if len(problems) > 3 else "")
            message = f"{kind}.model {name!r} is incomplete: {len(problems)} weights are {what.removesuffix('_keys')} ({some})"
            raise FatalError(
                f"{message}; it would run on random numbers. Fetch it again, or name another checkpoint"
            )


def _check_tokens(name: str, kind: Kind, content: dict[str, Any], tokenizer: Any) -> None:
    wanted = {"<|audio_pad|>": content["audio_token_id"]}
    if kind == "aligner":
        wanted["<timestamp>"] = content["timestamp_token_id"]
    for token, identity in wanted.items():
        if tokenizer.convert_tokens_to_ids(token) != identity:
            raise FatalError(
                f"{kind}.model {name!r}: its tokenizer does not know {token} as {identity}; model and tokenizer do not belong together"
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Loading bars and tables of transformers off: every replica of a pool would print them, and what matters is checked here."""
    from transformers.utils import logging as transformers_logging

    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300] if str(error).strip() else ''}"
