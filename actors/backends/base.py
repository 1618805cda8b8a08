"""The interface of an engine: waveforms in, values of `actors.records` out.

Rows, pools and storage are not its business. A backend subclasses `ASRBackend` or `AlignerBackend`, sets
`model` and `revision`, and overrides the members whose defaults do not fit it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from actors.backends.cost_model import CostModel
from actors.records import AlignmentRequest, Hypothesis, SegmentRequest


class Device(Protocol):
    """Where a model runs; `torch.device` is one."""

    @property
    def type(self) -> str:
        """Kind of device, such as "cpu" or "cuda"."""
        ...


class Backend(Protocol):
    """What all backends have."""

    model: str
    revision: str
    # None: the model runs in no device of this process.
    device: Device | None = None
    # The backend takes all requests of a call at once and ignores the batch settings. It keeps its own time
    # limit, gives signs of life (`watchdog.heartbeat`) and returns the error of a request in the place of its
    # result.
    batches_itself: bool = False
    # GiB of GPU memory that this process has, weights included; None: no GPU, or memory that the engine
    # manages.
    gpu_memory: float | None = None
    # Cost of calls, measured when the model was loaded; None: nothing was measured.
    cost_model: CostModel | None = None
    # Number of threads that may usefully call the backend at the same time.
    max_concurrent_calls: int = 1

    @property
    def on_gpu(self) -> bool:
        """Whether the model runs on a GPU."""
        return self.device is not None and self.device.type == "cuda"

    @property
    def call_cost_segments(self) -> float | None:
        """Measured cost of a call in segments; None: nothing was measured."""
        return None if self.cost_model is None else self.cost_model.call_cost_segments

    def usage(self) -> dict[str, float]:
        """What the backend has asked of a server so far, by name; empty without a server."""
        return {}


class ASRBackend(Backend, Protocol):
    """Speech to text."""

    # Whether `SegmentRequest.repetition_penalty` has an effect.
    takes_repetition_penalty: bool = False

    def language_probabilities(
        self, requests: Sequence[SegmentRequest], languages: Sequence[Sequence[str]]
    ) -> list[dict[str, float]]:
        """How probable the model finds languages, before it writes any text.

        Args:
            requests: segments whose language the model decides.
            languages: of each request, English names of the languages in question.

        Returns:
            For each request, a probability by language; empty where the backend cannot tell.
        """
        return [{} for _ in requests]

    def prefetch(self, requests: Sequence[SegmentRequest]) -> None:
        """Prepare the next batch while the one before it runs; by default nothing is prepared."""
        return

    def transcribe(self, requests: list[SegmentRequest]) -> Sequence[Hypothesis | Exception]:
        """Recognise one batch.

        Args:
            requests: the segments of the batch.

        Returns:
            One hypothesis for each request, in order. A backend that processes its requests one by one
            returns the error of a request in its place; the other results are kept.

        Raises:
            RowError: one of the requests cannot be recognised, even on its own.
            FatalError: the engine is broken; this process should end.
        """
        ...


class AlignerBackend(Backend, Protocol):
    """Text and speech to word times."""

    max_duration: float  # seconds; a longer segment cannot be aligned

    def prefetch(self, requests: Sequence[AlignmentRequest]) -> None:
        """See `ASRBackend.prefetch`."""
        return

    def align(self, requests: list[AlignmentRequest]) -> Sequence[list[tuple[float, float]] | Exception]:
        """Find the times of each unit in one batch.

        Args:
            requests: the segments of the batch, with their units.

        Returns:
            For each request, in order, (start, end) of each unit in seconds from the start of the request's
            waveform. A backend that processes its requests one by one returns the error of a request in its
            place.

        Raises:
            RowError: one of the requests cannot be aligned, even on its own.
            FatalError: the engine is broken; this process should end.
        """
        ...
