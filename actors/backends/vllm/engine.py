"""vLLM's engine inside an actor: asked about many segments at once, it batches them itself, step by step.

The engine runs in processes of its own and is asked from a thread with an event loop. What concerns one request is that request's error; an
engine that died, or of which nothing comes any more, ends the actor, and the pool starts another.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from actors.backends.devices import exclusive_cards, pick_dtype
from actors.backends.qwen import features as mel
from actors.backends.qwen.checkpoint import Files
from actors.backends.vllm.child_processes import Reaper, threads_of_children
from actors.config import ModelConfig
from actors.errors import FatalError, RowError
from actors.process.watchdog import call_limit, heartbeat

QUEUED = 2  # times as many requests are ready as the engine works on: it never waits for one
# vLLM reads these when it is imported. It would listen on the machine's address, tell its makers what runs, and fill the log.
ENVIRONMENT = {
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would copy locks that our threads hold
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # every replica would bind itself to the same cores
}
ITEM_BYTES = {"auto": 2, "bfloat16": 2, "float16": 2, "float32": 4}


class Sized(Protocol):
    """Anything with a length in seconds."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        ...


Item = TypeVar("Item", bound=Sized)
Result = TypeVar("Result")


class Engine:
    """An engine with one model.

    Args:
        config: the settings.
        files: the model's checkpoint.
        device: cuda or cpu.
        arguments: of vLLM's AsyncEngineArgs, all but the model.

    Raises:
        FatalError: it does not start.
    """

    def __init__(self, config: ModelConfig, files: Files, device: str, arguments: dict[str, Any]) -> None:
        self.name = str(files.folder)
        self._at_once = int(arguments["max_num_seqs"])
        self._on_gpu = device == "cuda"
        self._room = asyncio.Semaphore(
            QUEUED * self._at_once
        )  # first come, first in, also where calls overlap
        self._limit = partial(call_limit, config.timeout, self._on_gpu)
        self._numbers = itertools.count()
        self._finished = 0  # requests, since ever
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        self._helpers = ThreadPoolExecutor(mel.GPU_THREADS if self._on_gpu else 1, thread_name_prefix="mel")
        self._llm: Any = None
        self._reaper = Reaper()
        try:
            with exclusive_cards(self._on_gpu), threads_of_children(config.threads), self._reaper.watching():
                self._llm = self._run(self._start({"model": str(files.folder), **arguments}))
        except BaseException:
            self.close()
            raise

    def each(
        self, items: Sequence[Item], ask: Callable[[Item], Awaitable[Result]]
    ) -> list[Result | Exception]:
        """Ask about all items; in the place of one that cannot be done stands its error. Several threads may ask at a time.

        Args:
            items: what to ask about. The longest are begun first: what is left at the end, when there is room for more, is short.
            ask: asks about one, in the engine's thread.

        Raises:
            FatalError: the engine is dead, or nothing came of it for too long.
        """
        if not items:
            return []
        order = sorted(range(len(items)), key=lambda index: -items[index].duration)
        results = dict(zip(order, self._run(self._each([items[index] for index in order], ask)), strict=True))
        return [results[index] for index in range(len(items))]

    async def aside(self, work: Callable[[Item], Result], item: Item) -> Result:
        """Do what would hold up the loop in a thread of its own."""
        return await self._loop.run_in_executor(self._helpers, work, item)

    async def generate(self, tokens: list[int], features: mel.Mel, parameters: Any) -> Any:
        """What the model answers: vLLM's RequestOutput, when it is complete."""
        return await _last(self._llm.generate(_prompt(tokens, features), parameters, self._name_of_request()))

    async def encode(self, tokens: list[int], features: mel.Mel, parameters: Any) -> Any:
        """What a pooling model makes of it: vLLM's PoolingRequestOutput."""
        return await _last(self._llm.encode(_prompt(tokens, features), parameters, self._name_of_request()))

    def close(self) -> None:
        """End the engine; it may be called more than once."""
        if self._loop.is_closed():
            return
        if self._llm is not None:
            self._loop.call_soon_threadsafe(self._llm.shutdown)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._helpers.shutdown(wait=False, cancel_futures=True)
        self._reaper.call_off()

    async def _start(self, arguments: dict[str, Any]) -> Any:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        except Exception as error:  # vLLM's own choice; what went wrong in its processes they have written to their standard error
            said = " ".join(str(error).split())[:400]
            hint = "; the cause stands in this process's log" if "core" in said else ""
            # On a card most likely for want of memory, which a neighbour may give back: it is tried again.
            code = "device_out_of_memory" if self._on_gpu else "internal_error"
            raise FatalError(
                f"vLLM cannot start {self.name!r}: {type(error).__name__}: {said}{hint}", code=code
            ) from error

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._loop.is_closed():
            work.close()
            raise FatalError("this engine was closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise FatalError("this engine was closed while it was asked") from None
        finally:
            future.cancel()

    async def _each(
        self, items: Sequence[Item], ask: Callable[[Item], Awaitable[Result]]
    ) -> list[Result | Exception]:
        # Until at least one more is done. A GPU takes what it works on together, a CPU one after the other.
        limit = self._limit(sum(item.duration for item in items[: 1 if self._on_gpu else self._at_once]))

        async def one(item: Item) -> Result | Exception:
            async with self._room:
                try:
                    return await ask(item)
                except Exception as error:
                    return _meaning_of(error, self.name)
                finally:
                    self._finished += 1
                    heartbeat()

        tasks = [asyncio.create_task(one(item)) for item in items]
        everything = asyncio.gather(*tasks)
        try:
            while True:
                before = self._finished
                done, _ = await asyncio.wait([everything], timeout=limit)
                if done:
                    return everything.result()
                if self._finished == before:
                    raise FatalError(
                        f"nothing came of vLLM's engine for {limit:.0f} s, with {len(items)} segments asked",
                        "model_timeout",
                    )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _name_of_request(self) -> str:
        return str(next(self._numbers))


def device_for(config: ModelConfig) -> str:
    """Where the vLLM that is installed runs, cuda or cpu, if that is what the settings want.

    Raises:
        FatalError: it is not.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm.platforms import current_platform

    found = "cpu" if current_platform.is_cpu() else "cuda" if current_platform.is_cuda_alike() else None
    if found is None:
        raise FatalError(
            "vLLM finds no device here that it was built for: it needs a GPU, or its CPU build (see the README)"
        )
    if config.device not in ("auto", found):
        raise FatalError(
            f"device {config.device!r} was asked for, but this vLLM runs on {found}: use device: auto (which GPU: CUDA_VISIBLE_DEVICES)"
        )
    if found == "cuda" and config.pool.num_gpus == 0:  # it would take a card that somebody else was given
        raise FatalError(
            "this vLLM runs on GPUs, but pool.num_gpus is 0: give its replicas (a part of) a GPU, or use backend: transformers"
        )
    return found


def dtype_for(setting: str, device: str, files: Files) -> str:
    """The precision to ask vLLM for: on a GPU it knows best itself; on a CPU as elsewhere, but small models in float32 at most."""
    if device == "cuda" or setting != "auto":
        return setting
    import torch

    weights = sum(path.stat().st_size for path in files.folder.glob("*.safetensors")) // 2
    picked = str(pick_dtype("auto", torch.device("cpu"), weights)).removeprefix("torch.")
    return "float32" if picked == "float64" else picked


def _prompt(tokens: list[int], features: mel.Mel) -> dict[str, Any]:
    """What vLLM takes as ready features. It wants all three: without the mask its process dies."""
    import torch

    audio = {
        "input_audio_features": features.features[:, : features.frames],
        "audio_feature_lengths": torch.tensor([features.frames]),
        "feature_attention_mask": torch.ones(1, features.frames, dtype=torch.long),
    }
    return {"prompt_token_ids": tokens, "multi_modal_data": {"audio": audio}}


async def _last(outputs: AsyncIterator[Any]) -> Any:
    found = None
    async for output in outputs:
        found = output
    return found


def _meaning_of(error: Exception, name: str) -> Exception:
    """The error of one request, to stand in its place.

    Raises:
        FatalError: it is about all.
    """
    from vllm.exceptions import VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    if isinstance(error, FatalError | EngineDeadError):
        raise (
            error
            if isinstance(error, FatalError)
            else FatalError(f"vLLM's engine with {name!r} died: {error}")
        )
    if isinstance(error, EngineGenerateError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, VLLMClientError):
        return RowError(f"vLLM refuses a segment: {error}", "model_failed")
    return error
