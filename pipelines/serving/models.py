"""The two models as Ray Serve deployments of their own, and the way to them.

A request of the job is a table; here it is one segment, so that segments of many clients share model calls. What is asked of the models and
what becomes of their answers is the actors' code, the same as in the job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from actors.aligner import AlignerActor, Finished, Segment
from actors.asr import ASRActor
from actors.config import AlignerConfig, ASRConfig, ModelConfig
from actors.errors import FatalError, RowError, as_row_error, exit_process
from actors.results import Hypothesis, SegmentRequest
from pipelines.serving.sharing import SharedBatches

ATTEMPTS = 2  # of a segment whose process died; the second one alone
MOST_ONGOING = 10_000  # calls that a replica takes in: what waits, waits where batches are made
_GRACE = 20.0  # seconds that a replica may take to end
_DRAIN_STEP = 0.5  # seconds between looks whether it is done

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """Which model a replica has."""

    model: str | None
    revision: str | None


class Recogniser:
    """One replica of the recogniser. Runs in a process of its own.

    Raises:
        FatalError: the model cannot be loaded.
    """

    def __init__(self, config: ASRConfig, call_seconds: float) -> None:
        self._actor = ASRActor(config)
        self._shared = SharedBatches(self._batch, config.max_batch_seconds, config.max_batch_size, call_seconds)

    def _batch(self, requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
        return [_portable(result, "model_failed") for result in _or_exit(self._actor.recognise, requests)]

    async def work(self, request: SegmentRequest, urgent: bool = False, alone: bool = False) -> Hypothesis:
        """What the model says to one segment.

        Raises:
            RowError: it cannot say anything to this one.
        """
        return await self._shared(request, request.duration, urgent, alone)

    async def facts(self) -> Facts:
        """Which model this is."""
        return Facts(self._actor.model, self._actor.revision)


class Aligner:
    """One replica of the aligner. Runs in a process of its own.

    Raises:
        FatalError: the model cannot be loaded.
    """

    def __init__(self, config: AlignerConfig, call_seconds: float) -> None:
        self._actor = AlignerActor(config)
        self._shared = SharedBatches(self._batch, config.max_batch_seconds, config.max_batch_size, call_seconds)

    def _batch(self, segments: list[Segment]) -> list[Finished | Exception]:
        finished: list[Finished] = _or_exit(self._actor.align, segments)
        return [(segment, None if error is None else _portable(error, "alignment_failed")) for segment, error in finished]

    async def work(self, segment: Segment, urgent: bool = False, alone: bool = False) -> Finished:
        """A recognised segment with its words and without its samples, and what went wrong with it."""
        return await self._shared(segment, segment["end"] - segment["start"], urgent, alone)

    async def facts(self) -> Facts:
        """Which model this is."""
        return Facts(self._actor.model, self._actor.revision)


class Handle(Protocol):
    """What a Ray Serve handle offers: methods with `.remote(...)`, whose answer can be awaited."""

    work: Any
    facts: Any


class Models:
    """The way to the deployed models. A segment whose process dies is asked about once more, alone, of another process.

    Args:
        recogniser: its handle.
        aligner: its handle; None: there are no words.
    """

    def __init__(self, recogniser: Handle, aligner: Handle | None) -> None:
        self._recogniser, self._aligner = recogniser, aligner

    @property
    def words(self) -> bool:
        """Whether there is an aligner."""
        return self._aligner is not None

    async def recognise(self, request: SegmentRequest, urgent: bool = False) -> Hypothesis:
        """See `Recogniser.work`; raises RowError."""
        answer: Hypothesis = await _asked(self._recogniser, request, urgent)
        return answer

    async def align(self, segment: Segment, urgent: bool = False) -> Finished:
        """See `Aligner.work`; without an aligner, no words."""
        if self._aligner is None:
            return {**{key: value for key, value in segment.items() if key != "samples"}, "words": [], "word_source": "none"}, None
        try:
            answer: Finished = await _asked(self._aligner, segment, urgent)
            return answer
        except RowError as error:
            without = {key: value for key, value in segment.items() if key != "samples"}
            flags = [*(segment.get("flags") or []), "alignment_failed"]
            return {**without, "flags": flags, "words": [], "word_source": "none"}, error

    async def facts(self) -> dict[str, str | None]:
        """The models' columns of a shard row. Raises where a model does not answer."""
        asr = await _awaited(self._recogniser.facts.remote())
        aligner = await _awaited(self._aligner.facts.remote()) if self._aligner is not None else Facts(None, None)
        return {
            "asr_model": asr.model,
            "asr_revision": asr.revision,
            "aligner_model": aligner.model,
            "aligner_revision": aligner.revision,
        }


async def _asked(handle: Handle, item: Any, urgent: bool) -> Any:
    from ray.exceptions import RayActorError, RayTaskError

    last: Exception | None = None
    for attempt in range(ATTEMPTS):
        try:
            return await _awaited(handle.work.remote(item, urgent, attempt > 0))
        except RayTaskError as error:
            raise _portable(error.cause, "model_failed") from None
        except RayActorError as error:
            log.warning(
                "a model process died with a segment in hand: %s", str(error).splitlines()[0] if str(error) else type(error).__name__
            )
            last = error
    raise RowError(f"the model's process died {ATTEMPTS} times with this segment in hand: {type(last).__name__}", "worker_lost")


async def _awaited(response: Any) -> Any:
    """The answer of a handle; a caller who is cancelled cancels the call as well, which Ray does not do by itself."""
    try:
        return await response
    except asyncio.CancelledError:
        if hasattr(response, "cancel"):
            response.cancel()
        raise


def _portable(result: Any, default: str) -> Any:
    """A result that can travel: exceptions of libraries become ours, with the message that the job would write."""
    if isinstance(result, Exception) and not isinstance(result, RowError):
        code, message = as_row_error(result, default)
        return RowError(message, code)
    return result


def _or_exit(call: Callable[[list[Any]], list[Any]], items: list[Any]) -> list[Any]:
    try:
        return call(items)
    except FatalError as error:  # a model that is loaded late cannot be loaded, or the engine is broken: another process may do better
        exit_process(error)


def deployment(actor: type, config: ModelConfig, call_seconds: float, replicas: tuple[int, int], resources: dict[str, Any]) -> Any:
    """`Recogniser` or `Aligner` as a bound Ray Serve deployment.

    Args:
        actor: which of the two.
        config: of its model.
        call_seconds: see `SharedBatches`.
        replicas: fewest and most.
        resources: `num_gpus` and `num_cpus` of a replica, as `pipelines.cluster.pool_resources` decides them.
    """
    from ray import serve

    least, most = replicas
    options: dict[str, Any] = {"num_replicas": least}
    if most > least:
        # A replica with as much waiting as it batches in two calls is busy enough for another one to help.
        target = 2.0 * min(config.max_batch_size, 16)
        options = {"autoscaling_config": {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": target}}
    made: Any = serve.deployment(
        actor,
        name=actor.__name__.lower(),
        max_ongoing_requests=MOST_ONGOING,
        graceful_shutdown_timeout_s=_GRACE,
        graceful_shutdown_wait_loop_s=_DRAIN_STEP,
        ray_actor_options={"num_gpus": resources["num_gpus"], "num_cpus": resources["num_cpus"]},
        **options,
    )
    return made.bind(config, call_seconds)


async def gathered(calls: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Results or exceptions of all, in order; a caller who is cancelled cancels them all."""
    return list(await asyncio.gather(*calls, return_exceptions=True))
