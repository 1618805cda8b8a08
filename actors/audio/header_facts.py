"""How long a file says it is: the few facts about length that ffmpeg keeps to itself, read from the file's own first bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from actors.audio.sources import AudioFile

# Formats without a length in their header: ffmpeg divides the size by the bit rate of the first frames.
ESTIMATED = frozenset(
    {
        "aac",
        "amr",
        "amrnb",
        "amrwb",
        "mp3",
        "ac3",
        "eac3",
        "dts",
        "truehd",
        "loas",
        "gsm",
        "adx",
        "h261",
        "mpeg",
        "mpegts",
    }
)
_PLACEHOLDERS = (
    0,
    0x7FFF_F000,
)  # sizes that a streaming writer leaves in a WAVE header: nothing, or at least this


def duration_is_estimated(file: AudioFile, container_format: str) -> bool:
    """Whether the duration that the container reports is only a guess from its bit rate."""
    return container_format in ESTIMATED and not (container_format == "mp3" and mp3_facts(file))


@dataclass(frozen=True, slots=True)
class Mp3Facts:
    """The tag in an mp3's first frame. `frames` and `size` (bytes, the tag's own frame included) are None where it does not tell them."""

    constant: bool  # an Info tag: every frame has the same length, give or take a byte
    start: int  # byte of the tag's frame
    frames: int | None
    size: int | None


def mp3_facts(file: AudioFile) -> Mp3Facts | None:
    """Find the Xing, Info or VBRI tag of an mp3; None for an mp3 without one, and for everything else."""
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
    has, frames, size = struct.unpack(">III", frame[place + 4 : place + 16].ljust(12, b"\0"))
    return Mp3Facts(tag == b"Info", start, frames if has & 3 == 3 else None, size if has & 3 == 3 else None)


@dataclass(frozen=True, slots=True)
class RiffFacts:
    """What a walk over the chunks of a WAVE file finds; sizes in bytes, None where the chunk is missing."""

    has_format: bool
    data_start: int | None
    data_size: int | None
    walked: int  # bytes of the file that were walked over
    byte_rate: int  # bytes a second, as the format chunk has it; 0 where there is none

    @property
    def is_placeholder(self) -> bool:
        """Whether the writer never filled in how much data there is."""
        return self.data_size is not None and (
            self.data_size == _PLACEHOLDERS[0] or self.data_size >= _PLACEHOLDERS[1]
        )


def riff_facts(file: AudioFile) -> RiffFacts | None:
    """Walk the chunks of a RIFF/WAVE file; None for other files."""
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
