"""Addresses of local files in every form of a file URI."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.storage.uris import absolute, is_remote, join


@pytest.mark.parametrize(
    "form", ["{}", "file://{}", "file://localhost{}", "file:{}", "FILE://{}", "local://{}"]
)
def test_all_forms_of_a_local_address_are_its_path(form: str, tmp_path: Path) -> None:
    assert absolute(form.format(tmp_path / "a.wav")) == str(tmp_path / "a.wav")
    assert absolute(join("/base", form.format(tmp_path / "a.wav"))) == str(tmp_path / "a.wav")
    assert absolute(join("s3://b/k", form.format(tmp_path / "a.wav"))) == str(tmp_path / "a.wav")


@pytest.mark.parametrize("form", ["file://{}", "file://localhost{}", "file:{}"])
def test_encoded_names_are_decoded_unless_a_file_has_them(form: str, tmp_path: Path) -> None:
    uri = form.format(f"{tmp_path}/a%20b.wav")
    assert absolute(uri) == f"{tmp_path}/a%20b.wav"
    (tmp_path / "a b.wav").touch()
    assert absolute(uri) == f"{tmp_path}/a b.wav"
    (tmp_path / "a%20b.wav").touch()
    assert absolute(uri) == f"{tmp_path}/a%20b.wav"


def test_paths_without_a_scheme_are_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "a b.wav").touch()
    assert absolute(f"{tmp_path}/a%20b.wav") == f"{tmp_path}/a%20b.wav"


def test_file_uris_are_local() -> None:
    assert not any(map(is_remote, ("file:/x", "file:///x", "file://localhost/x", "/x")))
    assert is_remote("s3://b/file:/x")
