"""File names from ids: safe, unique, and never outside the destination."""

from __future__ import annotations

import os
import posixpath

from hypothesis import given
from hypothesis import strategies as st

from pipelines.export.names import file_name, find_collisions, flat_name
from tests.pipelines.export.transcripts import HOSTILE_IDS

_IDS = st.one_of(
    st.text(max_size=40),
    st.text("aA./\\-_ 0é", max_size=12),
    st.sampled_from(["a", "b", "..", "x.srt", ".hidden", "a-0123456789"]).flatmap(
        lambda part: st.lists(st.just(part), max_size=3).map("/".join)
    ),
)


def test_ordinary_ids_keep_their_names_and_folders() -> None:
    assert file_name("shows/2024/talk 1.wav", ".srt") == "shows/2024/talk 1.wav.srt"
    assert file_name("Größe.flac", ".txt") == "Größe.flac.txt"
    assert file_name("/archive/a.wav", ".txt") == "archive/a.wav.txt"
    assert file_name("s3://bucket/a.wav", ".txt") == "s3/bucket/a.wav.txt"


@given(_IDS)
def test_no_name_leaves_the_destination(recording_id: str) -> None:
    name = file_name(recording_id, ".srt")
    assert not name.startswith("/")
    assert not posixpath.normpath(name).startswith("..")
    parts = name.split("/")
    assert all(part and part not in (".", "..") and not part.startswith(".") for part in parts)
    assert all(len(part.encode()) <= 255 for part in parts)
    assert len(name.encode()) < 1000


@given(st.lists(_IDS, unique=True, max_size=8))
def test_different_ids_have_different_names(ids: list[str]) -> None:
    collisions = find_collisions(ids)
    names = [file_name(recording_id, ".srt", collisions).casefold() for recording_id in ids]
    assert len(set(names)) == len(ids)


@given(st.lists(_IDS, unique=True, max_size=8))
def test_no_file_has_the_name_of_a_folder(ids: list[str]) -> None:
    names = {file_name(recording_id, ".srt", find_collisions(ids)) for recording_id in ids}
    folders = {os.path.dirname(name) for name in names} - {""}
    assert not names & folders


@given(st.lists(_IDS, unique=True, max_size=8))
def test_keys_are_unique_and_have_no_dots(ids: list[str]) -> None:
    keys = [flat_name(recording_id) for recording_id in ids]
    assert len(set(keys)) == len(ids)
    assert all(key.replace("_", "a").isalnum() and key.isascii() for key in keys)


def test_names_that_look_changed_are_changed() -> None:
    changed = file_name("a?b")
    assert file_name(changed) != changed


def test_ids_that_differ_in_case_only_get_digests() -> None:
    collisions = find_collisions(HOSTILE_IDS)
    assert file_name("talk.wav", ".srt", collisions) != "talk.wav.srt"
    assert file_name("tab\tnew\nline", ".srt", collisions).isprintable()
