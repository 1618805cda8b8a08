"""Sound that begins long after its film: the times are those of the film, and nothing is lost."""

from pathlib import Path

import av
import numpy as np
import pytest

from actors.audio.decoding import decode_span
from actors.audio.probing import probe
from actors.audio.sources import open_audio
from actors.audio.timeline import SampleReader
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard

FIELD = Path(__file__).parents[4] / "shared" / "field"
RATE = 48_000
LATE = 12
FILMS = [
    ("a.mkv", "mpeg4", "aac"),
    ("a.webm", "libvpx", "libopus"),
    ("a.wmv", "wmv2", "wmav2"),
    ("a.nut", "mpeg4", "aac"),
    ("a.flv", "flv1", "libmp3lame"),
    ("a.ts", "mpeg2video", "mp2"),
    ("b.ts", "mpeg2video", "aac"),
    ("a.mpg", "mpeg2video", "mp2"),
    ("a.vob", "mpeg2video", "ac3"),
    ("a.mp4", "mpeg4", "aac"),
    ("a.mov", "mpeg4", "pcm_s16le"),
]
# Films that are made at a high rate, too, which takes longer: the sound begins behind several MB.
HIGH_RATE = ("a.mkv", "a.flv", "a.ts", "a.mpg")


def film(path, picture, codec, speech, late=LATE, high_rate=False, tracks=1):
    """A film of noise, whose sound of 6 s begins after `late` seconds, in the last of its audio tracks."""
    size = (320, 240) if high_rate else (32, 32)
    random = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        video = container.add_stream(picture, 25)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.bit_rate = 20_000_000 if high_rate else 100_000
        sounds = [container.add_stream(codec, RATE, layout="mono") for _ in range(tracks)]
        for sound in sounds:
            sound.bit_rate = 64_000
        wave = (speech(6, RATE) * 32767).astype(np.int16)
        for number in range(25 * (late + 7)):
            pixels = random.integers(0, 256, (size[1] * 3 // 2, size[0]), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "yuv420p")
            frame.pts = number
            container.mux(video.encode(frame))
        for sound, begin in zip(sounds, [0] * (tracks - 1) + [late], strict=True):
            resampler = av.AudioResampler(
                sound.codec_context.format,
                sound.codec_context.layout,
                RATE,
                sound.codec_context.frame_size or 1024,
            )
            block = av.AudioFrame.from_ndarray(wave[None] if begin == late else wave[None] * 0, "s16", "mono")
            block.sample_rate, block.pts = RATE, begin * RATE
            for piece in [*resampler.resample(block), *resampler.resample(None)]:
                container.mux(sound.encode(piece))
            container.mux(sound.encode(None))
    return path


def decoded(path, **columns):
    facts = probe(str(path))
    row = {"audio": str(path), "start": 0.0, "end": None, "duration": facts.duration} | columns
    return facts, decode_shard(row, AudioConfig(), SegmenterConfig(backend="energy"))


@pytest.mark.parametrize(
    ("name", "picture", "codec", "high_rate"),
    [*((*one, False) for one in FILMS), *((*one, True) for one in FILMS if one[0] in HIGH_RATE)],
)
def test_late_sound_has_the_times_of_its_film(tmp_path, speech, name, picture, codec, high_rate):
    path = film(tmp_path / name, picture, codec, speech, high_rate=high_rate)
    facts, row = decoded(path)
    assert (row["status"], row["flags"]) == ("ok", [])
    assert row["decoded_end"] == pytest.approx(LATE + 6, abs=0.15)
    assert facts.duration == pytest.approx(LATE + 6, abs=1.1)
    assert row["segments"][0]["start"] == pytest.approx(LATE, abs=0.4)


@pytest.mark.parametrize(("name", "picture", "codec"), FILMS)
def test_spans_of_late_sound_equal_the_whole(tmp_path, speech, name, picture, codec):
    path = film(tmp_path / name, picture, codec, speech)
    with open_audio(str(path)) as file:
        whole = decode_span(SampleReader(file), 0, None).samples[0].astype(float)
        for start in (9, 13, 16):
            span = decode_span(SampleReader(file), start * 16_000, (start + 2) * 16_000)
            expected = whole[start * 16_000 : (start + 2) * 16_000]
            difference = span.samples[0][: len(expected)].astype(float) - expected
            assert np.sqrt(np.mean(difference**2)) <= 0.03 * whole.std()


def test_empty_chunks_of_an_avi_film_take_time(tmp_path, speech):
    """The muxer writes one frame at the beginning, and empty chunks up to the rest."""
    path = film(tmp_path / "a.avi", "mpeg4", "libmp3lame", speech)
    _, row = decoded(path)
    assert row["status"] == "ok"
    assert row["flags"] in ([], ["gap_filled"])
    assert row["decoded_end"] == pytest.approx(LATE + 6, abs=0.15)
    # Nothing is heard at the start of the film.
    assert row["segments"][0]["start"] == pytest.approx(LATE, abs=0.4)
    first = decoded(path, end=9.0)[1]
    second = decoded(path, start=9.0)[1]
    assert first["decoded_end"] == second["decoded_start"]
    assert second["decoded_end"] == pytest.approx(row["decoded_end"], abs=0.01)


@pytest.mark.parametrize("name", ["late12.mkv", "late12.ts"])
def test_the_films_of_the_field_have_their_times(name):
    path = FIELD / name
    if not path.exists():
        pytest.skip("the field is not here")
    _, row = decoded(path)
    assert (row["status"], row["flags"]) == ("ok", [])
    assert row["decoded_end"] == pytest.approx(18.85, abs=0.05)
    assert row["segments"][0]["start"] == pytest.approx(11.9, abs=0.3)
