"""The calibration that a run uses: read once per process, and checked before anything is started."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from actors.confidence.calibration import Calibration, parse
from actors.config import ASRConfig
from actors.errors import UsageError
from pipelines.storage import files


def read(config: ASRConfig) -> Calibration | None:
    """The calibration that `asr.calibration` names; None: confidences stay as the model has them.

    Raises:
        UsageError: there is no such file, it is no calibration, or it belongs to another model.
    """
    if config.calibration is None:
        return None
    found = _read(config.calibration)
    if _canonical(found.asr_model) != _canonical(config.model):
        raise UsageError(
            f"asr.calibration={config.calibration} was learned from {found.asr_model or 'an unknown model'}, "
            f"and this run has {config.model}: the confidences of two models are not alike. Write one for "
            "this model with `scriptorium evaluate --write-calibration`"
        )
    return found


def check(config: ASRConfig) -> None:
    """Read it again, before a run. Raises as `read` does."""
    _read.cache_clear()
    read(config)


def facts(config: ASRConfig) -> dict[str, Any] | None:
    """The calibration of a run, for its record."""
    found = read(config)
    return {"file": config.calibration, "digest": found.digest} if found else None


# A run that has begun must not fail at its end because the file has gone.
@functools.lru_cache(maxsize=8)
def _read(uri: str) -> Calibration:
    try:
        data = files.read_bytes(uri)
    except FileNotFoundError:
        raise UsageError(f"asr.calibration: there is no file {uri}") from None
    except IsADirectoryError:
        raise UsageError(f"asr.calibration: {uri} is a folder, not a file") from None
    return parse(data, uri)


def _canonical(model: str) -> str:
    """A model's name; of a local folder its absolute path."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.is_dir() else model.rstrip("/")
