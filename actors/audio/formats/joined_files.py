"""Where a film or a recording ends by its own header, and another file begins behind it.

Players and ffmpeg stop at the end that the header of the first file says, and never see the next one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from actors.audio.files.audio_file import AudioFile
from actors.audio.formats.elementary import FRAME_LENGTHS
from actors.audio.header_facts import mp3_facts
from actors.audio.structure.views import Extent, join_pieces, read_at

# What the next file can begin with; the headers of frames are left out, which other bytes look like.
_BEGINNING = re.compile(
    rb"RIFF[\x00-\xff]{4}(?:AVI |WAVE)|FORM[\x00-\xff]{4}AIF[FC]|OggS\x00\x02|fLaC[\x00\x80]\0\0\x22|#!AMR|"
    rb"TTA1|wvpk|FLV\x01[\x00-\x05]\0\0\0\x09|\x30\x26\xb2\x75\x8e\x66\xcf\x11|\x1a\x45\xdf\xa3|"
    rb"Creative Voice File|[\x00-\xff]{4}ftyp|ID3[\x02-\x04]\x00|caff\x00\x01|riff\x2e\x91\xcf\x11|"
    rb"\.snd\0\0|\.RMF\0|MAC |nut/multimedia"
)
# Bytes of zeros, and tags, between two files.
_MAX_PADDING = 64 << 10
_MAX_TAGS = 8
# Bytes of two frames of MPEG audio at most.
_TWO_FRAMES = 4096
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SEARCHED = 64 << 10
_MAX_BLOCKS = 65_536
# Samples of a frame of TTA, in the fraction of its rate.
_TTA_SAMPLES, _TTA_RATE = 256, 245
# Where the sizes of the blocks of a Creative Voice file begin.
_VOC_HEADER = 20


def next_file(file: AudioFile, start: int) -> int | None:
    """Where the next file begins behind the one that begins at `start`.

    Args:
        file: the file.
        start: beginning of a file whose header says where it ends.

    Returns:
        None where it does not say, nothing follows, or what follows is none that is known.

    Raises:
        RetryableError: reading failed.
    """
    head = read_at(file, start, 32)
    end = next((found(file, start) for magic, found in _ENDS if magic.match(head)), None)
    if end is None or not start < end < file.size - 8:
        return None
    end = _behind_tags(file, end)
    data = read_at(file, end, _MAX_PADDING + _TWO_FRAMES)
    zeros = len(data) - len(data.lstrip(b"\0"))
    # The size of the first box of an mp4 begins with zeros.
    for place in (0, *(zeros - back for back in (0, 2, 3) if zeros >= back)):
        rest = data[place : place + _TWO_FRAMES]
        if _BEGINNING.match(rest) or (rest[:1] == b"\xff" and _begins_with_mp3(rest)):
            return end + place
    return None


def _behind_tags(file: AudioFile, place: int) -> int:
    """Where the tags end that belong to the file in front of `place`: ID3 of version 1, and APE."""
    for _ in range(_MAX_TAGS):
        head = read_at(file, place, 32)
        if head[:3] == b"TAG":
            place += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32 and head[23] & 0x20:
            place += 32 + int.from_bytes(head[12:16], "little")
        else:
            break
    return place


def _begins_with_mp3(data: bytes) -> bool:
    """Whether two frames of MPEG audio follow each other."""
    length = FRAME_LENGTHS["mp3"]
    size = length(data[:16])
    return bool(size and length(data[size : size + 16]))


def _avi_end(file: AudioFile, start: int) -> int | None:
    """Behind the last of the RIFFs that a large film consists of."""
    place = start
    for number in range(_MAX_BLOCKS):
        head = read_at(file, place, 12)
        if head[:4] != b"RIFF" or (head[8:12] == b"AVI ") != (number == 0):
            break
        size = int.from_bytes(head[4:8], "little")
        if not size:
            return None
        place += 8 + size + size % 2
    return place


def _asf_end(file: AudioFile, start: int) -> int | None:
    head = read_at(file, start, _SEARCHED)
    place = head.find(_ASF_FILE_PROPERTIES)
    if place < 0 or len(head) < place + 92 or head[place + 88] & 1:
        return None
    return start + int.from_bytes(head[place + 40 : place + 48], "little")


def _flv_end(file: AudioFile, start: int) -> int | None:
    head = read_at(file, start, 4096)
    place = head.find(b"filesize\0")
    if place < 0 or len(head) < place + 17:
        return None
    (size,) = struct.unpack(">d", head[place + 9 : place + 17])
    return start + int(size) if 0 < size < 2**62 else None


def _tta_end(file: AudioFile, start: int) -> int | None:
    """By the table of the sizes of all frames."""
    head = read_at(file, start, 22)
    if len(head) < 22:
        return None
    rate, samples = struct.unpack("<II", head[10:18])
    frame = rate * _TTA_SAMPLES // _TTA_RATE
    count = -(-samples // frame) if frame else 0
    table = read_at(file, start + 22, 4 * count)
    if not count or len(table) < 4 * count:
        return None
    return start + 22 + 4 * count + 4 + sum(struct.unpack(f"<{count}I", table))


def _voc_end(file: AudioFile, start: int) -> int | None:
    place = start + int.from_bytes(read_at(file, start + _VOC_HEADER, 2), "little")
    for _ in range(_MAX_BLOCKS):
        head = read_at(file, place, 4)
        if not head:
            return None
        if not head[0]:
            return place + 1
        place += 4 + int.from_bytes(head[1:], "little")
    return None


def _mp3_end(file: AudioFile, start: int) -> int | None:
    facts = mp3_facts(join_pieces(file, [Extent(start, file.size)]))
    return start + facts.start + facts.size if facts is not None and facts.size else None


_ENDS: tuple[tuple[re.Pattern[bytes], Callable[[AudioFile, int], int | None]], ...] = (
    (re.compile(rb"RIFF[\x00-\xff]{4}AVI "), _avi_end),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), _asf_end),
    (re.compile(rb"FLV\x01"), _flv_end),
    (re.compile(rb"TTA1"), _tta_end),
    (re.compile(rb"Creative Voice File"), _voc_end),
    (re.compile(rb"ID3|\xff[\xe2-\xff]"), _mp3_end),
)
