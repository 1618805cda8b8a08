"""Every kind of manifest, local and on S3, through the whole job to exact text."""

import csv
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from actors.audio.sources import open_audio
from tests.e2e.conftest import NO_WORDS, SURE, read_dead_letters, read_transcripts, write_manifest
from tests.e2e.narrowing_manifests import (
    CUT,
    PART,
    WHOLE,
    WINDOW,
    bytes_column,
    common_voice,
    decomposed_names,
    embedded,
    in_store,
    json_object,
    kaldi,
    lhotse_windows,
    named_members,
    nemo_windows,
    paths,
    playlist,
    recording,
    start_and_end,
    tarred_nemo,
    webdataset,
)

Scriptorium = Callable[..., int]
Demo = dict[str, dict[str, Any]]
KEYS = SURE


def jsonl(folder: Path, rows: list[dict[str, Any]]) -> str:
    return str(write_manifest(folder / "m.jsonl", [{"audio": row["audio"], "shelf": "A"} for row in rows]))


def comma(folder: Path, rows: list[dict[str, Any]]) -> str:
    return delimited(folder / "m.csv", ",", rows)


def tab(folder: Path, rows: list[dict[str, Any]]) -> str:
    return delimited(folder / "m.tsv", "\t", rows)


def delimited(path: Path, delimiter: str, rows: list[dict[str, Any]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["uri", "language", "shelf"])
        writer.writerows([row["audio"], "", "A"] for row in rows)
    return str(path)


def parquet(folder: Path, rows: list[dict[str, Any]]) -> str:
    pq.write_table(
        pa.table({"path": [row["audio"] for row in rows], "shelf": ["A"] * len(rows)}), folder / "m.parquet"
    )
    return str(folder / "m.parquet")


def nemo(folder: Path, rows: list[dict[str, Any]]) -> str:
    entries = [
        {"audio_filepath": row["audio"], "duration": 8.0, "text": "unused", "shelf": "A"} for row in rows
    ]
    return str(write_manifest(folder / "nemo.json", entries))


def lhotse_recordings(folder: Path, rows: list[dict[str, Any]]) -> str:
    return str(write_manifest(folder / "recordings.jsonl", [recording(row) for row in rows]))


def lhotse_cuts(folder: Path, rows: list[dict[str, Any]]) -> str:
    cuts = [
        {
            "id": f"cut-{number}",
            "type": "MonoCut",
            "start": 0,
            "duration": recording(row)["duration"],
            "channel": 0,
            "recording": recording(row),
            "supervisions": [],
        }
        for number, row in enumerate(rows)
    ]
    return str(write_manifest(folder / "cuts.jsonl", cuts))


def a_folder(folder: Path, rows: list[dict[str, Any]]) -> str:
    for row in rows:
        target = folder / "tree/deep" / Path(row["audio"]).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(row["audio"]).read_bytes())
    return str(folder / "tree")


def a_glob(folder: Path, rows: list[dict[str, Any]]) -> str:
    return a_folder(folder, rows) + "/**/*.*"


# These are read like lhotse_cuts and a_folder (the demo's own manifest is JSON lines), so they run with the
# slow tests; tests/pipelines/manifests tests the reading of every kind.
LIKE_OTHERS = [
    pytest.param(kind, marks=pytest.mark.slow)
    for kind in (jsonl, comma, tab, parquet, nemo, lhotse_recordings, a_glob)
]


@pytest.mark.parametrize("kind", [a_folder, pytest.param(lhotse_cuts, marks=pytest.mark.slow), *LIKE_OTHERS])
def test_every_kind_of_local_manifest_is_transcribed(
    kind: Callable[[Path, list[dict[str, Any]]], str], scriptorium: Scriptorium, demo: Demo, tmp_path: Path
) -> None:
    manifest = kind(tmp_path, [demo[key] for key in KEYS])
    words = kind is jsonl
    assert scriptorium("transcribe", manifest, tmp_path / "out", *(() if words else NO_WORDS)) == 0
    rows = read_transcripts(tmp_path / "out")
    assert {row["text"] for row in rows.values()} == {demo[key]["text"] for key in KEYS}
    segments = [segment for row in rows.values() for segment in row["segments"]]
    assert {(segment["word_source"], bool(segment["words"])) for segment in segments} == {
        ("aligner", True) if words else ("none", False)
    }
    if kind in (jsonl, comma, tab, parquet, nemo):
        assert all(json.loads(row["metadata"])["shelf"] == "A" for row in rows.values())


def test_manifest_audio_and_output_may_all_be_on_s3(
    scriptorium: Scriptorium, demo: Demo, s3_bucket: str
) -> None:
    store = fsspec.filesystem("s3", use_listings_cache=False)
    base = f"{s3_bucket}/e2e"
    rows = []
    for key in (*KEYS, "silence", "broken"):
        name = Path(demo[key]["audio"]).name
        store.pipe_file(f"{base}/in/audio/{name}", Path(demo[key]["audio"]).read_bytes())
        rows.append({"audio": f"audio/{name}", "id": key})
    rows.append({"audio": "audio/nowhere.wav", "id": "nowhere"})
    store.pipe_file(f"{base}/in/m.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    assert scriptorium("transcribe", f"{base}/in/m.jsonl", f"{base}/out") == 3
    found, dead = read_transcripts(f"{base}/out"), read_dead_letters(f"{base}/out")
    assert {key: row["text"] for key, row in found.items()} == {
        **{key: demo[key]["text"] for key in KEYS},
        "silence": "",
    }
    assert set(dead) == {"broken", "nowhere"} and dead["nowhere"]["error_code"] == "audio_not_found"
    assert scriptorium("transcribe", f"{base}/in/m.jsonl", f"{base}/out") == 3
    assert read_transcripts(f"{base}/out") == found
    assert store.exists(f"{base}/out/report.html") and store.exists(f"{base}/out/run.json")


# Manifests that narrow a recording or hold it, with fake models, whose text shows every sample that is lost.

FAKE = ("--set", "asr.backend=fake", "--set", "aligner.backend=fake", "--set", "segmenter.backend=energy")


NARROWED = (nemo_windows, start_and_end, lhotse_windows, kaldi, tarred_nemo, named_members)
HELD = (webdataset, embedded, bytes_column, common_voice, paths, playlist, json_object, decomposed_names)


@pytest.mark.ray
def test_every_kind_that_narrows_or_holds_recordings_is_transcribed(
    scriptorium: Scriptorium, demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech, manifests = speech_of(demo, tmp_path), {}
    for kind in (*NARROWED, *HELD):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        manifests[kind.__name__] = kind(folder, speech)
    found = transcribed(manifests, tmp_path / "out", scriptorium, monkeypatch)
    assert len(found) == 3 * len(NARROWED) + 2 * len(HELD)
    for row in itertools.islice(found.values(), 4):
        with open_audio(row["audio"]) as file:
            assert file.size


@pytest.mark.slow
@pytest.mark.ray
def test_every_kind_that_narrows_or_holds_recordings_may_be_on_s3(
    scriptorium: Scriptorium, demo: Demo, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fsspec.filesystem("s3", use_listings_cache=False)
    base = f"{s3_bucket}/narrowed"
    manifests = in_store(tmp_path, base, store, speech_of(demo, tmp_path))
    found = transcribed(manifests, f"{base}/out", scriptorium, monkeypatch)
    # Five kinds have windows.
    assert len(found) == 3 * 5 + 2 * 3
    assert all(row["audio"].startswith("s3://") for row in found.values())
    assert store.exists(f"{base}/out/report.html")


def speech_of(demo: Demo, folder: Path) -> dict[str, Path]:
    """A recording, and the window of it as a file."""
    samples, rate = soundfile.read(demo["front-desk"]["audio"], dtype="int16")
    speech = {WHOLE: folder / "whole.wav", CUT: folder / "cut.wav"}
    soundfile.write(speech[WHOLE], samples, rate)
    soundfile.write(speech[CUT], samples[round(WINDOW[0] * rate) : round(WINDOW[1] * rate)], rate)
    return speech


def transcribed(
    manifests: dict[str, str], out: object, scriptorium: Scriptorium, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, Any]]:
    """All transcripts of manifests, whose windows equal the files that were cut out."""
    from pipelines import transcribe
    from pipelines.manifests.manifest import Recording, read_manifest

    # All manifests in one run: a run of its own for each would take minutes.
    def all_recordings(*_: object) -> Iterator[Recording]:
        for kind, manifest in manifests.items():
            for one in read_manifest(manifest):
                yield dataclasses.replace(one, id=f"{kind} {Path(one.id.partition('#')[0]).stem}")

    monkeypatch.setattr(transcribe, "recordings_of", all_recordings)
    assert scriptorium("transcribe", "all kinds", out, *FAKE, config=None) == 3
    found, dead = read_transcripts(out), read_dead_letters(out)
    assert {name: row["error_code"] for name, row in dead.items()} == {
        "named_members gone": "audio_not_found"
    }
    assert {row["status"] for row in found.values()} == {"ok"}

    def of(name: str) -> dict[str, dict[str, Any]]:
        return {key: row for key, row in found.items() if Path(key.split()[-1]).stem.endswith(name)}

    assert len({row["text"] for row in of(WHOLE).values()}) == 1
    assert {row["text"] for row in of(PART).values()} == {row["text"] for row in of(CUT).values()}
    assert len({row["text"] for row in of(CUT).values()}) == 1
    for row in of(PART).values():
        assert row["window"] == {"start": WINDOW[0], "end": WINDOW[1]}
        assert row["duration"] == pytest.approx(WINDOW[1] - WINDOW[0])
    shifted = [[word["start"] - WINDOW[0] for word in words_of(row)] for row in of(PART).values()]
    times = [word["start"] for word in words_of(found["start_and_end cut"])]
    assert times and all(one == pytest.approx(times, abs=1e-3) for one in shifted)
    return found


def words_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [word for segment in row["segments"] for word in segment["words"]]
