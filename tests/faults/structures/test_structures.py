"""Damaged structures: no sound is lost in silence that ffmpeg or libsndfile hears."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults.structures import structure_fuzzer as fuzzer
from tests.faults.structures.hearing import Heard, by_scriptorium
from tests.faults.structures.recordings import FFMPEG, FORMATS, make, voice

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(FFMPEG is None, reason="needs the ffmpeg command: apt-get install ffmpeg"),
]
# Formats of the sample that runs by default.
FEW = ("wav", "aiff", "flac", "opus", "mp3", "m4a", "mka", "ts")


@pytest.fixture(scope="module")
def decoder() -> Any:
    made = fuzzer.make_decoder()
    yield made
    made.close()


def compare(decoder: Any, folder: Path, names: tuple[str, ...], seed: int, count: int) -> Counter[str]:
    """Damage `count` recordings and compare; fails at the end with all that lost sound in silence."""
    outcomes: Counter[str] = Counter()
    lost = []
    files = fuzzer.bases(folder, names)
    for number in range(count):
        one = fuzzer.damaged(files, seed, number)
        verdict = fuzzer.judge(decoder, one, folder)
        outcomes[verdict.heard.outcome] += 1
        if verdict.is_silent_loss:
            lost.append((one.name, verdict.heard.seconds, verdict.others))
    print(f"{count} files, seed {seed}: {dict(outcomes.most_common())}")
    assert lost == []
    return outcomes


def test_the_same_seed_and_number_give_the_same_file(tmp_path: Path) -> None:
    files = fuzzer.bases(tmp_path, ("wav", "m4a", "opus"))
    first = [fuzzer.damaged(files, 3, number) for number in range(30)]
    assert first == [fuzzer.damaged(files, 3, number) for number in range(30)]
    assert first != [fuzzer.damaged(files, 4, number) for number in range(30)]
    healthy = {one.data for one in files}
    assert sum(one.data in healthy for one in first) <= 5, "damaged files are not their sources"


def test_a_few_damaged_files_lose_no_sound_in_silence(tmp_path: Path, decoder: Any) -> None:
    outcomes = compare(decoder, tmp_path, FEW, 5, 24)
    assert outcomes["ok"]
    assert outcomes["partial"]


def test_a_reader_that_drops_half_is_found_out(tmp_path: Path, decoder: Any, monkeypatch: Any) -> None:
    """The fuzzer can fail: a transcript of half the sound without a flag is a loss."""
    monkeypatch.setattr(fuzzer, "by_scriptorium", lambda *given: Heard(["ok"], set(), None, 2.4, 2.5))
    files = fuzzer.bases(tmp_path, ("wav",))
    one = fuzzer.Damaged("a.wav", files[0].data, files[0].seconds, False)
    assert fuzzer.judge(decoder, one, tmp_path).is_silent_loss


def test_the_longer_reading_of_others_counts() -> None:
    sound = np.rint(voice(10, 1) * 32767).astype(np.int16)
    half, faint = sound[: len(sound) // 2], sound // 100
    assert fuzzer.heard_by_others(half, sound) == pytest.approx(10, abs=0.05)
    assert fuzzer.heard_by_others(sound, half) == pytest.approx(10, abs=0.05)
    assert fuzzer.heard_by_others(sound[:0], sound) == pytest.approx(10, abs=0.05)
    # The same length: only the noise of decoders differs.
    assert fuzzer.heard_by_others(faint, sound) == 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_thousand_damaged_files_lose_no_sound_in_silence(tmp_path: Path, decoder: Any) -> None:
    count, seed = int(os.environ.get("FUZZ_COUNT", "2000")), int(os.environ.get("FUZZ_SEED", "2026"))
    outcomes = compare(decoder, tmp_path, tuple(FORMATS), seed, count)
    assert outcomes["ok"] + outcomes["partial"] + outcomes["ok with a flag"] > count / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_healthy_files_have_no_flag_of_a_loss(tmp_path: Path, decoder: Any, name: str) -> None:
    base = make(tmp_path, name, 12.0, 3)
    if base is None:
        pytest.skip("this ffmpeg has no encoder for it")
    path = tmp_path / f"healthy.{base.suffix}"
    path.write_bytes(base.data)
    heard = by_scriptorium(decoder, path, 10.0)
    assert not heard.admits_losses or heard.flags == {"gap_filled"}, heard
    assert heard.seconds == pytest.approx(12.0, abs=0.15)
