"""Manifests whose recordings are windows of files, members of archives or cells of tables."""

import io
import json
import tarfile
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from tests.e2e.conftest import write_manifest

WINDOW = (1.5, 5.25)
# What every kind of manifest below has: the whole file, a window of it, and the window cut out as a file.
WHOLE, PART, CUT = "whole", "part", "cut"


def recording(row: dict[str, Any]) -> dict[str, Any]:
    from actors.audio.probing import probe

    facts = probe(row["audio"])
    return {
        "id": Path(row["audio"]).stem,
        "sources": [{"type": "file", "channels": [0], "source": row["audio"]}],
        "sampling_rate": facts.sampling_rate,
        "num_samples": round(facts.duration * facts.sampling_rate),
        "duration": facts.duration,
        "channel_ids": [0],
    }


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    return str(write_manifest(path, rows))


def nemo_windows(folder: Path, speech: dict[str, Path]) -> str:
    start, end = WINDOW
    rows = [
        {"audio_filepath": str(speech[WHOLE]), "id": WHOLE},
        {"audio_filepath": str(speech[WHOLE]), "offset": str(start), "duration": end - start, "id": PART},
        {"audio_filepath": str(speech[CUT]), "offset": 0, "id": CUT},
    ]
    return lines(folder / "nemo.json", rows)


def start_and_end(folder: Path, speech: dict[str, Path]) -> str:
    path = folder / "windows.csv"
    path.write_text(
        f"id,audio,start,end\n{WHOLE},{speech[WHOLE]},,\n{PART},{speech[WHOLE]},{WINDOW[0]},{WINDOW[1]}\n"
        f"{CUT},{speech[CUT]},,\n"
    )
    return str(path)


def lhotse_windows(folder: Path, speech: dict[str, Path]) -> str:
    def cut(name: str, path: Path, start: float, duration: float) -> dict[str, Any]:
        entry = {
            "start": start,
            "duration": duration,
            "channel": 0,
            "recording": recording({"audio": str(path)}),
        }
        return {"id": name, "type": "MonoCut", **entry}

    length, part = soundfile.info(speech[WHOLE]).duration, WINDOW[1] - WINDOW[0]
    cuts = [cut(WHOLE, speech[WHOLE], 0, length), cut(PART, speech[WHOLE], WINDOW[0], part)]
    return lines(folder / "cuts.jsonl", [*cuts, cut(CUT, speech[CUT], 0, part)])


def kaldi(folder: Path, speech: dict[str, Path]) -> str:
    (folder / "wav.scp").write_text(f"r1 {speech[WHOLE]}\nr2 {speech[CUT]}\n")
    (folder / "segments").write_text(
        f"{WHOLE} r1 0 -1\n{PART} r1 {WINDOW[0]} {WINDOW[1]}\n{CUT} r2 0 {WINDOW[1] - WINDOW[0]}\n"
    )
    return str(folder)


def archive(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def webdataset(folder: Path, speech: dict[str, Path]) -> str:
    for name in (WHOLE, CUT):
        archive(folder / f"{name}.tar", {"0.wav": speech[name].read_bytes(), "0.json": b'{"speaker": "a"}'})
    return str(folder / "*.tar")


def tarred_nemo(folder: Path, speech: dict[str, Path]) -> str:
    archive(folder / "audio_0.tar", {"w.wav": speech[WHOLE].read_bytes(), "c.wav": speech[CUT].read_bytes()})
    window = {"offset": WINDOW[0], "duration": WINDOW[1] - WINDOW[0]}
    rows = [
        {"audio_filepath": "w.wav", "shard_id": 0, "id": WHOLE},
        {"audio_filepath": "w-sub1.wav", "shard_id": 0, "id": PART, **window},
        {"audio_filepath": "c.wav", "shard_id": 0, "id": CUT},
    ]
    return lines(folder / "tarred_audio_manifest.json", rows)


def named_members(folder: Path, speech: dict[str, Path]) -> str:
    archive(folder / "x.tar", {"a/w.wav": speech[WHOLE].read_bytes(), "c.wav": speech[CUT].read_bytes()})
    rows = [
        {"audio": "x.tar#a/w.wav", "id": WHOLE},
        {"audio": "x.tar#a/w.wav", "id": PART, "start": WINDOW[0], "end": WINDOW[1]},
        {"audio": "x.tar#c.wav", "id": CUT},
        {"audio": "x.tar#gone.wav", "id": "gone"},
    ]
    return lines(folder / "members.jsonl", rows)


def embedded(folder: Path, speech: dict[str, Path]) -> str:
    audio = [{"bytes": speech[name].read_bytes(), "path": f"{name}.wav"} for name in (WHOLE, CUT)]
    pq.write_table(pa.table({"id": [WHOLE, CUT], "audio": audio}), folder / "train.parquet", row_group_size=1)
    return str(folder / "train.parquet")


def bytes_column(folder: Path, speech: dict[str, Path]) -> str:
    audio = pa.array([speech[name].read_bytes() for name in (WHOLE, CUT)], pa.binary())
    pq.write_table(pa.table({"id": [WHOLE, CUT], "audio": audio}), folder / "bytes.parquet")
    return str(folder / "bytes.parquet")


def common_voice(folder: Path, speech: dict[str, Path]) -> str:
    path = folder / "train.tsv"
    path.write_text(f'id\tpath\tsentence\n{WHOLE}\t{speech[WHOLE]}\t"Hi\n{CUT}\t{speech[CUT]}\tyou"\n')
    return str(path)


def paths(folder: Path, speech: dict[str, Path]) -> str:
    (folder / "list.txt").write_text(f"{speech[WHOLE]}\nfile://localhost{speech[CUT]}\n")
    return str(folder / "list.txt")


def playlist(folder: Path, speech: dict[str, Path]) -> str:
    (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:3,x\n{speech[WHOLE]}\nfile:{speech[CUT]}\n")
    return str(folder / "list.m3u8")


def json_object(folder: Path, speech: dict[str, Path]) -> str:
    rows = [{"file_name": str(speech[name]), "id": name} for name in (WHOLE, CUT)]
    (folder / "data.json").write_text(json.dumps({"data": rows}, indent=1))
    return str(folder / "data.json")


def decomposed_names(folder: Path, speech: dict[str, Path]) -> str:
    for name in (WHOLE, CUT):
        (folder / unicodedata.normalize("NFD", f"é {name}.wav")).write_bytes(speech[name].read_bytes())
    rows = [{"audio": unicodedata.normalize("NFC", f"é {name}.wav"), "id": name} for name in (WHOLE, CUT)]
    return lines(folder / "names.jsonl", rows)


def in_store(folder: Path, base: str, store: Any, speech: dict[str, Path]) -> dict[str, str]:
    """Manifests of windows, archives, tables and a folder with its audio in an object store, by kind.

    Args:
        folder: for the files before they are copied.
        base: address in the store.
        store: its file system.
        speech: see the kinds above.
    """
    addresses: dict[str, Any] = {}
    for name, path in speech.items():
        store.pipe_file(f"{base}/audio/{path.name}", path.read_bytes())
        addresses[name] = f"{base}/audio/{path.name}"
    found = {}
    for kind, audio in (
        *((kind, speech) for kind in (tarred_nemo, webdataset, named_members, embedded, bytes_column)),
        *((kind, addresses) for kind in (nemo_windows, start_and_end, kaldi)),
    ):
        made = folder / kind.__name__
        made.mkdir()
        manifest = kind(made, audio)
        for path in made.iterdir():
            store.pipe_file(f"{base}/{kind.__name__}/{path.name}", path.read_bytes())
        found[kind.__name__] = manifest.replace(str(folder), base)
    return found
