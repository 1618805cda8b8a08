"""Units for the aligner are the reference's."""

import unicodedata
from itertools import pairwise

import pytest

from actors.text.alignment_units import locate_units, split_units

GOLDEN_FILE = "align_units.jsonl"


def _needs(case):
    if case["input"]["language"].lower() == "japanese":
        pytest.importorskip("nagisa", reason="Japanese units need nagisa (extra `transformers`)")


def test_golden_align_units(case):
    _needs(case)
    assert split_units(case["input"]["text"], case["input"]["language"]) == case["expected"]


def test_golden_located_units(case):
    """Units with positions are the same, except where ours keep more: accents that are separate characters, U+2019 as an apostrophe,
    and units cut out of one character ("㍻"), which stay one."""
    _needs(case)
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
