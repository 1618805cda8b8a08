"""Prompts of the recogniser and hypotheses from its answers, in tokens, the same for every local engine."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from actors.backends.qwen.prompts import asr_prompt, clean_context
from actors.confidence.token_spans import TokenSpans, ends_of, locate
from actors.confidence.words import joint_confidence, mean_confidence
from actors.config import ASRConfig
from actors.records import Hypothesis, SegmentRequest
from actors.text.parsing import parse_output, parse_output_compatible

_AUDIO = "<|audio_pad|>"
_TAG = "<asr_text>"
# What an answer begins with; the name of the language follows, with a space before it.
LANGUAGE_WORD = "language"
# Either token ends an answer. Named here, because original checkpoints have no usable generation config.
_ENDS = ("<|im_end|>", "<|endoftext|>")


def _byte_of_char() -> dict[str, int]:
    """The alphabet in which byte-level tokenizers write bytes.

    Printable characters of Latin-1 stand for themselves, the other bytes in their order for U+0100 and what
    follows.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + number): byte for number, byte in enumerate(others)
    }


BYTE_OF_CHAR = _byte_of_char()


class ASRProcessor:
    """Prompts and answers of one model.

    Args:
        tokenizer: its tokenizer.
        config: token budgets, and how answers are parsed.
    """

    def __init__(self, tokenizer: Any, config: ASRConfig) -> None:
        self.tokenizer, self.config = tokenizer, config
        self.ends: list[int] = tokenizer.convert_tokens_to_ids(list(_ENDS))
        self.tag: int = tokenizer.convert_tokens_to_ids(_TAG)
        # The tag is not special in the official tokenizers. Where it is, decoding must keep it.
        self.hidden = frozenset(tokenizer.all_special_ids) - {self.tag}
        self._audio: int = tokenizer.convert_tokens_to_ids(_AUDIO)
        self._token_bytes: dict[int, bytes] = {}
        self._turns = functools.lru_cache(maxsize=1024)(self._tokenize_turns)

    def prompt(self, request: SegmentRequest, audio_tokens: int) -> list[int]:
        """Token ids of a request: turns, forced language, and the prefix that the model continues.

        Args:
            request: the segment.
            audio_tokens: how many placeholders stand for the audio: the number of tokens that the encoder
                makes, or one for an engine that expands it itself.
        """
        turns = self._turns(request.context, request.language)
        # The last placeholder is ours. In compatible mode the context may contain one too, as in the
        # reference.
        position = len(turns) - 1 - turns[::-1].index(self._audio)
        audio = [self._audio] * audio_tokens
        return [*turns[:position], *audio, *turns[position + 1 :], *self._prefix(request)]

    def budget(self, request: SegmentRequest) -> int:
        """Most tokens that an answer may have."""
        return token_budget(request.duration, self.config)

    def hypothesis(
        self, request: SegmentRequest, tokens: Sequence[int], logprobs: Sequence[float]
    ) -> Hypothesis:
        """Parse an answer.

        Args:
            request: the request.
            tokens: the generated tokens, including the one that ended the answer; without one the hypothesis
                gets the flag `truncated`.
            logprobs: log-probability of each token.
        """
        end = next((position for position, token in enumerate(tokens) if token in self.ends), None)
        generated = list(tokens[:end])
        raw = request.prefix + self.decode(generated)
        flags: tuple[str, ...] = ()
        if self.config.compatible:
            found, text = parse_output_compatible(raw, request.language)
            language = found or None
        else:
            language, text, flags = parse_output(raw, request.language)
        if end is None:
            flags = (*flags, "truncated")
        spans = self._spans(request.prefix, generated, logprobs, text)
        return Hypothesis(
            text=text,
            language=language,
            raw=raw,
            confidence=self._confidence(generated, logprobs),
            tokens=len(generated),
            flags=flags,
            settled=self._settled(request, generated) if request.unsettled_tokens else "",
            language_confidence=self._language_confidence(request, generated, logprobs) if text else None,
            token_ends=spans.ends,
            token_log_probabilities=spans.log_probabilities,
        )

    def first_token_of(self, language: str) -> int:
        """The token that the name of a language begins with, in an answer."""
        token: int = self.tokenizer(f" {language}", add_special_tokens=False)["input_ids"][0]
        return token

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without control tokens but with the tag."""
        text: str = self.tokenizer.decode(
            [token for token in tokens if token not in self.hidden], skip_special_tokens=False
        )
        return text

    def _settled(self, request: SegmentRequest, generated: list[int]) -> str:
        """The raw answer without its last tokens, and without a character that is then incomplete."""
        settled = self.decode(generated[: -request.unsettled_tokens])
        return request.prefix + settled.rstrip("\ufffd")

    def _prefix(self, request: SegmentRequest) -> list[int]:
        """Tokens of the prefix that the model continues, without control tokens except the tag."""
        if not request.prefix:
            return []
        tokens: list[int] = self.tokenizer(request.prefix, add_special_tokens=False)["input_ids"]
        return [token for token in tokens if token not in self.hidden]

    def _confidence(self, generated: list[int], logprobs: Sequence[float]) -> float | None:
        """exp(mean log-probability) of the tokens of the text; None without text.

        Not counted: the forced prefix, which was not generated; the language and the tag before the text,
        which are nearly certain and would raise the value of short texts; and the token that ends the answer.
        """
        start = generated.index(self.tag) + 1 if self.tag in generated else 0
        return mean_confidence(logprobs[start : len(generated)])

    def _language_confidence(
        self, request: SegmentRequest, generated: list[int], logprobs: Sequence[float]
    ) -> float | None:
        """The probability of the tokens up to the tag; None where the language was forced or settled."""
        if request.language or self.tag not in generated:
            return None
        return joint_confidence(logprobs[: generated.index(self.tag) + 1])

    def _spans(self, prefix: str, generated: list[int], logprobs: Sequence[float], text: str) -> TokenSpans:
        """Where the generated tokens stand in the text."""
        if not text:
            return TokenSpans()
        visible = [
            (token, score)
            for token, score in zip(generated, logprobs, strict=False)
            if token not in self.hidden
        ]
        written, ends = ends_of([self._bytes(token) for token, _ in visible])
        before = len(prefix)
        return locate(
            prefix + written,
            [before, *(before + end for end in ends)] if prefix else ends,
            [*([None] if prefix else []), *(score for _, score in visible)],
            text,
        )

    def _bytes(self, token: int) -> bytes:
        """The bytes of a token, in the alphabet of byte-level tokenizers where it is written in that."""
        found = self._token_bytes.get(token)
        if found is None:
            written = self.tokenizer.convert_ids_to_tokens(token) or ""
            known = all(char in BYTE_OF_CHAR for char in written)
            found = bytes(BYTE_OF_CHAR[char] for char in written) if known else written.encode()
            self._token_bytes[token] = found
        return found

    def _tokenize_turns(self, context: str, language: str | None) -> list[int]:
        context = context if self.config.compatible else clean_context(context)
        tokens: list[int] = self.tokenizer(asr_prompt(context, language), add_special_tokens=False)[
            "input_ids"
        ]
        return tokens


def token_budget(duration: float, config: ASRConfig) -> int:
    """Most tokens of the answer to a segment of this many seconds."""
    return math.ceil(duration * config.max_tokens_per_second) + config.min_tokens
