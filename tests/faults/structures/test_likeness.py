"""The judge of the containers can fail: it finds sound that is lost, moved or another one."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests.faults.structures import test_corpus_containers as containers
from tests.faults.structures.likeness import FRAME, compare
from tests.faults.structures.recordings import RATE, voice
from tests.faults.structures.test_corpus_containers import Truth, cut, differences

SPEECH = Path(__file__).resolve().parents[3] / "configs" / "demo" / "audio" / "front-desk.wav"


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Fifteen seconds of speech with pauses: int16 at 16 kHz."""
    wave, rate = soundfile.read(SPEECH, dtype="float64")
    wave = soxr.resample(wave, rate, RATE)[: 15 * RATE]
    return np.rint(wave * 32767).astype(np.int16)


def found(ours: np.ndarray, sound: np.ndarray) -> list[str]:
    return differences(ours.astype(float), cut(ours), len(ours) / RATE, sound, Truth("ok", sound))


def middle(sound: np.ndarray, share: float) -> slice:
    """The loudest part of a sound that has this share of it."""
    count = round(share * len(sound))
    total = np.cumsum(sound.astype(float) ** 2)
    first = int((total[count:] - total[:-count]).argmax())
    return slice(first, first + count)


def test_the_same_sound_has_no_differences(sound):
    assert found(sound, sound) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_the_noise_of_a_coarse_codec_and_a_short_delay_are_no_differences(sound, seed):
    rng = np.random.default_rng(seed)
    noise = np.rint(100 * rng.standard_normal(len(sound))).astype(np.int16)
    delay = np.zeros(int(rng.integers(1, RATE // 10)), np.int16)
    assert found(np.concatenate([delay, np.clip(sound + noise, -32768, 32767)]), sound) == []
    compared = compare(sound.astype(float) * 0.9 + noise, sound)
    assert compared.missing == 0 and compared.likeness > 0.97


@pytest.mark.parametrize("share", [0.03, 0.05, 0.2])
def test_a_part_that_is_cut_out_is_found(sound, share):
    part = middle(sound, share)
    assert found(np.concatenate([sound[: part.start], sound[part.stop :]]), sound)


@pytest.mark.parametrize("share", [0.03, 0.05, 0.2])
def test_a_part_that_is_zero_is_found(sound, share):
    silenced = sound.copy()
    silenced[middle(sound, share)] = 0
    assert any("missing" in one for one in found(silenced, sound))


def test_a_second_half_that_is_dropped_or_silent_is_found(sound):
    half = len(sound) // 2
    assert found(sound[:half], sound)
    assert any("missing" in one for one in found(np.where(np.arange(len(sound)) < half, sound, 0), sound))


@pytest.mark.parametrize("seconds", [0.35, 1.0, 5.0])
def test_sound_at_another_place_is_found(sound, seconds):
    assert found(np.roll(sound, round(seconds * RATE)), sound)
    assert found(np.concatenate([np.zeros(round(seconds * RATE), np.int16), sound]), sound)


def test_another_sound_is_found(sound):
    other = np.rint(voice(15, 3) * 32767).astype(np.int16)
    assert any("another sound" in one for one in found(other, sound))
    assert found(sound[::-1].copy(), sound)
    # The right samples at a wrong rate.
    assert found(np.repeat(sound, 2), sound) and found(sound[::2].copy(), sound)


def test_a_file_that_ffmpeg_reads_wrongly_is_found_by_its_source(sound):
    assert differences(sound[::-1].astype(float), cut(sound), 15.0, sound[::-1], Truth("ok", sound))


def test_a_reader_that_loses_a_part_is_found_in_a_container(tmp_path, monkeypatch):
    """The whole judge: a decoder whose last segment lacks half a second."""
    if containers.FFMPEG is None:
        pytest.skip("needs the ffmpeg command")
    monkeypatch.setattr(containers, "recordings", lambda: [SPEECH])

    class Losing:
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, rows):
            done = self.inner(rows)
            for segment in done[0]["segments"] if "reference" not in rows[0]["audio"] else []:
                middle = len(segment["samples"]) // 4 * 2
                count = 2 * RATE // 2
                kept = bytes(segment["samples"])
                segment["samples"] = kept[:middle] + bytes(count) + kept[middle + count :]
            return done

    healthy = containers.fuzzer.make_decoder()
    try:
        assert containers.problems_of(healthy, SPEECH, ["flac", "mp3"], tmp_path) == []
        problems = containers.problems_of(Losing(healthy), SPEECH, ["flac", "mp3"], tmp_path)
    finally:
        healthy.close()
    assert sum("missing" in one for one in problems) == 2, json.dumps(problems)


def test_levels_have_one_entry_for_each_ten_milliseconds():
    assert compare(np.zeros(5), np.zeros(5)).audible == 0
    assert FRAME == 160
