"""Engines that run the models, one module or folder each; each imports only its own heavy libraries."""

from __future__ import annotations

import importlib.util

from actors.backends.base import AlignerBackend, ASRBackend
from actors.backends.devices import set_allocator
from actors.backends.qwen import original_checkpoint
from actors.backends.qwen.checkpoint import check_folder
from actors.config import AlignerConfig, ASRConfig
from actors.errors import FatalError


def create_asr(config: ASRConfig) -> ASRBackend:
    """Load the recogniser of the settings.

    Raises:
        FatalError: the recogniser cannot be loaded; the message says what to do.
    """
    if config.backend == "fake":
        from actors.backends.fake import FakeASR

        return FakeASR(config)
    if config.backend == "openai":
        with _requires_extra("openai"):
            return _create_remote(config)
    if config.backend == "vllm":
        with _requires_extra("vllm"):
            from actors.backends.vllm.asr import VLLMASR

            return VLLMASR(config)
    # Before torch is imported: its allocator reads its configuration once.
    set_allocator()
    with _requires_extra("transformers"):
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
    """Load the aligner of the settings.

    Raises:
        FatalError: the aligner cannot be loaded; the message says what to do.
    """
    if config.backend == "none":
        raise FatalError("aligner.backend is none: there is no aligner to load")
    if config.backend == "fake":
        from actors.backends.fake import FakeAligner

        return FakeAligner(config)
    if config.backend == "vllm":
        with _requires_extra("vllm"):
            from actors.backends.vllm.aligner import VLLMAligner

            return VLLMAligner(config)
    set_allocator()
    with _requires_extra("transformers"):
        from actors.backends.transformers.aligner import TransformersAligner

        return TransformersAligner(config)


def check(asr: ASRConfig, aligner: AlignerConfig, *, here: bool) -> None:
    """Check whether the models can be loaded, as far as that is known without imports and without the hub.

    Args:
        asr: settings of the recogniser.
        aligner: settings of the aligner.
        here: the models run on this machine, so what is not installed here is missing.

    Raises:
        FatalError: a model cannot be loaded; the message says what to do.
    """
    configs: tuple[ASRConfig | AlignerConfig, ...] = (asr, aligner)
    for config in configs:
        if config.backend not in ("transformers", "vllm"):
            continue
        content = check_folder(config.model, config.kind)
        if config.backend == "vllm":
            if here and importlib.util.find_spec("vllm") is None:
                raise FatalError(_not_installed("vllm", "vllm"))
            if config.kind == "aligner":
                original_checkpoint.check_layout(config.model, content)


class _requires_extra:
    """Turns a missing library into a FatalError that names the extra to install."""

    def __init__(self, extra: str) -> None:
        self.extra = extra

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError):
            raise FatalError(_not_installed(error.name, self.extra)) from error


def _not_installed(module: str | None, extra: str) -> str:
    return f"{module} is not installed: pip install 'scriptorium[{extra}]'"
