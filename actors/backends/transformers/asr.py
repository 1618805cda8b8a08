"""Qwen3-ASR through native transformers: greedy, in batches.

What does not depend on a segment's neighbours in the batch: its features and prompt, its token budget, and on a CPU its encoding and what
its prompt leaves in the cache (all bit for bit). The decoder's steps sum in an order that depends on the batch's shape, which moves
logits in their last digits: 1e-6 in fp32, nothing visible in fp64 (what tiny models use, see devices), 1e-2 in bf16. Texts change only
where two tokens tie that closely, and the confidence is rounded to CONFIDENCE_DIGITS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actors.backends.out_of_memory import MemoryGuard
from actors.backends.qwen import features as mel
from actors.backends.qwen.asr_processor import ASRProcessor
from actors.backends.qwen.checkpoint import load
from actors.config import ASRConfig
from actors.records import Hypothesis, SegmentRequest

if TYPE_CHECKING:
    import torch


class TransformersASR:
    """A recogniser on one device. Satisfies `ASRBackend`."""

    def __init__(self, config: ASRConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        checkpoint = load(config.model, "asr", config)
        self.config = config
        self.model = config.model
        self.revision = checkpoint.revision
        self.network = checkpoint.model
        self.processor = ASRProcessor(checkpoint.tokenizer, config)
        self.extractor = checkpoint.extractor
        self.device, self.dtype, self.features_dtype = (
            checkpoint.device,
            checkpoint.dtype,
            checkpoint.features_dtype,
        )
        self._prefiller = checkpoint.prefiller
        _share_keys(self.network.model.language_model)
        self._features = mel.Ahead[SegmentRequest](
            self._extract, mel.GPU_THREADS if self.device.type == "cuda" else 0
        )
        self.memory = MemoryGuard()
        self._n_window: int = self.network.config.audio_config.n_window

    def prefetch(self, requests: Sequence[SegmentRequest]) -> None:
        """Begin with what threads can do for a later batch. See `ASRBackend`."""
        self._features.start(requests)

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis]:
        """Recognise one batch, in halves where it does not fit the device. See `ASRBackend`."""
        return self.memory.run(requests, self._transcribe) if requests else []

    def _transcribe(self, requests: Sequence[SegmentRequest]) -> list[Hypothesis]:
        inputs = self.prepare(requests)
        budgets = [self.processor.budget(request) for request in requests]
        rows, logprobs = self._generate(inputs, budgets)
        return [
            self.processor.hypothesis(request, tokens[:budget], scores)
            for request, tokens, scores, budget in zip(requests, rows, logprobs, budgets, strict=True)
        ]

    def _extract(self, request: SegmentRequest) -> mel.Mel:
        return mel.extract(self.extractor, request.waveform, self._n_window)

    def prepare(self, requests: Sequence[SegmentRequest]) -> dict[str, torch.Tensor]:
        """The model's inputs for a batch: left-padded tokens with their mask, features with theirs, all on the device."""
        import torch

        mels = [self._features.take(request) for request in requests]
        prompts = [
            self.processor.prompt(request, features.tokens)
            for request, features in zip(requests, mels, strict=True)
        ]
        longest = max(map(len, prompts))
        input_ids = torch.full((len(prompts), longest), self.processor.ends[0], dtype=torch.long)
        attention_mask = torch.zeros_like(input_ids)
        for row, prompt in enumerate(prompts):
            input_ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            attention_mask[row, longest - len(prompt) :] = 1
        features, features_mask = mel.collate(mels)
        return {
            "input_ids": input_ids.to(self.device),
            "attention_mask": attention_mask.to(self.device),
            "input_features": features.to(self.device, self.features_dtype),
            "input_features_mask": features_mask.to(self.device),
        }

    def _generate(
        self, inputs: dict[str, torch.Tensor], budgets: list[int]
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Generated token ids and their log-probabilities for each row."""
        import torch

        from actors.backends.transformers.generation import generate

        with torch.inference_mode():
            rows = generate(self.network, inputs, budgets, self.processor.ends, self._prefiller)
        return [row.tokens for row in rows], [row.logprobs for row in rows]


def _share_keys(decoder: Any) -> None:
    """Let the heads of a group read their keys together instead of from copies, where transformers' sdpa would be used."""
    from actors.backends.transformers.kv_cache import GROUPED

    if decoder.config._attn_implementation == "sdpa":
        decoder.config._attn_implementation = GROUPED
