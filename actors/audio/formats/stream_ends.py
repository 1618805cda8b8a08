"""Whether a stream without a header ends in the middle of a frame or packet, as after a broken transfer.

The header of a frame says how long it is. A chain of frames near the end of the file leads to its last byte,
to a tag, or, in a file that was cut off, beyond the end.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.audio.files.audio_file import AudioFile
from actors.audio.formats.elementary import FRAME_LENGTHS
from actors.audio.header_facts import mp3_facts

# Bytes at the end of a file in which the chain of frames is searched: several frames of any kind.
_TAIL = 64 << 10
# Frames that follow each other, from which a header is none by chance.
_FRAMES = 4
# Bytes of the longest header of a frame.
_HEADER = 16
# Packets of a transport stream that must be in step.
_PACKETS = 16
# Bytes of AMR files up to which all frames are walked: more than an hour.
_MAX_WALKED = 8 << 20
_AMR_SIZES = {
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1),
}
_PACK, _END = b"\0\0\x01\xba", b"\0\0\x01\xb9"


def ends_within_a_frame(file: AudioFile, container: str) -> bool:
    """Whether the last frame of MPEG audio, AAC, AC-3 or DTS is incomplete.

    The tag of an mp3 says how many bytes there are, which `cut_offs` compares; only others are examined.
    """
    if container == "mp3" and mp3_facts(file) is not None:
        return False
    length = FRAME_LENGTHS[container]
    tail, place = _tail(file), 0
    while place < len(tail):
        end = _chain_end(tail, place, length)
        if end is None:
            place += 1
        elif end > len(tail):
            return True
        elif len(tail) - end < _HEADER:
            # Nothing is left, or something that is too short for a header, or for a tag.
            rest = tail[end:]
            return bool(rest) and rest[:2] == tail[place : place + len(rest[:2])]
        else:
            place = end + 1
    return False


def _chain_end(tail: bytes, start: int, length: Callable[[bytes], int]) -> int | None:
    """Where the last frame of a chain from `start` on ends; None where no chain begins there."""
    place, frames = start, 0
    while place < len(tail) and (size := length(tail[place : place + _HEADER])):
        place += size
        frames += 1
    return place if frames >= _FRAMES else None


def ends_within_a_packet(file: AudioFile) -> bool:
    """Whether a transport stream ends with a part of a packet."""
    tail = _tail(file)
    for size in (188, 192, 204):
        for start in range(min(size, len(tail))):
            marks = tail[start::size]
            if len(marks) >= _PACKETS and marks.count(0x47) == len(marks):
                # The time stamp of 192 bytes is in front of the mark.
                begin = start - 4 if size == 192 else start
                return (len(tail) - begin) % size != 0
    return False


def ends_within_a_pack(file: AudioFile) -> bool:
    """Whether the last packet of a program stream is longer than what is left of the file."""
    tail = _tail(file)
    place = tail.rfind(_PACK)
    if place < 0 or tail[-4:] == _END:
        return False
    # An MPEG-2 pack has 14 bytes and stuffing, an MPEG-1 pack 12.
    head = tail[place + 4 : place + 14]
    if len(head) < 10:
        return True
    place += 14 + (head[9] & 7) if head[0] >> 6 == 1 else 12
    while place + 4 <= len(tail):
        if tail[place : place + 3] != b"\0\0\x01":
            return False
        if tail[place + 3] == 0xB9:
            return False
        if place + 6 > len(tail):
            return True
        size = int.from_bytes(tail[place + 4 : place + 6], "big")
        if not size:
            return False
        place += 6 + size
    return place > len(tail)


def ends_within_an_amr_frame(file: AudioFile) -> bool:
    """Whether the last frame of an AMR file is incomplete."""
    file.seek(0)
    head: bytes = file.read(9) or b""
    magic = next((one for one in _AMR_SIZES if head.startswith(one)), None)
    if magic is None or file.size > _MAX_WALKED:
        return False
    sizes, place = _AMR_SIZES[magic], len(magic)
    file.seek(place)
    data: bytes = file.read(file.size) or b""
    end, place = len(data), 0
    while place < end:
        size = sizes[data[place] >> 3 & 15]
        if not size or data[place] & 0x83:
            # No frame: another file, or damage.
            return False
        place += size
    return place > end


def _tail(file: AudioFile) -> bytes:
    file.seek(max(0, file.size - _TAIL))
    return file.read(_TAIL) or b""
