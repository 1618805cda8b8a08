"""Lossy round trips: what speech sounds like after MP3, Opus or GSM."""

from __future__ import annotations

import io

import av
import numpy as np
from scipy import fft

RATE = 16_000
"""Sampling rate of the utterances, Hz."""

CODECS: tuple[tuple[str, str, int, tuple[int, ...]], ...] = (
    ("mp3", "libmp3lame", 16_000, (24_000, 32_000, 48_000)),
    ("ogg", "libopus", 16_000, (8_000, 12_000, 20_000)),
    ("ogg", "libvorbis", 16_000, (32_000, 48_000)),
    ("gsm", "libgsm", 8_000, (13_000,)),
    ("wav", "adpcm_ms", 8_000, (32_000,)),
)
"""Container, encoder, sampling rate in Hz and bit rates in bit/s."""

AVAILABLE = tuple(codec for codec in CODECS if codec[1] in av.codecs_available)
"""The codecs that the installed FFmpeg libraries can encode."""


def encoded(wave: np.ndarray, container: str, encoder: str, rate: int, bit_rate: int) -> bytes:
    """Encodes 16 kHz mono samples."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(encoder, rate=rate)
        stream.bit_rate = bit_rate
        stream.layout = "mono"
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        frame = av.AudioFrame.from_ndarray(
            (np.clip(wave, -1, 1) * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = RATE
        fifo = av.AudioFifo()
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            piece.pts = None
            fifo.write(piece)
        size = stream.codec_context.frame_size or 1024
        while fifo.samples:
            piece = fifo.read(size, partial=True)
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """Decodes to 16 kHz mono samples."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
    with av.open(io.BytesIO(data)) as source:
        pieces = [piece for frame in source.decode(audio=0) for piece in resampler.resample(frame)]
        pieces += resampler.resample(None)
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces]).astype(np.float32)


def round_trip(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Encodes and decodes with a random codec, takes out the codec's delay and keeps the length."""
    container, encoder, rate, bit_rates = AVAILABLE[rng.integers(len(AVAILABLE))]
    back = decoded(encoded(wave, container, encoder, rate, int(rng.choice(bit_rates))))
    size = fft.next_fast_len(len(wave) + len(back), real=True)
    likeness = fft.irfft(fft.rfft(back, size) * np.conj(fft.rfft(wave, size)), size)[:4000]
    back = back[int(np.argmax(np.abs(likeness))) :][: len(wave)]
    return np.pad(back, (0, len(wave) - len(back)))
