"""Greedy decoding of any number of requests with one model: no beams, no sampling.

Requests are decoded in sessions of slots of one size, those that need much first. A batch that does not fit
the device is tried again with half as many slots; answers that are there stay.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from actors.backends.devices import classify_error
from actors.backends.transformers.decode_step import DecodeState, DecodeStep, StepGraphs
from actors.backends.transformers.kv_cache import KeyValueCache, capacity_for, slots_for
from actors.backends.transformers.loading import Network
from actors.backends.transformers.prompts import Stager
from actors.backends.transformers.scheduler import Done, Generated, Job, MakePrompts, Policy, Session

log = logging.getLogger(__name__)

# Answers have room for so many tokens on a GPU, or a multiple of it: another width is another CUDA graph.
_WIDTH_MULTIPLE = 512


@dataclass(frozen=True)
class Limits:
    """How much may be decoded at once.

    Attributes:
        seconds: padded seconds (longest segment * rows).
        rows: number of rows.
        cache_bytes: memory for keys and values; None: not limited.
    """

    seconds: float
    rows: int
    cache_bytes: float | None = None


class Generator:
    """Decodes requests with one model.

    Args:
        network: the model.
        ends: tokens that end an answer.
    """

    def __init__(self, network: Network, ends: Sequence[int]) -> None:
        self.network, self.ends = network, list(ends)
        self.device = network.decoder.device
        self.policy = Policy(self.device.type != "cpu")
        self.graphs = StepGraphs(self.device)
        # Learned from batches that did not fit: most padded seconds, and the share of a usual forward pass.
        self.max_seconds: float | None = None
        self.share = 1.0
        self._stager = Stager(network)
        self._step: DecodeStep | None = None
        self._session: Session | None = None
        # Slots and longest segment of the session that runs.
        self._tried = (1, 0.0)

    @torch.inference_mode()
    def generate(self, jobs: Sequence[Job], make: MakePrompts, limits: Limits, done: Done) -> None:
        """Answer all jobs, in any order.

        Args:
            jobs: the requests.
            make: makes their prompts, shortly before they run.
            limits: how much may be decoded at once.
            done: called once for each job.

        Raises:
            Exception: of the device; out of memory only where one row alone does not fit.
        """
        unanswered = set(range(len(jobs)))

        def answered(number: int, answer: Generated | Exception) -> None:
            unanswered.discard(number)
            done(number, answer)

        while unanswered:
            # The longest first: the last rows of all end early, and what does not fit is found at once.
            order = sorted(unanswered, key=lambda number: (-jobs[number].tokens, number))
            try:
                self._decode(jobs, order, make, limits, answered)
                break
            except Exception as error:
                if classify_error(error) != "memory" or not self._shrink():
                    self.release()
                    raise
                reason = str(error).split("\n")[0]
            # Outside of the except block, whose traceback keeps tensors alive.
            log.warning(
                "out of memory (%s): %.0f padded seconds at once from now on", reason, self.max_seconds
            )
            self.release()
        self._session = None
        if not self.policy.on_gpu:
            self._step = None

    def release(self) -> None:
        """Free the cache and all graphs."""
        self.graphs.clear()
        self._step = self._session = None
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def workspace(self, rows: int, capacity: int, width: int) -> DecodeStep:
        """State, cache and step for so many slots; those of earlier calls where they are large enough.

        Args:
            rows: number of slots.
            capacity: tokens of a slot.
            width: most tokens of an answer.
        """
        tokens = rows * capacity
        if self.policy.on_gpu:
            width = -(-width // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE
        step = self._step
        if step is not None:
            if step.state.rows >= rows and step.state.width >= width and step.cache.tokens >= tokens:
                step.state.clear()
                return step
            rows, width = max(rows, step.state.rows), max(width, step.state.width)
            tokens = max(tokens, step.cache.tokens) if self.policy.on_gpu else tokens
            del step
            self.release()
        state = DecodeState(rows, width, self.device)
        cache = KeyValueCache(self.network.decoder, tokens, self.device)
        self._step = DecodeStep(
            self.network.decoder, self.network.head, self.ends, state, cache, flash=self.network.flash
        )
        return self._step

    def _decode(
        self, jobs: Sequence[Job], order: list[int], make: MakePrompts, limits: Limits, done: Done
    ) -> None:
        while order:
            longest = jobs[order[0]]
            capacity = capacity_for(longest.tokens, self.policy.on_gpu)
            slots = self._slots(len(order), longest.seconds, capacity, limits)
            # Slots for long rows are wasted on much shorter ones, unless too few of these are left.
            long = sum(jobs[number].tokens > capacity // 2 for number in order)
            count = len(order) if len(order) <= slots else max(slots, long)
            chosen, order = order[:count], order[count:]
            self._session, self._tried = None, (slots, longest.seconds)
            width = max(jobs[number].budget for number in chosen)
            step = self.workspace(self.policy.rows(slots), capacity, width)
            self._session = Session(
                self.network,
                step,
                self.graphs,
                self.policy,
                jobs,
                chosen,
                slots,
                capacity,
                self.share,
                make,
                done,
                self._stager,
            )
            self._session.run()

    def _slots(self, count: int, seconds: float, capacity: int, limits: Limits) -> int:
        """Number of slots for `count` requests of up to so many seconds."""
        most = min(limits.seconds, self.max_seconds or limits.seconds)
        slots = min(count, limits.rows, max(1, int(most / max(seconds, 0.01))))
        if limits.cache_bytes is not None:
            fit = slots_for(limits.cache_bytes, capacity, self.network.decoder)
            while slots > 1 and self.policy.rows(slots) > fit:
                slots = self.policy.rows_below(slots)
        return slots

    def _shrink(self) -> bool:
        """Lower the limits after a batch did not fit; False where it was a single row."""
        slots, seconds = self._tried
        if slots == 1 and (self._session is None or self._session.largest_pass == 1):
            return False
        self.max_seconds = min(self.max_seconds or float("inf"), max(1, slots // 2) * seconds)
        self.share /= 2
        return True
