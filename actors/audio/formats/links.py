"""Where the files begin that one file consists of: Ogg, FLAC, Matroska, MP4, WavPack and others, appended.

Such a chain is legal Ogg, and what `cat` makes of the others. ffmpeg reads the first link, or all of them as
long as their channels and rates are the same.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from actors.audio.files.audio_file import AudioFile
from actors.audio.formats.joined_files import next_file
from actors.audio.formats.transport_links import transport_links
from actors.audio.structure.views import Extent, read_at

# Bytes up to which a file is searched as a whole. Larger ones are searched where a few places of them show
# that they are chains.
_MAX_SEARCHED = 256 << 20
# The same where only the header is wanted.
_MAX_SEARCHED_BRIEFLY = 256 << 10
_BLOCK = 1 << 20
# Places of a large file that are looked at, briefly or not, and bytes at each.
_FEW_PLACES, _PLACES, _PLACE_BYTES = 4, 64, 64 << 10
_OGG_HEAD, _BEGINS = 27, 2
# Marks of a file's beginning that cannot be in the middle of one, with what must follow.
_MARKS = {
    b"fLaC": re.compile(rb"fLaC[\x00\x80]\0\0\x22(?=[\x00-\xff]{14})"),
    b"\x1a\x45\xdf\xa3": re.compile(
        rb"\x1a\x45\xdf\xa3[\x00-\xff]{1,64}?\x42\x82[\x84-\x88](?:matroska|webm)"
    ),
    b"#!AM": re.compile(rb"#!AMR(?:-WB)?\n"),
    # The first block of a sound: its samples are counted from 0, and it has some.
    b"wvpk": re.compile(
        rb"wvpk[\x00-\xff]{4}[\x00-\xff]\x04\0[\x00-\xff]{5}\0{4}(?!\0{4})[\x00-\xff]{5}"
        rb"[\x08-\x0f\x18-\x1f\x28-\x2f\x38-\x3f\x48-\x4f\x58-\x5f\x68-\x6f\x78-\x7f]"
    ),
}
# Bytes that the longest mark has.
_LONGEST_MARK = 128
_MAX_BOXES = 65_536
# Files that one file consists of at most, where each of them says where it ends.
_MAX_FILES = 4096


def find_links(file: AudioFile, briefly: bool = False) -> list[Extent]:
    """The files that `file` consists of; a single one where it is no chain.

    Args:
        file: the file.
        briefly: read a few places of a larger file only, which finds chains of links of about equal length.

    Raises:
        RetryableError: reading failed.
    """
    head = read_at(file, 0, 12)
    if head[:4] == b"OggS":
        starts = _ogg_links(file, briefly)
    elif head[4:8] == b"ftyp":
        starts = _mp4_links(file)
    elif head[:4] in _MARKS:
        starts = _marked_links(file, head[:4], briefly)
    elif 0x47 in (head[:1] + head[4:5]):
        starts = transport_links(file)
    else:
        starts = [0]
        while len(starts) < _MAX_FILES and (start := next_file(file, starts[-1])) is not None:
            starts.append(start)
    return [
        Extent(start, end) for start, end in zip(starts, [*starts[1:], file.size], strict=True) if end > start
    ]


def _ogg_links(file: AudioFile, briefly: bool) -> list[int]:
    if file.size > _limit(briefly) and not _ogg_restarts(file, briefly):
        return [0]
    starts, has_data = [0], False
    for place, head in _ogg_pages(file):
        # All streams of a link begin before any of them continues.
        if head[5] & _BEGINS and has_data:
            starts.append(place)
        has_data = not head[5] & _BEGINS
    return starts


def _ogg_pages(file: AudioFile) -> Iterator[tuple[int, bytes]]:
    """Place and header of every page."""
    place = 0
    while place < file.size:
        head = read_at(file, place, _OGG_HEAD + 255)
        if len(head) < _OGG_HEAD:
            return
        if head[:5] == b"OggS\0":
            yield place, head
            place += _OGG_HEAD + head[26] + sum(head[_OGG_HEAD : _OGG_HEAD + head[26]])
            continue
        # Damage, or bytes between two links.
        data = read_at(file, place + 1, _BLOCK)
        found = data.find(b"OggS\0")
        place += 1 + (found if found >= 0 else max(1, len(data) - 4))


def _ogg_restarts(file: AudioFile, briefly: bool) -> bool:
    """Whether a stream of a large file has not the number of its beginning, or counts its pages again."""
    first, last = set(), -1
    for _, head in _ogg_pages(file):
        if not head[5] & _BEGINS:
            break
        first.add(head[14:18])
    for data in _samples_of(file, briefly):
        place = data.find(b"OggS\0")
        if 0 <= place <= len(data) - _OGG_HEAD:
            serial, number = (
                data[place + 14 : place + 18],
                int.from_bytes(data[place + 18 : place + 22], "little"),
            )
            if serial not in first or (len(first) == 1 and number < last):
                return True
            last = number
    return False


def _limit(briefly: bool) -> int:
    return _MAX_SEARCHED_BRIEFLY if briefly else _MAX_SEARCHED


def _marked_links(file: AudioFile, magic: bytes, briefly: bool) -> list[int]:
    if file.size > _limit(briefly):
        if magic == b"\x1a\x45\xdf\xa3":
            return _matroska_links(file)
        if magic == b"fLaC" and not _flac_restarts(file, briefly):
            return [0]
        if magic == b"wvpk" and not _wavpack_restarts(file, briefly):
            return [0]
    starts, place = [0], 0
    while place < file.size:
        data = read_at(file, place, _BLOCK + _LONGEST_MARK)
        for found in _MARKS[magic].finditer(data):
            start = place + found.start()
            if found.start() < _BLOCK and start:
                starts.append(start)
        place += _BLOCK
    return starts


def _matroska_links(file: AudioFile) -> list[int]:
    """The links of a large file by the sizes of its segments."""
    starts, place = [], 0
    while read_at(file, place, 4) == b"\x1a\x45\xdf\xa3":
        starts.append(place)
        for _ in range(2):
            head = read_at(file, place, 12)
            length = 9 - head[4].bit_length() if len(head) > 4 and head[4] else 0
            size = int.from_bytes(head[4 : 4 + length], "big") & ((1 << 7 * length) - 1)
            if not length or size == (1 << 7 * length) - 1:
                # A live recording does not know its size.
                return starts
            place += 4 + length + size
    return starts or [0]


def _mp4_links(file: AudioFile) -> list[int]:
    """Each link has a movie of its own."""
    starts, place, has_movie = [0], 0, False
    for _ in range(_MAX_BOXES):
        head = read_at(file, place, 16)
        if len(head) < 8:
            break
        size = int.from_bytes(head[:4], "big")
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:16], "big")
        if head[4:8] == b"ftyp" and place and has_movie:
            starts.append(place)
            has_movie = False
        has_movie = has_movie or head[4:8] == b"moov"
        if size < 8:
            break
        place += size
    if len(starts) > 1 and not has_movie:
        # The beginning of a file that was cut off, or of a fragment.
        starts.pop()
    return starts


def _flac_restarts(file: AudioFile, briefly: bool) -> bool:
    """Whether the frames of a large FLAC file are counted from 0 again."""
    block_size = struct.unpack(">H", read_at(file, 8, 2))[0]
    last = -1
    for data in _samples_of(file, briefly):
        number = _flac_number(data, max(1, block_size))
        if number is not None and number < last:
            return True
        last = last if number is None else number
    return False


def _wavpack_restarts(file: AudioFile, briefly: bool) -> bool:
    """Whether the samples of a large WavPack file are counted from 0 again."""
    last = -1
    for data in _samples_of(file, briefly):
        place = data.find(b"wvpk")
        if 0 <= place <= len(data) - 20:
            number = int.from_bytes(data[place + 16 : place + 20], "little")
            if number < last:
                return True
            last = number
    return False


def first_flac_sample(file: AudioFile) -> int:
    """The number of the first sample of FLAC in Ogg; not 0 where the stream was joined midway."""
    block_size = 1
    for place, head in _ogg_pages(file):
        start = place + _OGG_HEAD + head[26]
        data = read_at(file, start, 64)
        if data[:5] == b"\x7fFLAC":
            block_size = max(1, int.from_bytes(data[21:23], "big"))
        elif data[:1] == b"\xff":
            return (_flac_number(data, block_size) or 0) if not head[5] & 1 else 0
    return 0


def _flac_number(data: bytes, block_size: int) -> int | None:
    """The number of the first sample of the first frame in `data`."""
    for found in re.finditer(rb"\xff[\xf8\xf9]", data):
        head = data[found.start() : found.start() + 16]
        length = 1 if head[4] < 0x80 else 8 - (head[4] ^ 0xFF).bit_length() if len(head) == 16 else 0
        if len(head) < 16 or not 1 <= length <= 7 or head[3] & 1:
            continue
        extra = {6: 1, 7: 2}.get(head[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
        end = 4 + length + extra
        if end < 16 and _crc8(head[:end]) == head[end]:
            value = head[4] if length == 1 else head[4] & ((1 << 7 - length) - 1)
            for byte in head[5 : 4 + length]:
                value = value << 6 | byte & 63
            return value if head[1] & 1 else value * block_size
    return None


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07) & 0xFF if value & 0x80 else value << 1
    return value


def _samples_of(file: AudioFile, briefly: bool) -> Iterator[bytes]:
    places = _FEW_PLACES if briefly else _PLACES
    for number in range(1, places + 1):
        place = min(file.size * number // places, file.size - _PLACE_BYTES)
        yield read_at(file, max(0, place), _PLACE_BYTES)
