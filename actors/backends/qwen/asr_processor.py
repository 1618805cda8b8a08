"""What is said to a recogniser and what is made of its answer, in tokens: the same for every engine that runs the model in our hands."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from actors.backends.qwen.prompts import asr_prompt, clean_context
from actors.config import ASRConfig
from actors.records import Hypothesis, SegmentRequest
from actors.text.parsing import parse_output, parse_output_compatible

CONFIDENCE_DIGITS = 4
_AUDIO = "<|audio_pad|>"
_TAG = "<asr_text>"
_ENDS = (
    "<|im_end|>",
    "<|endoftext|>",
)  # either ends an answer; by name, as original checkpoints bring no generation config of use


class ASRProcessor:
    """Prompts and answers of one model.

    Args:
        tokenizer: the model's.
        config: budgets, and how answers are read.
    """

    def __init__(self, tokenizer: Any, config: ASRConfig) -> None:
        self.tokenizer, self.config = tokenizer, config
        self.ends: list[int] = tokenizer.convert_tokens_to_ids(list(_ENDS))
        self.tag: int = tokenizer.convert_tokens_to_ids(_TAG)
        # The tag is no special token in the official tokenizers; where it is, decoding must not lose it.
        self.hidden = frozenset(tokenizer.all_special_ids) - {self.tag}
        self._audio: int = tokenizer.convert_tokens_to_ids(_AUDIO)
        self._turns = functools.lru_cache(maxsize=1024)(self._tokenize_turns)

    def prompt(self, request: SegmentRequest, audio_tokens: int) -> list[int]:
        """Token ids of a request: turns, forced language, and what the model is to go on from.

        Args:
            request: the segment.
            audio_tokens: how often the placeholder of the audio stands there: as often as the encoder makes tokens of it, or once for an
                engine that repeats it itself.
        """
        turns = self._turns(request.context, request.language)
        # The last placeholder is ours; in compatible mode an earlier one may stand in the context, as the reference would let it.
        place = len(turns) - 1 - turns[::-1].index(self._audio)
        return [*turns[:place], *[self._audio] * audio_tokens, *turns[place + 1 :], *self._prefix(request)]

    def budget(self, request: SegmentRequest) -> int:
        """Most tokens of the answer."""
        return token_budget(request.duration, self.config)

    def hypothesis(
        self, request: SegmentRequest, tokens: Sequence[int], logprobs: Sequence[float]
    ) -> Hypothesis:
        """What an answer says.

        Args:
            request: what was asked.
            tokens: generated, up to and with the one that ended the answer; without one it is flagged `truncated`.
            logprobs: of each.
        """
        end = next((position for position, token in enumerate(tokens) if token in self.ends), None)
        said = list(tokens[:end])
        raw = request.prefix + self.decode(said)
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

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens left out and the tag kept."""
        text: str = self.tokenizer.decode(
            [token for token in tokens if token not in self.hidden], skip_special_tokens=False
        )
        return text

    def _settled(self, request: SegmentRequest, said: list[int]) -> str:
        """The raw answer without its last tokens, and without half a character, whose other bytes a dropped token held."""
        kept = self.decode(said[: -request.unsettled_tokens])
        return request.prefix + kept.rstrip("\ufffd")

    def _prefix(self, request: SegmentRequest) -> list[int]:
        """Tokens of what the model is to go on from. It is told apart from control: only the model's own tag is one."""
        if not request.prefix:
            return []
        tokens: list[int] = self.tokenizer(request.prefix, add_special_tokens=False)["input_ids"]
        return [token for token in tokens if token not in self.hidden]

    def _confidence(self, said: list[int], logprobs: Sequence[float]) -> float | None:
        """exp(mean log-probability) of the text's tokens; None where there is no text.

        Left out: the forced prefix (it was not generated), the language and tag before the text (nearly certain, they would lift short
        texts), and the decision to end.
        """
        start = said.index(self.tag) + 1 if self.tag in said else 0
        scores = logprobs[start : len(said)]
        return round(math.exp(math.fsum(scores) / len(scores)), CONFIDENCE_DIGITS) if scores else None

    def _tokenize_turns(self, context: str, language: str | None) -> list[int]:
        context = context if self.config.compatible else clean_context(context)
        tokens: list[int] = self.tokenizer(asr_prompt(context, language), add_special_tokens=False)[
            "input_ids"
        ]
        return tokens


def token_budget(duration: float, config: ASRConfig) -> int:
    """Most tokens of the answer to a segment of so many seconds."""
    return math.ceil(duration * config.max_tokens_per_second) + config.min_tokens
