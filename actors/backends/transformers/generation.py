"""Greedy decoding of any number of requests with one model: no beams, no sampling.

Requests decode in sessions of slots of one size. Several threads may call at once: requests of a later call
join the session that runs, so that a GPU does not wait for the longest answer of a table. The caller that has
the turn drives the session for all of them. A batch that does not fit the device is tried again with half as
many slots; answers that are there stay.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from actors.backends.devices import classify_error
from actors.backends.transformers.decode_step import DecodeState, DecodeStep, Policy, StepGraphs
from actors.backends.transformers.kv_cache import KeyValueCache, capacity_for, slots_for
from actors.backends.transformers.loading import Network
from actors.backends.transformers.prompts import Stager
from actors.backends.transformers.scheduler import Call, Done, Job, MakePrompts, Session, Task

log = logging.getLogger(__name__)

# Answers have room for so many tokens on a GPU, or a multiple of it: another width is another CUDA graph.
_WIDTH_MULTIPLE = 512
# From so many requests on, a GPU gets as many slots as the limits allow: more requests will join.
_LARGE_CALL = 32


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
        # Held by the caller that drives the session.
        self._turn = threading.Lock()
        self._calls: list[Call] = []
        self._queue: deque[Task] = deque()
        self._session: Session | None = None
        # Of the session that was begun last: slots and longest segment, and fewest tokens of those who join.
        self._tried = (1, 0.0)
        self._least = 0

    @torch.inference_mode()
    def generate(self, jobs: Sequence[Job], make: MakePrompts, limits: Limits, done: Done) -> None:
        """Answer all jobs, in any order. May be called from several threads.

        Args:
            jobs: the requests.
            make: makes their prompts, shortly before they run.
            limits: how much may be decoded at once.
            done: called once for each job, perhaps from the thread of another caller.

        Raises:
            Exception: of the device, or of `done`; out of memory only where one row alone does not fit.
        """
        call = Call(jobs, make, done)
        with self._turn:
            self._calls.append(call)
            self._queue.extend(call.tasks())
        try:
            while call.unanswered and call.error is None:
                with self._turn:
                    if call.unanswered and call.error is None:
                        self._drive(limits)
        finally:
            with self._turn:
                self._leave(call)
        if call.error is not None:
            raise call.error

    def release(self) -> None:
        """Free the cache and all graphs; what is not answered yet begins anew."""
        self.graphs.clear()
        self._step = self._session = None
        self._queue = deque(task for call in self._calls for task in call.tasks())
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

    def _drive(self, limits: Limits) -> None:
        """Do some of the work of all callers."""
        try:
            self._advance(limits)
            return
        except Exception as error:
            if classify_error(error) != "memory" or not self._shrink():
                self.release()
                raise
            reason = str(error).split("\n")[0]
        # Outside of the except block, whose traceback keeps tensors alive.
        log.warning("out of memory (%s): %.0f padded seconds at once from now on", reason, self.max_seconds)
        self.release()

    def _advance(self, limits: Limits) -> None:
        """Begin a session where none runs, let waiting requests join, and advance it."""
        if self._session is None or self._session.idle:
            self._begin(limits)
        session = self._session
        assert session is not None
        # In the order of the queue, so that none waits for ever.
        while self._queue and self._joins(self._queue[0].job, session):
            session.waiting.append(self._queue.popleft())
        session.advance()

    def _joins(self, job: Job, session: Session) -> bool:
        """Whether a request may decode in the slots of a session; short rows would waste long ones."""
        fits = job.tokens <= session.capacity and job.budget <= session.step.state.width
        return fits and job.tokens >= self._least

    def _begin(self, limits: Limits) -> None:
        """Begin a session for the request that waits longest."""
        longest = self._queue[0].job
        capacity = capacity_for(longest.tokens, self.policy.on_gpu)
        large = self.policy.on_gpu and len(self._queue) >= _LARGE_CALL
        slots = self._slots(limits.rows if large else len(self._queue), longest.seconds, capacity, limits)
        self._session, self._tried = None, (slots, longest.seconds)
        self._least = min(longest.tokens, capacity // 2)
        width = max(task.job.budget for task in self._queue)
        step = self.workspace(self.policy.rows(slots), capacity, width)
        self._session = Session(
            self.network, step, self.graphs, self.policy, self._stager, slots, capacity, self.share
        )
        # Short rows take long slots only where too few are left for slots of their own.
        fitting = [task for task in self._queue if task.job.tokens <= capacity]
        if len(fitting) <= slots:
            self._session.waiting.extend(fitting)
            self._queue = deque(task for task in self._queue if task.job.tokens > capacity)

    def _leave(self, call: Call) -> None:
        """Forget a call; where it failed, also what was begun for it."""
        self._calls.remove(call)
        if call.unanswered:
            self.release()
        if not self.policy.on_gpu and not self._calls:
            self._step = self._session = None

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
