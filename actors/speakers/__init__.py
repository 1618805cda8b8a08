"""Who said it: turns and voices in shards, the people behind them in a recording, and their words."""

from __future__ import annotations

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
