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
from actors.backends.transformers.decode_step import DecodeStep, Policy, StepGraphs
from actors.backends.transformers.encoder import CALL_SECONDS
from actors.backends.transformers.kernels.attention import to_device
from actors.backends.transformers.loading import Network
from actors.backends.transformers.prompts import PASS_TOKENS, Prompt, PromptBatch


@dataclass(frozen=True)
class Job:
    """What must be known of a request before its prompt is made.

    Attributes:
        tokens: at least as many as prompt and answer together will have.
        budget: most tokens of the answer, at least 1.
        seconds: of audio.
        penalty: repetition penalty; 1: none.
    """

    tokens: int
    budget: int
    seconds: float
    penalty: float = 1.0


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


class Call:
    """Requests of one caller.

    Args:
        jobs: the requests.
        make: makes their prompts.
        done: called once for each of them.
    """

    def __init__(self, jobs: Sequence[Job], make: MakePrompts, done: Done) -> None:
        self.jobs, self.make, self._done = jobs, make, done
        self.unanswered = set(range(len(jobs)))
        # What `done` raised, perhaps in the thread of another caller.
        self.error: Exception | None = None

    def tasks(self) -> list[Task]:
        """What is not answered yet, the longest first: so the last rows of all end early."""
        order = sorted(self.unanswered, key=lambda number: (-self.jobs[number].tokens, number))
        return [Task(self, number, self.jobs[number]) for number in order]

    def answer(self, number: int, answer: Generated | Exception) -> None:
        """Hand over the answer to a request."""
        self.unanswered.discard(number)
        try:
            self._done(number, answer)
        except Exception as error:
            self.error = error


@dataclass(frozen=True, eq=False)
class Task:
    """One request of a call."""

    call: Call
    number: int
    job: Job


@dataclass
class Row:
    """A request that is being decoded.

    Attributes:
        task: the request.
        prompt: tokens of its prompt.
        count: tokens of its answer so far.
    """

    task: Task
    prompt: int
    count: int = 1


class Session:
    """Decodes requests in slots of one size.

    Args:
        network: the model.
        step: with a state and a cache for these slots.
        graphs: of its steps.
        policy: what depends on the device.
        stager: prepares prompts while steps run.
        slots: how many requests decode at once.
        capacity: tokens of a slot.
        share: of a usual forward pass that fits the device.
    """

    def __init__(
        self,
        network: Network,
        step: DecodeStep,
        graphs: StepGraphs,
        policy: Policy,
        stager: packed.Stager,
        slots: int,
        capacity: int,
        share: float,
    ) -> None:
        self.network, self.step, self.graphs, self.policy = network, step, graphs, policy
        self.stager, self.slots, self.capacity, self.share = stager, slots, capacity, share
        self.device = network.decoder.device
        # Requests may be added at any time, while `advance` does not run.
        self.waiting: deque[Task] = deque()
        self.running: dict[int, Row] = {}
        self.staged: tuple[list[Row], PromptBatch] | None = None
        # Answers that were not handed over yet.
        self.answers: list[tuple[Task, Generated]] = []
        # Most prompts of one forward pass so far.
        self.largest_pass = 1

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.waiting or self.staged or self.running or self.answers)

    def advance(self) -> None:
        """Fill free slots, run steps until the host looks again, and collect what has ended."""
        filled = self._fill()
        if filled and not self.policy.on_gpu:
            # Some may have ended with their first token.
            self._collect()
        if self.running:
            self._compact()
            self._run_steps()
        # The device is busy from here on.
        self._deliver()
        if self.running:
            if self.policy.on_gpu and self.waiting and self.staged is None:
                self.staged = self._stage(self.policy.refill(self.slots))
            self._collect()

    def _fill(self) -> bool:
        """Put waiting requests into free slots, where these are enough to be worth it; whether it did."""
        filled = False
        while self.waiting or self.staged:
            free = self.slots - len(self.running)
            refill = min(self.policy.refill(self.slots), len(self.waiting))
            needed = len(self.staged[0]) if self.staged else refill
            if free == 0 or (self.running and free < needed):
                break
            staged = self.staged or self._stage(free)
            self.staged = None
            if staged is not None:
                self._run_prompts(*staged)
                filled = True
        return filled

    def _stage(self, most: int) -> tuple[list[Row], PromptBatch] | None:
        """Make the prompts of the next requests, at most so many; those that fail are answered at once."""
        tasks = [self.waiting[place] for place in range(min(most, len(self.waiting)))]
        tasks = tasks if self.policy.on_gpu else tasks[:1]
        bounds = packed.passes(
            [task.job.tokens - task.job.budget for task in tasks],
            [task.job.seconds for task in tasks],
            int(PASS_TOKENS * self.share),
            CALL_SECONDS * self.share,
        )
        # Tasks of one call: its prompts are made together.
        tasks = [task for task in tasks[: bounds[0][1]] if task.call is tasks[0].call]
        self.largest_pass = max(self.largest_pass, len(tasks))
        with self.stager.preparing():
            made = list(tasks[0].call.make([task.number for task in tasks]))
            rows: list[Row] = []
            prompts: list[Prompt] = []
            for task, prompt in zip(tasks, made, strict=True):
                self.waiting.popleft()
                if isinstance(prompt, Prompt):
                    needed = len(prompt.tokens) + task.job.budget
                    if needed <= self.capacity:
                        rows.append(Row(task, len(prompt.tokens)))
                        prompts.append(prompt)
                        continue
                    prompt = ValueError(f"{needed} tokens for a slot of {self.capacity}")
                task.call.answer(task.number, prompt)
            return (rows, packed.stage(prompts, self.network)) if rows else None

    def _run_prompts(self, rows: list[Row], batch: PromptBatch) -> None:
        """Run prompts into free slots, and choose the first token of each."""
        self.stager.hand_over(batch)
        device = self.device
        free = [slot for slot in range(self.slots) if slot not in self.running][: len(rows)]
        starts = [slot * self.capacity for slot in free]
        parts = [start + np.arange(row.prompt) for start, row in zip(starts, rows, strict=True)]
        places = to_device(np.concatenate(parts), device)
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
            to_device([row.task.job.budget for row in rows], device),
            hidden.index_select(0, to_device(batch.last, device)).to(self.network.decoder.dtype),
            self._penalties(rows),
        )
        self.running.update(zip(free, rows, strict=True))

    def _penalties(self, rows: Iterable[Row]) -> torch.Tensor | None:
        """Repetition penalties of rows on the device; None where no row has one."""
        penalties = [row.task.job.penalty for row in rows]
        if all(penalty == 1 for penalty in penalties):
            return None
        return to_device(np.array(penalties), self.device, torch.float32)

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

    def _run_steps(self) -> None:
        """Run steps until the host looks again."""
        rows = self.policy.rows(max(self.running) + 1)
        left = max(row.task.job.budget - row.count for row in self.running.values())
        steps = max(1, min(self.policy.steps, left))
        lengths = [row.prompt + row.count for row in self.running.values()]
        needed = self.policy.span(max(lengths) + steps - 1, self.capacity)
        span = self.capacity if self.network.flash else needed
        # Not on a GPU: a graph stays when the lengths change.
        equal = not self.policy.on_gpu and min(lengths) == span
        penalties = any(row.task.job.penalty != 1 for row in self.running.values())
        self.graphs.run(
            (rows, self.capacity, span, int(penalties)),
            lambda: self.step.advance(rows, self.capacity, span, equal, penalties),
            steps,
        )

    def _collect(self) -> None:
        """Look which rows have ended, and free their slots."""
        state = self.step.state
        rows = max(self.running) + 1
        finished, counts = torch.stack([state.finished[:rows].long(), state.count[:rows]]).tolist()
        for slot, row in self.running.items():
            row.count = counts[slot]
        slots = [slot for slot in self.running if finished[slot]]
        if not slots:
            return
        at = to_device(slots, self.device)
        width = max(counts[slot] for slot in slots)
        tokens = state.tokens[:, :width].index_select(0, at).tolist()
        logprobs = state.logprobs[:, :width].index_select(0, at).tolist()
        for slot, chosen, scores in zip(slots, tokens, logprobs, strict=True):
            row = self.running.pop(slot)
            self.answers.append((row.task, Generated(chosen[: row.count], scores[: row.count])))

    def _deliver(self) -> None:
        """Hand over the answers that are there."""
        answers, self.answers = self.answers, []
        for task, answer in answers:
            task.call.answer(task.number, answer)
