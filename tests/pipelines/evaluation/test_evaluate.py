"""`evaluate` on small output directories, against numbers computed by hand."""

import json
from pathlib import Path

import pytest

from actors.errors import UsageError
from pipelines.evaluation.evaluate import Options, evaluate
from pipelines.evaluation.protocol import PRESETS
from tests.pipelines.evaluation.outputs import Row, make_manifest, make_output, segment, transcript, word

TRANSCRIPTS = [
    transcript("a", "The cat sat down.", segments=[segment("The cat sat down.", 0.95)]),
    transcript("b", "red grey blew", segments=[segment("red grey blew", 0.5)]),
    transcript("c", "你好吗", "zh"),
    transcript("d", "Guten Tag", "en"),
    transcript("quiet", "boo", "en", [segment("boo", None)]),
    transcript("stranger", "who am I"),
]
REFERENCES: list[Row] = [
    {"id": "a", "language": "en", "text": "the cat sat down", "room": "hall"},
    {"id": "b", "language": "en", "text": "red green blue pink", "room": "cellar"},
    {"id": "c", "language": "zh", "text": "你好呀", "room": "hall"},
    {"id": "d", "language": "de", "text": "Guten Tag!", "room": "cellar"},
    {"id": "quiet", "text": "", "words": [], "room": "cellar"},
    {"id": "broken", "language": "en", "text": "never heard", "room": "hall"},
    {"id": "lost", "language": "en", "text": "nor this", "room": "hall"},
    {"id": "unknown"},
]
BASIC = Options(by=["room"])


@pytest.fixture
def out(tmp_path: Path) -> str:
    return make_output(tmp_path / "out", TRANSCRIPTS, failed={"broken": "bad_header"})


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    return make_manifest(tmp_path / "references.jsonl", REFERENCES)


def section_of(out: str, manifest: str, options: Options = BASIC) -> Row:
    result, _ = evaluate(out, manifest, None, options)
    section: Row = result["references"]
    return section


def test_every_recording_is_accounted_for(out: str, manifest: str) -> None:
    assert section_of(out, manifest)["recordings"] == {
        "transcripts": 5,
        "dead_letters": 1,
        "missing": 1,
        "without_reference": 1,
        "evaluated": 7,
        "rows_without_text": 1,
    }


def test_the_error_rates_of_all_recordings_are_sums_over_sums(out: str, manifest: str) -> None:
    total = section_of(out, manifest)["total"]
    # Words: a 4 right; b 2 wrong and 1 missing of 4; d 2 right; broken and lost 4 missing; boo inserted.
    # Chinese has no words, and 1 of its characters is wrong.
    assert total["words"] == 4 + 4 + 2 + 2 + 2
    assert total["wer"] == pytest.approx((3 + 4 + 1) / 14)
    assert total["insertions"] == 1
    assert total["substitutions"] == 2 + 1
    assert total["deletions"] == 1 + 4


def test_chinese_counts_characters(out: str, manifest: str) -> None:
    chinese = section_of(out, manifest)["by"]["language"]["zh"]
    assert chinese["metric"] == "CER"
    assert (chinese["characters"], chinese["words"], chinese["substitutions"]) == (3, 0, 1)
    assert chinese["cer"] == chinese["error_rate"] == pytest.approx(1 / 3)
    assert chinese["wer"] is None


def test_dead_letters_and_missing_recordings_are_deletions(out: str, manifest: str) -> None:
    hall = section_of(out, manifest)["by"]["room"]["hall"]
    assert hall["recordings"] == 4
    # a is right, 2 + 2 words are deleted, one Chinese character is wrong.
    assert (hall["deletions"], hall["substitutions"], hall["wer"]) == (4, 1, 0.5)


def test_the_macro_average_weighs_languages_equally(out: str, manifest: str) -> None:
    section = section_of(out, manifest)
    rates = [section["by"]["language"][name]["error_rate"] for name in ("en", "zh", "de")]
    # The silent recording has no language in its reference, so it goes by that of its transcript: English.
    assert rates == [pytest.approx(8 / 12), pytest.approx(1 / 3), 0.0]
    assert section["macro"]["error_rate"] == pytest.approx((8 / 12 + 1 / 3) / 3)
    assert section["macro"]["languages"] == 3


def test_the_language_is_judged_where_the_reference_names_one(out: str, manifest: str) -> None:
    total = section_of(out, manifest)["total"]
    assert total["languages_judged"] == 4  # dead letters have no language, silence has none
    assert total["language_accuracy"] == pytest.approx(3 / 4)


def test_a_given_language_is_not_judged(tmp_path: Path, manifest: str) -> None:
    out = make_output(tmp_path / "forced", TRANSCRIPTS, forced={"a": "en", "d": "en"})
    result, _ = evaluate(out, manifest, None, BASIC)
    assert result["references"]["total"]["languages_judged"] == 2
    assert any("the language of 2 recordings was given" in note for note in result["notes"])


def test_a_language_given_by_the_settings_is_not_judged(tmp_path: Path, manifest: str) -> None:
    run = {"config_hash": "x", "command": "transcribe", "config": {"asr": {"language": "German"}}}
    result, _ = evaluate(make_output(tmp_path / "set", TRANSCRIPTS, run=run), manifest, None, BASIC)
    assert result["references"]["total"]["language_accuracy"] is None
    assert any("the language of all recordings was given" in note for note in result["notes"])


def test_the_worst_recordings_come_first_with_both_texts(out: str, manifest: str) -> None:
    worst = section_of(out, manifest, Options(worst=3))["worst"]
    assert [case["recording_id"] for case in worst] == ["b", "broken", "lost"]
    assert worst[1]["status"] == "dead letter: bad_header"
    assert worst[1]["alignment"] == [("delete", "never heard", "")]
    assert worst[2]["status"] == "no transcript"


def test_recordings_without_errors_are_never_listed(out: str, manifest: str) -> None:
    worst = section_of(out, manifest, Options(worst=50))["worst"]
    assert {case["recording_id"] for case in worst} == {"b", "broken", "lost", "c", "quiet"}


def test_the_confidence_of_segments_is_judged(out: str, manifest: str) -> None:
    figures = section_of(out, manifest)["confidence"]
    # a 0.95 and d 0.9 are right, c 0.9 and b 0.5 are not; the segment without confidence does not count.
    assert (figures["segments"], figures["segments_with_errors"]) == (4, 2)
    # Pairs (right, wrong): 0.95 > 0.9, 0.95 > 0.5, 0.9 = 0.9, 0.9 > 0.5.
    assert figures["auc"] == pytest.approx(3.5 / 4)


def test_segments_of_a_recording_get_the_errors_in_their_own_words(tmp_path: Path) -> None:
    segments = [segment("Alpha beta.", 0.9), segment("Gamma echo.", 0.4)]
    rows = [transcript("a", "Alpha beta. Gamma echo.", "en", segments)]
    out = make_output(tmp_path / "out", rows)
    manifest = make_manifest(
        tmp_path / "m.jsonl", [{"id": "a", "text": "alpha beta gamma delta", "language": "en"}]
    )
    _, confidences = evaluate(out, manifest, None, Options())
    confidence, accuracy, units = confidences.segments.arrays()
    assert (list(confidence), list(accuracy), list(units)) == (
        pytest.approx([0.9, 0.4]),
        [1.0, 0.5],
        [2.0, 2.0],
    )


def test_the_confidence_of_words_is_judged_against_their_own_errors(tmp_path: Path) -> None:
    words = [word("Red,", 0, 1, 0.9), word("blue", 1, 2, 0.3), word("–", 2, 3, 0.1), word("tea", 3, 4)]
    rows = [transcript("a", "Red, blue – tea", segments=[segment("Red, blue – tea", 0.8, words)])]
    out = make_output(tmp_path / "out", rows)
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "a", "text": "red and green tea"}])
    result, confidences = evaluate(out, manifest, None, Options())
    # The dash has nothing to compare, and the last word has no confidence; the missing "and" is no word.
    confidence, accuracy, units = confidences.words.arrays()
    assert (list(confidence), list(accuracy), list(units)) == (
        pytest.approx([0.9, 0.3]),
        [1.0, 0.0],
        [1.0, 1.0],
    )
    figures = result["references"]["confidence"]["words"]
    assert (figures["words"], figures["words_with_errors"], figures["auc"]) == (2, 1, 1.0)
    assert figures["calibration_error"] == pytest.approx((0.1 + 0.3) / 2)


def test_a_chinese_word_is_right_where_all_its_characters_are(tmp_path: Path) -> None:
    words = [word("你好", 0, 1, 0.9), word("吗", 1, 2, 0.3)]
    rows = [transcript("a", "你好吗", language="zh", segments=[segment("你好吗", 0.8, words)])]
    out = make_output(tmp_path / "out", rows)
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "a", "text": "你号吗", "language": "zh"}])
    _, confidences = evaluate(out, manifest, None, Options())
    assert list(confidences.words.arrays()[1]) == [0.0, 1.0]


def test_word_times_are_compared_where_references_have_some(tmp_path: Path) -> None:
    heard = [word("Hi", 0.1, 0.5), word("you.", 0.7, 1.2)]
    rows = [transcript("a", "Hi you.", "en", [segment("Hi you.", 0.9, heard)])]
    reference = {"id": "a", "text": "hi you", "words": [word("hi", 0.14, 0.5), word("you", 0.7, 1.35)]}
    manifest = make_manifest(tmp_path / "m.jsonl", [reference])
    total = section_of(make_output(tmp_path / "out", rows), manifest, Options())["total"]
    assert total["aas_ms"] == pytest.approx((40 + 0 + 0 + 150) / 4)
    assert [total[f"within_{limit}_ms"] for limit in (50, 100, 200)] == [0.5, 0.5, 1.0]
    assert (total["timed_words"], total["matched_words"]) == (2, 2)


def test_rtfx_is_audio_by_the_time_of_all_finished_runs(tmp_path: Path, manifest: str) -> None:
    runs = [
        {"started_at": "2026-01-01T00:00:00+00:00", "finished_at": "2026-01-01T00:00:15+00:00"},
        {"started_at": "2026-01-01T01:00:00+00:00", "finished_at": "2026-01-01T01:00:05+00:00"},
        {"started_at": "2026-01-01T02:00:00+00:00", "finished_at": None},
    ]
    run = {"config_hash": "x", "command": "transcribe", "runs": runs, "models": {"asr": {"model": "m"}}}
    result, _ = evaluate(make_output(tmp_path / "run", TRANSCRIPTS, run=run), manifest, None, BASIC)
    assert result["run"]["rtfx"] == pytest.approx(6 * 10 / 20)
    assert result["run"]["asr_model"] == "m"


def test_two_runs_are_compared_without_any_reference(tmp_path: Path, out: str) -> None:
    other = [
        transcript("a", "the cat sat up"),
        transcript("b", "red grey blew"),
        transcript("x", "only there"),
    ]
    result, _ = evaluate(out, None, make_output(tmp_path / "other", other), Options())
    section = result["against"]
    assert result["references"] is None
    # Recordings of one side only are counted, but are no deletions.
    assert section["recordings"] == {
        "transcripts": 2,
        "dead_letters": 0,
        "missing": 1,
        "without_reference": 4,
        "evaluated": 2,
        "rows_without_text": 0,
    }
    assert (section["total"]["wer"], section["total"]["exact"]) == (pytest.approx(1 / 7), 1)


def test_the_preset_takes_cer_in_korean(tmp_path: Path) -> None:
    out = make_output(tmp_path / "out", [transcript("k", "오늘 시작", "ko")])
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "k", "text": "오늘시작", "language": "ko"}])
    korean = section_of(out, manifest, Options(PRESETS["qwen3-asr"]))["by"]["language"]["ko"]
    assert (korean["metric"], korean["error_rate"]) == ("CER", 0.0)
    assert section_of(out, manifest, Options())["by"]["language"]["ko"]["error_rate"] == 2.0


def test_the_same_seed_gives_the_same_intervals(out: str, manifest: str) -> None:
    one, two, other = (section_of(out, manifest, Options(seed=seed)) for seed in (1, 1, 2))
    assert one["total"] == two["total"]
    assert one["total"]["wer_interval"] != other["total"]["wer_interval"]
    low, high = one["total"]["wer_interval"]
    assert 0 <= low < one["total"]["wer"] < high


def test_a_recording_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    out = make_output(tmp_path / "out", [transcript("a", "x"), transcript("a", "y")])
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "a", "text": "x"}])
    section = section_of(out, manifest, Options())
    assert (section["recordings"]["evaluated"], section["recordings"]["without_reference"]) == (1, 1)


def test_the_result_is_json(out: str, manifest: str) -> None:
    result, _ = evaluate(out, manifest, out, BASIC)
    assert json.loads(json.dumps(result))["against"]["total"]["wer"] == 0.0


def test_without_common_ids_both_sides_are_shown(out: str, tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "clips/z.wav", "text": "x"}])
    with pytest.raises(
        UsageError, match=r"ids such as '.*', the references 'clips/z.wav'.*--columns id=NAME"
    ):
        evaluate(out, manifest, None, Options())


def test_a_directory_without_results_is_refused(tmp_path: Path, manifest: str) -> None:
    with pytest.raises(UsageError, match="no transcripts and no dead letters"):
        evaluate(str(tmp_path / "nothing"), manifest, None, Options())


def test_nothing_to_compare_with_is_refused(out: str) -> None:
    with pytest.raises(UsageError, match="--references MANIFEST, or --against OUT2"):
        evaluate(out, None, None, Options())
