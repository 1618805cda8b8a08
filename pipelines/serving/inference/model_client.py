"""The way to the deployed models, which all requests share.

A request of the job is a table; here it is one segment, so that segments of many clients share model calls. The calls are put together here and
not in the models' processes: one message carries a batch, and whose turn it is is decided when a process is free.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from actors.aligner import AlignedSegment, without_words
from actors.config import ModelConfig
from actors.errors import RowError
from actors.records import Hypothesis, SegmentRequest, SegmentRow
from pipelines.config import RunConfig
from pipelines.serving.inference.deployments import Facts, portable
from pipelines.serving.inference.dynamic_batching import DynamicBatcher, Rank

ATTEMPTS = 2  # of a segment whose process died; the second one alone
_COUNT_EVERY = 5.0  # seconds between looks how many replicas there are

log = logging.getLogger(__name__)


class Handle(Protocol):
    """What a Ray Serve handle offers: methods with `.remote(...)`, whose answer can be awaited."""

    work: Any
    facts: Any


class Pool:
    """The replicas of one model. An item whose process dies is asked about once more, alone, of another process.

    Args:
        handle: of the deployment.
        config: of its model.
        call_seconds: see `DynamicBatcher`.
    """

    def __init__(self, handle: Handle, config: ModelConfig, call_seconds: float) -> None:
        self._handle = handle
        self._shared = DynamicBatcher[Any, Any](
            self._call, config.max_batch_seconds, config.max_batch_size, call_seconds
        )
        self._counted, self._counting = time.monotonic() - _COUNT_EVERY, asyncio.Lock()

    async def ask(self, item: Any, seconds: float, rank: Rank) -> Any:
        """What the model has to say to an item.

        Args:
            item: what to ask about.
            seconds: of audio in it.
            rank: whose turn it is.

        Raises:
            RowError: nothing, or its process died each time.
        """
        from ray.exceptions import RayActorError

        last: Exception | None = None
        for attempt in range(ATTEMPTS):
            try:
                return await self._shared(item, seconds, rank, alone=attempt > 0)
            except RayActorError as error:
                last = error
        raise RowError(
            f"the model's process died {ATTEMPTS} times with this segment in hand: {type(last).__name__}",
            "worker_lost",
        )

    async def facts(self) -> Facts:
        """Which model it is. Raises where it does not answer."""
        facts: Facts = await self._handle.facts.remote()
        return facts

    async def _call(self, items: list[Any]) -> list[Any]:
        from ray.exceptions import RayActorError, RayTaskError

        if time.monotonic() - self._counted >= _COUNT_EVERY and not self._counting.locked():
            asyncio.create_task(self._count())  # noqa: RUF006 - its end is nobody's concern
        try:
            results: list[Any] = await self._handle.work.remote(items)
            return results
        except RayTaskError as error:
            raise portable(error.cause, "model_failed") from None
        except RayActorError as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("a model process died with %d segments in hand: %s", len(items), why)
            raise

    async def _count(self) -> None:
        """As many calls at a time as there are replicas."""
        async with self._counting:
            found = await asyncio.to_thread(_running, self._handle)
            self._counted = time.monotonic()
            if found is not None:
                self._shared.max_concurrent_calls = max(1, found)


def _running(handle: Any) -> int | None:
    """Replicas of a deployment that run; None where that cannot be known."""
    from ray import serve

    try:
        place = handle.deployment_id
        states = serve.status().applications[place.app_name].deployments[place.name].replica_states
        return sum(
            count for state, count in states.items() if str(getattr(state, "value", state)) == "RUNNING"
        )
    except Exception:  # the controller is busy or gone: what was known before is as good
        log.debug("the replicas could not be counted", exc_info=True)
        return None


class Models:
    """The way to the deployed models. Made in the event loop that asks them.

    Args:
        config: the settings.
        recogniser: its handle.
        aligner: its handle; None: there are no words.
    """

    def __init__(self, config: RunConfig, recogniser: Handle, aligner: Handle | None) -> None:
        seconds = config.serve.call_seconds
        self._recogniser = Pool(recogniser, config.asr, seconds)
        self._aligner = Pool(aligner, config.aligner, seconds) if aligner is not None else None

    async def recognise(self, request: SegmentRequest, rank: Rank = Rank.FILE) -> Hypothesis:
        """See `replicas.Recogniser`; raises RowError."""
        answer: Hypothesis = await self._recogniser.ask(request, request.duration, rank)
        return answer

    async def align(self, segment: SegmentRow, rank: Rank = Rank.FILE) -> AlignedSegment:
        """See `replicas.Aligner`; without one, no words."""
        if self._aligner is None:
            return without_words(segment), None
        try:
            answer: AlignedSegment = await self._aligner.ask(segment, segment["end"] - segment["start"], rank)
            return answer
        except RowError as error:
            return {
                **without_words(segment),
                "flags": [*(segment.get("flags") or []), "alignment_failed"],
            }, error

    async def facts(self) -> dict[str, str | None]:
        """The models' columns of a shard row. Raises where a model does not answer."""
        asr = await self._recogniser.facts()
        aligner = await self._aligner.facts() if self._aligner is not None else Facts(None, None)
        return {
            "asr_model": asr.model,
            "asr_revision": asr.revision,
            "aligner_model": aligner.model,
            "aligner_revision": aligner.revision,
        }


async def gathered(calls: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Results or exceptions of all, in order; a caller who is cancelled cancels them all."""
    return list(await asyncio.gather(*calls, return_exceptions=True))
