"""Who said it: turns and voices in shards, the people behind them in a recording, and their words."""

from __future__ import annotations

import importlib.util

from actors.config.speakers import SpeakersConfig
from actors.errors import FatalError
from actors.speakers.base import SpeakerBackend


def create_speakers(config: SpeakersConfig) -> SpeakerBackend:
    """Load the speaker model of the settings.

    Raises:
        FatalError: it cannot be loaded; the message says what to do.
    """
    if config.backend == "fake":
        from actors.speakers.fake import FakeSpeakers

        return FakeSpeakers()
    if config.backend == "none":
        raise FatalError("speakers.backend is none: there is no speaker model to load")
    try:
        from actors.backends.devices import pick_device

        device = pick_device(config.device)
        if config.threads is not None and device.type == "cpu":
            import torch

            torch.set_num_threads(config.threads)
        if config.backend == "campplus":
            from actors.speakers.campplus import CampplusBackend

            return CampplusBackend(config.model, device)
        from actors.speakers.pyannote import PyannoteBackend

        return PyannoteBackend(config.model, device)
    except ModuleNotFoundError as error:
        extra = "pyannote" if config.backend == "pyannote" else "speakers"
        raise FatalError(f"{error.name} is not installed: pip install 'scriptorium[{extra}]'") from error


def check_speakers(config: SpeakersConfig, *, here: bool) -> None:
    """Check whether the speaker model can be loaded, as far as that is known without loading it.

    Args:
        config: settings of speakers.
        here: it runs on this machine, so what is not installed here is missing.

    Raises:
        FatalError: it cannot be loaded; the message says what to do.
    """
    if not here or config.backend in ("none", "fake"):
        return
    if config.backend == "campplus":
        from actors.speakers.campplus import weight_files

        missing = [path for path in weight_files(config.model) if not path.is_file()]
        if missing:
            raise FatalError(f"speakers.model: there is no file {missing[0]}")
        needed = ("torch", "scipy")
    else:
        needed = ("pyannote.audio", "scipy")
    extra = "pyannote" if config.backend == "pyannote" else "speakers"
    for name in needed:
        if not _is_installed(name):
            raise FatalError(f"{name} is not installed: pip install 'scriptorium[{extra}]'")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False
