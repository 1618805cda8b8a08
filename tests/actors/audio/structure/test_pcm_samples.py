"""Samples of every PCM format are those that PyAV decodes, and contradictory headers do not change them."""

from __future__ import annotations

import errno

import av
import numpy as np
import pytest
import soundfile

from actors.audio.containers import open_container
from actors.audio.decoding import decode_span
from actors.audio.frames import DecodeLosses, frames_of, join_frames
from actors.audio.sources import AudioFile, open_audio
from actors.audio.structure.contents import read_contents
from actors.audio.timeline import SampleReader
from actors.errors import RetryableError
from tests.actors.audio.structure.pcm_builders import chunk, noise, riff, wave_format

SUBTYPES = ["PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
FORMATS = ["WAV", "RF64", "W64", "AIFF", "AU", "CAF"]
SOUND = noise(2.0)[:, 0]


def read(path):
    with open_audio(str(path)) as file:
        reader = SampleReader(file)
        blocks = [block.samples for block in reader.blocks(0, DecodeLosses())]
        return np.concatenate(blocks), reader


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_samples_equal_those_of_libsndfile_and_pyav(tmp_path, kind, subtype):
    if not soundfile.check_format(kind, subtype):
        pytest.skip("no such file")
    path = tmp_path / "a.bin"
    rng = np.random.default_rng(3)
    waves = rng.uniform(-1, 1, (30_001, 2))
    for endian in ("FILE", "LITTLE", "BIG"):
        if not soundfile.check_format(kind, subtype, endian):
            continue
        soundfile.write(path, waves, 44_100, format=kind, subtype=subtype, endian=endian)
        got, reader = read(path)
        assert reader._parts is not None
        assert np.array_equal(got, soundfile.read(path, dtype="float32")[0])
        if endian != "FILE" or (kind, subtype) == ("AU", "PCM_S8"):
            # FFmpeg knows some of these files only.
            continue
        with open_audio(str(path)) as file, open_container(file) as opened:
            assert (reader.codec, reader.format) == (opened.codec, opened.format)
            assert np.array_equal(got, join_frames([*frames_of(opened, 44_100, DecodeLosses(), True)]))


def write_words(path, words, width, valid, bits, tag=1):
    """A WAVE file of integers of `width` bytes; `valid` None writes a plain header with `bits`."""
    data = words.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :width]
    if width == 1:
        data = data ^ 0x80
    form = wave_format(width=width, bits=bits, valid=valid)
    path.write_bytes(riff(chunk(b"fmt ", form), chunk(b"data", data.tobytes())))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_the_width_of_a_sample_is_that_of_its_block_whatever_the_valid_bits(tmp_path, width):
    path, total = tmp_path / "a.wav", 8 * width
    for valid in range(1, total + 1):
        scaled = SOUND.astype(np.int64) << 16 >> 32 - total
        # The valid bits are the highest ones.
        words = scaled >> total - valid << total - valid
        expected = words / 2.0 ** (total - 1)
        for extensible, bits in ((True, total), (True, valid), (False, valid), (False, total)):
            write_words(path, words, width, valid if extensible else None, bits)
            got, reader = read(path)
            assert len(got) == len(SOUND), (valid, extensible, bits)
            assert np.array_equal(got[:, 0], expected.astype(np.float32)), (valid, extensible, bits)
            assert reader.flags == []


@pytest.mark.parametrize(("width", "valid"), [(2, 12), (3, 16), (3, 20), (4, 16), (4, 20), (4, 24)])
def test_valid_bits_at_the_low_end_of_a_word_are_as_loud(tmp_path, width, valid):
    words = (SOUND.astype(np.int64) << 16 >> 32 - valid) + np.random.default_rng(0).integers(
        -3, 3, len(SOUND)
    )
    for extensible in (True, False):
        write_words(tmp_path / "a.wav", words, width, valid if extensible else None, valid)
        got, _ = read(tmp_path / "a.wav")
        assert np.array_equal(got[:, 0], (words / 2.0 ** (valid - 1)).astype(np.float32))
    # Samples that use all bits of their word keep their level.
    words[20_000:20_100] <<= 8 * width - valid
    write_words(tmp_path / "a.wav", words, width, valid, 8 * width)
    got, _ = read(tmp_path / "a.wav")
    assert np.array_equal(got[:, 0], (words / 2.0 ** (8 * width - 1)).astype(np.float32))


def test_integers_of_64_bits_and_wrong_block_aligns_are_read(tmp_path):
    path = tmp_path / "a.wav"
    data = (SOUND.astype(np.int64) << 48).astype("<i8").tobytes()
    path.write_bytes(riff(chunk(b"fmt ", wave_format(width=8)), chunk(b"data", data)))
    got, reader = read(path)
    assert (len(got), reader.codec) == (len(SOUND), "pcm_s64le")
    assert np.allclose(got[:, 0], SOUND / 32768)
    # A block align of 0: the bits say how wide a sample is.
    form = bytearray(wave_format())
    form[12:14] = b"\0\0"
    path.write_bytes(riff(chunk(b"fmt ", bytes(form)), chunk(b"data", SOUND.astype("<i2").tobytes())))
    assert np.array_equal(read(path)[0][:, 0], SOUND / np.float32(32768))


def test_any_span_equals_that_part_of_the_whole(tmp_path, speech):
    for subtype, rate in (("PCM_16", 16_000), ("PCM_24", 44_100), ("FLOAT", 8_000), ("ULAW", 8_000)):
        waves = np.stack([speech(20.0, rate), speech(20.0, rate, 1)], axis=1)
        soundfile.write(tmp_path / "a.wav", waves, rate, subtype=subtype)
        with open_audio(str(tmp_path / "a.wav")) as file:
            reader = SampleReader(file)
            whole = decode_span(reader, 0, None)
            for start, end in ((1, 8000), (16_001, 99_999), (150_000, None), (319_990, None)):
                assert np.array_equal(decode_span(reader, start, end).samples, whole.samples[:, start:end])
            behind = decode_span(reader, 400_000, 410_000)
            assert (behind.samples.size, behind.end, behind.reached_end) == (0, 320_000, True)


@pytest.mark.parametrize("codec", ["adpcm_ms", "adpcm_ima_wav", "libmp3lame"])
def test_compressed_samples_in_wave_get_a_correct_header(tmp_path, write, codec):
    path = write(tmp_path / "a.wav", noise(4.0)[:, 0] / 32768, codec, 16_000)
    healthy, reader = read(path)
    assert abs(len(healthy) - 64_000) < 3000
    assert reader.flags == []
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    true = int.from_bytes(content[place : place + 4], "little")
    block = reader.file.size and int.from_bytes(content[32:34], "little")
    content[place : place + 4] = (true // 3 // block * block).to_bytes(4, "little")
    path.write_bytes(content)
    got, reader = read(path)
    assert reader.flags == ["header_says_less"]
    # The `fact` chunk says where the last block ends, but not whether it is right.
    assert len(healthy) <= len(got) <= len(healthy) + 3000
    assert np.array_equal(got[: len(healthy)], healthy)


def test_joined_files_of_which_one_is_compressed_are_read_or_flagged(tmp_path, write):
    plain = riff(chunk(b"fmt ", wave_format()), chunk(b"data", SOUND.astype("<i2").tobytes()))
    adpcm = write(tmp_path / "a.wav", noise(4.0)[:, 0] / 32768, "adpcm_ms", 16_000)
    single, compressed = len(read(adpcm)[0]), adpcm.read_bytes()
    for content, frames, flags in (
        (plain + compressed, len(SOUND), ["audio_unread"]),
        (compressed + plain, single, ["audio_unread"]),
        (compressed + compressed, 2 * single, ["files_joined"]),
    ):
        (tmp_path / "b.wav").write_bytes(content)
        got, reader = read(tmp_path / "b.wav")
        assert (len(got), reader.flags) == (pytest.approx(frames, abs=2000), flags)


def test_dts_and_ac3_in_wave_are_not_heard_as_noise(tmp_path):
    rng = np.random.default_rng(0)
    for sync in (b"\xfe\x7f\x01\x80", b"\xff\x1f\x00\xe8", b"\x72\xf8\x1f\x4e"):
        frame = sync + rng.bytes(2044)
        form = chunk(b"fmt ", wave_format(44_100, 2))
        (tmp_path / "a.wav").write_bytes(riff(form, chunk(b"data", frame * 60)))
        with open_audio(str(tmp_path / "a.wav")) as file:
            assert read_contents(file).parts is None


def test_an_error_of_the_store_while_libsndfile_reads_is_raised(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(30.0), 16_000)
    content = (tmp_path / "a.wav").read_bytes()

    class Failing:
        """A store that fails behind half of the file."""

        place = 0

        def seek(self, place):
            self.place = place

        def read(self, count):
            if self.place + count > len(content) // 2:
                raise OSError(errno.EIO, "the connection was lost")
            return content[self.place : self.place + count]

        def close(self):
            pass

    file = AudioFile(Failing(), len(content), "etag", "memory://a.wav", 0)
    with pytest.raises(RetryableError) as error:
        for _ in SampleReader(file).blocks(0, DecodeLosses()):
            pass
    assert error.value.code == "storage_unavailable"


def test_pyav_can_still_write_what_these_tests_need():
    assert {"adpcm_ms", "adpcm_ima_wav", "libmp3lame"} <= set(av.codecs_available)
