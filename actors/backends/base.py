"""What an engine must do to be a backend: waveforms in, values of `actors.records` out. Rows, pools and storage are not its business."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from actors.records import AlignmentRequest, Hypothesis, SegmentRequest


class ASRBackend(Protocol):
    """Speech to text.

    A backend that asks somebody who may send a bill has `usage()`: what it has asked for so far, by name.
    One that has `batches_itself`, and it true, is given all requests of a call at once, whatever the settings say of batches; it keeps its own
    time limit, gives signs of life (`watchdog.heartbeat`), and puts the error of each request in its place.
    A backend may also have `prefetch(requests)`: it is told of a batch while the one before is computed, and may begin with what its
    threads can do.
    """

    model: str
    revision: str

    def transcribe(self, requests: list[SegmentRequest]) -> Sequence[Hypothesis | Exception]:
        """Recognise one batch; one hypothesis for each request, in order.

        A backend that does its requests one by one puts the error of one that cannot be done in its place; the others are kept then.

        Raises:
            RowError: one of the requests cannot be done, even alone.
            FatalError: the engine is broken; this process should end.
        """
        ...


class AlignerBackend(Protocol):
    """Text and speech to word times. May have `prefetch` and `batches_itself`, as an `ASRBackend`."""

    model: str
    revision: str
    max_duration: float  # seconds; a longer segment cannot be aligned

    def align(self, requests: list[AlignmentRequest]) -> Sequence[list[tuple[float, float]] | Exception]:
        """Find (start, end) of each unit, in seconds from the start of the request's waveform; one list for each request, in order.

        A backend that does its requests one by one puts the error of one that cannot be done in its place.

        Raises:
            RowError: one of the requests cannot be done, even alone.
            FatalError: the engine is broken; this process should end.
        """
        ...
