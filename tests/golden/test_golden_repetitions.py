"""The compatible removal of repetitions returns what the reference returns."""

from actors.text.parsing import fix_repetitions

GOLDEN_FILE = "repetition_fix.jsonl"


def test_golden_repetition_fix(case):
    given = case["input"]
    assert fix_repetitions(given["text"], given["threshold"]) == case["expected"]
