"""vLLM's engine inside an actor: it gets many requests at once and batches them itself, step by step.

The engine runs in processes of its own and is used from a thread with an event loop. A failure of one request
is that request's error. An engine that died, or that returns nothing any more, ends the actor, and the pool
starts another one.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from actors.backends.devices import exclusive_cards
from actors.backends.qwen import features as mel
from actors.backends.qwen.checkpoint import Files
from actors.backends.vllm.child_processes import Reaper, threads_of_children
from actors.batching import Sized
from actors.config import ModelConfig
from actors.errors import FatalError, RowError
from actors.process.watchdog import call_limit, heartbeat

QUEUED = 2  # requests that are ready for each request that the engine works on, so that it never waits


Item = TypeVar("Item", bound=Sized)
Result = TypeVar("Result")


class Engine:
    """An engine with one model.

    Args:
        config: settings of the model.
        files: its checkpoint.
        device: cuda or cpu.
        arguments: of vLLM's AsyncEngineArgs, except the model.

    Raises:
        FatalError: it does not start.
    """

    def __init__(self, config: ModelConfig, files: Files, device: str, arguments: dict[str, Any]) -> None:
        self.name = str(files.folder)
        self._at_once = int(arguments["max_num_seqs"])
        self._on_gpu = device == "cuda"
        # First come, first served, also between overlapping calls.
        self._admission = asyncio.Semaphore(QUEUED * self._at_once)
        self._limit = partial(call_limit, config.timeout, self._on_gpu)
        self._numbers = itertools.count()
        self._finished = 0  # requests since the start
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
        self, items: Sequence[Item], process: Callable[[Item], Awaitable[Result]]
    ) -> list[Result | Exception]:
        """Process all items; the error of an item takes the place of its result. Thread-safe.

        Args:
            items: what to process. The longest start first, so that only short ones are left at the end, when
                the engine is no longer full.
            process: processes one item, in the engine's thread.

        Raises:
            FatalError: the engine is dead, or has finished nothing for too long.
        """
        if not items:
            return []
        order = sorted(range(len(items)), key=lambda index: -items[index].duration)
        results = dict(
            zip(order, self._run(self._each([items[index] for index in order], process)), strict=True)
        )
        return [results[index] for index in range(len(items))]

    async def in_thread(self, work: Callable[[Item], Result], item: Item) -> Result:
        """Run work that would block the event loop in a thread of its own."""
        return await self._loop.run_in_executor(self._helpers, work, item)

    async def generate(self, tokens: list[int], features: mel.Mel, parameters: Any) -> Any:
        """The model's answer: vLLM's complete RequestOutput."""
        return await _last(self._llm.generate(_prompt(tokens, features), parameters, self._request_id()))

    async def encode(self, tokens: list[int], features: mel.Mel, parameters: Any) -> Any:
        """The output of a pooling model: vLLM's PoolingRequestOutput."""
        return await _last(self._llm.encode(_prompt(tokens, features), parameters, self._request_id()))

    def close(self) -> None:
        """End the engine. May be called more than once."""
        if self._loop.is_closed():
            return
        if self._llm is not None:
            self._loop.call_soon_threadsafe(self._llm.shutdown)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._helpers.shutdown(wait=False, cancel_futures=True)
        self._reaper.cancel()

    async def _start(self, arguments: dict[str, Any]) -> Any:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        except Exception as error:
            # Any class of exception. Its processes write their own errors to standard error.
            message = " ".join(str(error).split())[:400]
            hint = "; the cause is in the log of this process" if "core" in message else ""
            # On a card most likely for lack of memory, which a neighbour may release: the pool tries again.
            code = "device_out_of_memory" if self._on_gpu else "internal_error"
            raise FatalError(
                f"vLLM cannot start {self.name!r}: {type(error).__name__}: {message}{hint}", code=code
            ) from error

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._loop.is_closed():
            work.close()
            raise FatalError("this engine was closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise FatalError("this engine was closed during a call") from None
        finally:
            future.cancel()

    async def _each(
        self, items: Sequence[Item], process: Callable[[Item], Awaitable[Result]]
    ) -> list[Result | Exception]:
        # Seconds until at least one more item is finished. A GPU works on its items together, a CPU one after
        # the other.
        limit = self._limit(sum(item.duration for item in items[: 1 if self._on_gpu else self._at_once]))

        async def one(item: Item) -> Result | Exception:
            async with self._admission:
                try:
                    return await process(item)
                except Exception as error:
                    return _request_error(error, self.name)
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
                        f"vLLM's engine finished none of {len(items)} segments for {limit:.0f} s",
                        "model_timeout",
                    )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _request_id(self) -> str:
        return str(next(self._numbers))


def _prompt(tokens: list[int], features: mel.Mel) -> dict[str, Any]:
    """A prompt with ready features for vLLM. It needs all three fields: without the mask its process dies."""
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


def _request_error(error: Exception, name: str) -> Exception:
    """The error of one request, to stand in its place.

    Raises:
        FatalError: it concerns all requests.
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
