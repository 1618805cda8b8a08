"""Reads PCM samples of WAVE, RF64, W64, AIFF, AU and CAF files with libsndfile.

`actors.audio.structure` finds the samples and their format; libsndfile gets nothing but raw samples, so that
no library interprets a header that contradicts itself. Ten minutes of 16 bits in stereo at 48 kHz take 54 ms,
with PyAV 110 ms; 24 bits 258 and 240, 32 bits 93 and 244, floats 81 and 221 (tests/benchmarks/RESULTS.md).
Samples are equal bit for bit. Everything else is decoded by PyAV: compressed formats in these containers,
integers of 64 bits, DTS and AC-3 disguised as PCM, and FLAC, for which libsndfile takes 65 ms where PyAV
takes 57 and which it gives up at the first damaged frame.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr

from actors.audio.containers import MAX_CHANNELS, MAX_RATE, MIN_RATE
from actors.audio.sources import AudioFile
from actors.audio.structure.layout import Layout
from actors.audio.structure.parts import Part
from actors.audio.structure.remainder import to_floats
from actors.audio.structure.sample_formats import SampleFormat
from actors.audio.structure.views import Blank, Extent, Piece, join_pieces, read_at
from actors.errors import RowError

# Bytes that libsndfile's reads are joined to. It reads 8 KiB at a time.
_BUFFER = 256 << 10
# Bytes at the beginning of the samples in which disguised formats and the place of valid bits are searched.
_EXAMINED = 64 << 10
# Places of the file at which samples are examined whose low bits are not what the header says.
_PLACES = 32
# Seconds of silence that a file may describe instead of having it. More of it is left out.
_MAX_SILENCE = 3600
_SUBTYPES = {
    "pcm_u8": "PCM_U8",
    "pcm_s8": "PCM_S8",
    "pcm_s16": "PCM_16",
    "pcm_s24": "PCM_24",
    "pcm_s32": "PCM_32",
    "pcm_f32": "FLOAT",
    "pcm_f64": "DOUBLE",
    "pcm_mulaw": "ULAW",
    "pcm_alaw": "ALAW",
}
# Types in which libsndfile reads fastest; the others are read as float32.
_INTEGERS: dict[str, Any] = {"PCM_16": "int16", "PCM_32": "int32"}
# How frames of DTS begin (in 16 and 14 bits of both byte orders), and the preamble of IEC 61937 (AC-3 and
# others) in 16 bits.
_DISGUISES = (
    b"\x7f\xfe\x80\x01",
    b"\xfe\x7f\x01\x80",
    b"\x1f\xff\xe8\x00",
    b"\xff\x1f\x00\xe8",
    b"\x72\xf8\x1f\x4e",
)


@dataclass(frozen=True, slots=True)
class PcmPart:
    """Samples of one format, as one view of the file without headers."""

    file: AudioFile
    format: SampleFormat
    # Frames of the view.
    frames: int
    # By which samples are multiplied whose valid bits are the lowest ones.
    gain: float


def pcm_parts(file: AudioFile, layout: Layout) -> list[PcmPart] | None:
    """The parts of a file, where all of them are PCM; None where PyAV must decode it.

    Raises:
        RowError: bad_header for an impossible rate or number of channels, no_samples for none.
    """
    formats = [part.format for part in layout.parts if part.format is not None]
    if any(_subtype(one) is None for one in formats) or _is_disguised(file, layout.parts[0]):
        return None
    for one in formats:
        require_possible(one)
    parts = [_open_part(file, part, one) for part, one in zip(layout.parts, formats, strict=True)]
    if not any(part.frames for part in parts):
        raise RowError("a valid header without any samples behind it", "no_samples")
    return [part for part in parts if part.frames]


def require_possible(fmt: SampleFormat) -> None:
    """Check the numbers of a header.

    Raises:
        RowError: bad_header.
    """
    if not MIN_RATE <= fmt.sampling_rate <= MAX_RATE:
        raise RowError(f"the header claims a sampling rate of {fmt.sampling_rate} Hz", "bad_header")
    if not 1 <= fmt.channels <= MAX_CHANNELS:
        raise RowError(f"the header claims {fmt.channels} channels", "bad_header")


def read_pcm(parts: list[PcmPart], first: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield positions and blocks of about a second: float32, shape (samples, channels), full scale 1.0.

    The first part decides about the sampling rate; parts with another one are resampled.

    Args:
        parts: the parts of a file, in order.
        first: position at which to begin. The first block may begin earlier.

    Raises:
        RetryableError: reading failed.
    """
    rate, position = parts[0].format.sampling_rate, 0
    for part in parts:
        frames = part_frames(part, rate)
        if position + frames > first:
            yield from _read_part(part, rate, position, max(0, first - position))
        position += frames
    if position <= first:
        # Tells where the recording ends.
        yield position, np.zeros((0, parts[-1].format.channels), np.float32)


def part_frames(part: PcmPart, rate: int) -> int:
    """Frames of a part at the sampling rate of its file."""
    return (
        part.frames
        if part.format.sampling_rate == rate
        else round(part.frames * rate / part.format.sampling_rate)
    )


def _read_part(part: PcmPart, rate: int, position: int, skip: int) -> Iterator[tuple[int, np.ndarray]]:
    if part.format.sampling_rate == rate:
        for block in _blocks(part, skip):
            yield position + skip, block
            skip += len(block)
        return
    # From its start, so that a sample never depends on where reading began.
    stream = soxr.ResampleStream(
        part.format.sampling_rate, rate, part.format.channels, dtype="float32", quality="VHQ"
    )
    left = part_frames(part, rate)
    for block in _blocks(part, 0, ends=True):
        last = not len(block)
        samples = stream.resample_chunk(block if part.format.channels > 1 else block[:, 0], last=last)
        samples = samples.reshape(-1, part.format.channels)[:left]
        if len(samples):
            yield position, samples
        position += len(samples)
        left -= len(samples)


def _blocks(part: PcmPart, skip: int, ends: bool = False) -> Iterator[np.ndarray]:
    """Blocks of about a second from frame `skip` on, and an empty one behind the last where `ends`."""
    subtype = _subtype(part.format)
    dtype = _INTEGERS.get(subtype or "", "float32")
    with _open_raw(part, subtype) as (raw, source):
        raw.seek(skip)
        while True:
            block = raw.read(part.format.sampling_rate, dtype, always_2d=True)
            source.raise_error()
            if not len(block):
                break
            if dtype != "float32":
                scale = 1 / 2 ** (8 * block.itemsize - 1)
                block = block.astype(np.float32)
                block *= np.float32(scale)
            if part.gain != 1.0:
                block *= np.float32(part.gain)
            yield block
    if ends:
        yield np.zeros((0, part.format.channels), np.float32)


@contextmanager
def _open_raw(part: PcmPart, subtype: str | None) -> Iterator[tuple[Any, _Source]]:
    import soundfile

    source = _Source(part.file)
    try:
        with soundfile.SoundFile(
            source,
            samplerate=part.format.sampling_rate,
            channels=part.format.channels,
            subtype=subtype,
            endian="BIG" if part.format.codec.endswith("be") else "LITTLE",
            format="RAW",
        ) as raw:
            yield raw, source
    finally:
        source.detach()


class _Source:
    """The file as libsndfile reads it, which drops errors of a read: `raise_error` raises them afterwards."""

    def __init__(self, file: AudioFile) -> None:
        file.seek(0)
        self._file = io.BufferedReader(file, _BUFFER)
        self._error: BaseException | None = None

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        try:
            return self._file.readinto(buffer)
        except BaseException as error:
            self._error = error
            return 0

    def detach(self) -> None:
        """Leave the file open."""
        self._file.detach()

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def _open_part(file: AudioFile, part: Part, fmt: SampleFormat) -> PcmPart:
    frame = fmt.frame_bytes
    whole = [Extent(one.start, one.start + (one.end - one.start) // frame * frame) for one in part.extents]
    pieces: list[Piece] = list(whole)
    if sum(frames for _, frames in part.silences) <= _MAX_SILENCE * fmt.sampling_rate:
        byte = {"pcm_u8": 0x80, "pcm_alaw": 0xD5, "pcm_mulaw": 0xFF}.get(fmt.codec, 0)
        for place, frames in reversed(part.silences):
            pieces.insert(place, Blank(frames * frame, byte))
    view = join_pieces(file, pieces)
    return PcmPart(view, fmt, view.size // frame, _gain(file, part, fmt))


def _subtype(fmt: SampleFormat) -> str | None:
    name = fmt.codec.removesuffix("le").removesuffix("be") if fmt.codec[-2:] in ("le", "be") else fmt.codec
    return _SUBTYPES.get(name)


def _is_disguised(file: AudioFile, part: Part) -> bool:
    """Whether samples of 16 bits in stereo are DTS or AC-3, as on CDs and from S/PDIF."""
    fmt = part.format
    if fmt is None or fmt.codec != "pcm_s16le" or fmt.channels != 2 or not part.extents:
        return False
    data = read_at(file, part.extents[0].start, min(_EXAMINED, part.extents[0].end - part.extents[0].start))
    return any(data.count(disguise) > 1 for disguise in _DISGUISES)


def _gain(file: AudioFile, part: Part, fmt: SampleFormat) -> float:
    """By how much to multiply samples whose valid bits are the lowest of a wider word.

    The valid bits are the highest ones by the specification: the others are zero. Where they are not, and the
    highest bits only repeat the sign, a writer put the sample at the wrong end.
    """
    spare = 8 * fmt.width - fmt.valid_bits
    if not fmt.codec.startswith("pcm_s") or fmt.valid_bits <= 0 or spare <= 0 or not part.extents:
        return 1.0
    mask = (1 << spare) - 1
    if not (_words(file, part.extents[0], fmt, 1) & mask).any():
        return 1.0
    words = _words(file, part.extents[0], fmt, _PLACES)
    return 2.0**spare if int(np.abs(words).max()) <= 1 << fmt.valid_bits - 1 else 1.0


def _words(file: AudioFile, extent: Extent, fmt: SampleFormat, places: int) -> np.ndarray:
    """Samples at places that are evenly distributed over an extent, as the integers that the file has."""
    frames = (extent.end - extent.start) // fmt.frame_bytes
    count = min(frames, max(1, _EXAMINED // places // fmt.frame_bytes))
    starts = [extent.start + (frames - count) * n // places * fmt.frame_bytes for n in range(places)]
    data = b"".join(read_at(file, start, count * fmt.frame_bytes) for start in starts)
    return (to_floats(data, fmt) * 2.0 ** (8 * fmt.width - 1)).astype(np.int64)
