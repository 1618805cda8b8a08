"""Prompts of the forced aligner and word times from its answer, the same for every local engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.backends.qwen.prompts import TIMESTAMP, aligner_prompt
from actors.errors import RowError
from actors.records import AlignedTimes, AlignmentRequest
from actors.text.timestamp_repair import repair

MAX_SECONDS = 180.0  # the reference's limit; in longer clips words pile up on one time
_AUDIO = "<|audio_pad|>"


class AlignerProcessor:
    """Prompts and word times of one model.

    Args:
        name: name of the model, for messages.
        tokenizer: its tokenizer.
        classes: number of classes of its head.
        class_ms: milliseconds of each class.
    """

    def __init__(self, name: str, tokenizer: Any, classes: int, class_ms: float) -> None:
        self.name, self.tokenizer, self.class_ms = name, tokenizer, class_ms
        # A model with few classes cannot point further than its last one.
        self.max_duration = min(MAX_SECONDS, classes * class_ms / 1000)
        self.token: int = tokenizer.convert_tokens_to_ids(TIMESTAMP)
        self._audio: int = tokenizer.convert_tokens_to_ids(_AUDIO)

    def check(self, request: AlignmentRequest) -> None:
        """Raise RowError if a segment is too long for the model."""
        if request.duration > self.max_duration:
            message = (
                f"a segment of {request.duration:.1f} s is longer than the {self.max_duration:g} s "
                f"that {self.name} can align"
            )
            raise RowError(message, code="alignment_failed")

    def prompt(self, request: AlignmentRequest, audio_tokens: int) -> list[int]:
        """Token ids of a request: the audio, then each unit with a slot for its start and one for its end.

        Args:
            request: the segment and its units.
            audio_tokens: how many placeholders stand for the audio: the number of tokens that the encoder
                makes, or one for an engine that expands it itself.

        Raises:
            ValueError: a unit contains a control token.
        """
        prompt: list[int] = self.tokenizer(aligner_prompt(request.units), add_special_tokens=False)[
            "input_ids"
        ]
        slots, expected = prompt.count(self.token), 2 * len(request.units)
        if slots != expected:
            raise ValueError(
                f"the units hold {slots} slots instead of {expected}: a unit contains a control token"
            )
        position = prompt.index(self._audio)
        return [*prompt[:position], *[self._audio] * audio_tokens, *prompt[position + 1 :]]

    def times(self, request: AlignmentRequest, classes: Sequence[int]) -> AlignedTimes:
        """Word times in seconds from classes (start, end, start ...), never decreasing, within the clip."""
        predicted = [int(number * self.class_ms) for number in classes]
        repaired = repair(predicted)
        seconds = [min(time / 1000, request.duration) for time in repaired]
        times = AlignedTimes(zip(seconds[::2], seconds[1::2], strict=True))
        times.repaired = sum(before != after for before, after in zip(predicted, repaired, strict=True))
        return times
