"""Whether a file was cut off by a broken transfer, by what the file itself says.

The size of a container, its index or the mark of its end is compared with what is there. Only formats that
say something are examined; `actors.decoder` compares durations of headers besides. Streams whose writer could
not know their length say nothing, except that an Ogg stream has a page that is marked as its last, and that
the last frame of others is shorter than its header says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

from actors.audio.formats.elementary import FRAME_LENGTHS
from actors.audio.formats.stream_ends import (
    ends_within_a_frame,
    ends_within_a_pack,
    ends_within_a_packet,
    ends_within_an_amr_frame,
)
from actors.audio.header_facts import mp3_facts
from actors.audio.sources import AudioFile
from actors.audio.structure.views import read_at

# Formats whose duration, as ffmpeg computes it, may be longer than the sound of a healthy file.
COARSE_DURATIONS = frozenset({"avi", "gxf"})
# Boxes of an mp4 that are looked at; more of them are fragments of a live stream.
_MAX_BOXES = 4096
# Bytes that no page of an Ogg file exceeds.
_MAX_OGG_PAGE = 65_307
# Writers of Ogg that never mark a last page: Firefox's MediaRecorder.
_UNMARKED = b"ENCODER=Mozilla"
# Bytes by which the size in an mp3's tag may be wrong: about two frames; or this share of it.
_MP3_TOLERANCE, _MP3_SHARE = 2048, 0.01
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_NUT_INDEX = b"NX\xdd\x67\x2f\x23\xe6\x4e"
# Bytes at the beginning or end of a file in which a mark is searched.
_SEARCHED = 64 << 10


def is_cut_off(file: AudioFile, container: str) -> bool:
    """Whether a file ends before its own container says.

    Args:
        file: the file.
        container: ffmpeg's name of its format.

    Raises:
        RetryableError: reading failed.
    """
    if container in FRAME_LENGTHS and ends_within_a_frame(file, container):
        return True
    check = _CHECKS.get(container)
    return check is not None and check(file)


def _ogg(file: AudioFile) -> bool:
    """Whether the last page is incomplete or not marked as the last of its stream."""
    start = max(0, file.size - 2 * _MAX_OGG_PAGE)
    tail = read_at(file, start, 2 * _MAX_OGG_PAGE)
    place = tail.rfind(b"OggS\0")
    while place >= 0:
        head = tail[place : place + 27]
        if len(head) < 27:
            return True
        segments = tail[place + 27 : place + 27 + head[26]]
        if len(segments) < head[26] or place + 27 + len(segments) + sum(segments) > len(tail):
            return True
        return not head[5] & 4 and _UNMARKED not in read_at(file, 0, 4096)
    return False


def _matroska(file: AudioFile) -> bool:
    """Whether the segment is larger than the file."""
    head = read_at(file, 0, 4096)
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return False
    size, length = _variable_size(head, 4)
    place = 4 + length + (size or 0)
    if size is None or head[place : place + 4] != b"\x18\x53\x80\x67":
        return False
    size, length = _variable_size(head, place + 4)
    return size is not None and place + 4 + length + size > file.size


def _variable_size(data: bytes, place: int) -> tuple[int | None, int]:
    """A size of EBML and its own bytes; None for an unknown size."""
    if place >= len(data) or not data[place]:
        return None, 1
    length = 9 - data[place].bit_length()
    mask = (1 << 7 * length) - 1
    value = int.from_bytes(data[place : place + length], "big") & mask
    return (None if value == mask else value), length


def _mp4(file: AudioFile) -> bool:
    """Whether a box at the top is larger than what is left of the file."""
    place = 0
    for _ in range(_MAX_BOXES):
        head = read_at(file, place, 16)
        if len(head) < 8:
            # Less than a header: the beginning of a box, or zeros behind the last one.
            return any(head)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size == 0 or not head[4:8].isalnum():
            return False
        if place + size > file.size:
            return True
        place += max(8, size)
        if place == file.size:
            return False
    return False


def _asf(file: AudioFile) -> bool:
    """Whether the file is smaller than its header says."""
    head = read_at(file, 0, _SEARCHED)
    place = head.find(_ASF_FILE_PROPERTIES)
    if place < 0 or len(head) < place + 92:
        return False
    size = int.from_bytes(head[place + 40 : place + 48], "little")
    is_broadcast = int.from_bytes(head[place + 88 : place + 92], "little") & 1
    return not is_broadcast and file.size < size


def _avi(file: AudioFile) -> bool:
    """Whether a RIFF chunk, of which OpenDML has several, is larger than what is left of the file."""
    place = 0
    while place < file.size:
        head = read_at(file, place, 12)
        if head[:4] != b"RIFF" or len(head) < 12:
            return False
        size = int.from_bytes(head[4:8], "little")
        if size in (0, 0xFFFF_FFFF):
            return False
        place += 8 + size + size % 2
    # Some writers forget the padding.
    return place > file.size + 1


def _flv(file: AudioFile) -> bool:
    """Whether the file is smaller than its first tag says, or does not end with the size of its last tag."""
    head = read_at(file, 0, 4096)
    place = head.find(b"filesize\0")
    if place >= 0 and len(head) >= place + 17:
        (size,) = struct.unpack(">d", head[place + 9 : place + 17])
        if size > file.size:
            return True
    last = int.from_bytes(read_at(file, max(0, file.size - 4), 4), "big")
    tag = read_at(file, file.size - 4 - last, 4) if 11 < last < file.size - 4 else b""
    return len(tag) < 4 or int.from_bytes(tag[1:4], "big") + 11 != last


def _mp3(file: AudioFile) -> bool:
    """Whether the file is smaller than the tag in its first frame says."""
    facts = mp3_facts(file)
    if facts is None or not facts.size:
        return False
    return file.size - facts.start < facts.size - max(_MP3_TOLERANCE, _MP3_SHARE * facts.size)


def _nut(file: AudioFile) -> bool:
    """Whether the index is missing at the end."""
    return _NUT_INDEX not in read_at(file, max(0, file.size - _SEARCHED), _SEARCHED)


def _voc(file: AudioFile) -> bool:
    """Whether a block is larger than what is left of the file."""
    place = int.from_bytes(read_at(file, 20, 2), "little")
    for _ in range(_MAX_BOXES):
        head = read_at(file, place, 4)
        if len(head) < 4 or not head[0]:
            return False
        place += 4 + int.from_bytes(head[1:], "little")
        if place > file.size:
            return True
    return False


def _sox(file: AudioFile) -> bool:
    """Whether there are fewer samples, of 32 bits, than the header says."""
    head = read_at(file, 0, 16)
    order: Literal["little", "big"] = "little" if head[:4] == b".SoX" else "big"
    size, samples = int.from_bytes(head[4:8], order), int.from_bytes(head[8:16], order)
    return file.size < size + 4 + 4 * samples <= 2**62


_CHECKS: dict[str, Callable[[AudioFile], bool]] = {
    "ogg": _ogg,
    "matroska,webm": _matroska,
    "mov,mp4,m4a,3gp,3g2,mj2": _mp4,
    "asf": _asf,
    "avi": _avi,
    "flv": _flv,
    "mp3": _mp3,
    "nut": _nut,
    "voc": _voc,
    "sox": _sox,
    "mpegts": ends_within_a_packet,
    "mpeg": ends_within_a_pack,
    "amr": ends_within_an_amr_frame,
}
