"""Answers are kept by table until it is committed; whatever goes wrong with them costs only time."""

from pathlib import Path

import pytest

from pipelines.commits import answers
from pipelines.commits.answers import AnswerFolder
from pipelines.config import RunConfig


@pytest.fixture
def folder(tmp_path: Path) -> AnswerFolder:
    return AnswerFolder.of(str(tmp_path), RunConfig())


def names(folder: AnswerFolder) -> list[str]:
    return [Path(uri).name for uri in answers._files(folder.out)]


def test_another_process_finds_what_was_kept(folder: AnswerFolder) -> None:
    store = folder.open("recognise")
    assert store.is_empty
    store.keep("a-0", {"k": 1})
    store.keep("a-0", {"k": 1, "l": {"text": "é"}})
    store.keep("b-0", {"m": None})
    assert len(names(folder)) == 2
    again = folder.open("recognise")
    assert not again.is_empty
    assert (again.find("l"), again.find("x")) == ({"text": "é"}, None)
    assert folder.open("align").is_empty


def test_other_settings_find_nothing(folder: AnswerFolder) -> None:
    folder.open("recognise").keep("a-0", {"k": 1})
    other = AnswerFolder.of(folder.out, RunConfig.model_validate({"asr": {"language": "de"}}))
    assert other.open("recognise").is_empty
    other.prune(["a-0"])
    assert names(folder) == []


def test_committed_tables_lose_their_answers(folder: AnswerFolder) -> None:
    for stage in ("recognise", "align"):
        for table in ("a-0", "b-0"):
            folder.open(stage).keep(table, {"k": table})
    answers.remove_committed(folder.out, ["c-0", "b-0"])
    assert len(names(folder)) == 2
    folder.prune(["b-0"])
    assert names(folder) == []
    folder.prune([])


def test_a_damaged_file_is_like_none(folder: AnswerFolder) -> None:
    folder.open("recognise").keep("a-0", {"k": 1})
    [name] = names(folder)
    (Path(folder.out) / "answers" / name).write_bytes(b"")
    assert folder.open("recognise").is_empty


def test_a_store_that_cannot_be_written_to_costs_no_work(
    folder: AnswerFolder, caplog: pytest.LogCaptureFixture
) -> None:
    store = folder.open("recognise")
    (Path(folder.out) / "answers").write_text("a file where the folder should be")
    store.keep("a-0", {"k": 1})
    assert "answers are not kept" in caplog.text
