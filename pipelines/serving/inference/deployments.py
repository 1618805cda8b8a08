"""The two models as Ray Serve deployments of their own: processes that take a batch at a time.

What is asked of the models and what becomes of their answers is the actors' code, the same as in the job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from actors.aligner import AlignedSegment, AlignerActor
from actors.asr import ASRActor
from actors.config import AlignerConfig, ASRConfig, ModelConfig
from actors.errors import FatalError, RowError, as_row_error
from actors.process.exit import exit_process
from actors.records import Hypothesis, SegmentRequest, SegmentRow

_ONGOING = 2  # calls that a replica takes in: a batch, and a question which model it has
_BUSY = 0.7  # part of its time that a replica may work before another one is started
_GRACE = 20.0  # seconds that a replica may take to end
_DRAIN_STEP = 0.5  # seconds between looks whether it is done


@dataclass(frozen=True)
class Facts:
    """Which model a replica has."""

    model: str | None
    revision: str | None


class Replica:
    """One process with a model.

    Args:
        actor: has the model.
        batch: does a batch.
    """

    def __init__(self, actor: ASRActor | AlignerActor, batch: Callable[[list[Any]], list[Any]]) -> None:
        self._facts, self._batch = Facts(actor.model, actor.revision), batch
        self._thread = ThreadPoolExecutor(
            1, "model"
        )  # not the loop's: Ray Serve asks it whether the process is well

    async def work(self, items: list[Any]) -> list[Any]:
        """What the model has to say to each item, in order; an exception in its place where it can say nothing to this one."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._batch, items)

    async def facts(self) -> Facts:
        """Which model this is."""
        return self._facts


class Recogniser(Replica):
    """SegmentRequests to Hypotheses.

    Raises:
        FatalError: the model cannot be loaded.
    """

    def __init__(self, config: ASRConfig) -> None:
        actor = ASRActor(config)

        def batch(requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
            return [portable(result, "model_failed") for result in _or_exit(actor.recognise, requests)]

        super().__init__(actor, batch)


class Aligner(Replica):
    """Recognised segments to the same with their words and without their samples, each with what went wrong with it.

    Raises:
        FatalError: the model cannot be loaded.
    """

    def __init__(self, config: AlignerConfig) -> None:
        actor = AlignerActor(config)

        def batch(segments: list[SegmentRow]) -> list[AlignedSegment]:
            finished: list[AlignedSegment] = _or_exit(actor.align, segments)
            return [
                (segment, None if error is None else portable(error, "alignment_failed"))
                for segment, error in finished
            ]

        super().__init__(actor, batch)


def portable(result: Any, default: str) -> Any:
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


def deployment(actor: type, config: ModelConfig, replicas: tuple[int, int], resources: dict[str, Any]) -> Any:
    """`Recogniser` or `Aligner` as a bound Ray Serve deployment.

    Args:
        actor: which of the two.
        config: of its model.
        replicas: fewest and most.
        resources: `num_gpus`, `num_cpus` and `label_selector` of a replica, as `pipelines.cluster.placement.pool_resources` decides them.
    """
    from ray import serve

    least, most = replicas
    options: dict[str, Any] = {"num_replicas": least}
    if most > least:
        options = {
            "autoscaling_config": {
                "min_replicas": least,
                "max_replicas": most,
                "target_ongoing_requests": _BUSY,
            }
        }
    made: Any = serve.deployment(
        actor,
        name=actor.__name__.lower(),
        max_ongoing_requests=_ONGOING,
        graceful_shutdown_timeout_s=_GRACE,
        graceful_shutdown_wait_loop_s=_DRAIN_STEP,
        ray_actor_options={
            name: resources[name]
            for name in ("num_gpus", "num_cpus", "label_selector")
            if resources[name] != {}
        },
        **options,
    )
    return made.bind(config)
