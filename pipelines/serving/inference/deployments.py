"""The recogniser and the aligner as Ray Serve deployments, whose replicas process one batch at a time.

Requests and results are handled by the same actors as in a batch run.
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
from actors.config.repair import RepairConfig
from actors.config.trust import GuardsConfig
from actors.errors import FatalError, RowError, as_row_error
from actors.process.exit import exit_process
from actors.records import Hypothesis, SegmentRequest, SegmentRow
from actors.repair.budget import LocalBudget
from pipelines.cluster.pools import PoolResources

_MAX_ONGOING_CALLS = 2  # of a replica: a batch, and a readiness check
_TARGET_LOAD = 0.7  # ongoing calls per replica above which Ray Serve starts another replica
_SHUTDOWN_TIMEOUT = 20.0  # seconds for a replica to finish its calls
_SHUTDOWN_POLL = 0.5  # seconds between checks whether it has finished


_REPAIR_CREDIT = 60.0  # seconds of audio that a replica may decode again before it has recognised any


@dataclass(frozen=True)
class ModelInfo:
    """The model of a replica."""

    model: str | None
    revision: str | None


class Replica:
    """A process with a model.

    Args:
        actor: contains the model.
        run: processes a batch.
    """

    def __init__(self, actor: ASRActor | AlignerActor, run: Callable[[list[Any]], list[Any]]) -> None:
        self._model_info, self._run = ModelInfo(actor.model, actor.revision), run
        # A thread of its own: the event loop must stay free for Ray Serve's health checks.
        self._thread = ThreadPoolExecutor(1, "model")

    async def run_batch(self, items: list[Any]) -> list[Any]:
        """The result for each item, in order; an exception where the model has no result."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, items)

    async def model_info(self) -> ModelInfo:
        """The model of this replica."""
        return self._model_info


class Recogniser(Replica):
    """Recognises SegmentRequests; the results are Hypotheses.

    Args:
        config: settings of the recogniser.
        guards: settings of the guards; None: the defaults.
        repair: settings of the repair of doubtful segments; None: there is none.
        time_limit: seconds after which a batch is not repaired any further.

    Raises:
        FatalError: the model cannot be loaded.
    """

    def __init__(
        self,
        config: ASRConfig,
        guards: GuardsConfig | None = None,
        repair: RepairConfig | None = None,
        time_limit: float | None = None,
    ) -> None:
        share = repair.max_share if repair else 0.0
        actor = ASRActor(config, guards, repair, budget=LocalBudget(share, _REPAIR_CREDIT))
        actor.ladder.time_limit = time_limit

        def run(requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
            return [picklable(result, "model_failed") for result in _exit_if_fatal(actor.recognise, requests)]

        super().__init__(actor, run)


class Aligner(Replica):
    """Aligns recognised segments; the results have words but no samples, each with its error or None.

    Args:
        config: settings of the aligner.
        guards: settings of the guards; None: the defaults.
        repair: settings of the repair of bad stretches of words; None: there is none.

    Raises:
        FatalError: the model cannot be loaded.
    """

    def __init__(
        self,
        config: AlignerConfig,
        guards: GuardsConfig | None = None,
        repair: RepairConfig | None = None,
    ) -> None:
        actor = AlignerActor(config, guards, repair)

        def run(segments: list[SegmentRow]) -> list[AlignedSegment]:
            aligned: list[AlignedSegment] = _exit_if_fatal(actor.align, segments)
            return [
                (segment, None if error is None else picklable(error, "alignment_failed"))
                for segment, error in aligned
            ]

        super().__init__(actor, run)


def picklable(result: Any, default: str) -> Any:
    """Replace a library's exception by a RowError, which can be pickled; a run would store the same message.

    Args:
        result: a result or an exception.
        default: error code for exceptions without one.
    """
    if isinstance(result, Exception) and not isinstance(result, RowError):
        code, message = as_row_error(result, default)
        return RowError(message, code)
    return result


def _exit_if_fatal(call: Callable[[list[Any]], list[Any]], items: list[Any]) -> list[Any]:
    try:
        return call(items)
    except FatalError as error:
        # A lazily loaded model cannot be loaded, or the engine is broken: a new process may succeed.
        exit_process(error)


def deployment(
    actor: type,
    config: ModelConfig,
    replicas: tuple[int, int],
    resources: PoolResources,
    *arguments: Any,
) -> Any:
    """`Recogniser` or `Aligner` as a bound Ray Serve deployment.

    Args:
        actor: which of the two.
        config: of its model.
        replicas: smallest and largest number of replicas.
        resources: of the pool, from `pipelines.cluster.pools`.
        arguments: of the actor, behind its settings.
    """
    from ray import serve

    min_replicas, max_replicas = replicas
    options: dict[str, Any] = {"num_replicas": min_replicas}
    if max_replicas > min_replicas:
        options = {
            "autoscaling_config": {
                "min_replicas": min_replicas,
                "max_replicas": max_replicas,
                "target_ongoing_requests": _TARGET_LOAD,
            }
        }
    unbound: Any = serve.deployment(
        actor,
        name=actor.__name__.lower(),
        max_ongoing_requests=_MAX_ONGOING_CALLS,
        graceful_shutdown_timeout_s=_SHUTDOWN_TIMEOUT,
        graceful_shutdown_wait_loop_s=_SHUTDOWN_POLL,
        ray_actor_options={
            "num_gpus": resources.num_gpus,
            "num_cpus": resources.num_cpus,
            **({"label_selector": dict(resources.label_selector)} if resources.label_selector else {}),
        },
        **options,
    )
    return unbound.bind(config, *arguments)
