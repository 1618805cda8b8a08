"""Qwen3-ForcedAligner through native transformers: one forward pass, an argmax at each slot.

On a CPU clips run one by one: nothing is gained from more at once, no padding is computed, memory does not grow with the batch, and a
clip's times are the same in every batch because nothing else is in its sums. Elsewhere a batch is padded on the right: in a causal model
nothing real ever sees the padding, so no mask is needed and every clip has the same positions in every batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.backends.out_of_memory import MemoryGuard
from actors.backends.qwen import features as mel
from actors.backends.qwen.aligner_processor import AlignerProcessor
from actors.backends.qwen.checkpoint import load
from actors.config import AlignerConfig
from actors.records import AlignmentRequest

if TYPE_CHECKING:
    import torch


class TransformersAligner:
    """A forced aligner on one device. Satisfies `AlignerBackend`."""

    def __init__(self, config: AlignerConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        checkpoint = load(config.model, "aligner", config)
        self.model = config.model
        self.revision = checkpoint.revision
        self.network = checkpoint.model
        self.extractor = checkpoint.extractor
        self.device, self.dtype, self.features_dtype = (
            checkpoint.device,
            checkpoint.dtype,
            checkpoint.features_dtype,
        )
        self.processor = AlignerProcessor(
            config.model, checkpoint.tokenizer, self.network.config.num_labels, checkpoint.timestamp_ms
        )
        self.max_duration = self.processor.max_duration
        self._features = mel.Ahead[AlignmentRequest](
            self._extract, mel.GPU_THREADS if self.device.type == "cuda" else 0
        )
        self.memory = MemoryGuard()
        self._n_window: int = self.network.config.audio_config.n_window

    def prefetch(self, requests: Sequence[AlignmentRequest]) -> None:
        """Begin with what threads can do for a later batch. See `ASRBackend`."""
        self._features.start(requests)

    def align(self, requests: list[AlignmentRequest]) -> list[list[tuple[float, float]]]:
        """Find word times, in halves where a batch does not fit the device. See `AlignerBackend`."""
        for request in requests:
            self.processor.check(request)
        wordy = [request for request in requests if request.units]
        together = 1 if self.device.type == "cpu" else max(1, len(wordy))
        groups = [wordy[start : start + together] for start in range(0, len(wordy), together)]
        found = iter([times for group in groups for times in self.memory.run(group, self._align)])
        return [next(found) if request.units else [] for request in requests]

    def _align(self, requests: Sequence[AlignmentRequest]) -> list[list[tuple[float, float]]]:
        import torch

        inputs = self.prepare(requests)
        slots = inputs["input_ids"] == self.processor.token
        expected = [2 * len(request.units) for request in requests]
        with torch.inference_mode():
            hidden = self.network.model(**inputs, use_cache=False).last_hidden_state
            # The head only where its answer is read: 5,000 classes at every audio token would be most of the memory.
            classes = self.network.score(hidden[slots]).argmax(-1).cpu()
        return [
            self.processor.times(request, stamps.tolist())
            for request, stamps in zip(requests, classes.split(expected), strict=True)
        ]

    def _extract(self, request: AlignmentRequest) -> mel.Mel:
        return mel.extract(self.extractor, request.waveform, self._n_window)

    def prepare(self, requests: Sequence[AlignmentRequest]) -> dict[str, torch.Tensor]:
        """The model's inputs for a batch: right-padded tokens, features with their mask, all on the device."""
        import torch

        mels = [self._features.take(request) for request in requests]
        prompts = [
            self.processor.prompt(request, features.tokens)
            for request, features in zip(requests, mels, strict=True)
        ]
        input_ids = torch.full(
            (len(prompts), max(map(len, prompts))), self.processor.tokenizer.pad_token_id, dtype=torch.long
        )
        for row, prompt in enumerate(prompts):
            input_ids[row, : len(prompt)] = torch.tensor(prompt)
        features, features_mask = mel.collate(mels)
        return {
            "input_ids": input_ids.to(self.device),
            "input_features": features.to(self.device, self.features_dtype),
            "input_features_mask": features_mask.to(self.device),
        }
