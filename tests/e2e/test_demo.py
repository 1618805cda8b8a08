"""The bundled demo through the real job: real audio in many containers, real models, exact text."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.schema import DEAD_LETTER, TRANSCRIPT
from tests.e2e.conftest import DEMO, NO_WORDS, SURE, read_dead_letters, read_transcripts, write_manifest

Scriptorium = Callable[..., int]
Demo = dict[str, dict[str, Any]]
# The demo models are small; infra/demo_models/README.md has their measured errors. Errors above these bounds
# mean that the job changed the audio.
WORST_FILE, MEAN_OF_FILES = 0.12, 0.03


@pytest.fixture(scope="module")
def out(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo manifest, transcribed once for all tests of this file."""
    from pipelines.cli import main
    from tests.e2e.conftest import DEMO_CONFIG

    folder = tmp_path_factory.mktemp("demo") / "out"
    assert main(["transcribe", str(DEMO / "manifest.jsonl"), str(folder), "--config", DEMO_CONFIG]) == 3
    return folder


def test_every_recording_is_in_exactly_one_table(out: Path, demo: Demo) -> None:
    transcripts, letters = read_transcripts(out), read_dead_letters(out)
    assert not transcripts.keys() & letters.keys()
    assert transcripts.keys() | letters.keys() == demo.keys()
    assert set(letters) == {"broken"}
    report = json.loads((out / "report.json").read_text())
    assert (
        report["exact"]
        and report["recordings"] == len(demo)
        and "nothing lost" in (out / "report.html").read_text()
    )


def test_the_report_knows_what_each_stage_did(out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    (run,) = report["throughput"].values()
    (one,) = run["passes"]
    assert one["stages"].keys() >= {"decode", "recognise", "align"} and one["cores"] > 0
    assert sum(stage["audio_seconds"] for stage in one["stages"].values()) > run["audio_seconds"]
    assert run["bottleneck"]["stage"] in one["stages"] and report["cost"]["cost"] > 0


def test_the_text_is_what_was_said(out: Path, demo: Demo) -> None:
    transcripts = read_transcripts(out)
    spoken = [key for key in demo if demo[key].get("text")]
    errors = {key: _error_rate(transcripts[key]["text"], demo[key]["text"]) for key in spoken}
    assert len(spoken) >= 12
    assert [errors[key] for key in SURE] == [0, 0], errors
    assert [transcripts[key]["text"] for key in SURE] == [demo[key]["text"] for key in SURE]
    assert max(errors.values()) <= WORST_FILE and sum(errors.values()) / len(errors) <= MEAN_OF_FILES, errors


def test_languages_are_detected_or_forced(out: Path, demo: Demo) -> None:
    transcripts = read_transcripts(out)
    assert {"pt", "fr", "de", "yue", "zh", "ru"} <= {transcripts[key]["language"] for key in transcripts}
    for key, row in demo.items():
        if row.get("language") and key in transcripts:
            assert transcripts[key]["language"] == row["language"]
    for row in transcripts.values():
        assert sum(entry["duration"] for entry in row["languages"]) <= row["duration"] + 0.001  # milliseconds


def test_silence_is_proven_and_the_broken_file_is_a_dead_letter(out: Path) -> None:
    silence = read_transcripts(out)["silence"]
    assert (silence["status"], silence["text"], silence["language"], silence["segments"]) == (
        "no_speech",
        "",
        None,
        [],
    )
    broken = read_dead_letters(out)["broken"]
    assert broken["error_stage"] == "decode" and broken["error_code"] in (
        "not_audio",
        "bad_header",
        "corrupt_audio",
        "no_samples",
    )
    assert broken["attempts"] == 1 and broken["error_message"]


def test_words_lie_within_their_segment_and_its_text(out: Path) -> None:
    for key, row in read_transcripts(out).items():
        for segment in row["segments"]:
            assert 0 <= segment["start"] < segment["end"] <= row["duration"] + 1e-6, key
            assert segment["end"] - segment["start"] <= 15 + 1e-6, key
            assert segment["text"] == "" or 0 < segment["confidence"] <= 1
            ends = [segment["start"]]
            for word in segment["words"]:
                assert ends[-1] - 1e-6 <= word["start"] <= word["end"] <= segment["end"] + 1e-6, key
                assert segment["text"][word["char_start"] : word["char_end"]].strip() == word["text"] != ""
                ends.append(word["start"])
            if segment["text"]:
                assert segment["word_source"] == "aligner" and segment["words"], key


def test_word_times_are_close_to_the_truth(out: Path, demo: Demo) -> None:
    transcripts = read_transcripts(out)
    for key in SURE:
        words = [word for segment in transcripts[key]["segments"] for word in segment["words"]]
        shifts = [
            abs(found["start"] - true["start"]) for found, true in zip(words, demo[key]["words"], strict=True)
        ]
        assert sum(shifts) / len(shifts) < 0.08, key


def test_the_long_recording_is_cut_and_stitched(out: Path, demo: Demo) -> None:
    row = read_transcripts(out)["long-meeting"]
    assert row["duration"] > 180 and len(row["segments"]) > 12
    assert _error_rate(row["text"], demo["long-meeting"]["text"]) <= WORST_FILE


def test_the_output_files_have_the_documented_schemas(out: Path) -> None:
    for table, schema in (("transcripts", TRANSCRIPT), ("dead_letters", DEAD_LETTER)):
        for path in (out / table).glob("*.parquet"):
            assert pq.read_schema(path).equals(schema, check_metadata=False)
    assert isinstance(TRANSCRIPT, pa.Schema)


def test_transcripts_carry_metadata_and_provenance(out: Path, demo: Demo) -> None:
    row = read_transcripts(out)["front-desk"]
    assert json.loads(row["metadata"])["collection"] == demo["front-desk"]["collection"]
    provenance = row["provenance"]
    assert provenance["audio_bytes"] == Path(demo["front-desk"]["audio"]).stat().st_size
    assert provenance["sampling_rate"] > 0 and provenance["codec"] and provenance["audio_etag"]
    assert provenance["asr_model"].endswith("demo/asr") and provenance["aligner_model"].endswith(
        "demo/aligner"
    )
    assert (
        provenance["asr_revision"]
        and provenance["config_hash"]
        and provenance["version"]
        and provenance["created_at"]
    )


def test_a_second_run_does_nothing_and_new_rows_are_added(
    scriptorium: Scriptorium, demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = demo[SURE[0]], demo["silence"]
    manifest = write_manifest(tmp_path / "m.jsonl", [first])
    out = tmp_path / "out"
    assert scriptorium("transcribe", manifest, out, *NO_WORDS) == 0
    before = {path: path.read_bytes() for path in (out / "transcripts").glob("*.parquet")}
    capsys.readouterr()
    assert scriptorium("transcribe", manifest, out, *NO_WORDS) == 0
    assert "nothing to do: the 1 recording is done" in capsys.readouterr().out
    write_manifest(manifest, [first, second])
    assert scriptorium("transcribe", manifest, out, *NO_WORDS) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert set(read_transcripts(out)) == {SURE[0], "silence"}
    assert scriptorium("transcribe", manifest, out, *NO_WORDS, "--set", "asr.language=German") == 2
    assert "other settings (asr.language)" in capsys.readouterr().err


def test_retry_turns_a_repaired_dead_letter_into_a_transcript(
    scriptorium: Scriptorium, demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_manifest(
        tmp_path / "m.jsonl", [{"audio": "a.wav", "id": "a"}, {"audio": "b.wav", "id": "b"}]
    )
    (tmp_path / "b.wav").write_bytes(b"")
    out = tmp_path / "out"
    assert scriptorium("transcribe", manifest, out, *NO_WORDS) == 3
    assert {key: row["error_code"] for key, row in read_dead_letters(out).items()} == {
        "a": "audio_not_found",
        "b": "empty_file",
    }
    shutil.copy(demo[SURE[0]]["audio"], tmp_path / "a.wav")
    assert scriptorium("retry", out, "--code", "audio_not_found") == 3
    assert read_transcripts(out)["a"]["text"] == demo[SURE[0]]["text"]
    assert set(read_dead_letters(out)) == {"b"} and read_dead_letters(out)["b"]["attempts"] == 1
    assert scriptorium("retry", out) == 3
    assert read_dead_letters(out)["b"]["attempts"] == 2 and set(read_transcripts(out)) == {"a"}
    capsys.readouterr()
    assert scriptorium("status", out, "--json") == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["recordings"], state["transcripts"], state["dead_letters_by_code"]) == (
        2,
        1,
        {"empty_file": 1},
    )


def test_a_wrong_manifest_is_refused_before_anything_is_written(
    scriptorium: Scriptorium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio": "a.wav"}\n{"audio": \n')
    assert scriptorium("transcribe", manifest, tmp_path / "out") == 2
    assert "m.jsonl: line 2: not JSON" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def _error_rate(said: str, wanted: str) -> float:
    """Word error rate; character error rate for scripts without spaces."""
    left, right = (
        "".join(c if c.isalnum() or c.isspace() else " " for c in text.lower()).split()
        for text in (said, wanted)
    )
    if len(right) == 1 or any(c > "\u2e80" for c in wanted):
        left, right = list("".join(left)), list("".join(right))
    return _edits(left, right) / len(right)


def _edits(said: list[str], wanted: list[str]) -> int:
    row = list(range(len(wanted) + 1))
    for i, left in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(wanted, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


def test_words_and_segments_say_how_sure_the_model_is(out: Path) -> None:
    spoken = [
        segment for row in read_transcripts(out).values() for segment in row["segments"] if segment["text"]
    ]
    for segment in spoken:
        confidences = [word["confidence"] for word in segment["words"]]
        assert confidences and all(0 < value <= 1 for value in confidences)
        assert segment["min_confidence"] == min(confidences) <= segment["confidence"] + 1e-4
    assert any(segment["language_confidence"] for segment in spoken)
