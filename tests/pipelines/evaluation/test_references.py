"""References are read from manifests of any form; what is missing or wrong is said with a remedy."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.errors import UsageError
from pipelines.evaluation.references import DiskMap, Reference, from_manifest, from_output
from tests.pipelines.evaluation.outputs import make_manifest, make_output, segment, transcript, word


def test_text_language_words_and_columns_are_read(tmp_path: Path) -> None:
    row = {"id": "a", "text": "Hi.", "language": "German", "words": [word("hi", 0.1, 0.5)], "room": 3}
    found = from_manifest(make_manifest(tmp_path / "m.jsonl", [row]), columns=["room", "language"])
    expected = Reference("Hi.", "de", [("hi", 0.1, 0.5)], {"room": "3", "language": "de"})
    assert found.get("a") == expected
    assert found.get("b") is None


def test_words_may_be_a_json_string(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    cell = json.dumps([word("hi", 0.1, 0.5)]).replace('"', '""')
    manifest.write_text(f'audio,id,text,words\na.wav,a,hi,"{cell}"\n')
    reference = from_manifest(str(manifest)).get("a")
    assert reference is not None
    assert reference.words == [("hi", 0.1, 0.5)]


def test_a_row_without_text_is_no_reference(tmp_path: Path) -> None:
    manifest = make_manifest(
        tmp_path / "m.jsonl", [{"id": "a", "text": "x"}, {"id": "b"}, {"id": "c", "text": ""}]
    )
    found = from_manifest(manifest)
    assert found.without_text == 2
    assert [key for key, _ in found.remaining()] == ["a"]


def test_an_empty_list_of_words_says_that_nothing_is_spoken(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "a", "text": "", "words": []}])
    assert from_manifest(manifest).get("a") == Reference("", None, [])


def test_words_alone_are_a_text(tmp_path: Path) -> None:
    rows = [{"id": "a", "words": [word("no", 0, 1), word("one", 1, 2)]}]
    reference = from_manifest(make_manifest(tmp_path / "m.jsonl", rows)).get("a")
    assert reference is not None
    assert reference.text == "no one"


@pytest.mark.parametrize(
    "words", ["soon", "[1", 7, [{"text": "a", "start": 0}], [{"start": 0, "end": 1}], ["a"]]
)
def test_wrong_words_are_refused_with_their_line(tmp_path: Path, words: Any) -> None:
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "a", "text": "a", "words": words}])
    with pytest.raises(UsageError, match=r"m\.jsonl:1: `words` must be"):
        from_manifest(manifest)


def test_a_manifest_without_any_text_says_how_to_name_the_column(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "a", "transcription": "x"}])
    with pytest.raises(UsageError, match=r"--columns text=NAME \(found: transcription\)"):
        from_manifest(manifest)


def test_the_text_column_may_have_another_name(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "a", "transcription": "x"}])
    assert from_manifest(manifest, {"text": "transcription"}).get("a") == Reference("x")


def test_an_unknown_column_of_by_is_refused(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "m.jsonl", [{"id": "a", "text": "x", "room": "r"}])
    with pytest.raises(UsageError, match=r"column floor of --by.*found: room"):
        from_manifest(manifest, columns=["room", "floor"])


def test_transcripts_of_another_run_are_references(tmp_path: Path) -> None:
    rows = [transcript("a", "hi", "de", [segment("hi", words=[word("hi", 0.1, 0.5)])])]
    found = from_output(make_output(tmp_path / "out", rows))
    assert found.get("a") == Reference("hi", "de", [("hi", 0.1, 0.5)])


def test_a_directory_without_transcripts_is_no_run_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no transcripts"):
        from_output(str(tmp_path))


def test_a_disk_map_keeps_the_first_value_and_knows_what_was_taken() -> None:
    items = DiskMap()
    assert items.add("a", {"n": 1})
    assert not items.add("a", {"n": 2})
    assert items.add("b", [])
    assert items.get("a") == {"n": 1}
    assert items.take("a")
    assert not items.take("a")
    assert not items.take("c")
    assert list(items.untaken()) == [("b", [])]
    assert len(items) == 2
    items.close()
