"""The compatible parser returns what the reference returns."""

from actors.text.parsing import parse_output_compatible

GOLDEN_FILE = "parse_output.jsonl"


def test_golden_parse_output(case):
    given = case["input"]
    assert list(parse_output_compatible(given["raw"], given["user_language"])) == case["expected"]
