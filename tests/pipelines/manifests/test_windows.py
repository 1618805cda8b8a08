"""Columns that narrow a recording to a part of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.errors import UsageError
from tests.pipelines.manifests.samples import jsonl, read, write

WINDOWS: list[tuple[dict[str, Any], tuple[float, float | None] | None, str]] = [
    ({"offset": 1.5, "duration": 2}, (1.5, 3.5), "a#t=1.5,3.5"),
    ({"offset": 0, "duration": 2.0}, (0.0, 2.0), "a#t=0,2"),
    ({"offset": "1.5", "duration": "2"}, (1.5, 3.5), "a#t=1.5,3.5"),
    ({"start": 3, "end": 4.25}, (3.0, 4.25), "a#t=3,4.25"),
    ({"start": "3", "end": "4.25"}, (3.0, 4.25), "a#t=3,4.25"),
    ({"start": 3, "duration": 2}, (3.0, 5.0), "a#t=3,5"),
    ({"end": 4}, (0.0, 4.0), "a#t=0,4"),
    ({"start": 3}, (3.0, None), "a#t=3"),
    ({"offset": 3, "duration": None}, (3.0, None), "a#t=3"),
    ({"start": 3, "end": 5, "duration": 2.0}, (3.0, 5.0), "a#t=3,5"),
    ({"start": 3, "end": 5, "duration": 60}, (3.0, 5.0), "a#t=3,5"),
    ({"offset": 0}, None, "a"),
    ({"offset": "", "start": "", "end": "", "duration": ""}, None, "a"),
    ({"duration": 2}, None, "a"),
    ({"start": 1, "end": 2, "id": "own"}, (1.0, 2.0), "own"),
]


@pytest.mark.parametrize("audio", ["audio", "audio_filepath", "path"])
@pytest.mark.parametrize(("columns", "window", "name"), WINDOWS)
def test_windows_are_read(
    columns: dict[str, Any], window: tuple[float, float | None] | None, name: str, audio: str, tmp_path: Path
) -> None:
    (found,) = read(write(tmp_path, jsonl([{audio: "a", **columns}])))
    assert (found.window, found.id, found.metadata) == (window, name, {})
    if window and window[1] is not None:
        assert found.duration == pytest.approx(window[1] - window[0])


def test_windows_are_read_from_csv(tmp_path: Path) -> None:
    first, second = read(write(tmp_path, "audio,Start,End\na.wav,1,2.5\na.wav,2.5,\n", "m.csv"))
    assert (first.window, second.window) == ((1.0, 2.5), (2.5, None))


def test_windows_of_one_file_have_different_ids(tmp_path: Path) -> None:
    rows = [{"audio": "a", "offset": n * 0.1, "duration": 0.1} for n in range(50)]
    assert len({one.id for one in read(write(tmp_path, jsonl(rows)))}) == 50
    with pytest.raises(UsageError, match=r"'a#t=0,0\.1' is already listed"):
        read(write(tmp_path, jsonl([rows[0], rows[0]])))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"offset": -1, "duration": 2}, r"`offset` must be a number of seconds, not -1"),
    ({"start": "00:01:30"}, r"`start` must be a number of seconds, not '00:01:30'"),
    ({"end": True}, r"`end` must be"),
    ({"start": float("inf")}, r"`start` must be"),
    ({"start": 5, "end": 4}, r"`end` 4 is not behind the start 5"),
    ({"start": 5, "end": 5}, r"`end` 5 is not behind"),
    ({"offset": 5, "duration": 0}, r"a part of 0 s"),
    ({"offset": 1, "start": 2}, r"`offset` 1 and `start` 2 say different things"),
    ({"start": 5, "end": 9, "duration": 2}, r"`end` 9 is 4 s behind the start, but `duration` says 2 s"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG)
def test_windows_that_make_no_sense_are_refused_with_their_line(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=rf"m\.jsonl:2: {message}"):
        read(write(tmp_path, jsonl([{"audio": "x"}, {"audio": "a", **columns}])))
