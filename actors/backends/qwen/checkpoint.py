"""Finding checkpoints, and refusing those of another kind. `transformers.loading` loads them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from actors.backends.qwen import original_checkpoint
from actors.backends.qwen.hub import download, fetch_config
from actors.config import ModelConfig
from actors.errors import FatalError

Kind = Literal["asr", "aligner"]

_NOUNS = {"asr": "a recogniser", "aligner": "a forced aligner"}
_WHOLE_DIGEST = 64 * 2**20  # bytes; weight files up to this size are hashed completely
_SAMPLES = 16  # MiB of a larger file that are hashed, evenly spread


def fetch(name: str, kind: Kind, config: ModelConfig) -> Files:
    """Fetch a checkpoint to this machine without loading it.

    Args:
        name: hub id, or folder.
        kind: what it must be.
        config: its revision.

    Raises:
        FatalError: not found, no connection, not a Qwen3-ASR model, or of the other kind. The message says
            what to do.
    """
    with quiet_libraries():
        folder = local_folder(name, kind)
        settings = read_settings(name, kind, folder, config.revision)
        check_kind(name, kind, settings.content)
        folder = folder or download(name, kind, settings.revision)
        try:
            tokenizer, extractor, timestamp_ms = load_inputs(settings.content, folder)
        except Exception as error:
            raise FatalError(f"{kind}.model {name!r} cannot be loaded: {first_line(error)}") from error
    content = settings.content.get("thinker_config", settings.content)
    check_tokens(name, kind, {**settings.content, **content}, tokenizer)
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
    """Refuse a local checkpoint that is missing or of the other kind. Reads only config.json, without torch.

    A hub id passes: the workers may have a network or a cache that this machine lacks, so they check it.

    Returns:
        The content of its config.json; None for a hub id.

    Raises:
        FatalError: the message says what to do.
    """
    if (folder := local_folder(name, kind)) is None:
        return None
    content = _parse(_config_path(name, kind, folder), name, kind)
    check_kind(name, kind, content)
    return content


@dataclass(frozen=True)
class Files:
    """A checkpoint on this machine for an engine that loads it itself, with what prepares its input."""

    folder: Path
    content: dict[str, Any]  # of config.json
    revision: str  # commit of the hub, or `sha256:...` of a local folder
    tokenizer: Any
    extractor: Any
    timestamp_ms: float  # milliseconds per class of an aligner
    n_window: int  # half an encoder chunk, in frames


def load_inputs(content: dict[str, Any], folder: Path) -> tuple[Any, Any, float]:
    """Tokenizer, feature extractor and milliseconds per class of a checkpoint's folder."""
    if original_checkpoint.is_original(content):
        tokenizer, extractor = original_checkpoint.load_inputs(content, folder)
        return tokenizer, extractor, float(content.get("timestamp_segment_time", 80.0))
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(str(folder))
    return processor.tokenizer, processor.feature_extractor, float(processor.timestamp_segment_time)


@dataclass(frozen=True)
class Settings:
    """What a config.json says, and the revision that it is of."""

    content: dict[str, Any]  # of config.json
    revision: str


def local_folder(name: str, kind: Kind) -> Path | None:
    """The folder that a name means; None for a hub id."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    # A hub id is `owner/name` or `name`; anything else can only be a path.
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or path.exists():
        raise FatalError(
            f"{kind}.model: there is no folder {name!r} (from {Path.cwd()}); "
            "give a checkpoint's folder or a hub id"
        )
    return None


def read_settings(name: str, kind: Kind, folder: Path | None, revision: str | None) -> Settings:
    """The config of a checkpoint and its revision: a local folder's, or the hub's."""
    if folder is None:
        path = fetch_config(name, kind, revision)
        # The hub's cache keeps snapshots/COMMIT/config.json.
        return Settings(_parse(path, name, kind), path.parent.name)
    return Settings(_parse(_config_path(name, kind, folder), name, kind), digest(folder))


def _config_path(name: str, kind: Kind, folder: Path) -> Path:
    path = folder / "config.json"
    if not path.is_file():
        raise FatalError(
            f"{kind}.model: {name!r} has no config.json; "
            "give the folder of a checkpoint as saved by save_pretrained"
        )
    return path


def _parse(path: Path, name: str, kind: Kind) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FatalError(
            f"{kind}.model: the config.json of {name!r} is not JSON: {first_line(error)}"
        ) from error
    if not isinstance(content, dict):
        raise FatalError(f"{kind}.model: the config.json of {name!r} is not an object")
    return content


def digest(folder: Path) -> str:
    """Identify the weights of a local folder as `sha256:` and 16 hex digits.

    Covers config.json and every safetensors file: the whole file up to 64 MiB, else its size and 16 MiB
    spread evenly over it. A training step changes every weight, so this finds it, within a fraction of a
    second.
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


def check_kind(name: str, kind: Kind, content: dict[str, Any]) -> None:
    """Refuse a config of another kind of model."""
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


def check_tokens(name: str, kind: Kind, content: dict[str, Any], tokenizer: Any) -> None:
    """Refuse a tokenizer that does not belong to a model."""
    wanted = {"<|audio_pad|>": content["audio_token_id"]}
    if kind == "aligner":
        wanted["<timestamp>"] = content["timestamp_token_id"]
    for token, identity in wanted.items():
        if tokenizer.convert_tokens_to_ids(token) != identity:
            raise FatalError(
                f"{kind}.model {name!r}: its tokenizer does not know {token} as {identity}; "
                "model and tokenizer do not belong together"
            )


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Turn off progress bars and tables of transformers, which every replica would print."""
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


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300] if str(error).strip() else ''}"
