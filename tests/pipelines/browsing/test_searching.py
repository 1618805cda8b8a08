"""Searches and filters over HTTP, and the index: built once, and brought up to date with OUT."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import UsageError
from pipelines.browsing import index, indexing
from pipelines.browsing.library import Library
from pipelines.browsing.searching import PAGE_ROWS, Search
from pipelines.schema import TRANSCRIPT
from tests.pipelines.browsing.conftest import Page
from tests.pipelines.export.transcripts import make_segment, make_transcript


def test_everything_is_listed_without_a_query(page: Page, browsed_rows: list[dict[str, Any]]) -> None:
    assert sorted(page.found()) == sorted(row["recording_id"] for row in browsed_rows)
    overview = page.get("overview")
    assert overview["recordings"] == len(browsed_rows)
    assert overview["seconds"] == pytest.approx(sum(row["duration"] for row in browsed_rows))
    assert "labelstudio" in {form["name"] for form in overview["formats"]}


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"q": "agree"}, ["interview 1.wav"]),
        ({"q": "天気"}, ["ja.wav"]),
        ({"language": "ja"}, ["ja.wav"]),
        ({"language": ["ja", "zh"]}, ["ja.wav", "zh.wav"]),
        ({"language": "zh", "q": "天気"}, []),
        ({"speaker": "Ada L."}, ["interview 1.wav"]),
        ({"flag": "clipped"}, ["two.wav"]),
        ({"flag": "channel"}, ["two.wav"]),
        ({"flag": "repetitive"}, ["interview 1.wav"]),
        ({"status": "no_speech"}, ["quiet.wav", "silence"]),
        ({"below": 0.5}, ["interview 1.wav"]),
        ({"below": 0.4}, []),
        ({"corrected": True}, []),
        ({"flag": "no such flag"}, []),
        ({"q": "?!"}, []),
    ],
)
def test_filters_leave_what_they_say(page: Page, parameters: dict[str, Any], names: list[str]) -> None:
    assert sorted(page.found(**parameters)) == sorted(names)


def test_values_of_filters_have_their_numbers(page: Page) -> None:
    values = page.get("overview")["values"]
    assert {"value": "Ada L.", "count": 1} in values["speaker"]
    assert {"value": "clipped", "count": 2} in values["flag"]


@pytest.mark.parametrize("query", ["below=2", "after=-1", "below=x", "q=" + "x" * 501])
def test_wrong_parameters_are_refused(page: Page, query: str) -> None:
    status, _, body = page.ask(f"/api/search?{query}")
    assert status == 400
    assert json.loads(body)["error"]["message"].startswith(query.partition("=")[0])


def write(out: Path, name: str, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=TRANSCRIPT), out / "transcripts" / name)


def said(name: str, *words: str) -> dict[str, Any]:
    return make_transcript(name, [make_segment(0, list(words))])


def opened(out: Path) -> Library:
    path = index.index_path(str(out))
    index.create(path)
    library = Library(str(out), path)
    library.refresh()
    return library


def names(library: Library, text: str) -> list[str]:
    return [hit["recording_id"] for hit in library.search(Search(text))["hits"]]


def test_pages_follow_each_other_without_gaps(tmp_path: Path) -> None:
    (tmp_path / "transcripts").mkdir()
    write(tmp_path, "a.parquet", [said(f"r{number:03}", "same") for number in range(2 * PAGE_ROWS + 7)])
    library, after, seen = opened(tmp_path), 0, []
    while after is not None:
        found = library.search(Search("same", after=after))
        seen += [hit["recording_id"] for hit in found["hits"]]
        after = found["next"]
    assert seen == [f"r{number:03}" for number in range(2 * PAGE_ROWS + 7)]


def test_only_new_changed_and_removed_files_are_taken_in(copied: Path) -> None:
    library = opened(copied)
    assert library.refresh() == indexing.Changes()
    write(copied, "new.parquet", [said("new", "novelty"), said("zh.wav", "moved")])
    assert library.refresh() == indexing.Changes(added=1, recordings=2)
    assert names(library, "novelty") == ["new"]
    assert names(library, "moved") == ["zh.wav"]
    assert names(library, "北京") == []
    write(copied, "new.parquet", [said("new", "different")])
    assert library.refresh().recordings == 1
    assert (names(library, "novelty"), names(library, "different")) == ([], ["new"])
    (copied / "transcripts" / "new.parquet").unlink()
    assert library.refresh().removed == 1
    assert names(library, "different") == []
    reopened = opened(copied)  # nothing is read again
    assert reopened.refresh() == indexing.Changes()


def test_the_index_has_no_rows_left_over(copied: Path) -> None:
    library = opened(copied)
    write(copied, "new.parquet", [said("new", "novelty")])
    library.refresh()
    (copied / "transcripts" / "new.parquet").unlink()
    library.refresh()
    database = sqlite3.connect(index.index_path(str(copied)))
    counted = dict(database.execute("SELECT kind || value, count FROM facets"))
    database.execute("INSERT INTO search (search) VALUES ('integrity-check')")
    fresh = copied.parent / "fresh.sqlite3"
    index.create(fresh)
    Library(str(copied), fresh).refresh()
    expected = dict(sqlite3.connect(fresh).execute("SELECT kind || value, count FROM facets"))
    assert {name: count for name, count in counted.items() if count} == expected


def test_an_index_of_another_version_is_built_anew(copied: Path) -> None:
    opened(copied)
    database = sqlite3.connect(index.index_path(str(copied)))
    database.execute("PRAGMA user_version = 99")
    database.commit()
    assert names(opened(copied), "北京") == ["zh.wav"]


def test_the_index_of_what_cannot_be_written_is_in_the_cache_of_this_user(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert index.index_path("memory://bucket/out").is_relative_to(tmp_path / "cache")
    assert index.index_path("memory://bucket/out") != index.index_path("memory://bucket/other")
    assert index.index_path(str(copied)) == copied / "browse" / "index.sqlite3"
    index.create(path := index.index_path("memory://bucket/out"))
    assert os.stat(path).st_mode & 0o077 == 0


def test_transcripts_in_an_object_store_are_found(copied: Path, tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(str(copied), "/browsed/out", recursive=True)
    path = tmp_path / "index.sqlite3"
    index.create(path)
    library = Library("memory://browsed/out", path)
    library.refresh()
    assert names(library, "北京") == ["zh.wav"]
    assert library.refresh() == indexing.Changes()
    store.rm("/browsed", recursive=True)


def test_a_folder_without_transcripts_is_refused(tmp_path: Path) -> None:
    from pipelines.cli import main

    assert main(["browse", str(tmp_path), "--port", "0"]) == 2
    assert not (tmp_path / "browse").exists()


def test_a_port_that_is_taken_is_told(copied: Path, page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.cli import main

    assert main(["browse", str(copied), "--port", str(page.port)]) == 2
    assert "--port" in capsys.readouterr().err


def test_a_damaged_index_is_told(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite3"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(UsageError, match="delete the file"):
        index.create(path)
