"""Shards become transcripts and dead letters."""

import random
from datetime import UTC, datetime

import pytest

from actors.confidence.calibration import Calibration, ConfidenceMap
from actors.text.languages import name_of
from pipelines.stitching import join_texts, stitch
from tests.golden.reference.merging import merge_chunks
from tests.pipelines.stitching.stitching_rows import segment, shard, stitched, word


def test_shards_become_one_transcript():
    row = stitched(
        shard(
            1,
            10.0,
            None,
            [segment(10.5, 12.0, "Bonjour.", "fr", words=[word("Bonjour.", 10.6, 11.0)])],
            decoded=20.0,
            duration=20.2,
        ),
        shard(0, 0.0, 10.0, [segment(0.0, 4.0, "The end."), segment(5.0, 9.0, "Next.")], duration=20.2),
    )
    assert row["text"] == "The end. Next. Bonjour."
    assert (row["status"], row["flags"], row["duration"]) == ("ok", [], 20.0)
    assert row["language"] == "en"
    assert row["languages"] == [{"language": "en", "duration": 2.133}, {"language": "fr", "duration": 0.4}]
    assert [s["start"] for s in row["segments"]] == [0.0, 5.0, 10.5]
    assert row["segments"][2]["words"] == [word("Bonjour.", 10.6, 11.0)]
    assert row["metadata"] == '{"speaker": "a"}'
    assert row["provenance"] == {
        "audio_etag": "e",
        "audio_bytes": 10,
        "codec": "pcm_s16le",
        "sampling_rate": 8000,
        "channels": 2,
        "asr_model": "asr",
        "asr_revision": "1",
        "aligner_model": None,
        "aligner_revision": None,
        "config_hash": "h",
        "version": "v",
        "run_id": "run",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "calibration": None,
    }


@pytest.mark.parametrize(
    ("language", "texts", "joined"),
    [
        ("en", ["The end.", "Next."], "The end. Next."),
        ("ko", ["안녕하세요.", "반갑습니다."], "안녕하세요. 반갑습니다."),
        ("zh", ["你好。", "再见。"], "你好。再见。"),
        ("ja", ["です。", "ます。"], "です。ます。"),
        ("th", ["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (None, ["nuq", "neH"], "nuq neH"),
        ("en", ["One", "", "two"], "One two"),
    ],
)
def test_seams_have_a_space_if_the_script_has_spaces(language, texts, joined):
    """The reference writes "end.Next" in every language."""
    assert join_texts([{"text": text, "language": language} for text in texts]) == joined
    raws = [f"language {name_of(language)}<asr_text>{text}" for text in texts]
    assert merge_chunks(raws, [0.0] * len(raws), [None] * len(raws)).text == "".join(texts)


def test_the_order_of_rows_does_not_matter():
    rows = [
        shard(i, i * 10.0, i * 10.0 + 10, [segment(i * 10.0, i * 10.0 + 5, f"Number {i}.")]) for i in range(6)
    ]
    expected = stitched(*rows)
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        assert stitched(*rows) == expected


def test_the_latest_attempt_at_a_shard_counts():
    row = stitched(shard(0, 0, 5.0, status="error"), shard(0, 0, 5.0, [segment(0, 5, "Now.")], attempt=2))
    assert (row["text"], row["status"], row["flags"]) == ("Now.", "ok", [])


def test_silence_is_no_speech():
    row = stitched(shard(0, 0.0, None, status="no_speech", decoded=7.5))
    assert (row["status"], row["text"], row["language"], row["languages"], row["segments"]) == (
        "no_speech",
        "",
        None,
        [],
        [],
    )
    assert row["duration"] == 7.5


def test_segments_without_text_are_no_speech():
    row = stitched(shard(0, 0.0, None, [segment(0, 3, "", None)], decoded=7.5))
    assert (row["status"], row["segments"]) == ("no_speech", [])


def test_a_recording_whose_shards_all_failed_is_a_dead_letter():
    row = stitched(
        shard(0, 0.0, 5.0, status="error", attempt=3, duration=9.0),
        shard(1, 5.0, None, status="error", error_code="decode_timeout"),
    )
    assert (row["error_code"], row["error_stage"], row["error_message"]) == ("corrupt_audio", "decode", "bad")
    assert (row["attempts"], row["duration"]) == (3, 9.0)
    assert row["provenance"]["audio_etag"] == "e"


def test_silence_with_a_failed_shard_is_a_dead_letter():
    row = stitched(shard(0, 0.0, 5.0, status="no_speech"), shard(1, 5.0, None, status="error"))
    assert row["error_code"] == "corrupt_audio"


def test_a_recording_with_some_failed_shards_is_partial_with_its_lost_spans():
    row = stitched(
        shard(0, 0.0, 600.0, [segment(0, 5, "One.")], decoded=599.75, duration=1800.0),
        shard(1, 600.0, 1200.0, status="error", duration=1800.0),
        shard(2, 1200.0, None, status="error", duration=1800.0),
    )
    assert (row["status"], row["duration"]) == ("partial", 1800.0)
    assert row["flags"] == ["lost:599.75-1800", "error:corrupt_audio"]


@pytest.mark.parametrize("status", ["error", "partial"])
@pytest.mark.parametrize("code", ["storage_unavailable", "server_unavailable", "audio_changed"])
def test_a_recording_with_a_transient_error_is_a_dead_letter(code, status):
    """`retry` takes only dead letters: a transcript without the lost minutes would stay incomplete."""
    row = stitched(
        shard(0, 0.0, 600.0, [segment(0, 5, "One.")], duration=1800.0),
        shard(1, 600.0, 1200.0, status="error", duration=1800.0),
        shard(
            2,
            1200.0,
            None,
            [segment(1200, 1205, "Two.")] if status == "partial" else [],
            status=status,
            duration=1800.0,
            error_code=code,
        ),
    )
    assert row["error_code"] == code


def test_a_failed_segment_makes_a_recording_partial():
    failed = segment(5, 8, "", None, flags=["failed"])
    row = stitched(shard(0, 0.0, None, [segment(0, 5, "One."), failed], status="partial", decoded=10.0))
    assert (row["status"], row["flags"]) == ("partial", ["lost:5-8"])
    assert row["segments"][1]["flags"] == ["failed"]


@pytest.mark.parametrize("text", ["go", ""])
def test_an_unreliable_answer_makes_a_recording_partial(text):
    lost = segment(5, 8, text, None, flags=["unreliable"])
    row = stitched(shard(0, 0.0, None, [segment(0, 5, "One."), lost], status="partial", decoded=8.0))
    assert (row["status"], row["flags"]) == ("partial", ["unreliable"])
    assert row["segments"][1]["flags"] == ["unreliable"]


def test_a_header_with_a_wrong_duration_is_flagged():
    assert stitched(shard(0, 0.0, None, [segment(0, 5, "One.")], decoded=6.0, duration=9.0))["flags"] == [
        "header_duration_wrong"
    ]
    assert stitched(shard(0, 0.0, None, [segment(0, 5, "One.")], decoded=6.0, duration=6.9))["flags"] == []


def test_seams_that_do_not_meet_are_flagged():
    def flags(end, start):
        return stitched(
            shard(0, 0.0, 10.0, [segment(0, 5, "One.")], decoded=end),
            shard(1, 10.0, 20.0, [segment(10, 15, "Two.")], decoded_start=start),
        )["flags"]

    assert flags(10.0, 10.0005) == []
    assert flags(10.0, 10.05) == ["seam_mismatch"]
    assert flags(10.2, 10.0) == ["seam_mismatch"]
    assert flags(7.0, 10.0) == ["seam_mismatch", "lost:7-10"]


def test_repeated_words_are_removed_where_segments_overlap():
    first = segment(
        0,
        10,
        "Hello big world.",
        words=[word("Hello", 1, 2), word("big", 8.5, 9, 6), word("world.", 9.2, 9.8, 10)],
    )
    again = [word("Big", 8.5, 9), word("world,", 9.2, 9.8, 4), word("again.", 11, 12, 11)]
    row = stitched(
        shard(0, 0, 10.0, [first]),
        shard(1, 8.0, None, [segment(8, 14, "Big world, again.", words=again)], decoded=14.0),
    )
    assert row["text"] == "Hello big world. again."
    assert row["segments"][1]["words"] == [word("again.", 11, 12, 0)]
    assert "overlap_removed" in row["flags"]


def test_repeated_words_without_overlap_stay():
    first = segment(0, 10, "No no", words=[word("No", 1, 2), word("no", 9, 9.8, 3)])
    second = segment(10, 14, "no no", words=[word("no", 10.1, 10.5), word("no", 11, 12, 3)])
    row = stitched(shard(0, 0, 10.0, [first]), shard(1, 10.0, None, [second], decoded=14.0))
    assert row["text"] == "No no no no"


def test_channels_are_flagged_and_joined_in_time():
    segments = [
        segment(0, 5, "Hi.", channel=0),
        segment(5, 9, "Bye.", channel=0),
        segment(0, 4, "Hello.", channel=1),
    ]
    row = stitched(shard(0, 0.0, None, segments, decoded=9.0))
    assert row["text"] == "Hi. Hello. Bye."
    assert [s["flags"] for s in row["segments"]] == [["channel:0"], ["channel:1"], ["channel:0"]]


def test_word_positions_follow_the_stripped_text():
    row = stitched(
        shard(
            0,
            0.0,
            None,
            [segment(0, 5, "  Hi there ", words=[word("Hi", 0, 1, 2), word("there", 1, 2, 5)])],
            decoded=5.0,
        )
    )
    for segment_ in row["segments"]:
        for found in segment_["words"]:
            assert segment_["text"][found["char_start"] : found["char_end"]] == found["text"]


def test_an_unknown_language_is_null_and_the_text_stays():
    row = stitched(shard(0, 0.0, None, [segment(0, 5, "nuqneH", None)], decoded=5.0))
    assert (row["language"], row["languages"], row["text"], row["status"]) == (None, [], "nuqneH", "ok")


def test_the_transcript_has_the_date_of_its_newest_shard():
    later = datetime(2026, 1, 2, tzinfo=UTC)
    row = stitched(
        shard(0, 0, 5.0, [segment(0, 5, "One.")], created_at=later, run_id="second"),
        shard(1, 5.0, None, decoded=9.0),
    )
    assert (row["provenance"]["created_at"], row["provenance"]["run_id"]) == (later, "second")


def test_silence_is_summed_over_the_decoded_shards():
    shards = [
        shard(0, 0.0, 10.0, [segment(0, 5, "One.")], silence=4.25),
        shard(1, 10.0, 20.0, [segment(10, 15, "Two.")], silence=0.5),
        shard(2, 20.0, None, status="error"),
    ]
    assert stitched(*shards)["silence"] == 4.75


def test_silence_is_unknown_where_a_shard_of_version_0_1_0_does_not_say_it():
    shards = [shard(0, 0.0, 10.0, [segment(0, 5, "One.")], silence=4.25), shard(1, 10.0, None, decoded=20.0)]
    assert stitched(*shards)["silence"] is None


def test_a_segment_that_is_only_unlikely_to_be_speech_and_has_no_text_is_left_out():
    unlikely = [segment(0, 5, "", flags=["speech_unlikely"]), segment(5, 9, "La.", flags=["speech_unlikely"])]
    row = stitched(shard(0, 0.0, None, unlikely, decoded=9.0))
    assert [part["text"] for part in row["segments"]] == ["La."]
    assert row["segments"][0]["flags"] == ["speech_unlikely"]


def test_the_source_of_the_text_is_told_where_there_is_text():
    assert stitched(shard(segments=[segment(0, 1, "a")], end=1.0))["text_source"] == "model"
    given = segment(0, 1, "a", flags=["text_given"])
    assert stitched(shard(segments=[given], end=1.0))["text_source"] == "given"
    assert stitched(shard(end=1.0))["text_source"] is None


def test_segments_of_older_shards_have_null_in_newer_columns():
    row = stitched(shard(segments=[segment(0, 1, "a", words=[word("a", 0, 1)])], end=1.0))
    assert row["segments"][0]["speaker"] is None and row["segments"][0]["candidates"] is None


def test_the_dominant_language_is_that_of_most_words_not_of_the_longest_segment():
    quick = segment(0, 4, "a b", language="de", words=[word("a", 0, 2), word("b", 2, 4, 2)])
    slow = segment(4, 14, "c", language="en", words=[word("c", 5, 6)])
    row = stitched(shard(segments=[quick, slow], end=14.0))
    assert row["language"] == "de"
    assert row["languages"] == [{"language": "de", "duration": 4}, {"language": "en", "duration": 1}]


def test_a_segment_whose_words_have_no_times_counts_by_the_share_of_words_in_the_others():
    timed = segment(0, 10, "a", language="de", words=[word("a", 0, 5)])
    row = stitched(shard(segments=[timed, segment(10, 18, "b", language="cs")], end=18.0))
    assert row["languages"] == [{"language": "de", "duration": 5}, {"language": "cs", "duration": 4}]


def test_words_without_length_do_not_hide_a_language():
    row = stitched(shard(segments=[segment(0, 2, "a", language="de", words=[word("a", 1, 1)])], end=2.0))
    assert row["languages"] == [{"language": "de", "duration": 2}]


def test_confidences_are_calibrated_and_the_row_names_the_calibration():
    maps = (ConfidenceMap((0.0, 1.0), (0.0, 0.5)), ConfidenceMap((0.0, 1.0), (0.0, 0.8)))
    calibration = Calibration("m", "digest", *maps)
    timed = word("a", 0, 1) | {"confidence": 0.5}
    rows = [shard(segments=[segment(0, 1, "a", words=[timed]) | {"min_confidence": 0.5}], end=1.0)]
    row = stitch(rows, config_hash="h", version="v", calibration=calibration)
    [found] = row["segments"]
    assert (found["confidence"], found["min_confidence"]) == (0.45, 0.4)
    assert (found["words"][0]["confidence"], row["provenance"]["calibration"]) == (0.4, "digest")
    assert stitched(*rows)["segments"][0]["confidence"] == 0.9
