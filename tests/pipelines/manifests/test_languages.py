"""The column `languages`, and a `language` that names several."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import UsageError
from pipelines.manifests.columns import Recording, read_row


def read(**columns: Any) -> Recording:
    return read_row({"audio": "a.wav", **columns}, "m.jsonl", 3, "/base")


@pytest.mark.parametrize(
    "value", ["de, English", ["de", "en"], ["German", "en-GB"]], ids=["text", "codes", "names"]
)
def test_languages_are_a_list_or_text(value: Any) -> None:
    assert read(languages=value).languages == "de,en"


@pytest.mark.parametrize("value", [None, "", [], float("nan")], ids=["null", "empty", "none", "nan"])
def test_an_empty_cell_is_no_set(value: Any) -> None:
    assert read(languages=value).languages is None


def test_a_language_that_names_several_means_the_same_and_stays_metadata() -> None:
    found = read(language="de+en")
    assert (found.language, found.languages, found.metadata) == (None, "de,en", {"language": "de+en"})
    assert read(language="multi").languages is None
    assert read(language="de").languages is None


@pytest.mark.parametrize("value", ["de,xx", ["de", 3], 7], ids=["unknown", "number", "no text"])
def test_what_is_no_language_is_refused_with_its_line(value: Any) -> None:
    with pytest.raises(UsageError, match=r"m\.jsonl:3: unknown language in `languages`"):
        read(languages=value)


def test_a_forced_language_must_be_among_them() -> None:
    assert read(language="de", languages="de,en").language == "de"
    with pytest.raises(UsageError, match="only has de,en"):
        read(language="fr", languages="de,en")
