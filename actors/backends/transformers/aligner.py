"""Qwen3-ForcedAligner over the weights of transformers' model: one forward pass, an argmax at each slot.

On a CPU clips run one by one: nothing is gained from more at once, memory does not grow with the batch, and a
clip's times are the same in every batch because nothing else is in its sums. On a GPU clips are packed
without padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from actors.backends.base import AlignerBackend
from actors.backends.devices import gpu_memory
from actors.backends.out_of_memory import MemoryGuard
from actors.backends.qwen import features as mel
from actors.backends.qwen.aligner_processor import AlignerProcessor
from actors.backends.transformers import prompts as packed
from actors.backends.transformers.attention import to_device
from actors.backends.transformers.encoder import CALL_SECONDS
from actors.backends.transformers.loading import load
from actors.backends.transformers.prompts import PASS_TOKENS, Prompt, extract_features
from actors.config import AlignerConfig
from actors.records import AlignmentRequest

Times = list[tuple[float, float]]


class TransformersAligner(AlignerBackend):
    """A forced aligner on one device. Satisfies `AlignerBackend`."""

    device: torch.device

    def __init__(self, config: AlignerConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        self.checkpoint = checkpoint = load(config.model, "aligner", config)
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
        self.memory = MemoryGuard()

    def align(self, requests: list[AlignmentRequest]) -> list[Times]:
        """Find word times, in halves where a batch does not fit the device. See `AlignerBackend`."""
        for request in requests:
            self.processor.check(request)
        wordy = [request for request in requests if request.units]
        size = 1 if self.device.type == "cpu" else max(1, len(wordy))
        groups = [wordy[start : start + size] for start in range(0, len(wordy), size)]
        found = iter([times for group in groups for times in self.memory.run(group, self._align)])
        return [next(found) if request.units else [] for request in requests]

    @torch.inference_mode()
    def _align(self, requests: Sequence[AlignmentRequest]) -> list[Times]:
        """Word times of packed requests, in as many forward passes as their size demands."""
        bounds = packed.passes(
            [self._tokens(request) for request in requests],
            [request.duration for request in requests],
            PASS_TOKENS,
            CALL_SECONDS,
        )
        # All passes are queued before the first result is waited for: the host prepares one while another
        # runs.
        classes = [self.classify(self.prompts(requests[start:end])) for start, end in bounds]
        flat = torch.cat([part.cpu() for part in classes])
        stamps = flat.split([2 * len(request.units) for request in requests])
        return [
            self.processor.times(request, numbers.tolist())
            for request, numbers in zip(requests, stamps, strict=True)
        ]

    def classify(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """The class at each slot of packed prompts, (slots,), on the device."""
        batch = packed.stage(prompts, self.network)
        tokens = [token for prompt in prompts for token in prompt.tokens]
        slots = [place for place, token in enumerate(tokens) if token == self.processor.token]
        hidden = packed.run(self.network, self.network.decoder, batch, flash=self.network.flash)
        # The head only where its answer is read: 5,000 classes at every audio token would be most of the
        # memory.
        classes: torch.Tensor = self.network.head(hidden.index_select(0, to_device(slots, self.device)))
        return classes.argmax(-1)

    def prompts(self, requests: Sequence[AlignmentRequest]) -> list[Prompt]:
        """The prompts of requests with their features."""
        waveforms = [request.waveform for request in requests]
        found = extract_features(self.checkpoint.extractor, waveforms, self.network)
        return [
            Prompt(self.processor.prompt(request, features.tokens), features)
            for request, features in zip(requests, found, strict=True)
        ]

    def _tokens(self, request: AlignmentRequest) -> int:
        """About how many tokens its prompt has: audio, and for each unit two slots and three of text."""
        return self.network.encoder.tokens(mel.frames_of(len(request.waveform))) + 5 * len(request.units)
