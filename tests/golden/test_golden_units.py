"""Units for the aligner equal those of the reference."""

import unicodedata
from itertools import pairwise

import pytest

from actors.text.alignment_units import locate_units, split_units

GOLDEN_FILE = "align_units.jsonl"


def _require_tokenizer(case):
    if case["input"]["language"].lower() == "japanese":
        pytest.importorskip("nagisa", reason="Japanese units need nagisa (extra `transformers`)")


def test_golden_align_units(case):
    _require_tokenizer(case)
    assert split_units(case["input"]["text"], case["input"]["language"]) == case["expected"]


def test_golden_located_units(case):
    """Units with positions equal the reference's, except where ours keep more.

    Ours keep accents that are separate characters and U+2019 as an apostrophe; units cut out of one character
    ("㍻") stay one unit.
    """
    _require_tokenizer(case)
    text = case["input"]["text"]
    units = locate_units(text, case["input"]["language"])
    if (
        "’" not in text
        and unicodedata.is_normalized("NFC", text)
        and all(len(unicodedata.normalize("NFKC", c)) == 1 for c in text)
    ):
        assert [unit.text for unit in units] == case["expected"]
    for unit, following in pairwise(units):
        assert unit.char_start < unit.char_end <= following.char_start
