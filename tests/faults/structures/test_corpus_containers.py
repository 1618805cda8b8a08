"""Real recordings in every container that ffmpeg writes: all sound, no false flag, the same segments."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.config import SegmenterConfig
from actors.segmentation.segmenter import cut_channels
from tests.faults.structures import structure_fuzzer as fuzzer
from tests.faults.structures.hearing import LOSSES, all_by_ffmpeg, audible_seconds, row_of
from tests.faults.structures.likeness import compare
from tests.faults.structures.recordings import FFMPEG, FORMATS, RATE, Base

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
# Correlation of the course of loudness with that of ffmpeg's decoding of the same file; with that of the
# source, which a codec changes, and by how much it may be lower than ffmpeg's.
SAME, ALIKE, WORSE = 0.97, 0.5, 0.03
# Seconds by which the sum of all segments may be less than that of ffmpeg's decoding, and its share, and by
# which it may be more. A moment whose level is near a limit is silence for one of them, and some codecs (IMA
# ADPCM) are decoded with another noise by other versions of ffmpeg. What is audible is compared besides.
SENT_SECONDS, SENT_SHARE, MORE_SECONDS = 1.0, 0.05, 2.0
# Codecs of 8 bits or 8 kHz.
COARSE = {"wav u8", "voc", "wav mulaw", "au mulaw", "wav gsm"}
SEGMENTER = SegmenterConfig(backend="energy")
SOUND = [name for name, (_, _, picture) in FORMATS.items() if picture is None and name != "amr"]


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


def sent(spans: list[tuple[float, float]]) -> float:
    return float(sum(end - start for start, end in spans))


def spans_of(row: dict[str, Any]) -> list[tuple[float, float]]:
    return [(segment["start"], segment["end"]) for segment in row["segments"]]


def cut(samples: np.ndarray) -> list[tuple[float, float]]:
    """The segments of what another decoder heard, in seconds."""
    (judged,) = cut_channels(samples[None], SEGMENTER)
    return [(span.start / RATE, span.end / RATE) for span in judged.spans]


@dataclass(frozen=True)
class Truth:
    """A recording before it was encoded."""

    status: str
    samples: np.ndarray

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE


def differences(
    wave: np.ndarray,
    spans: list[tuple[float, float]],
    end: float,
    ffmpeg: np.ndarray,
    truth: Truth,
    is_coarse: bool = False,
) -> list[str]:
    """How a decoding differs from what ffmpeg hears of the same file, and from its source.

    Args:
        wave: int16 values at 16 kHz, zeros where nothing was sent.
        spans: what was sent, in seconds.
        end: the second at which the decoding ends.
        ffmpeg: its decoding of the file.
        truth: the source.
        is_coarse: whether the codec may leave nothing of noise or of high sounds, such as the song of a bird.
    """
    found: list[str] = []
    if abs(end - truth.seconds) > PADDING:
        found.append(f"{end:.2f} s instead of {truth.seconds:.2f}")
    same = compare(wave, ffmpeg)
    if same.missing > fuzzer.ALLOWED * same.audible + fuzzer.DELAY:
        found.append(f"{same.missing:.2f} s of {same.audible:.2f} that ffmpeg hears are missing")
    if same.likeness < SAME:
        found.append(f"ffmpeg hears another sound ({same.likeness:.3f})")
    wanted = sent(cut(ffmpeg))
    more = sent(spans) - wanted
    if more < -max(SENT_SECONDS, SENT_SHARE * wanted) or more > MORE_SECONDS:
        found.append(f"{sent(spans):.2f} s sent, {wanted:.2f} of what ffmpeg hears")
    likeness, usual = compare(wave, truth.samples).likeness, compare(ffmpeg, truth.samples).likeness
    if likeness < max(0.0 if is_coarse else ALIKE, min(usual, SAME) - WORSE):
        found.append(f"the source is another sound ({likeness:.3f}, {usual:.3f} by ffmpeg)")
    return found


def problems_of(decoder: Any, source: Path, names: list[str], folder: Path) -> list[str]:
    """What is wrong with a recording in these formats."""
    found: list[str] = []
    truth: Truth | None = None
    made = dict(in_all_containers(source, names, folder))
    for (name, path), ffmpeg in zip(made.items(), all_by_ffmpeg([*made.values()], folder), strict=True):
        row, wave = heard(decoder, path)
        if truth is None:
            truth = Truth(row["status"], ffmpeg)
            continue
        losses = LOSSES & set(row["flags"])
        if row["status"] not in (truth.status, "ok", "no_speech") or losses:
            found.append(f"{name}: {row['status']} {row['error_code']} {sorted(losses)}")
            continue
        different = differences(wave, spans_of(row), row["decoded_end"], ffmpeg, truth, name in COARSE)
        found += [f"{name}: {one}" for one in different]
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
    """All recordings, each in a share of the formats: `MATRIX_SHARE=1` takes all, in about two hours."""
    share = float(os.environ.get("MATRIX_SHARE", "0.05"))
    chance, found, count = random.Random(int(os.environ.get("MATRIX_SEED", "16"))), [], 0
    for source in recordings():
        names = chance.sample(SOUND, max(1, round(share * len(SOUND))))
        problems = problems_of(decoder, source, names, tmp_path)
        print(*problems, sep="\n", end="\n" if problems else "", flush=True)
        found += problems
        count += len(names)
    print(f"{count} files of {len(recordings())} recordings")
    assert found == []


@pytest.mark.slow
@pytest.mark.timeout(10800)
def test_damaged_recordings_lose_no_sound_in_silence(tmp_path: Path, decoder: Any) -> None:
    """The damages of the fuzzer on real recordings in all containers, `MATRIX_DAMAGES` of each recording."""
    damages, seed = int(os.environ.get("MATRIX_DAMAGES", "1")), int(os.environ.get("MATRIX_SEED", "17"))
    chance, lost = random.Random(seed), []
    for number, source in enumerate(recordings()):
        bases = damageable(source, chance.sample(SOUND, damages), tmp_path)
        for place in range(len(bases)):
            one = fuzzer.damaged(bases, seed, number * damages + place)
            verdict = fuzzer.judge(decoder, one, tmp_path)
            if verdict.is_silent_loss:
                lost.append((source.name, one.name, verdict.heard.seconds, verdict.others))
                print(lost[-1], flush=True)
    print(f"{damages} damages of {len(recordings())} recordings")
    assert lost == []


def damageable(source: Path, names: list[str], folder: Path) -> list[Base]:
    """A recording in these formats, for the fuzzer: it knows how much of each is heard before the damage."""
    made = dict(in_all_containers(source, names, folder))
    del made["reference"]
    return [
        Base(name, FORMATS[name][0], path.read_bytes(), audible_seconds(ffmpeg))
        for (name, path), ffmpeg in zip(made.items(), all_by_ffmpeg([*made.values()], folder), strict=True)
    ]
