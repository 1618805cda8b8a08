"""Continuous batching: which request decodes in which slot, and when the host looks.

What depends on the device is in `Policy`:
- On a CPU prompts run one by one: nothing is gained from more at once, and what a prompt leaves in the cache
  is the same bit for bit in every batch. The host looks after every step, and rows that have ended leave the
  batch.
- On a GPU prompts run in packed groups, the host looks at every eighth step, and the number of rows of a step
  is one of few, because each has a CUDA graph. While the GPU computes, the host prepares the next prompts and
  hands over the answers that are there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from actors.backends.transformers import prompts as packed
from actors.backends.transformers.attention import to_device
from actors.backends.transformers.decode_step import DecodeStep, StepGraphs
from actors.backends.transformers.encoder import CALL_SECONDS
from actors.backends.transformers.loading import Network
from actors.backends.transformers.prompts import PASS_TOKENS, Prompt, PromptBatch

# Rows of a step on a GPU.
_ROWS = (1, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512)
# SDPA reads keys in multiples of this on a GPU: another number is another CUDA graph.
_SPAN_MULTIPLE = 256


@dataclass(frozen=True)
class Job:
    """What must be known of a request before its prompt is made.

    Attributes:
        tokens: at least as many as prompt and answer together will have.
        budget: most tokens of the answer, at least 1.
        seconds: of audio.
    """

    tokens: int
    budget: int
    seconds: float


@dataclass(frozen=True)
class Generated:
    """An answer.

    Attributes:
        tokens: up to and with the one that ended it, or to its budget.
        logprobs: log-probability of each of them.
    """

    tokens: list[int]
    logprobs: list[float]


# Makes the prompts of jobs, given by their numbers; in place of one that cannot be made, the error.
MakePrompts = Callable[[Sequence[int]], Iterable[Prompt | Exception]]
# Receives the number of a job, and its answer or why it has none.
Done = Callable[[int, Generated | Exception], None]


@dataclass(frozen=True)
class Policy:
    """What is done differently on a GPU.

    Attributes:
        on_gpu: whether the model runs on one.
    """

    on_gpu: bool

    @property
    def steps(self) -> int:
        """Steps from one look of the host to the next."""
        return 8 if self.on_gpu else 1

    def rows(self, count: int) -> int:
        """Rows of a step for `count` of them that decode."""
        if not self.on_gpu:
            return count
        return next((rows for rows in _ROWS if rows >= count), -(-count // _ROWS[-1]) * _ROWS[-1])

    def rows_below(self, rows: int) -> int:
        """The next smaller number of rows of a step, at least 1."""
        return max((size for size in _ROWS if size < rows), default=1) if self.on_gpu else max(1, rows - 1)

    def refill(self, slots: int) -> int:
        """How many slots must be free before they are filled.

        A group of prompts costs launches whatever its size.
        """
        return max(1, slots // 8) if self.on_gpu else 1

    def span(self, tokens: int, capacity: int) -> int:
        """Keys that SDPA reads where rows have up to `tokens`."""
        if not self.on_gpu:
            return tokens
        return min(capacity, -(-tokens // _SPAN_MULTIPLE) * _SPAN_MULTIPLE)


@dataclass
class Row:
    """A request that is being decoded.

    Attributes:
        number: of its job.
        prompt: tokens of its prompt.
        budget: most tokens of its answer.
        count: tokens of its answer so far.
    """

    number: int
    prompt: int
    budget: int
    count: int = 1


@dataclass
class Staged:
    """Prompts on their way to the device.

    Attributes:
        rows: one for each prompt.
        batch: the prompts.
    """

    rows: list[Row]
    batch: PromptBatch


class Session:
    """Decodes requests in slots of one size.

    Args:
        network: the model.
        step: with a state and a cache for these slots.
        graphs: of its steps.
        policy: what depends on the device.
        jobs: all requests.
        order: numbers of those to decode here, the longest first.
        slots: how many decode at once.
        capacity: tokens of a slot.
        share: of a usual forward pass that fits the device.
        make: makes prompts.
        done: called once for each request.
        stager: prepares prompts while steps run.
    """

    def __init__(
        self,
        network: Network,
        step: DecodeStep,
        graphs: StepGraphs,
        policy: Policy,
        jobs: Sequence[Job],
        order: Sequence[int],
        slots: int,
        capacity: int,
        share: float,
        make: MakePrompts,
        done: Done,
        stager: packed.Stager,
    ) -> None:
        self.network, self.step, self.graphs, self.policy = network, step, graphs, policy
        self.jobs, self.slots, self.capacity, self.share = jobs, slots, capacity, share
        self.make, self.done, self.stager = make, done, stager
        self.device = network.decoder.device
        self.waiting = deque(order)
        self.running: dict[int, Row] = {}
        self.staged: Staged | None = None
        # Answers that were not handed over yet.
        self.answers: list[tuple[int, Generated]] = []
        # Most prompts of one forward pass so far.
        self.largest_pass = 1

    def run(self) -> None:
        """Decode all requests."""
        while self.waiting or self.staged or self.running:
            filled = self._fill()
            if filled and not self.policy.on_gpu:
                # Some may have ended with their first token.
                self._collect()
            if not self.running:
                continue
            self._compact()
            self._advance()
            # The device is busy from here on.
            self._deliver()
            if self.policy.on_gpu and self.waiting and self.staged is None:
                self.staged = self._stage(self.policy.refill(self.slots))
            self._collect()
        self._deliver()

    def _fill(self) -> bool:
        """Put waiting requests into free slots, where these are enough to be worth it; whether it did."""
        filled = False
        while self.waiting or self.staged:
            free = self.slots - len(self.running)
            refill = min(self.policy.refill(self.slots), len(self.waiting))
            needed = len(self.staged.rows) if self.staged else refill
            if free == 0 or (self.running and free < needed):
                break
            staged = self.staged or self._stage(free)
            self.staged = None
            if staged is not None:
                self._run_prompts(staged)
                filled = True
        return filled

    def _stage(self, most: int) -> Staged | None:
        """Make the prompts of the next requests, at most so many; those that fail are answered at once."""
        numbers = list(self.waiting)[:most] if self.policy.on_gpu else [self.waiting[0]]
        bounds = packed.passes(
            [self.jobs[number].tokens - self.jobs[number].budget for number in numbers],
            [self.jobs[number].seconds for number in numbers],
            int(PASS_TOKENS * self.share),
            CALL_SECONDS * self.share,
        )
        numbers = numbers[: bounds[0][1]]
        self.largest_pass = max(self.largest_pass, len(numbers))
        for _ in numbers:
            self.waiting.popleft()
        with self.stager.preparing():
            made: list[Prompt] = []
            rows: list[Row] = []
            for number, prompt in zip(numbers, self.make(numbers), strict=True):
                budget = self.jobs[number].budget
                if isinstance(prompt, Prompt) and len(prompt.tokens) + budget > self.capacity:
                    prompt = ValueError(
                        f"{len(prompt.tokens)} + {budget} tokens in a slot of {self.capacity}"
                    )
                if isinstance(prompt, Exception):
                    self.done(number, prompt)
                    continue
                made.append(prompt)
                rows.append(Row(number, len(prompt.tokens), budget))
            return Staged(rows, packed.stage(made, self.network)) if made else None

    def _run_prompts(self, staged: Staged) -> None:
        """Run prompts into free slots, and choose the first token of each."""
        self.stager.hand_over(staged.batch)
        rows, batch, device = staged.rows, staged.batch, self.device
        free = [slot for slot in range(self.slots) if slot not in self.running][: len(rows)]
        places = to_device(
            np.concatenate(
                [slot * self.capacity + np.arange(row.prompt) for slot, row in zip(free, rows, strict=True)]
            ),
            device,
        )
        # The prefiller may compute in another precision than the decoder.
        prefiller = self.network.prefiller
        hidden = packed.run(
            self.network,
            prefiller,
            batch,
            flash=self.network.flash and prefiller.dtype == self.network.decoder.dtype,
            write=lambda layer, keys, values: self.step.cache.write(layer, places, keys, values),
        )
        self.step.begin(
            to_device(free, device),
            to_device([row.prompt for row in rows], device),
            to_device([row.budget for row in rows], device),
            hidden.index_select(0, to_device(batch.last, device)).to(self.network.decoder.dtype),
        )
        self.running.update(zip(free, rows, strict=True))

    def _compact(self) -> None:
        """Move rows from the last slots into free ones, where steps can then have fewer rows."""
        rows = self.policy.rows(len(self.running))
        if self.waiting or self.staged or rows > max(self.running):
            return
        sources = sorted(slot for slot in self.running if slot >= rows)
        targets = [slot for slot in range(rows) if slot not in self.running][: len(sources)]
        used = max(self.running[slot].prompt + self.running[slot].count for slot in sources)
        self.step.cache.move(sources, targets, self.capacity, min(used, self.capacity))
        self.step.state.move(sources, targets)
        for source, target in zip(sources, targets, strict=True):
            self.running[target] = self.running.pop(source)

    def _advance(self) -> None:
        """Run steps until the host looks again."""
        rows = self.policy.rows(max(self.running) + 1)
        steps = min(self.policy.steps, max(row.budget - row.count for row in self.running.values()))
        lengths = [row.prompt + row.count for row in self.running.values()]
        if self.network.flash:
            span = self.capacity
        else:
            span = self.policy.span(max(lengths) + steps - 1, self.capacity)
        # Not on a GPU: a graph stays when the lengths change.
        equal = not self.policy.on_gpu and min(lengths) == span
        self.graphs.run(
            (rows, self.capacity, span),
            lambda: self.step.advance(rows, self.capacity, span, equal),
            max(1, steps),
        )

    def _collect(self) -> None:
        """Look which rows have ended, and free their slots."""
        if not self.running:
            return
        state = self.step.state
        rows = max(self.running) + 1
        finished, counts = torch.stack([state.finished[:rows].long(), state.count[:rows]]).tolist()
        for slot, row in self.running.items():
            row.count = counts[slot]
        finished_slots = [slot for slot in self.running if finished[slot]]
        if not finished_slots:
            return
        at = to_device(finished_slots, self.device)
        width = max(counts[slot] for slot in finished_slots)
        tokens = state.tokens[:, :width].index_select(0, at).tolist()
        logprobs = state.logprobs[:, :width].index_select(0, at).tolist()
        for slot, chosen, scores in zip(finished_slots, tokens, logprobs, strict=True):
            row = self.running.pop(slot)
            self.answers.append((row.number, Generated(chosen[: row.count], scores[: row.count])))

    def _deliver(self) -> None:
        """Hand over the answers that are there."""
        answers, self.answers = self.answers, []
        for number, answer in answers:
            self.done(number, answer)
