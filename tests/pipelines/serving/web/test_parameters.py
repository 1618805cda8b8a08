"""Parameter values: base64 in chunks, prompts that are cut, and OpenAI's lists of languages and keywords."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.serving.web import parameters
from pipelines.serving.web.errors import Problem
from pipelines.serving.web.parameters import (
    checked_prompt,
    chosen_language,
    decode_base64,
    decode_data_uri,
    with_keywords,
)
from pipelines.serving.web.tolerance import Tolerance


@given(st.binary(max_size=40), st.sampled_from([4, 8, 12]), st.integers(0, 5))
def test_base64_in_chunks_is_base64(data: bytes, chunk: int, start: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "_BASE64_CHUNK", chunk)
        text = base64.b64encode(data).decode()
        assert decode_base64("x" * start + text, "a", start) == data
        assert decode_data_uri(f"data:audio/wav;base64,{text}") == data
        invalid = [
            text + "A",
            text + "AA==AAAA",
            "AAA=" + text + "AAAA",
            text + "é",
            text + "=",
            f"data:,{text}",
        ]
        for bad in invalid:
            with pytest.raises(Problem):
                decode_base64(bad, "a")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("one two three", "two three"),
        ("one twotwo", "one twotwo"),
        ("ones twotwo", "twotwo"),
        ("ones two two", "two two"),
        ("x" * 30, "x" * 10),
        ("你" * 30, "你" * 10),
        ("\n" * 30, None),
    ],
)
def test_the_end_of_a_prompt_is_kept_from_the_beginning_of_a_word(prompt: str, expected: str | None) -> None:
    tolerance = Tolerance(False)
    assert checked_prompt(prompt, 10, tolerance) == expected
    assert len(tolerance.warnings) == (len(prompt) > 10)


@given(st.text(), st.integers(1, 30))
def test_a_prompt_is_never_longer_than_the_limit(prompt: str, limit: int) -> None:
    cut = checked_prompt(prompt, limit, Tolerance(False))
    assert cut is None or (len(cut) <= limit and cut in prompt)


def test_a_single_possible_language_is_the_language() -> None:
    assert chosen_language(None, ["de"]) == chosen_language("", ["de"]) == "de"
    assert chosen_language("fr", ["de"]) == "fr"
    assert chosen_language(None, ["de", "fr"]) is None


def test_keywords_stand_at_the_end_of_the_prompt() -> None:
    assert with_keywords("About us", ["Ada", "Bob"]) == "About us\nAda, Bob"
    assert with_keywords(None, ["Ada"]) == "Ada"
    assert with_keywords("About us", []) == "About us"
