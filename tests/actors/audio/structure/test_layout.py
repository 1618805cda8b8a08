"""All samples of a PCM file are found, whatever its header says, and nothing else is heard as sound."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from actors.audio.decoding import decode_span
from actors.audio.probing import probe
from actors.audio.sources import AudioFile, open_audio
from actors.audio.timeline import SampleReader
from actors.errors import RowError
from tests.actors.audio.structure.pcm_builders import (
    CONTAINERS,
    chunk,
    info,
    metadata,
    noise,
    pcm_file,
    riff,
    wave_format,
)

SOUND = noise(3.0)
BYTES = SOUND.astype("<i2").tobytes()
FORMAT = chunk(b"fmt ", wave_format())
JUNK = np.random.default_rng(1).bytes(150_000)


@pytest.fixture
def heard(tmp_path):
    """`heard(content)`: the samples, the flags, and whether the file was cut off."""

    def read(content):
        path = tmp_path / "a.bin"
        path.write_bytes(content)
        with open_audio(str(path)) as file:
            reader = SampleReader(file)
            got = decode_span(reader, 0, None).samples[0]
            assert probe(str(path)).duration == pytest.approx(len(got) / 16_000, abs=1e-4)
            return got, reader.flags, reader.is_cut_off

    return read


def equals(got, *parts):
    return np.array_equal(got, np.concatenate(parts)[:, 0])


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_healthy_file_is_read_without_a_flag(heard, container):
    for behind in (b"", metadata(container)):
        got, flags, is_cut_off = heard(pcm_file(container, SOUND, behind=behind))
        assert equals(got, SOUND)
        assert (flags, is_cut_off) == ([], False)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("container", CONTAINERS)
def test_samples_behind_a_size_that_is_too_small_are_read(heard, container, share):
    size = round(share * len(BYTES)) // 2 * 2
    for behind in (b"", metadata(container)):
        got, flags, is_cut_off = heard(pcm_file(container, SOUND, size=size, behind=behind))
        assert equals(got, SOUND)
        assert (flags, is_cut_off) == (["header_says_less"], False)


@pytest.mark.parametrize("size", [0, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FFDB])
@pytest.mark.parametrize("container", ["wav", "rifx", "aiff", "au"])
def test_an_open_size_means_all_samples_up_to_the_metadata(heard, container, size):
    for behind in (b"", metadata(container)):
        got, flags, is_cut_off = heard(pcm_file(container, SOUND, size=size, behind=behind))
        assert equals(got, SOUND)
        assert set(flags) <= {"header_says_less"}
        assert not is_cut_off


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_header_that_promises_more_than_there_is_means_a_cut(heard, container):
    content = pcm_file(container, SOUND)
    got, flags, is_cut_off = heard(content[: len(content) * 6 // 10])
    assert equals(got, SOUND[: len(got)])
    assert len(got) > 0.58 * len(SOUND)
    assert is_cut_off
    assert flags == []
    # A few bytes are not worth a flag.
    assert not heard(content[:-50])[2]


def test_all_data_chunks_are_read(heard):
    first, second = SOUND[:20_000], SOUND[20_000:]
    parts = [chunk(b"data", part.astype("<i2").tobytes()) for part in (first, second)]
    for between in (b"", info(), chunk(b"JUNK", bytes(999))):
        got, flags, _ = heard(riff(FORMAT, parts[0], between, parts[1], info()))
        assert equals(got, SOUND)
        assert flags == []


def test_thousands_of_data_chunks_are_read_in_little_time(heard):
    pieces = [
        chunk(b"data", SOUND[start : start + 16].astype("<i2").tobytes()) for start in range(0, 48_000, 16)
    ]
    got, flags, _ = heard(riff(FORMAT, *pieces))
    assert equals(got, SOUND)
    assert flags == []


def test_samples_may_precede_their_description_in_aiff(heard):
    content = pcm_file("aiff", SOUND)
    start = content.index(b"SSND")
    got, flags, _ = heard(content[:12] + content[start:] + content[12:start])
    assert equals(got, SOUND)
    assert flags == []


@pytest.mark.parametrize("first", ["wav", "aiff", "w64", "au"])
@pytest.mark.parametrize("second", ["wav", "rf64", "caf", "sowt"])
def test_joined_files_are_all_read(heard, first, second):
    other = noise(2.0, seed=5)
    content = pcm_file(first, SOUND, behind=metadata(first)) + pcm_file(second, other)
    got, flags, is_cut_off = heard(content + pcm_file(first, SOUND))
    assert equals(got, SOUND, other, SOUND)
    assert (flags, is_cut_off) == (["files_joined"], False)
    assert heard(content[:-30_000])[2]


def test_the_end_of_a_sound_with_a_size_that_is_too_small_is_where_the_next_file_begins(heard):
    got, flags, _ = heard(pcm_file("wav", SOUND, size=20_000) + pcm_file("wav", SOUND))
    assert equals(got, SOUND, SOUND)
    assert flags == ["header_says_less", "files_joined"]


def test_a_joined_file_with_another_rate_is_resampled_and_spans_equal_the_whole(tmp_path):
    path = tmp_path / "a.wav"
    parts = [noise(12.0, 16_000), noise(9.0, 44_100, 2, seed=2), noise(11.0, 8_000, seed=3)]
    rates = (16_000, 44_100, 8_000)
    path.write_bytes(b"".join(pcm_file("wav", part, rate) for part, rate in zip(parts, rates, strict=True)))
    with open_audio(str(path)) as file:
        reader = SampleReader(file)
        whole = decode_span(reader, 0, None)
        assert whole.end == 32 * 16_000
        assert np.array_equal(whole.samples[0, : 12 * 16_000], parts[0][:, 0])
        for start, end in ((100_000, 220_000), (200_003, 330_001), (400_000, None), (335_000, 336_500)):
            got = decode_span(reader, start, end)
            assert np.array_equal(got.samples, whole.samples[:, start:end])


def test_a_size_that_wrapped_at_4_gib_is_corrected(tmp_path):
    for container, behind in (("wav", info()), ("aiff", metadata("aiff")), ("wav", b"")):
        path = tmp_path / "a.bin"
        frames = (2**32 + 10_000_000) // 2
        head = pcm_file(container, SOUND, size=10_000_000)
        start = len(head) - len(BYTES)
        with open(path, "wb") as file:
            file.write(head)
            file.truncate(start + 2 * frames)
            file.seek(0, 2)
            file.write(behind)
        found = probe(str(path))
        assert found.duration == frames / 16_000
        with open_audio(str(path)) as opened:
            assert SampleReader(opened).flags == ["header_says_less"]
        path.unlink()


@pytest.mark.parametrize("count", [80, 3000])
def test_any_number_of_chunks_may_precede_the_samples(heard, count):
    chunks = [chunk(b"JUNK", bytes(number % 50)) for number in range(count)]
    got, flags, _ = heard(riff(*chunks, FORMAT, *chunks[:9], chunk(b"data", BYTES)))
    assert equals(got, SOUND)
    assert flags == []


def test_the_format_may_follow_the_samples(heard):
    data = chunk(b"data", BYTES)
    for chunks in ((data, FORMAT), (info(), data, info(), FORMAT), (data, info(), FORMAT, info())):
        got, flags, is_cut_off = heard(riff(*chunks))
        assert equals(got, SOUND)
        assert (flags, is_cut_off) == ([], False)


def test_padding_may_be_missing(heard):
    odd = BYTES + b"\1"
    for padded in (True, False):
        comment = chunk(b"JUNK", b"abc", padded=padded)
        got, flags, _ = heard(riff(comment, FORMAT, chunk(b"data", odd, padded=padded), info()))
        assert equals(got, SOUND)
        assert flags == []


def test_a_chunk_with_a_wrong_size_in_front_does_not_hide_the_samples(heard):
    for broken in (chunk(b"JUNK", bytes(100), 2**31), chunk(b"JUNK", bytes(100), 60), b"\0" * 400):
        got, _, _ = heard(riff(broken, FORMAT, chunk(b"data", BYTES)))
        assert equals(got, SOUND)


@pytest.mark.parametrize("size", [0, None])
def test_metadata_is_never_heard(heard, size):
    text = b"nothing was recorded here, the battery was empty. " * 2000
    for behind in (info(text), chunk(b"iXML", text), info() + chunk(b"bext", bytes(5000)), info(text)[:-900]):
        samples = BYTES if size is None else b""
        content = riff(FORMAT, chunk(b"data", samples), behind)
        if size is None:
            got, flags, _ = heard(content)
            assert equals(got, SOUND)
            assert flags == []
        else:
            with pytest.raises(RowError) as error:
                heard(content)
            assert error.value.code == "no_samples"


def test_what_is_behind_the_samples_and_harmless_is_ignored(heard):
    tag = b"TAG" + bytes(125)
    xml = b"<?xml version='1.0'?><note>recorded in the harbour</note>" * 3000
    id3 = b"ID3\x03\x00\x00\x00\x00\x02\x00" + bytes(256)
    for behind in (b"\0" * 3_000_000, tag, xml, id3, b"\1\2\3", b"junk of a few bytes" * 5):
        got, flags, _ = heard(pcm_file("wav", SOUND, behind=behind))
        assert equals(got, SOUND)
        assert flags == []


def test_large_bytes_of_an_unknown_kind_are_flagged_and_not_heard(heard):
    for behind in (JUNK, b"PK\x03\x04" + JUNK, b"fLaC" + JUNK, info() + JUNK):
        got, flags, _ = heard(pcm_file("wav", SOUND, behind=behind))
        assert equals(got, SOUND)
        assert flags == ["audio_unread"]


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "PCM_U8", "PCM_24", "FLOAT"])
def test_other_sample_formats_tell_sound_from_bytes_of_another_kind(heard, subtype):
    buffer = io.BytesIO()
    soundfile.write(buffer, SOUND, 16_000, format="WAV", subtype=subtype)
    content = bytearray(buffer.getvalue())
    whole = heard(bytes(content))[0]
    got, flags, _ = heard(bytes(content) + JUNK)
    assert np.array_equal(got, whole)
    assert flags == ["audio_unread"]
    place = content.index(b"data") + 4
    size = int.from_bytes(content[place : place + 4], "little")
    content[place : place + 4] = (size // 12 * 3).to_bytes(4, "little")
    got, flags, _ = heard(bytes(content))
    assert np.array_equal(got, whole)
    assert flags == ["header_says_less"]


def test_a_walk_costs_few_small_reads(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    with open(path, "wb") as file:
        file.write(pcm_file("wav", SOUND, size=100_000_000))
        file.truncate(44 + 100_000_000)
        file.seek(0, 2)
        file.write(info() + chunk(b"id3 ", bytes(100)))
    read = []
    original = AudioFile._read
    monkeypatch.setattr(
        AudioFile, "_read", lambda self, count: read.append(data := original(self, count)) or data
    )
    assert probe(str(path)).duration == 3125.0
    assert len(read) < 40
    assert sum(map(len, read)) < 140_000


def test_structures_damaged_at_random_never_lose_samples_without_a_flag(tmp_path):
    """At least 98 % of the samples are read, or a flag or an error says that they are not."""
    path = tmp_path / "a.bin"
    for seed in range(400):
        rng = np.random.default_rng(seed)
        content, truth = _damaged(rng)
        path.write_bytes(content)
        try:
            with open_audio(str(path)) as file:
                reader = SampleReader(file)
                got = decode_span(reader, 0, None)
        except RowError as error:
            assert error.code in ("no_samples", "bad_header", "not_audio", "unsupported_codec"), seed
            assert error.code != "no_samples" or truth < 0.1 * 16_000, seed
            continue
        if "audio_unread" not in reader.flags and not reader.is_cut_off:
            assert got.end >= 0.98 * truth, seed
        assert got.end <= truth * 1.02 + 4000 or reader.flags, seed


def _damaged(rng):
    """A file with a random structure, and how many samples it has."""
    parts, truth = [], 0
    for _ in range(int(rng.integers(1, 4))):
        samples = noise(float(rng.uniform(0.5, 3)), seed=int(rng.integers(1000)))
        container = str(rng.choice(["wav", "wav", "rifx", "rf64", "w64", "aiff", "au", "caf"]))
        true_size = 2 * len(samples)
        size = int(rng.choice([true_size, true_size, true_size * 3 // 10, 0, true_size * 2, 0xFFFF_FFFF]))
        behind = bytes(rng.choice([b"", metadata(container), bytes(int(rng.integers(3000)))]))
        content = pcm_file(container, samples, size=size, behind=behind)
        if container == "wav" and rng.random() < 0.4:
            chunks = [chunk(b"fmt ", wave_format()), chunk(b"data", samples.astype("<i2").tobytes()), info()]
            content = riff(*(chunks[number] for number in rng.permutation(3)))
        parts.append(content)
        truth += len(samples)
    joined = b"".join(parts)
    if rng.random() < 0.2:
        lost = int(rng.integers(len(joined) // 2))
        joined, truth = joined[: len(joined) - lost], max(0, truth - lost // 2)
    if rng.random() < 0.2:
        joined = b"ID3\x03\x00\x00\x00\x00\x02\x00" + bytes(256) + joined
    if rng.random() < 0.1:
        place = int(rng.integers(len(joined) - 4))
        joined = joined[:place] + struct.pack("<I", int(rng.integers(2**32))) + joined[place + 4 :]
    return joined, truth
