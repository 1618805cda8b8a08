"""Facts about a file's length that ffmpeg does not report, read from the file's own bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from actors.audio.sources import AudioFile

# Formats without a length in their header: ffmpeg divides the file's size by the bit rate of the first
# frames.
ESTIMATED = frozenset(
    {"aac", "amr", "amrnb", "amrwb", "mp3", "ac3", "eac3", "dts", "truehd", "loas", "gsm", "adx", "h261",
     "mpeg", "mpegts", "swf"}
)  # fmt: skip
# Sizes that a streaming writer leaves in a WAVE header: 0, or at least this.
_PLACEHOLDER_SIZE = 0x7FFF_F000
# `has_constant_bit_rate` looks at this many places, evenly over the file, ...
_SAMPLED_PLACES = 6
# ... and reads so many bytes at each: several frames at any bit rate.
_SAMPLED_BYTES = 8 << 10
# Bit rates of layer III in kbit/s, and sampling rates in Hz, by the bits of the MPEG version in a frame's
# header.
_KBITS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLING_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def duration_is_estimated(file: AudioFile, container_format: str) -> bool:
    """Whether the duration that the container reports is only an estimate from its bit rate."""
    return container_format in ESTIMATED and not (container_format == "mp3" and mp3_facts(file))


@dataclass(frozen=True, slots=True)
class Mp3Facts:
    """The tag in an mp3's first frame."""

    # Whether it is an Info tag: all frames then have the same length, give or take a byte.
    constant: bool
    # Byte at which the frame of the tag begins.
    start: int
    # Frames of the file, and its bytes with the tag's own frame; None where the tag does not have them.
    frames: int | None
    size: int | None


def mp3_facts(file: AudioFile) -> Mp3Facts | None:
    """Find the Xing, Info or VBRI tag of an mp3; None for an mp3 without one, and for other files."""
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    elif head[:1] != b"\xff":
        return None
    file.seek(start)
    frame = file.read(512)
    found = [(place, tag) for tag in (b"Xing", b"Info", b"VBRI") if 0 <= (place := frame.find(tag)) < 200]
    if not found:
        return None
    place, tag = min(found)
    if tag == b"VBRI":
        return Mp3Facts(False, start, None, None)
    fields, frames, size = struct.unpack(">III", frame[place + 4 : place + 16].ljust(12, b"\0"))
    has_both = fields & 3 == 3
    return Mp3Facts(tag == b"Info", start, frames if has_both else None, size if has_both else None)


def has_constant_bit_rate(file: AudioFile) -> bool:
    """Whether the frames of an mp3 have the same bit rate at several places.

    Then the file's size gives its length, and nothing has to be counted. False where a place has no frames.
    """
    found: set[int] = set()
    for number in range(_SAMPLED_PLACES):
        file.seek(file.size * number // _SAMPLED_PLACES)
        bit_rates = _bit_rates(file.read(_SAMPLED_BYTES))
        # At the first place there may be a tag with a picture instead of frames.
        if not bit_rates and number:
            return False
        found |= bit_rates
    return len(found) == 1


def _bit_rates(data: bytes) -> set[int]:
    """The bit rates, in kbit/s, of all mp3 frames in `data` that another frame follows."""
    bit_rates: set[int] = set()
    place = data.find(b"\xff")
    while 0 <= place < len(data) - 4:
        bit_rate, length = _parse_mp3_frame(data[place : place + 4])
        if length and _parse_mp3_frame(data[place + length : place + length + 4])[1]:
            bit_rates.add(bit_rate)
            place += length
        else:
            place = data.find(b"\xff", place + 1)
    return bit_rates


def _parse_mp3_frame(head: bytes) -> tuple[int, int]:
    """Bit rate in kbit/s and length in bytes of the layer III frame with this header; else zeros."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0, 0
    version, bit_rate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or not 0 < bit_rate < 15 or rate == 3:
        return 0, 0
    kbits = _KBITS[3 if version == 3 else 2][bit_rate]
    scale = 144_000 if version == 3 else 72_000
    padding = head[2] >> 1 & 1
    return kbits, scale * kbits // _SAMPLING_RATES[version][rate] + padding


@dataclass(frozen=True, slots=True)
class RiffFacts:
    """What the chunks of a WAVE file say; sizes in bytes, None where the chunk is missing."""

    has_format: bool
    data_start: int | None
    data_size: int | None
    # Bytes of the file up to which its chunks were read.
    walked: int
    # Bytes per second by the format chunk; 0 where there is none.
    byte_rate: int

    @property
    def is_placeholder(self) -> bool:
        """Whether the writer never filled in how much data there is."""
        return self.data_size is not None and (self.data_size == 0 or self.data_size >= _PLACEHOLDER_SIZE)


def riff_facts(file: AudioFile) -> RiffFacts | None:
    """Read the chunk headers of a RIFF/WAVE file; None for other files."""
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    has_format, byte_rate = False, 0
    place = 12
    for _ in range(64):
        file.seek(place)
        chunk = file.read(8)
        if len(chunk) < 8:
            break
        size = struct.unpack("<I", chunk[4:])[0]
        if chunk[:4] == b"data":
            return RiffFacts(has_format, place + 8, size, place + 8, byte_rate)
        if chunk[:4] == b"fmt " and 14 <= size <= 4096:
            has_format, byte_rate = True, int.from_bytes(file.read(12)[8:], "little")
        place += 8 + size + size % 2
    return RiffFacts(has_format, None, None, min(place, file.size), byte_rate)
