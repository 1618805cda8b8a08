"""Real recordings in every container that ffmpeg writes: all sound, no false flag, the same segments."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from tests.faults.structures import structure_fuzzer as fuzzer
from tests.faults.structures.hearing import RATE, row_of
from tests.faults.structures.recordings import FFMPEG, FORMATS, Base

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(FFMPEG is None, reason="needs the ffmpeg command: apt-get install ffmpeg"),
]
ROOT = Path(__file__).resolve().parents[3]
CORPUS = Path(os.environ.get("CORPUS_DIR") or ROOT.parent / "shared" / "corpus")
# Seconds of each recording.
LONGEST = 15.0
# Seconds by which a codec or container shifts or pads the sound: a few frames.
SHIFT, PADDING = 0.15, 0.3
# Correlation of the loudness of 20 ms with that of the source: parametric codecs keep no waveform.
ALIKE = 0.9
# Seconds by which the sum of all segments may differ, and its share.
SENT_SECONDS, SENT_SHARE = 0.7, 0.05
SOUND = [name for name, (_, _, picture) in FORMATS.items() if picture is None and name != "amr"]
DAMAGES = 3


def recordings() -> list[Path]:
    if not CORPUS.is_dir():
        pytest.skip("the corpus is not here")
    lines = (CORPUS / "manifest.jsonl").read_text("utf-8").splitlines()
    return [CORPUS / json.loads(line)["audio"] for line in lines]


def in_all_containers(source: Path, names: list[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """The first seconds of a recording in these formats: one ffmpeg process writes them all."""
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", "-y", "-nostdin", "-i", str(source)]
    paths = {}
    for name in names:
        suffix, sound, _ = FORMATS[name]
        paths[name] = folder / f"{name.replace(' ', '_')}.{suffix}"
        # The sources have up to eight channels, for which some codecs have no layout.
        options = sound if "-ac" in sound else f"{sound} -ac 1"
        options = options if "-ar" in options else f"{options} -ar 16000"
        command += ["-map", "0:a:0", "-t", str(LONGEST), "-threads", "1", *options.split(), str(paths[name])]
    reference = folder / "reference.wav"
    command += ["-map", "0:a:0", "-t", str(LONGEST), "-ac", "1", "-ar", str(RATE), str(reference)]
    subprocess.run(command, capture_output=True, timeout=300, check=True)
    yield "reference", reference
    yield from paths.items()


def heard(decoder: Any, path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The decoded row, and its sound at 16 kHz with zeros where nothing was sent."""
    row = decoder([row_of(path, None, 0, 1)])[0]
    wave = np.zeros(round(row["decoded_end"] * RATE) + 1)
    for segment in row["segments"]:
        samples = np.frombuffer(segment["samples"], "<i2")
        start = round(segment["start"] * RATE)
        wave[start : start + len(samples)] = samples[: len(wave) - start]
    return row, wave


def loudness(wave: np.ndarray) -> np.ndarray:
    """Root mean square of each 20 ms, in a scale on which quiet sounds count."""
    frames = wave[: len(wave) // 320 * 320].reshape(-1, 320) / 32768
    return np.sqrt(np.sqrt(np.mean(frames**2, axis=1)))


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of two loudnesses, shifted by at most `SHIFT`."""
    best = 0.0
    for shift in range(-8, 9):
        first, second = one[max(0, shift) :], other[max(0, -shift) :]
        count = min(len(first), len(second))
        if count > 10 and first[:count].std() > 1e-6 and second[:count].std() > 1e-6:
            best = max(best, float(np.corrcoef(first[:count], second[:count])[0, 1]))
    return best


def sent(row: dict[str, Any]) -> float:
    return float(sum(segment["end"] - segment["start"] for segment in row["segments"]))


def problems_of(decoder: Any, source: Path, names: list[str], folder: Path) -> list[str]:
    """What is wrong with a recording in these formats."""
    found: list[str] = []
    for name, path in in_all_containers(source, names, folder):
        row, wave = heard(decoder, path)
        if name == "reference":
            wanted, truth = row, wave
            audible = float(np.sqrt(np.mean(truth**2))) > 30 and sent(wanted) > 0.5
            continue
        losses = {"truncated", "decode_errors", "gap_filled", "audio_unread"} & set(row["flags"])
        if row["status"] not in (wanted["status"], "ok", "no_speech") or losses:
            found.append(f"{name}: {row['status']} {row['error_code']} {sorted(losses)}")
            continue
        if abs(row["decoded_end"] - wanted["decoded_end"]) > PADDING:
            found.append(f"{name}: {row['decoded_end']:.2f} s instead of {wanted['decoded_end']:.2f}")
        if audible and abs(sent(row) - sent(wanted)) > max(SENT_SECONDS, SENT_SHARE * sent(wanted)):
            found.append(f"{name}: {sent(row):.2f} s sent instead of {sent(wanted):.2f}")
        if audible and (alike := likeness(loudness(wave), loudness(truth))) < ALIKE:
            found.append(f"{name}: the sound is another one ({alike:.2f})")
    return [f"{source.name} as {one}" for one in found]


@pytest.fixture(scope="module")
def decoder() -> Any:
    made = fuzzer.make_decoder()
    yield made
    made.close()


def test_a_few_recordings_are_equal_in_a_few_containers(tmp_path: Path, decoder: Any) -> None:
    chance = random.Random(4)
    for source in chance.sample(recordings(), 2):
        assert problems_of(decoder, source, chance.sample(SOUND, 10), tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(10800)
def test_all_recordings_are_equal_in_all_containers(tmp_path: Path, decoder: Any) -> None:
    """`MATRIX_SHARE` is the share of the formats that are tried with each recording, by turns."""
    share = float(os.environ.get("MATRIX_SHARE", "1"))
    chance, found, count = random.Random(16), [], 0
    for source in recordings():
        names = chance.sample(SOUND, max(1, round(share * len(SOUND))))
        found += problems_of(decoder, source, names, tmp_path)
        count += len(names)
    print(f"{count} files of {len(recordings())} recordings")
    assert found == []


@pytest.mark.slow
@pytest.mark.timeout(10800)
def test_damaged_recordings_lose_no_sound_in_silence(tmp_path: Path, decoder: Any) -> None:
    """The damages of the fuzzer on real recordings in all containers, `DAMAGES` for each recording."""
    chance, lost = random.Random(17), []
    for number, source in enumerate(recordings()):
        names = chance.sample(SOUND, DAMAGES)
        made = dict(in_all_containers(source, names, tmp_path))
        wave, rate = soundfile.read(made.pop("reference"), dtype="float32")
        seconds = len(soxr.resample(wave, rate, RATE)) / RATE
        bases = [
            Base(name, FORMATS[name][0], path.read_bytes(), seconds)
            for name, path in made.items()
            if path.exists()
        ]
        for place in range(len(bases)):
            one = fuzzer.damaged(bases, 17, number * DAMAGES + place)
            verdict = fuzzer.judge(decoder, one, tmp_path)
            if verdict.is_silent_loss:
                lost.append((source.name, one.name, verdict.heard.seconds, verdict.others))
    assert lost == []
