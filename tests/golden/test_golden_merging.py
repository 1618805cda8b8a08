"""Merged chunks equal those of the reference."""

from tests.golden.reference.merging import merge_chunks, merge_languages, offset_words

GOLDEN_FILE = "merge.jsonl"


def test_golden_merge_languages(case):
    assert merge_languages(case["input"]["langs"]) == case["expected"]


test_golden_merge_languages.functions = ["merge_languages"]


def test_golden_transcribe(case):
    given, expected = case["input"], case["expected"]
    chunks = given["chunks"]
    merged = merge_chunks(
        [chunk["raw"] for chunk in chunks],
        [chunk["offset_sec"] for chunk in chunks],
        [chunk["align"] for chunk in chunks],
        given["language"],
        given["return_time_stamps"],
    )
    assert merged.language == expected["language"]
    assert merged.text == expected["text"]
    assert [list(chunk) for chunk in merged.aligned_chunks] == expected["aligned_chunks"]
    assert (merged.time_stamps and [list(word) for word in merged.time_stamps]) == expected["time_stamps"]


test_golden_transcribe.functions = ["transcribe"]


def test_golden_offsets(case):
    words = offset_words(case["input"]["items"], case["input"]["offset_sec"])
    assert [list(word) for word in words] == case["expected"]


test_golden_offsets.functions = ["_offset_align_result"]
