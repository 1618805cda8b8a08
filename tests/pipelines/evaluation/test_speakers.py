"""Error rates of speakers, by hand, and the references that they need."""

import json

import pytest

from actors.errors import UsageError
from pipelines.evaluation.evaluate import Options, evaluate
from pipelines.evaluation.metrics.speakers import diarization_errors, jaccard_errors, permuted_word_errors
from pipelines.evaluation.page import page
from pipelines.evaluation.speaker_references import read_references, read_rttm
from pipelines.evaluation.speaker_scores import speaker_lines
from tests.pipelines.evaluation.outputs import make_manifest, make_output, segment, transcript, word

A, B = "a", "b"


def test_the_same_turns_under_other_names_have_no_errors():
    errors = diarization_errors([(0, 4, A), (4, 8, B)], [(0, 4, "S2"), (4, 8, "S1")], 8, 0.0)
    assert (errors.rate, errors.total) == (0.0, 8.0)


def test_errors_by_hand():
    # A speaks 0-4 and B 4-8. Found: 0-3 right, 3-4 missed, 4-6 right, 6-8 as A, 8-9 where nobody speaks.
    found = [(0, 3, "S1"), (4, 6, "S2"), (6, 9, "S1")]
    errors = diarization_errors([(0, 4, A), (4, 8, B)], found, 10, 0.0)
    assert (errors.missed, errors.confusion, errors.false_alarm, errors.total) == (1.0, 2.0, 1.0, 8.0)
    assert errors.rate == pytest.approx(0.5)


def test_overlap_counts():
    errors = diarization_errors([(0, 4, A), (2, 4, B)], [(0, 4, "S1")], 4, 0.0)
    assert (errors.missed, errors.total, errors.rate) == (2.0, 6.0, pytest.approx(1 / 3))


def test_a_collar_forgives_the_borders():
    # The found border is 0.1 s late: within the collar of 0.125 s on each side.
    found = [(0, 4.1, "S1"), (4.1, 8, "S2")]
    assert diarization_errors([(0, 4, A), (4, 8, B)], found, 8, 0.25).rate == pytest.approx(0.0)
    assert diarization_errors([(0, 4, A), (4, 8, B)], found, 8, 0.0).rate == pytest.approx(0.1 / 8)


def test_nobody_speaks_and_somebody_is_found():
    errors = diarization_errors([], [(0, 1, "S1")], 5, 0.0)
    assert errors.rate is None and errors.false_alarm == 1.0


def test_the_jaccard_error_rate_by_hand():
    # A: intersection 3 of a union of 4. B: intersection 4 of 5.
    error, speakers = jaccard_errors([(0, 4, A), (4, 8, B)], [(0, 3, "S1"), (3, 8, "S2")], 8)
    assert speakers == 2 and error / speakers == pytest.approx((1 / 4 + 1 / 5) / 2)


def test_words_of_permuted_speakers_have_no_errors():
    assert permuted_word_errors({A: ["x", "y"], B: ["z"]}, {"S1": ["z"], "S2": ["x", "y"]}) == (0, 3)


def test_a_word_with_the_wrong_speaker_is_two_errors():
    assert permuted_word_errors({A: ["x", "y"], B: ["z"]}, {"S1": ["x"], "S2": ["y", "z"]}) == (2, 3)


def test_a_speaker_too_many_costs_the_words():
    assert permuted_word_errors({A: ["x", "y"]}, {"S1": ["x"], "S2": ["y"]}) == (2, 2)


def test_nothing_said_and_nothing_found_are_no_errors():
    assert permuted_word_errors({}, {}) == (0, 0)


RTTM = (
    ";; a comment\n"
    "SPEAKER r1 1 0.50 2.00 <NA> <NA> anna <NA> <NA>\n"
    "SPKR-INFO r1 1 <NA> <NA> <NA> unknown anna <NA> <NA>\n"
    "SPEAKER r2 1 1.00 0.25 <NA> <NA> ben <NA> <NA>\n"
)


def test_rttm_files_are_read(tmp_path):
    (tmp_path / "x.rttm").write_text(RTTM)
    found = read_rttm(str(tmp_path / "x.rttm"))
    assert found["r1"].turns == [(0.5, 2.5, "anna")] and found["r2"].turns == [(1.0, 1.25, "ben")]


def test_a_line_that_is_no_rttm_is_named(tmp_path):
    (tmp_path / "x.rttm").write_text("SPEAKER r1 1 zero\n")
    with pytest.raises(UsageError, match="line 1: no RTTM"):
        read_rttm(str(tmp_path / "x.rttm"))


def test_a_manifest_has_turns_or_names_an_rttm_file(tmp_path):
    (tmp_path / "x.rttm").write_text(RTTM)
    rows = [
        {"audio": "r1", "rttm": "x.rttm"},
        {"audio": "b", "turns": [{"start": 1, "end": 2, "speaker": "anna", "text": "yes"}]},
        {"audio": "c"},
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_references(str(tmp_path / "m.jsonl"))
    assert found["r1"].turns == [(0.5, 2.5, "anna")]
    assert found["b"].turns == [(1.0, 2.0, "anna")] and found["b"].texts == {"anna": "yes"}
    assert set(found) == {"r1", "b"}


def test_turns_that_are_none_are_told_with_their_row(tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio": "a", "turns": [{"begin": 1}]}) + "\n")
    with pytest.raises(UsageError, match="`turns` must be"):
        read_references(str(tmp_path / "m.jsonl"))


def spoken(text, speaker, start, end):
    return word(text, start, end) | {"speaker": speaker, "char_start": 0, "char_end": len(text)}


def output(tmp_path):
    yes = segment("yes", words=[spoken("yes", "S1", 0.0, 4.0)]) | {"start": 0.0, "end": 4.0, "speaker": "S1"}
    no = segment("no", words=[spoken("no", "S2", 4.0, 8.0)]) | {"start": 4.0, "end": 8.0, "speaker": "S2"}
    return make_output(tmp_path / "out", [transcript("r1", "yes no", segments=[yes, no])])


def test_a_run_is_scored_by_the_turns_of_a_manifest(tmp_path):
    turns = [
        {"start": 0, "end": 4, "speaker": "anna", "text": "yes"},
        {"start": 4, "end": 8, "speaker": "ben", "text": "no no"},
    ]
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "r1", "text": "yes no no", "turns": turns}])
    result, _ = evaluate(output(tmp_path), manifest, None, Options())
    section = result["speakers"]
    assert section["der"] == {"0": 0.0, "0.25": 0.0, "0.5": 0.0} and section["jer"] == 0.0
    assert (section["count_right"], section["count_error"]) == (1.0, 0.0)
    assert section["cpwer"] == pytest.approx(1 / 3)
    assert result["references"]["total"]["wer"] == pytest.approx(1 / 3)
    assert "cpWER 33.33 %" in speaker_lines(section)[-1] and "<h2>Speakers</h2>" in page(result)


def test_a_run_is_scored_by_an_rttm_file_alone(tmp_path):
    (tmp_path / "x.rttm").write_text("SPEAKER r1 1 0 8 <NA> <NA> anna <NA> <NA>\n")
    result, _ = evaluate(output(tmp_path), str(tmp_path / "x.rttm"), None, Options())
    assert result["references"] is None
    assert result["speakers"]["confusion"] == pytest.approx(0.5, abs=0.02)
    assert result["speakers"]["count_error"] == 1.0 and result["speakers"]["cpwer"] is None


def test_references_of_other_recordings_are_refused(tmp_path):
    (tmp_path / "x.rttm").write_text("SPEAKER other 1 0 8 <NA> <NA> anna <NA> <NA>\n")
    with pytest.raises(UsageError, match="no recording of"):
        evaluate(output(tmp_path), str(tmp_path / "x.rttm"), None, Options())
