"""The recordings of the comparison, made from ../shared/corpus by fixed seeds and cached in .peers/.

long     6 files of 22 to 27 minutes, one in each format
short    1,000 clips of 2 to 15 s, in all six formats
broken   200 of these clips and 10 damaged files
clips    200 clips of 1 to 15 s of the demo's speech, 16 kHz WAV, which the demo models know
few      the first 200 of the short clips
one      one clip: what is left of a job's cost without its work
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.benchmarks.peers.environments import FOLDER, ROOT
from tests.benchmarks.workloads.rows import Skipped

DEMO = ROOT / "configs/demo/audio"
VERSION = 1  # of what this module makes; another one is made anew
SEED, DEMO_SEED, NOISE_SEED = 7, 11, 3
RATE = 48_000  # Hz of what the long files and clips are made of
DEMO_RATE = 16_000
# By the suffix of the files: ffmpeg's arguments.
FORMATS = {
    "mp3": ["-ar", "44100", "-ac", "1", "-c:a", "libmp3lame", "-b:a", "96k"],
    "m4a": ["-ar", "44100", "-ac", "1", "-c:a", "aac", "-b:a", "96k"],
    "opus": ["-ac", "1", "-c:a", "libopus", "-b:a", "32k"],
    "flac": ["-ar", "44100", "-ac", "1", "-c:a", "flac", "-sample_fmt", "s16"],
    "wav": ["-ar", "16000", "-ac", "1", "-c:a", "pcm_s16le"],
    "48.wav": ["-ar", "48000", "-ac", "2", "-c:a", "pcm_s16le"],
}
CORPUS_LONG = ("audio/long_de_kerstin_24min.opus", "audio/long_dutch_dialogue_22min.mp3")
THIRD_VOICE_MINUTES = 27
DAMAGED = ("empty.wav", "header_only.wav", "not_audio.mp3", "random.flac", "truncated.flac", "ps_awful.wav")


@dataclass(frozen=True)
class Data:
    """A prepared set of recordings.

    Attributes:
        manifest: JSON lines with `audio`, `id` (the name of the file) and `audio_filepath`.
        ids: of all recordings.
        seconds: of audio in those that are whole.
        damaged: ids of those that are not.
    """

    manifest: Path
    ids: tuple[str, ...]
    seconds: float
    damaged: frozenset[str] = frozenset()

    @property
    def hours(self) -> float:
        """Audio hours."""
        return self.seconds / 3600


def prepare() -> dict[str, Data]:
    """All sets by name; they are made at the first call.

    Raises:
        Skipped: ffmpeg or the corpus is missing.
    """
    corpus = Path(os.environ.get("CORPUS_DIR") or ROOT.parent / "shared" / "corpus")
    if shutil.which("ffmpeg") is None:
        raise Skipped("there is no ffmpeg command to make the recordings with: install one")
    if not (corpus / "manifest.jsonl").exists():
        raise Skipped("the recordings are made from the corpus, which is not here: set CORPUS_DIR")
    digest = hashlib.sha256((corpus / "manifest.jsonl").read_bytes()).hexdigest()[:8]
    folder = FOLDER / f"data-{VERSION}-{digest}"
    if not (folder / "sets.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        print(f"peers: making the recordings in {folder.name}: about two minutes", flush=True)
        folder.mkdir(parents=True)
        sets = _make(folder, corpus)
        (folder / "sets.json.draft").write_text(json.dumps(sets))
        (folder / "sets.json.draft").rename(folder / "sets.json")
    return {
        name: Data(
            folder / f"{name}.jsonl", tuple(one["ids"]), one["seconds"], frozenset(one.get("damaged", ()))
        )
        for name, one in json.loads((folder / "sets.json").read_text()).items()
    }


def _make(folder: Path, corpus: Path) -> dict[str, dict[str, Any]]:
    masters = folder / "masters"
    masters.mkdir()
    rng = random.Random(SEED)
    demo = [_decoded(path, RATE) for path in _demo_files()]
    lengths = {}
    for name, samples in zip("abc", _voices(corpus, demo, rng), strict=True):
        soundfile.write(masters / f"{name}.wav", samples, RATE)
        lengths[name] = len(samples) / RATE
    sets = {
        "long": _write_long(folder / "long", masters, lengths),
        "short": _write_short(folder / "short", masters, lengths, rng),
        "clips": _write_clips(folder / "clips"),
    }
    shutil.rmtree(masters)
    short = sorted((folder / "short").iterdir())
    one = next(path for path in short if _suffix(path) == "wav")
    sets["one"] = _listed(folder, "one", [one], soundfile.info(one).duration)
    damaged = _write_damaged(folder / "damaged", corpus, short)
    sets["broken"] = _listed(folder, "broken", [*short[:200], *damaged], 0.0)
    sets["few"] = _listed(folder, "few", short[:200], 0.0)
    sets["broken"]["damaged"] = [path.name for path in damaged]
    return sets


def _voices(corpus: Path, demo: list[np.ndarray], rng: random.Random) -> list[np.ndarray]:
    """Three voices: two long recordings of the corpus, and its short ones with those of the demo."""
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    wanted = [row for row in rows if row["duration"] < 60 and row["language"] and row["channels"] <= 2]
    pieces = [_decoded(corpus / row["audio"], RATE) for row in wanted]
    rng.shuffle(pieces)
    third = np.resize(np.concatenate(pieces + demo), THIRD_VOICE_MINUTES * 60 * RATE)
    return [*(_decoded(corpus / name, RATE) for name in CORPUS_LONG), third]


def _write_long(folder: Path, masters: Path, lengths: dict[str, float]) -> dict[str, Any]:
    folder.mkdir()
    paths, seconds = [], 0.0
    for name, suffix in zip("abcabc", FORMATS, strict=True):
        paths.append(folder / f"long_{name}.{suffix}")
        seconds += lengths[name]
        _ffmpeg("-i", masters / f"{name}.wav", *FORMATS[suffix], paths[-1])
    return _listed(folder.parent, "long", paths, seconds)


def _write_short(
    folder: Path, masters: Path, lengths: dict[str, float], rng: random.Random
) -> dict[str, Any]:
    folder.mkdir()
    commands, paths, seconds = [], [], 0.0
    for number in range(1000):
        name, suffix = "abc"[number % 3], [*FORMATS][number // 3 % 6]
        duration = rng.uniform(2, 15)
        start = rng.uniform(0, lengths[name] - duration)
        paths.append(folder / f"c{number:04d}.{suffix}")
        seconds += duration
        cut = ("-ss", f"{start:.3f}", "-t", f"{duration:.3f}", "-i", masters / f"{name}.wav")
        commands.append((*cut, *FORMATS[suffix], paths[-1]))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda command: _ffmpeg(*command), commands))
    return _listed(folder.parent, "short", paths, seconds)


def _write_clips(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    rng = random.Random(DEMO_SEED)
    speech = np.concatenate([_decoded(path, DEMO_RATE) for path in _demo_files()])
    speech, at, paths = np.resize(speech, 3000 * DEMO_RATE), 0, []
    for number in range(200):
        count = int(rng.uniform(1, 15) * DEMO_RATE)
        paths.append(folder / f"k{number:03d}.wav")
        soundfile.write(paths[-1], speech[at : at + count], DEMO_RATE)
        at += count
    return _listed(folder.parent, "clips", paths, at / DEMO_RATE)


def _write_damaged(folder: Path, corpus: Path, short: list[Path]) -> list[Path]:
    """Files without audio, files that are cut off, and one with noise in its middle."""
    folder.mkdir()
    contents = {name: (corpus / "broken" / name).read_bytes() for name in DAMAGED}
    whole = {suffix: next(path for path in short if _suffix(path) == suffix) for suffix in FORMATS}
    for suffix in ("m4a", "opus", "wav"):
        data = whole[suffix].read_bytes()
        contents[f"cut.{suffix}"] = data[: len(data) * 6 // 10]
    data = bytearray(whole["mp3"].read_bytes())
    third = len(data) // 3
    data[third : third + 4000] = random.Random(NOISE_SEED).randbytes(4000)
    contents["noise_inside.mp3"] = bytes(data)
    paths = [folder / f"b_{name}" for name in sorted(contents)]
    for path in paths:
        path.write_bytes(contents[path.name.removeprefix("b_")])
    return paths


def _listed(folder: Path, name: str, paths: list[Path], seconds: float) -> dict[str, Any]:
    rows = [{"audio": str(path), "id": path.name, "audio_filepath": str(path)} for path in paths]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"ids": [row["id"] for row in rows], "seconds": seconds}


def _suffix(path: Path) -> str:
    """Of a clip: a key of FORMATS."""
    return path.name.partition(".")[2]


def _demo_files() -> list[Path]:
    return [path for path in sorted(DEMO.iterdir()) if path.name not in ("broken.mp3", "silence.flac")]


def _decoded(path: Path, rate: int) -> np.ndarray:
    """int16 mono samples of a file."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-vn", "-ac", "1", "-ar", str(rate)]
    done = subprocess.run([*command, "-f", "s16le", "-"], check=True, capture_output=True)
    return np.frombuffer(done.stdout, "<i2")


def _ffmpeg(*arguments: str | Path) -> None:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
