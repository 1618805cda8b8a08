"""Windows, members of archives and other spellings of names in the plan."""

from __future__ import annotations

import io
import itertools
import json
import logging
import tarfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from actors.errors import UsageError
from actors.records import Probe
from pipelines.config import RunConfig
from pipelines.manifests.columns import Recording
from pipelines.manifests.manifest import read_manifest
from pipelines.output import plans
from pipelines.planning import estimate, planner

CONFIG = RunConfig.model_validate({"audio": {"isolate": False}})
Window = tuple[float, float | None]


def recording(name: str, window: Window | None, audio: str = "/audio/a.wav", **more: Any) -> Recording:
    duration = None if window is None or window[1] is None else window[1] - window[0]
    columns = {"duration": duration, "metadata": {}, "origin": "m:7"} | more
    return Recording(
        id=name, audio=audio, language=None, context=None, text=None, channel=None, window=window, **columns
    )


class CountingProbe:
    """A probe that answers 1 h for every file and counts what it was asked."""

    def __init__(self, seconds: float | None = 3600.0) -> None:
        self.seconds, self.asked = seconds, list[str]()

    def __call__(self, uri: str, scan: bool = False) -> Probe:
        self.asked.append(uri)
        return Probe(self.seconds, "flac", "flac", 16000, 1, 10**8, "e")


def plan(recordings: list[Recording], probe: Any = None, config: RunConfig = CONFIG) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = planner.plan_table(
        recordings, config, probe=probe or CountingProbe()
    ).to_pylist()
    return rows


def test_shards_of_a_window_are_spans_of_the_file() -> None:
    rows = plan([recording("w", (100.1234567, 1600.5))])
    assert [(row["start"], row["end"]) for row in rows] == [
        (100.1234567, 600.249),
        (600.249, 1100.374),
        (1100.374, 1600.5),
    ]
    assert [row["duration"] for row in rows] == pytest.approx([1500.3765433] * 3)
    assert {(row["window"]["start"], row["window"]["end"]) for row in rows} == {(100.1234567, 1600.5)}


def test_a_window_without_an_end_goes_to_the_end_of_the_file() -> None:
    rows = plan([recording("w", (2700.0, None))])
    assert [(row["start"], row["end"]) for row in rows] == [(2700.0, 3150.0), (3150.0, None)]
    assert rows[0]["duration"] == 900.0
    table = planner.plan_table([recording("w", (2700.0, None))], CONFIG, probe=CountingProbe())
    assert planner.seconds_of(table) == 900.0


def test_the_header_of_a_file_with_many_windows_is_read_once() -> None:
    probe = CountingProbe()
    windows = [recording(str(n), (n * 5.0, n * 5.0 + 5), f"/a/{n % 3}.wav") for n in range(300)]
    assert len(plan(windows, probe)) == 300
    assert sorted(probe.asked) == ["/a/0.wav", "/a/1.wav", "/a/2.wav"]


def test_neighbouring_windows_are_planned_together_in_the_order_of_the_file() -> None:
    windows = [recording(f"{n}", (n * 5.0, n * 5.0 + 5), f"/a/{n % 3}.wav") for n in range(60)]
    order = np.random.default_rng(0).permutation(60)
    rows = plan([*(windows[n] for n in order), recording("whole", None, "/a/long.wav")])
    assert rows[0]["recording_id"] == "whole"
    files = [row["audio"] for row in rows if row["window"]]
    assert sum(left != right for left, right in itertools.pairwise(files)) == 2
    for name in set(files):
        starts = [row["start"] for row in rows if row["audio"] == name]
        assert starts == sorted(starts)


def test_hours_and_bytes_of_windows_are_counted_once() -> None:
    table = planner.plan_table(
        [recording(str(n), (n * 36.0, n * 36.0 + 36)) for n in range(10)], CONFIG, probe=CountingProbe()
    )
    figures = estimate.estimate(table, CONFIG.estimate)
    assert (figures.recordings, figures.hours, figures.audio_bytes) == (10, pytest.approx(0.1), 10**8)


def test_ids_of_shards_differ_between_windows_and_files() -> None:
    ids = {
        plan([recording("r", window)])[0]["shard_id"]
        for window in (None, (0.0, 5.0), (0.0, 6.0), (0.0, None))
    }
    assert len(ids) == 4


def test_trusted_windows_need_no_header() -> None:
    config = CONFIG.model_copy(update={"plan": CONFIG.plan.model_copy(update={"trust_durations": True})})
    probe = CountingProbe()
    (row,) = plan([recording("w", (5.0, 9.0))], probe, config)
    assert (probe.asked, row["duration"], row["start"], row["end"]) == ([], 4.0, 5.0, 9.0)


def test_windows_of_an_unreadable_file_keep_their_rows() -> None:
    def broken(uri: str, scan: bool = False) -> Probe:
        raise FileNotFoundError(uri)

    rows = plan([recording("a", (0.0, 5.0)), recording("b", (5.0, None))], broken)
    assert {row["recording_id"]: row["probe_error"] for row in rows} == {
        "a": "audio_not_found",
        "b": "audio_not_found",
    }


def test_a_duration_far_below_the_header_is_refused_with_its_line() -> None:
    whole = recording("a", None, duration=3.0)
    with pytest.raises(
        UsageError, match=r"m:7: `duration` is 3 s, but the header .* says 3600 s; .* `offset`"
    ):
        plan([whole])
    assert len(plan([recording("a", None, duration=3595.0)])) == 6
    assert len(plan([recording("a", None, duration=9999.0)])) == 6
    assert len(plan([whole], CountingProbe(None))) == 1


def test_a_plan_keeps_windows_and_is_repeated_with_them(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    windows = [recording("a", (5.0, 9.0)), recording("b", (9.0, None)), recording("c", None)]
    planner.extend_plan(out, windows, CONFIG, "r1", probe=CountingProbe())
    planner.plan_again(out, {"a": 1, "b": 1}, "r2", CONFIG, probe=CountingProbe())
    rows = {row["recording_id"]: row for row in plans.read(out).to_pylist() if row["index"] == 0}
    assert {name: row["attempt"] for name, row in rows.items()} == {"a": 2, "b": 2, "c": 1}
    assert (rows["a"]["window"], rows["a"]["end"]) == ({"start": 5.0, "end": 9.0}, 9.0)
    assert (rows["b"]["window"], rows["b"]["duration"]) == ({"start": 9.0, "end": None}, 3591.0)


# Members of archives and other names


def wave(seconds: float) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, np.zeros(round(16000 * seconds), np.int16), 16000, format="WAV")
    return sink.getvalue()


def store(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def planned(
    folder: Path, rows: list[dict[str, Any]], config: RunConfig = CONFIG
) -> dict[str, dict[str, Any]]:
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = planner.plan_table(read_manifest(str(folder / "m.jsonl")), config)
    return {row["recording_id"]: row for row in table.to_pylist()}


def test_members_of_archives_are_located(tmp_path: Path) -> None:
    store(tmp_path / "x.tar", {"b.wav": wave(2), "sub/a.wav": wave(1)})
    rows = planned(
        tmp_path,
        [
            {"audio": "x.tar#sub/a.wav", "id": "a"},
            {"audio": "x.tar#b.wav", "id": "b"},
            {"audio": "x.tar#b-sub1.wav", "id": "b1", "offset": 0.5, "duration": 1},
            {"audio": "x.tar#none.wav", "id": "none"},
            {"audio": "no.tar#b.wav", "id": "no"},
        ],
    )
    assert {name: row["duration"] for name, row in rows.items()} == {
        "a": 1,
        "b": 2,
        "b1": 1,
        "none": None,
        "no": None,
    }
    assert (
        rows["a"]["location"].startswith("slice://") and rows["a"]["audio"] == f"{tmp_path}/x.tar#sub/a.wav"
    )
    assert rows["b"]["location"] == rows["b1"]["location"]
    assert {rows[name]["probe_error"] for name in ("none", "no")} == {"audio_not_found"}
    assert [name for name in rows if name in ("a", "b", "b1")] == ["b", "b1", "a"]


def test_an_archive_that_cannot_be_read_by_place_is_refused_with_the_line(tmp_path: Path) -> None:
    store(tmp_path / "x.tar", {"a.wav": wave(1)}, "w:gz")
    with pytest.raises(UsageError, match=r"m\.jsonl:2: .*x\.tar: the archive is compressed"):
        planned(tmp_path, [{"audio": "a.wav"}, {"audio": "x.tar#a.wav"}])


def test_archives_outside_of_what_is_allowed_are_refused_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    store(tmp_path / "x.tar", {"a.wav": wave(1)})
    config = RunConfig.model_validate({"plan": {"allowed_uris": [str(tmp_path / "in")]}})
    for audio in ("../x.tar#a.wav", f"{tmp_path}/x.tar#in/a.wav"):
        with pytest.raises(UsageError, match=r"m\.jsonl:1: .* is outside of what plan\.allowed_uris allows"):
            planned(tmp_path / "in", [{"audio": audio}], config)
    # A link with the name of a member is opened instead of the member.
    store(tmp_path / "in/y.tar", {"a.wav": wave(1)})
    (tmp_path / "in/y.tar#a.wav").symlink_to(tmp_path / "x.tar")
    with pytest.raises(UsageError, match=r"outside of what plan\.allowed_uris allows"):
        planned(tmp_path / "in", [{"audio": "y.tar#a.wav"}], config)


NAMES = {
    "NFD on the disk": (
        unicodedata.normalize("NFD", "müller.wav"),
        unicodedata.normalize("NFC", "müller.wav"),
    ),
    "NFC on the disk": (
        unicodedata.normalize("NFC", "müller.wav"),
        unicodedata.normalize("NFD", "müller.wav"),
    ),
    "spaces at the ends": (" talk.wav ", "talk.wav"),
    "an encoded space": ("my talk.wav", "my%20talk.wav"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_file_under_another_spelling_is_found(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    real, named = NAMES[case]
    folder = tmp_path / unicodedata.normalize("NFD", "é")
    folder.mkdir()
    (folder / real).write_bytes(wave(2))
    with caplog.at_level(logging.WARNING):
        rows = planned(tmp_path, [{"audio": unicodedata.normalize("NFC", "é") + "/" + named}])
    ((name, row),) = rows.items()
    assert (row["audio"], row["duration"], row["probe_error"]) == (str(folder / real), 2.0, None)
    assert name == f"é/{named}"
    assert "1 file found under another spelling" in caplog.text


def test_several_files_that_may_be_meant_are_not_guessed(tmp_path: Path) -> None:
    for name in ("a.wav ", " a.wav"):
        (tmp_path / name).write_bytes(wave(1))
    assert planned(tmp_path, [{"audio": "a.wav"}])["a.wav"]["probe_error"] == "audio_not_found"


def test_a_file_under_another_spelling_must_be_allowed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.wav").write_bytes(wave(1))
    (tmp_path / "in" / unicodedata.normalize("NFD", "é.wav")).symlink_to(tmp_path / "secret.wav")
    config = RunConfig.model_validate({"plan": {"allowed_uris": [str(tmp_path / "in")]}})
    rows = planned(tmp_path / "in", [{"audio": unicodedata.normalize("NFC", "é.wav")}], config)
    assert [row["probe_error"] for row in rows.values()] == ["audio_not_found"]
