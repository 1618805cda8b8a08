"""The common part of recogniser and aligner on vLLM: device, precision, checkpoint and engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from actors.backends.base import Backend
from actors.backends.devices import pick_dtype
from actors.backends.qwen import features as mel
from actors.backends.qwen.checkpoint import Files, Kind, fetch
from actors.backends.vllm.engine import Engine
from actors.config import AlignerConfig, ASRConfig, ModelConfig
from actors.errors import FatalError
from actors.records import AlignmentRequest, SegmentRequest

if TYPE_CHECKING:
    import torch

# vLLM reads these when it is imported. By default it would listen on the machine's address, report its use,
# and fill the log.
ENVIRONMENT = {
    "VLLM_HOST_IP": "127.0.0.1",
    # Its processes import nothing from the working directory.
    "PYTHONSAFEPATH": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # A fork would copy locks that our threads hold.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # By default every replica binds itself to the same cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
ITEM_BYTES = {"auto": 2, "bfloat16": 2, "float16": 2, "float32": 4}

Config = TypeVar("Config", ASRConfig, AlignerConfig)


class VLLMBackend(Backend, Generic[Config]):
    """A model in a vLLM engine of its own; subclasses start the engine with `start`.

    Each replica of a pool has one engine on its (part of a) card. Data parallelism is the pools' task: Ray
    replaces a replica that dies, and vLLM's own data parallelism would tie all replicas to each other.
    """

    batches_itself = True
    # The engine must never wait for the next call.
    max_concurrent_calls = 2
    device: torch.device
    engine: Engine

    def __init__(self, config: Config, kind: Kind) -> None:
        """Find the device and fetch the checkpoint.

        Raises:
            FatalError: vLLM cannot run there, or the checkpoint cannot be fetched; the message says what to
                do.
        """
        self.device_type = device_for(config)
        import torch

        self.files = fetch(config.model, kind, config)
        self.config: Config = config
        self.model, self.revision = config.model, self.files.revision
        self.device = torch.device(self.device_type)
        self.extractor = self.files.extractor
        self.dtype = dtype_for(config.dtype, self.device_type, self.files)
        self.item_bytes = ITEM_BYTES[self.dtype]

    def start(self, arguments: dict[str, Any]) -> None:
        """Start the engine.

        Args:
            arguments: of vLLM's AsyncEngineArgs, except the model and its precision.

        Raises:
            FatalError: the engine does not start.
        """
        arguments = {"dtype": self.dtype, **arguments}
        self.engine = Engine(self.config, self.files, self.device_type, arguments)

    async def features(self, request: SegmentRequest | AlignmentRequest) -> mel.Mel:
        """The features of a request, made in a thread beside the engine's event loop."""
        return await self.engine.in_thread(self._extract, request)

    def close(self) -> None:
        """End the engine."""
        self.engine.close()

    def _extract(self, request: SegmentRequest | AlignmentRequest) -> mel.Mel:
        return mel.extract(self.extractor, request.waveform, self.files.n_window)


def device_for(config: ModelConfig) -> str:
    """The device, cuda or cpu, of the vLLM that is installed, checked against the settings.

    Raises:
        FatalError: the settings request another device.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm.platforms import current_platform

    found = "cpu" if current_platform.is_cpu() else "cuda" if current_platform.is_cuda_alike() else None
    if found is None:
        raise FatalError(
            "vLLM finds no device here that it was built for: it needs a GPU, or its CPU build "
            "(see docs/engines.md)"
        )
    if config.device not in ("auto", found):
        raise FatalError(
            f"device {config.device!r} was requested, but this vLLM runs on {found}: use device: auto "
            "(and CUDA_VISIBLE_DEVICES to choose the GPU)"
        )
    # It would take a card that another process was given.
    if found == "cuda" and config.pool.num_gpus == 0:
        raise FatalError(
            "this vLLM runs on GPUs, but pool.num_gpus is 0: give its replicas (a part of) a GPU, "
            "or use backend: transformers"
        )
    return found


def dtype_for(setting: str, device: str, files: Files) -> str:
    """The precision to request from vLLM: its own choice on a GPU; on a CPU at most float32."""
    if device == "cuda" or setting != "auto":
        return setting
    import torch

    parameters = _weight_bytes(files.folder) // 2
    picked = str(pick_dtype("auto", torch.device("cpu"), parameters)).removeprefix("torch.")
    return "float32" if picked == "float64" else picked


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
