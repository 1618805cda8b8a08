"""Qwen3-ASR through native transformers: greedy, in batches.

What does not depend on a segment's neighbours in the batch: its features and prompt, its token budget, and on a CPU its encoding and what
its prompt leaves in the cache (all bit for bit). The decoder's steps sum in an order that depends on the batch's shape, which moves
logits in their last digits: 1e-6 in fp32, nothing visible in fp64 (what tiny models use, see devices), 1e-2 in bf16. Texts change only
where two tokens tie that closely, and the confidence is rounded to CONFIDENCE_DIGITS.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actors.backends import mel
from actors.backends.loading import load
from actors.backends.memory import MemoryGuard
from actors.config import ASRConfig
from actors.parsing import parse_output, parse_output_compatible
from actors.prompts import asr_prompt, clean_context
from actors.results import Hypothesis, SegmentRequest

if TYPE_CHECKING:
    import torch

CONFIDENCE_DIGITS = 4
_TAG = "<asr_text>"
_ENDS = ("<|im_end|>", "<|endoftext|>")  # either ends an answer; by name, as original checkpoints bring no generation config of use


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
        self.tokenizer = checkpoint.tokenizer
        self.extractor = checkpoint.extractor
        self.device, self.dtype, self.features_dtype = checkpoint.device, checkpoint.dtype, checkpoint.features_dtype
        self._prefiller = checkpoint.prefiller
        _share_keys(self.network.model.language_model)
        self._features = mel.Ahead[SegmentRequest](self._extract, mel.GPU_THREADS if self.device.type == "cuda" else 0)
        self.memory = MemoryGuard()
        self._audio_token: int = self.network.config.audio_token_id
        self._n_window: int = self.network.config.audio_config.n_window
        self._tag: int = self.tokenizer.convert_tokens_to_ids(_TAG)
        self._ends: list[int] = self.tokenizer.convert_tokens_to_ids(list(_ENDS))
        # The tag is no special token in the official tokenizers; where it is, decoding must not lose it.
        self._hidden = frozenset(self.tokenizer.all_special_ids) - {self._tag}
        self._prompt = functools.lru_cache(maxsize=1024)(self._tokenize_prompt)

    def prefetch(self, requests: Sequence[SegmentRequest]) -> None:
        """Begin with what threads can do for a later batch. See `ASRBackend`."""
        self._features.start(requests)

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis]:
        """Recognise one batch, in halves where it does not fit the device. See `ASRBackend`."""
        return self.memory.run(requests, self._transcribe) if requests else []

    def _transcribe(self, requests: Sequence[SegmentRequest]) -> list[Hypothesis]:
        inputs = self.prepare(requests)
        budgets = [self._budget(request) for request in requests]
        rows, logprobs = self._generate(inputs, budgets)
        return [
            self._hypothesis(request, tokens[:budget], scores)
            for request, tokens, scores, budget in zip(requests, rows, logprobs, budgets, strict=True)
        ]

    def _extract(self, request: SegmentRequest) -> mel.Mel:
        return mel.extract(self.extractor, request.waveform, self._n_window)

    def prepare(self, requests: Sequence[SegmentRequest]) -> dict[str, torch.Tensor]:
        """The model's inputs for a batch: left-padded tokens with their mask, features with theirs, all on the device."""
        import torch

        mels = [self._features.take(request) for request in requests]
        prompts = [
            self._expand(self._prompt(request.context, request.language), features.tokens) + self._prefix(request)
            for request, features in zip(requests, mels, strict=True)
        ]
        longest = max(map(len, prompts))
        input_ids = torch.full((len(prompts), longest), self._ends[0], dtype=torch.long)
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

    def _generate(self, inputs: dict[str, torch.Tensor], budgets: list[int]) -> tuple[list[list[int]], list[list[float]]]:
        """Generated token ids and their log-probabilities for each row."""
        import torch

        from actors.backends.generation import generate

        with torch.inference_mode():
            rows = generate(self.network, inputs, budgets, self._ends, self._prefiller)
        return [row.tokens for row in rows], [row.logprobs for row in rows]

    def _hypothesis(self, request: SegmentRequest, tokens: list[int], logprobs: list[float]) -> Hypothesis:
        end = next((position for position, token in enumerate(tokens) if token in self._ends), None)
        said = tokens[:end]
        raw = request.prefix + self._decode(said)
        flags: tuple[str, ...] = ()
        if self.config.compatible:
            found, text = parse_output_compatible(raw, request.language)
            language = found or None
        else:
            language, text, flags = parse_output(raw, request.language)
        if end is None:
            flags = (*flags, "truncated")
        return Hypothesis(
            text=text,
            language=language,
            raw=raw,
            confidence=self._confidence(said, logprobs),
            tokens=len(said),
            flags=flags,
            settled=self._settled(request, said) if request.unsettled_tokens else "",
        )

    def _settled(self, request: SegmentRequest, said: list[int]) -> str:
        """The raw answer without its last tokens, and without half a character, whose other bytes a dropped token held."""
        kept = self._decode(said[: -request.unsettled_tokens])
        return request.prefix + kept.rstrip("\ufffd")

    def _decode(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode([token for token in tokens if token not in self._hidden], skip_special_tokens=False)
        return text

    def _prefix(self, request: SegmentRequest) -> list[int]:
        """Tokens of what the model is to go on from. It is told apart from control: only the model's own tag is one."""
        if not request.prefix:
            return []
        tokens: list[int] = self.tokenizer(request.prefix, add_special_tokens=False)["input_ids"]
        return [token for token in tokens if token not in self._hidden]

    def _confidence(self, said: list[int], logprobs: list[float]) -> float | None:
        """exp(mean log-probability) of the text's tokens; None where there is no text.

        Left out: the forced prefix (it was not generated), the language and tag before the text (nearly certain, they would lift short
        texts), and the decision to end.
        """
        start = said.index(self._tag) + 1 if self._tag in said else 0
        scores = logprobs[start : len(said)]
        return round(math.exp(math.fsum(scores) / len(scores)), CONFIDENCE_DIGITS) if scores else None

    def _budget(self, request: SegmentRequest) -> int:
        return math.ceil(request.duration * self.config.max_tokens_per_second) + self.config.min_tokens

    def _tokenize_prompt(self, context: str, language: str | None) -> list[int]:
        context = context if self.config.compatible else clean_context(context)
        tokens: list[int] = self.tokenizer(asr_prompt(context, language), add_special_tokens=False)["input_ids"]
        return tokens

    def _expand(self, prompt: list[int], audio_tokens: int) -> list[int]:
        # The last placeholder is ours; in compatible mode an earlier one may stand in the context, as the reference would let it.
        place = len(prompt) - 1 - prompt[::-1].index(self._audio_token)
        return [*prompt[:place], *[self._audio_token] * audio_tokens, *prompt[place + 1 :]]


def _share_keys(decoder: Any) -> None:
    """Let the heads of a group read their keys together instead of from copies, where transformers' sdpa would be used."""
    from actors.backends.cache import GROUPED

    if decoder.config._attn_implementation == "sdpa":
        decoder.config._attn_implementation = GROUPED
