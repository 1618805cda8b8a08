"""The client of the deployed models, which all requests share.

Each call is for one segment, so that segments of many clients share a batch. Batches are built here rather
than in the models' processes: one message carries a batch, and priorities are applied at the moment when a
replica is free.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from actors.aligner import AlignedSegment, without_words
from actors.batch_limits import largest_limits
from actors.config import ModelConfig
from actors.errors import RowError
from actors.records import Hypothesis, SegmentRequest, SegmentRow
from pipelines.config import RunConfig
from pipelines.serving.inference.deployments import ModelInfo, picklable
from pipelines.serving.inference.dynamic_batching import DynamicBatcher, Priority

ATTEMPTS = 2  # for a segment whose replica crashes; the second one in a batch of its own
_COUNT_INTERVAL = 5.0  # seconds between counts of the replicas

log = logging.getLogger(__name__)


class Handle(Protocol):
    """A Ray Serve handle of a `Replica`: each method has `.remote(...)`, whose result can be awaited."""

    run_batch: Any
    model_info: Any


class ReplicaPool:
    """The replicas of one model. An item whose replica crashes is tried once more, in a batch of its own.

    Args:
        handle: of the deployment.
        config: of its model.
        call_seconds: see `DynamicBatcher`.
    """

    def __init__(self, handle: Handle, config: ModelConfig, call_seconds: float) -> None:
        self._handle = handle
        limits = largest_limits(config, on_gpu=bool(config.pool.num_gpus))
        self._batcher = DynamicBatcher[Any, Any](
            self._call, limits.max_seconds, limits.max_size, call_seconds
        )
        self._counted_at, self._counting = time.monotonic() - _COUNT_INTERVAL, asyncio.Lock()

    async def process(self, item: Any, seconds: float, priority: Priority) -> Any:
        """The model's result for an item.

        Args:
            item: for the model.
            seconds: of audio in it.
            priority: of the item.

        Raises:
            RowError: the model has no result for the item, or the replica crashed in every attempt.
        """
        from ray.exceptions import RayActorError

        last: Exception | None = None
        for attempt in range(ATTEMPTS):
            try:
                return await self._batcher(item, seconds, priority, isolated=attempt > 0)
            except RayActorError as error:
                last = error
        raise RowError(
            f"the model's process died {ATTEMPTS} times while processing this segment: {type(last).__name__}",
            "worker_lost",
        )

    async def model_info(self) -> ModelInfo:
        """The model of the replicas. Raises if it does not respond."""
        info: ModelInfo = await self._handle.model_info.remote()
        return info

    async def _call(self, items: list[Any]) -> list[Any]:
        from ray.exceptions import RayActorError, RayTaskError

        if time.monotonic() - self._counted_at >= _COUNT_INTERVAL and not self._counting.locked():
            asyncio.create_task(self._count_replicas())  # noqa: RUF006 - nothing waits for it
        try:
            results: list[Any] = await self._handle.run_batch.remote(items)
            return results
        except RayTaskError as error:
            raise picklable(error.cause, "model_failed") from None
        except RayActorError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("a model process died while processing %d segment(s): %s", len(items), reason)
            raise

    async def _count_replicas(self) -> None:
        """Set the number of concurrent calls to the number of running replicas."""
        async with self._counting:
            count = await asyncio.to_thread(running_replicas, self._handle)
            self._counted_at = time.monotonic()
            if count is not None:
                self._batcher.max_concurrent_calls = max(1, count)


def running_replicas(handle: Any) -> int | None:
    """The number of running replicas of a deployment; None if it is unknown."""
    from ray import serve

    try:
        deployment = handle.deployment_id
        applications = serve.status().applications
        states = applications[deployment.app_name].deployments[deployment.name].replica_states
        return sum(
            count for state, count in states.items() if str(getattr(state, "value", state)) == "RUNNING"
        )
    except Exception:  # the controller is busy or gone; the previous count stays in use
        log.debug("the replicas could not be counted", exc_info=True)
        return None


class ModelClient:
    """The client of both models. It is created in the event loop that uses it.

    Args:
        config: the settings.
        recogniser: its handle.
        aligner: its handle; None if there is no aligner, and therefore no words.
    """

    def __init__(self, config: RunConfig, recogniser: Handle, aligner: Handle | None) -> None:
        seconds = config.serve.call_seconds
        self._recogniser = ReplicaPool(recogniser, config.asr, seconds)
        self._aligner = ReplicaPool(aligner, config.aligner, seconds) if aligner is not None else None

    async def recognise(self, request: SegmentRequest, priority: Priority = Priority.FILE) -> Hypothesis:
        """Recognise a segment.

        Raises:
            RowError: see `ReplicaPool.process`.
        """
        hypothesis: Hypothesis = await self._recogniser.process(request, request.duration, priority)
        return hypothesis

    async def align(self, segment: SegmentRow, priority: Priority = Priority.FILE) -> AlignedSegment:
        """Align a recognised segment. Without an aligner it has no words."""
        if self._aligner is None:
            return without_words(segment), None
        seconds = segment["end"] - segment["start"]
        try:
            aligned: AlignedSegment = await self._aligner.process(segment, seconds, priority)
            return aligned
        except RowError as error:
            return {
                **without_words(segment),
                "flags": [*(segment.get("flags") or []), "alignment_failed"],
            }, error

    async def model_columns(self) -> dict[str, str | None]:
        """The model columns of a SHARD row. Raises if a model does not respond."""
        asr = await self._recogniser.model_info()
        aligner = await self._aligner.model_info() if self._aligner is not None else ModelInfo(None, None)
        return {
            "asr_model": asr.model,
            "asr_revision": asr.revision,
            "aligner_model": aligner.model,
            "aligner_revision": aligner.revision,
        }


async def gather_results(calls: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Await all calls; returns results or exceptions in order. Cancelling the caller cancels them all."""
    return list(await asyncio.gather(*calls, return_exceptions=True))
