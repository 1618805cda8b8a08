"""What the header of a PCM file says about its samples, where headers contradict themselves.

The width of a sample is the block align divided by the channels. Files with 16 valid bits in 24, 20 or 24 in
32 or 8 in 16 say something else in their field of bits, which FFmpeg takes for the width.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

# Tags of a WAVE format.
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
# Bytes of the format chunk that are read.
MAX_FORMAT_BYTES = 4096
_AU_CODECS = {
    1: "pcm_mulaw",
    2: "pcm_s8",
    3: "pcm_s16be",
    4: "pcm_s24be",
    5: "pcm_s32be",
    6: "pcm_f32be",
    7: "pcm_f64be",
    27: "pcm_alaw",
}
# Compression types of AIFF-C whose samples have the width and byte order that their name says.
_AIFC_CODECS = {
    b"fl32": "pcm_f32be",
    b"FL32": "pcm_f32be",
    b"fl64": "pcm_f64be",
    b"FL64": "pcm_f64be",
    b"ulaw": "pcm_mulaw",
    b"ULAW": "pcm_mulaw",
    b"alaw": "pcm_alaw",
    b"ALAW": "pcm_alaw",
    b"in24": "pcm_s24be",
    b"in32": "pcm_s32be",
    b"42ni": "pcm_s24le",
    # As libsndfile writes it.
    b"42n1": "pcm_s24le",
    b"23ni": "pcm_s32le",
    b"raw ": "pcm_u8",
}


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """How samples are stored."""

    # ffmpeg's name; empty for a codec that is not PCM.
    codec: str
    sampling_rate: int
    channels: int
    # Bytes of a sample of all channels, or of a block of a codec that is not PCM.
    frame_bytes: int
    # Bits that the header calls valid.
    valid_bits: int = 0
    # The bytes of a WAVE format chunk; of other formats empty.
    raw: bytes = b""

    @property
    def width(self) -> int:
        """Bytes of a sample of one channel."""
        return self.frame_bytes // max(1, self.channels)

    @property
    def byte_rate(self) -> float:
        """Bytes of a second; of a codec that is not PCM, what the header says."""
        if self.codec or len(self.raw) < 12:
            return float(self.frame_bytes * self.sampling_rate)
        return float(int.from_bytes(self.raw[8:12], "little"))


def wave_format(raw: bytes, byte_order: str) -> SampleFormat | None:
    """The format chunk of a WAVE file; None where it is too short."""
    if len(raw) < 14:
        return None
    tag, channels, rate, byte_rate, align = struct.unpack(byte_order + "HHIIH", raw[:14])
    bits = struct.unpack(byte_order + "H", raw[14:16])[0] if len(raw) >= 16 else 0
    valid = bits
    if tag == _EXTENSIBLE and len(raw) >= 26:
        valid = struct.unpack(byte_order + "H", raw[18:20])[0]
        tag = struct.unpack(byte_order + "H", raw[24:26])[0]
    width = align // channels if channels and align % channels == 0 else 0
    told = -(-bits // 8)
    if not 1 <= width <= 8 or (width != told and rate and byte_rate == rate * channels * told):
        # Two of three fields agree.
        width = told
    codec = _wave_codec(tag, width, "le" if byte_order == "<" else "be")
    frame = width * channels if codec else align
    return SampleFormat(codec, rate, channels, frame, min(valid, bits) or bits, raw)


def _wave_codec(tag: int, width: int, order: str) -> str:
    if tag == _PCM and width in (1, 2, 3, 4, 8):
        return "pcm_u8" if width == 1 else f"pcm_s{8 * width}{order}"
    if tag == _FLOAT and width in (4, 8):
        return f"pcm_f{8 * width}{order}"
    if tag in (_ALAW, _MULAW) and width == 1:
        return "pcm_alaw" if tag == _ALAW else "pcm_mulaw"
    return ""


def aiff_format(raw: bytes, compressed: bool) -> tuple[SampleFormat, int] | None:
    """The COMM chunk of an AIFF or AIFF-C file, and the frames that it promises."""
    if len(raw) < 18:
        return None
    channels, frames, bits = struct.unpack(">HIH", raw[:8])
    rate = _extended(raw[8:18])
    kind = raw[18:22] if compressed else b"NONE"
    width = -(-bits // 8)
    codec = _AIFC_CODECS.get(kind, "")
    if kind in (b"NONE", b"twos", b"sowt") and 1 <= width <= 4:
        order = "le" if kind == b"sowt" else "be"
        codec = "pcm_s8" if width == 1 else f"pcm_s{8 * width}{order}"
    if codec:
        width = codec_width(codec)
    return SampleFormat(codec, rate, channels, width * channels, bits), frames


def _extended(data: bytes) -> int:
    """A rate in Hz of 80 bits; 0 where it is not a number that a rate can be."""
    exponent, mantissa = struct.unpack(">HQ", data)
    if exponent & 0x8000 or exponent == 0x7FFF or not mantissa or exponent - 16383 > 32:
        return 0
    return round(math.ldexp(mantissa, exponent - 16383 - 63))


def au_format(raw: bytes, byte_order: str) -> SampleFormat:
    """Encoding, rate and channels of an AU header, 12 bytes from byte 12 of the file on."""
    encoding, rate, channels = struct.unpack(byte_order + "III", raw)
    codec = _AU_CODECS.get(encoding, "")
    if byte_order == "<":
        codec = codec.replace("be", "le")
    return SampleFormat(codec, rate, channels, codec_width(codec) * channels if codec else 0)


def caf_format(raw: bytes) -> SampleFormat | None:
    """The `desc` chunk of a CAF file."""
    if len(raw) < 32:
        return None
    rate, kind, flags, packet, frames, channels, bits = struct.unpack(">d4sIIIII", raw[:32])
    hertz = round(rate) if math.isfinite(rate) and 0 <= rate < 2**32 else 0
    codec = {b"alaw": "pcm_alaw", b"ulaw": "pcm_mulaw"}.get(kind, "")
    width = packet // channels if channels and frames == 1 and packet % channels == 0 else -(-bits // 8)
    if kind == b"lpcm":
        order = "le" if flags & 2 else "be"
        if flags & 1 and width in (4, 8):
            codec = f"pcm_f{8 * width}{order}"
        elif not flags & 1 and 1 <= width <= 4:
            codec = "pcm_s8" if width == 1 else f"pcm_s{8 * width}{order}"
    return SampleFormat(codec, hertz, channels, (codec_width(codec) if codec else width) * channels, bits)


def codec_width(codec: str) -> int:
    """Bytes of a sample of this PCM codec."""
    digits = "".join(letter for letter in codec[4:] if letter.isdigit())
    return int(digits) // 8 if digits else 1
