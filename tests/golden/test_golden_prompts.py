"""Prompts equal those of the reference and of the native processor."""

from actors.backends.qwen.prompts import aligner_prompt, asr_prompt

GOLDEN_FILE = "prompts.jsonl"


def test_golden_prompt(case):
    given = case["input"]
    prompt = asr_prompt(given["context"], given["language"])
    assert prompt == case["expected"]
    assert prompt == case["expected_native"]


test_golden_prompt.functions = ["_build_text_prompt"]


def test_golden_aligner_input(case):
    assert aligner_prompt(case["input"]["words"]) == case["expected"]


test_golden_aligner_input.functions = ["encode_timestamp.input_text"]
