"""Repaired timestamps equal those of the reference."""

from actors.text.timestamp_repair import repair

GOLDEN_FILE = "fix_timestamp.jsonl"


def test_golden_fix_timestamp(case):
    assert repair(case["input"]["data"]) == case["expected"]
