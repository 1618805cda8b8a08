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
from pipelines.serving.sharing import Rank, SharedBatches

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


class Replica:
    """One process with a model, whose items share its calls.

    Args:
        actor: has the model.
        batch: does a batch.
        seconds: of audio in an item.
        config: of the model.
        call_seconds: see `SharedBatches`.
    """

    def __init__(
        self,
        actor: ASRActor | AlignerActor,
        batch: Callable[[list[Any]], list[Any]],
        seconds: Callable[[Any], float],
        config: ModelConfig,
        call_seconds: float,
    ) -> None:
        self._facts, self._seconds = Facts(actor.model, actor.revision), seconds
        self._shared = SharedBatches[Any, Any](batch, config.max_batch_seconds, config.max_batch_size, call_seconds)

    async def work(self, item: Any, rank: Rank = Rank.FILE, alone: bool = False) -> Any:
        """What the model has to say to one item; see `SharedBatches`.

        Raises:
            RowError: it cannot say anything to this one.
        """
        return await self._shared(item, self._seconds(item), rank, alone)

    async def facts(self) -> Facts:
        """Which model this is."""
        return self._facts


class Recogniser(Replica):
    """A SegmentRequest to a Hypothesis.

    Raises:
        FatalError: the model cannot be loaded.
    """

    def __init__(self, config: ASRConfig, call_seconds: float) -> None:
        actor = ASRActor(config)

        def batch(requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
            return [_portable(result, "model_failed") for result in _or_exit(actor.recognise, requests)]

        super().__init__(actor, batch, lambda request: request.duration, config, call_seconds)


class Aligner(Replica):
    """A recognised segment to the same with its words and without its samples, and what went wrong with it.

    Raises:
        FatalError: the model cannot be loaded.
    """

    def __init__(self, config: AlignerConfig, call_seconds: float) -> None:
        actor = AlignerActor(config)

        def batch(segments: list[Segment]) -> list[Finished]:
            finished: list[Finished] = _or_exit(actor.align, segments)
            return [(segment, None if error is None else _portable(error, "alignment_failed")) for segment, error in finished]

        super().__init__(actor, batch, lambda segment: segment["end"] - segment["start"], config, call_seconds)


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

    async def recognise(self, request: SegmentRequest, rank: Rank = Rank.FILE) -> Hypothesis:
        """See `Recogniser`; raises RowError."""
        answer: Hypothesis = await _asked(self._recogniser, request, rank)
        return answer

    async def align(self, segment: Segment, rank: Rank = Rank.FILE) -> Finished:
        """See `Aligner`; without one, no words."""
        if self._aligner is None:
            return without_words(segment), None
        try:
            answer: Finished = await _asked(self._aligner, segment, rank)
            return answer
        except RowError as error:
            return {**without_words(segment), "flags": [*(segment.get("flags") or []), "alignment_failed"]}, error

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


def without_words(segment: Segment) -> Segment:
    """A recognised segment as the aligner would give it back, had it nothing to say."""
    return {**{key: value for key, value in segment.items() if key != "samples"}, "words": [], "word_source": "none"}


async def _asked(handle: Handle, item: Any, rank: Rank) -> Any:
    from ray.exceptions import RayActorError, RayTaskError

    last: Exception | None = None
    for attempt in range(ATTEMPTS):
        try:
            return await _awaited(handle.work.remote(item, rank, attempt > 0))
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
        resources: `num_gpus`, `num_cpus` and `label_selector` of a replica, as `pipelines.placement.pool_resources` decides them.
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
        ray_actor_options={name: resources[name] for name in ("num_gpus", "num_cpus", "label_selector") if resources[name] != {}},
        **options,
    )
    return made.bind(config, call_seconds)


async def gathered(calls: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Results or exceptions of all, in order; a caller who is cancelled cancels them all."""
    return list(await asyncio.gather(*calls, return_exceptions=True))
