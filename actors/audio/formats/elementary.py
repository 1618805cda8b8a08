"""Whether the frames of a format without a header begin at the beginning of a file.

mp3, AAC in ADTS, AC-3 and others are nothing but frames. ffmpeg recognises a few of them anywhere in the
first megabyte, also in archives, documents and programs.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.audio.files.audio_file import AudioFile

# Bytes in which the first frames must begin, behind tags and zeros: longer than the rest of any frame that a
# recording may begin with.
_NEAR = 16 << 10
# The same where the file begins with a tag, whose size may be wrong.
_NEAR_TAG = 1 << 20
# Frames that must follow each other, or all up to the end of a file that has less.
_FRAMES = 3
# Tags in front of one file, and bytes of zeros behind them.
_MAX_TAGS, _MAX_ZEROS = 64, 1 << 20
# Bytes read at a time.
_BLOCK = 64 << 10
_BIT_RATES = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def begins_with_frames(file: AudioFile, container: str) -> bool:
    """Whether valid frames begin near the start of the file; True for a format that has a header.

    Args:
        file: the file.
        container: ffmpeg's name of its format.
    """
    length = _LENGTHS.get(container)
    marks = _MARKS.get(container)
    if container in _PERIODS:
        file.seek(0)
        head: bytes = file.read(_NEAR) or b""
        sizes, mask, mark, packets = _PERIODS[container]
        # A stream may begin in the middle of something that is no packet.
        places = (
            [place for place in range(len(head)) if head[place] & mask == mark]
            if container == "mpegts"
            else [0]
        )
        return any(_has_period(head[place:], sizes, mask, mark, packets) for place in places)
    if length is None and marks is None:
        return True
    start, tagged = _behind_tags(file)
    for near in (_NEAR, _NEAR_TAG) if tagged else (_NEAR,):
        file.seek(start)
        data: bytes = file.read(near + _BLOCK) or b""
        if marks is not None and any(mark in data[:near] for mark in marks):
            return True
        starts = range(min(near, len(data)))
        if length is not None and any(_chain(data, one, length) for one in starts if _may_begin(data, one)):
            return True
    return False


def _behind_tags(file: AudioFile) -> tuple[int, bool]:
    """Where the file begins behind its ID3 and APE tags and zeros, and whether it has tags."""
    place = 0
    for _ in range(_MAX_TAGS):
        file.seek(place)
        head: bytes = file.read(32) or b""
        if head[:3] == b"ID3" and len(head) >= 10:
            footer = 10 if head[5] & 0x10 else 0
            size = 10 + footer + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            size = int.from_bytes(head[12:16], "little") + (32 if head[23] & 0x80 else 0)
        else:
            break
        if place + size >= file.size:
            break
        place += size
    file.seek(place)
    zeros = 0
    while zeros < _MAX_ZEROS and (data := file.read(_BLOCK)):
        rest = data.lstrip(b"\0")
        zeros += len(data) - len(rest)
        if rest:
            break
    return place + zeros, place > 0


def _may_begin(data: bytes, place: int) -> bool:
    return data[place] in (0xFF, 0x0B, 0x77, 0x56, 0x47) or data[place] & 0xF0 == 0xD0


def _chain(data: bytes, place: int, length: Callable[[bytes], int]) -> bool:
    """Whether frames follow each other from `place` on."""
    for number in range(_FRAMES):
        size = length(data[place : place + 16])
        if not size:
            return False
        place += size
        # The rest of the last frame may be missing.
        if place >= len(data) - 16 and number:
            return True
    return True


def _mpeg_audio(head: bytes) -> int:
    """Bytes of the frame of MPEG audio, layer I to III, with this header; 0 where it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer, rate_bits = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 2 & 3
    bits = head[2] >> 4
    if version == 1 or layer == 0 or rate_bits == 3 or not 0 < bits < 15:
        return 0
    table = _BIT_RATES[3, layer] if version == 3 else _BIT_RATES[2, 3 if layer == 3 else 2]
    kbits, rate, padding = table[bits - 1], _RATES[version][rate_bits], head[2] >> 1 & 1
    if layer == 3:
        return (12_000 * kbits // rate + padding) * 4
    return (72_000 if layer == 1 and version != 3 else 144_000) * kbits // rate + padding


def _adts(head: bytes) -> int:
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 else 0


def _loas(head: bytes) -> int:
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return 0
    return ((head[1] & 0x1F) << 8 | head[2]) + 3


def _ac3(head: bytes) -> int:
    if len(head) < 6:
        return 0
    if head[:2] == b"\x77\x0b":
        head = b"".join(head[number : number + 2][::-1] for number in range(0, 8, 2))
    if head[:2] != b"\x0b\x77":
        return 0
    if 10 < head[5] >> 3 <= 16:
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code > 37 or head[5] >> 3 > 10:
        return 0
    kbits = _AC3_KBITS[code >> 1]
    return 2 * (kbits * 96_000 // 48_000, kbits * 96_000 // 44_100 + (code & 1), kbits * 3)[rate]


def _dts(head: bytes) -> int:
    # Samples in words of 16 bits, the most significant byte first, as in files of their own.
    if len(head) < 8 or head[:4] != b"\x7f\xfe\x80\x01":
        return 0
    return ((head[5] & 3) << 12 | head[6] << 4 | head[7] >> 4) + 1


def _has_period(data: bytes, sizes: tuple[int, ...], mask: int, mark: int, packets: int) -> bool:
    """Whether every so many bytes there is a byte that has `mark` in the bits of `mask`."""
    for size in sizes:
        for place in range(min(size, len(data))):
            found = data[place : place + packets * size : size]
            if len(found) > 1 and all(byte & mask == mark for byte in found):
                return True
    return False


_LENGTHS: dict[str, Callable[[bytes], int]] = {
    "mp3": _mpeg_audio,
    "aac": _adts,
    "loas": _loas,
    "latm": _loas,
    "ac3": _ac3,
    "eac3": _ac3,
}
# Bytes of a frame by its header, of all formats whose headers say so.
FRAME_LENGTHS: dict[str, Callable[[bytes], int]] = {**_LENGTHS, "dts": _dts}
# Sizes of packets, the bits that mark each of them, and how many are looked at.
_PERIODS: dict[str, tuple[tuple[int, ...], int, int, int]] = {
    "gsm": ((33,), 0xF0, 0xD0, 32),
    "mpegts": ((188, 192, 204), 0xFF, 0x47, 8),
}
_DTS = (
    b"\x7f\xfe\x80\x01",
    b"\xfe\x7f\x01\x80",
    b"\x1f\xff\xe8\x00",
    b"\xff\x1f\x00\xe8",
    b"\x64\x58\x20\x25",
)
_MARKS: dict[str, tuple[bytes, ...]] = {
    "dts": _DTS,
    "truehd": (b"\xf8\x72\x6f\xba",),
    "mlp": (b"\xf8\x72\x6f\xbb",),
    "mpeg": (b"\0\0\x01\xba", b"\0\0\x01\xc0", b"\0\0\x01\xbd", b"\0\0\x01\xbb"),
}
