"""The tables of languages and the check of names equal those of the reference."""

from actors.text.languages import (
    ALIGNER_LANGUAGES,
    ASR_LANGUAGES,
    CODES,
    NAMES,
    normalize_language_name,
    validate_language,
)


def test_golden_language_tables(golden_languages):
    assert list(ASR_LANGUAGES) == golden_languages["asr_languages"]
    assert sorted(ALIGNER_LANGUAGES) == golden_languages["aligner_languages"]
    assert golden_languages["code_to_name"] == NAMES
    assert golden_languages["name_to_code"] == CODES


def test_golden_language_names(golden_languages):
    for case in golden_languages["normalize_cases"]:
        normalized, error = None, None
        try:
            normalized = normalize_language_name(case["input"])
            validate_language(normalized)
        except ValueError:
            error = "ValueError"
        assert (normalized, error) == (case["normalized"], case["error"]), case["input"]
