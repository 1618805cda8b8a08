"""Qwen3-ForcedAligner over the weights of transformers' model: one forward pass, an argmax at each slot.

On a CPU clips run one by one: nothing is gained from more at once, memory does not grow with the batch, and a
clip's times are the same in every batch because nothing else is in its sums. On a GPU clips are packed
without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch

from actors.backends.base import AlignerBackend
from actors.backends.devices import gpu_memory
from actors.backends.out_of_memory import MemoryGuard
from actors.backends.qwen import features as mel
from actors.backends.qwen.aligner_processor import AlignerProcessor
from actors.backends.transformers import prompts as packed
from actors.backends.transformers.encoder import CALL_SECONDS
from actors.backends.transformers.kernels.attention import to_device
from actors.backends.transformers.loading import load
from actors.backends.transformers.prompts import PASS_TOKENS, Prompt, extract_features
from actors.config import AlignerConfig
from actors.process.watchdog import heartbeat, limited_table
from actors.records import AlignmentRequest

Times = list[tuple[float, float]]


class Fetched:
    """A tensor on its way to the host.

    Args:
        tensor: on the device, perhaps not computed yet.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._tensor = tensor
        if tensor.is_cuda:
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def wait(self) -> torch.Tensor:
        """The tensor on the host; does not wait for what was queued after it."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor


class TransformersAligner(AlignerBackend):
    """A forced aligner on one device. Satisfies `AlignerBackend`."""

    device: torch.device

    def __init__(self, config: AlignerConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        self.checkpoint = checkpoint = load(config.model, "aligner", config)
        self.config = config
        self.model = config.model
        self.revision = checkpoint.revision
        self.network = checkpoint.network
        self.device, self.dtype = checkpoint.device, checkpoint.dtype
        self.gpu_memory = gpu_memory(self.device, config.pool.num_gpus)
        self.processor = AlignerProcessor(
            config.model,
            checkpoint.tokenizer,
            checkpoint.model.config.num_labels,
            checkpoint.timestamp_ms,
        )
        self.max_duration = self.processor.max_duration
        self.batches_itself = self.on_gpu
        # The host prepares a second call while the first one runs.
        self.max_concurrent_calls = 2 if self.on_gpu else 1
        self.memory = MemoryGuard()
        self._stager = packed.Stager(self.network)

    def align(self, requests: list[AlignmentRequest]) -> list[Times | Exception]:
        """Find word times, in halves where a batch does not fit the device. See `AlignerBackend`."""
        for request in requests:
            self.processor.check(request)
        spoken = [request for request in requests if request.units]
        size = max(1, len(spoken)) if self.on_gpu else 1
        groups = [spoken[start : start + size] for start in range(0, len(spoken), size)]
        durations = [request.duration for request in requests]
        limit = limited_table(self.config.timeout, durations, "an aligner call")
        with limit if self.batches_itself else nullcontext():
            found = [times for group in groups for times in self.memory.run(group, self._align)]
        if len(requests) == 1 and found and isinstance(found[0], Exception):
            raise found[0]
        results = iter(found)
        return [next(results) if request.units else [] for request in requests]

    @torch.inference_mode()
    def _align(self, requests: Sequence[AlignmentRequest]) -> list[Times | Exception]:
        """Word times of packed requests, in as many forward passes as their size demands."""
        order = sorted(range(len(requests)), key=lambda number: -requests[number].duration)
        bounds = packed.passes(
            [self._tokens(requests[number]) for number in order],
            [requests[number].duration for number in order],
            PASS_TOKENS,
            CALL_SECONDS,
        )
        results: list[Times | Exception] = [[]] * len(requests)
        running: tuple[list[int], Fetched] | None = None
        for start, end in bounds:
            # The host prepares a pass while the one before it runs.
            with self._stager.preparing():
                made = self.prompts([requests[number] for number in order[start:end]])
                prompts = [prompt for prompt in made if isinstance(prompt, Prompt)]
                batch = packed.stage(prompts, self.network) if prompts else None
            numbers: list[int] = []
            for number, prompt in zip(order[start:end], made, strict=True):
                if isinstance(prompt, Prompt):
                    numbers.append(number)
                else:
                    results[number] = prompt
            # Queued before the pass before it is read: the device never waits for the host.
            before = running
            running = (numbers, Fetched(self.classify(prompts, batch))) if prompts else None
            if before is not None:
                self._read(requests, *before, results)
        if running is not None:
            self._read(requests, *running, results)
        return results

    def _read(
        self,
        requests: Sequence[AlignmentRequest],
        numbers: Sequence[int],
        classes: Fetched,
        results: list[Times | Exception],
    ) -> None:
        """Wait for the classes of a pass, and put the times of its requests into their places."""
        heartbeat()
        stamps = classes.wait().split([2 * len(requests[number].units) for number in numbers])
        for number, part in zip(numbers, stamps, strict=True):
            results[number] = self.processor.times(requests[number], part.tolist())

    def classify(self, prompts: Sequence[Prompt], batch: packed.PromptBatch | None = None) -> torch.Tensor:
        """The class at each slot of packed prompts, (slots,), on the device.

        Args:
            prompts: what to classify.
            batch: the same, where they were staged already.
        """
        if batch is None:
            batch = packed.stage(prompts, self.network)
        else:
            self._stager.hand_over(batch)
        tokens = np.concatenate([prompt.tokens for prompt in prompts])
        slots = to_device(np.flatnonzero(tokens == self.processor.token), self.device)
        hidden = packed.run(self.network, self.network.decoder, batch, flash=self.network.flash)
        # Only where the answer is read: 5,000 classes at every audio token would be most of the memory.
        classes: torch.Tensor = self.network.head(hidden.index_select(0, slots))
        return classes.argmax(-1)

    def prompts(self, requests: Sequence[AlignmentRequest]) -> list[Prompt | Exception]:
        """The prompts of requests with their features; in place of one that cannot be made, the error."""
        waveforms = [request.waveform for request in requests]
        found = extract_features(self.checkpoint.extractor, waveforms, self.network)
        prompts: list[Prompt | Exception] = []
        for request, features in zip(requests, found, strict=True):
            try:
                prompts.append(Prompt(self.processor.prompt(request, features.tokens), features))
            except Exception as error:
                prompts.append(error)
        return prompts

    def _tokens(self, request: AlignmentRequest) -> int:
        """About how many tokens its prompt has: audio, and for each unit two slots and three of text."""
        return self.network.encoder.tokens(mel.frames_of(len(request.waveform))) + 5 * len(request.units)
