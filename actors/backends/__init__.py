"""Engines that run the models, one file each; heavy libraries are imported only inside the one that needs them."""

from __future__ import annotations

import importlib.util

from actors.backends.base import AlignerBackend, ASRBackend
from actors.backends.qwen import original_checkpoint
from actors.backends.qwen.checkpoint import check_folder
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
            return _create_remote(config)
    if config.backend == "vllm":
        with _needs("vllm"):
            from actors.backends.vllm.asr import VLLMASR

            return VLLMASR(config)
    with _needs("transformers"):
        from actors.backends.transformers.asr import TransformersASR

        return TransformersASR(config)


def _create_remote(config: ASRConfig) -> ASRBackend:
    if config.remote.endpoint == "dashscope-files":
        from actors.backends.remote.dashscope_files import DashScopeFiles

        return DashScopeFiles(config)
    if config.remote.endpoint == "dashscope-realtime":
        from actors.backends.remote.dashscope_realtime import DashScopeRealtime

        return DashScopeRealtime(config)
    from actors.backends.remote.openai import OpenAIASR

    return OpenAIASR(config)


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
    if config.backend == "vllm":
        with _needs("vllm"):
            from actors.backends.vllm.aligner import VLLMAligner

            return VLLMAligner(config)
    with _needs("transformers"):
        from actors.backends.transformers.aligner import TransformersAligner

        return TransformersAligner(config)


def check(asr: ASRConfig, aligner: AlignerConfig, *, here: bool) -> None:
    """Refuse models that cannot be loaded, as far as that can be known in no time: nothing is imported, and hubs are not asked.

    Args:
        asr: settings of the recogniser.
        aligner: those of the aligner.
        here: the models run on this machine, so what is not installed here is missing.

    Raises:
        FatalError: the message says what to do.
    """
    for kind, backend, model in (
        ("asr", asr.backend, asr.model),
        ("aligner", aligner.backend, aligner.model),
    ):
        if backend not in ("transformers", "vllm"):
            continue
        content = check_folder(model, "asr" if kind == "asr" else "aligner")
        if backend == "vllm":
            if here and importlib.util.find_spec("vllm") is None:
                raise FatalError(_missing("vllm", "vllm"))
            if kind == "aligner":
                original_checkpoint.check_layout(model, content)


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
            raise FatalError(_missing(error.name, self.extra)) from error


def _missing(module: str | None, extra: str) -> str:
    return f"{module} is not installed: pip install 'scriptorium[{extra}]'"
