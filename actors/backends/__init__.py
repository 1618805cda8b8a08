"""Engines that run the models, one file each; heavy libraries are imported only inside the one that needs them."""

from __future__ import annotations

from actors.backends.base import AlignerBackend, ASRBackend
from actors.config import AlignerConfig, ASRConfig
from actors.errors import FatalError


def create_asr(config: ASRConfig) -> ASRBackend:
    """Load the recogniser that the settings name.

    Raises:
        FatalError: it cannot be loaded; the message says what to do.
    """
    if config.backend == "fake":
        from actors.backends.fake import FakeASR

        return FakeASR(config)
    if config.backend == "openai":
        with _needs("openai"):
            from actors.backends.openai import OpenAIASR

            return OpenAIASR(config)
    with _needs("transformers"):
        from actors.backends.transformers_asr import TransformersASR

        return TransformersASR(config)


def create_aligner(config: AlignerConfig) -> AlignerBackend:
    """Load the aligner that the settings name.

    Raises:
        FatalError: it cannot be loaded; the message says what to do.
    """
    if config.backend == "none":
        raise FatalError("aligner.backend is none: there is no aligner to load")
    if config.backend == "fake":
        from actors.backends.fake import FakeAligner

        return FakeAligner(config)
    with _needs("transformers"):
        from actors.backends.transformers_aligner import TransformersAligner

        return TransformersAligner(config)


def runs_on_gpu(backend: ASRBackend | AlignerBackend) -> bool:
    """Whether an engine says that its model is on a GPU."""
    return getattr(getattr(backend, "device", None), "type", None) == "cuda"


class _needs:
    """Says which extra is missing where a backend's library is not installed."""

    def __init__(self, extra: str) -> None:
        self.extra = extra

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError):
            raise FatalError(f"{error.name} is not installed: pip install 'scriptorium[{self.extra}]'") from error
