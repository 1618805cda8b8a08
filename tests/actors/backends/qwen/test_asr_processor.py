"""What the tokens of an answer say about its language, its words and its text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from actors.backends.qwen.asr_processor import ASRProcessor
from actors.confidence.words import word_confidences
from actors.config import ASRConfig
from actors.records import Hypothesis, SegmentRequest
from tests.actors.backends.test_demo_models import DEMO

AUDIO = np.zeros(16_000, np.int16)


@pytest.fixture(scope="module")
def processor() -> ASRProcessor:
    return ASRProcessor(AutoTokenizer.from_pretrained(DEMO / "asr"), ASRConfig())


def answer(processor: ASRProcessor, text: str, **request: Any) -> Hypothesis:
    """The hypothesis of an answer whose n-th token has a log-probability of -n / 100."""
    tokens = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    scores = [-number / 100 for number in range(1, len(tokens) + 2)]
    return processor.hypothesis(SegmentRequest(AUDIO, **request), [*tokens, processor.ends[0]], scores)


def test_each_word_has_the_tokens_that_it_is_written_with(processor: ASRProcessor) -> None:
    found = answer(processor, "language English<asr_text>Hello wörld, 你好 😀")
    assert (found.text, found.token_ends[-1]) == ("Hello wörld, 你好 😀", len(found.text))
    # language, its name and the tag are the first three tokens.
    assert found.language_confidence == round(math.exp(-0.06), 4)
    assert len(found.token_ends) == len(found.token_log_probabilities) == found.tokens - 3
    words = [(0, 5), (6, 12), (13, 15), (16, 17)]
    values = word_confidences(found.token_ends, found.token_log_probabilities, found.text, words)
    last = math.exp(-found.tokens / 100)
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    assert (values[0], values[-1]) == (round(math.exp(-0.04), 4), round(last, 4))


def test_a_forced_language_has_no_confidence(processor: ASRProcessor) -> None:
    found = answer(processor, "Hello", language="English")
    assert found.language_confidence is None
    assert found.token_log_probabilities == (-0.01,)


def test_silence_has_no_tokens(processor: ASRProcessor) -> None:
    found = answer(processor, "language None<asr_text>")
    assert (found.text, found.token_ends, found.language_confidence) == ("", (), None)


def test_what_a_stream_has_settled_has_no_probability(processor: ASRProcessor) -> None:
    found = answer(processor, " no", prefix="language English<asr_text>Hello", unsettled_tokens=1)
    assert (found.text, found.token_ends) == ("Hello no", (5, 8))
    assert found.token_log_probabilities[0] is None and found.language_confidence is None
    words = word_confidences(found.token_ends, found.token_log_probabilities, found.text, [(0, 5), (6, 8)])
    assert words[0] is None and words[1] is not None


def test_a_loop_that_was_cut_leaves_the_tokens_of_what_is_left(processor: ASRProcessor) -> None:
    found = answer(processor, "language English<asr_text>Hello" + " no" * 40)
    assert found.text == "Hello no" and found.flags == ("loop_collapsed",)
    assert found.token_ends == (5, 8)
