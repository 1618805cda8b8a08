"""What lies behind the samples that a header describes: more sound, another file, metadata, or nothing."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from actors.audio.sources import AudioFile
from actors.audio.structure.chunks import (
    Grammar,
    find_metadata,
    is_metadata,
    next_chunk,
    next_places,
    read_chunk,
    walk_chunks,
)
from actors.audio.structure.sample_formats import SampleFormat
from actors.audio.structure.views import read_at

Remainder = Literal["nothing", "file", "sound", "unknown"]

# Beginnings of files whose samples this package finds: RIFF and its relatives, AIFF, W64, AU and CAF.
_FORM = re.compile(
    rb"(?:RIFF|RIFX|RF64|BW64)[\x00-\xff]{4}WAVE|FORM[\x00-\xff]{4}AIF[FC]|caff\x00\x01|"
    rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00|\.snd\x00\x00[\x00-\xff]{2}[\x00-\xff]{4}\x00\x00\x00"
)
_FORM_BYTES = 16
# Beginnings of other files, which are not read as samples.
_OTHER_FILE = re.compile(
    rb"fLaC|OggS|ID3|PK\x03\x04|%PDF|\x1aE\xdf\xa3|\x30\x26\xb2\x75|wvpk|\x1f\x8b\x08|....ftyp"
)
_TAG = re.compile(rb"TAG|APETAGEX|LYRICSBEGIN")
# Tags behind one another.
_MAX_TAGS = 16
# Seconds of a remainder that is ignored, whatever it is, and its share of what is before it.
_SMALL_SECONDS, _SMALL_SHARE = 0.1, 0.01
# Bytes of a remainder whose zeros are all read; of a longer one, `_PLACES` evenly over it.
_READ_WHOLE = 16 << 20
# Valid chunks in a row that no samples look like.
_ENOUGH_CHUNKS = 8
_PLACES = 60
_BLOCK = 64 << 10
# Bytes at the end of a file in which metadata is searched, where no header says where the sound ends.
_SEARCHED = 1 << 20
# Bytes in which the beginning of a file is searched behind samples that the header does not have.
_SEARCHED_FOR_FILES = 64 << 20
# Share of printable characters from which bytes are a text.
_TEXT = 0.95
# Bytes that are no samples: their level is high, and neighbours have nothing to do with each
# other.
_NOISE_LEVEL, _NOISE_CORRELATION = 0.25, 0.3
_PRINTABLE = np.array(
    [(chr(byte).isprintable() and byte < 128) or byte in (9, 10, 13) for byte in range(256)]
)


def is_form(head: bytes) -> bool:
    """Whether a file begins with `head` that this package finds the samples of."""
    return _FORM.match(head) is not None


def leads_to_end(file: AudioFile, place: int, grammar: Grammar | None, origin: int) -> bool:
    """Whether valid chunks or another file begin at `place`, so that the samples of this chunk end there."""
    if file.size - place < 8 or _has_form(file, place, grammar, origin):
        return True
    if grammar is None:
        return False
    end, known = place, False
    for count, chunk in enumerate(walk_chunks(file, place, grammar, origin), 1):
        named = chunk.name in (b"data", b"SSND", b"fmt ") or is_metadata(file, chunk, grammar)
        known |= named
        if chunk.end > file.size:
            return named
        end = chunk.end
        if (known and count >= _ENOUGH_CHUNKS) or _has_form(file, end, grammar, origin):
            return True
    return end > place and (known or file.size - end < 8)


def _has_form(file: AudioFile, end: int, grammar: Grammar | None, origin: int) -> bool:
    places = next_places(end, grammar, origin) if grammar else [end]
    return any(is_form(read_at(file, place, _FORM_BYTES)) for place in places)


def metadata_start(file: AudioFile, start: int, grammar: Grammar | None, origin: int) -> int:
    """Where the metadata at the end of the file begins; the size of a file without any."""
    first = max(start, file.size - _SEARCHED)
    tail = read_at(file, first, _SEARCHED)
    for place in find_metadata(tail, grammar) if grammar else ():
        end = first + place
        chunk = read_chunk(file, end, grammar) if grammar else None
        while chunk is not None and chunk.end <= file.size:
            end = chunk.end
            chunk = next_chunk(file, end, grammar, origin) if grammar else None
        if file.size - end < 8:
            return first + place
    for size in (128, 227 + 128):
        if tail[-size : 3 - size] == b"TAG":
            return max(start, file.size - size)
    return file.size


def find_form(file: AudioFile, start: int) -> int | None:
    """Where the next file begins behind `start`; None where none does."""
    place = start
    while place < min(file.size, start + _SEARCHED_FOR_FILES):
        data = read_at(file, place, (1 << 20) + _FORM_BYTES)
        found = _FORM.search(data)
        if found:
            return place + found.start()
        place += 1 << 20
    return None


def classify(
    file: AudioFile, place: int, fmt: SampleFormat | None, start: int, tags: int = 0
) -> tuple[Remainder, int]:
    """What the bytes from `place` to the end of the file are.

    Args:
        file: the file.
        place: behind the last thing that was understood.
        fmt: of the samples before it.
        start: where these samples begin.
        tags: how many tags are in front of `place`.

    Returns:
        The kind, and where it begins, behind zeros and tags.
    """
    size = file.size - place
    head = read_at(file, place, _BLOCK)
    zeros = len(head) - len(head.lstrip(b"\0"))
    if zeros == len(head) and _is_zero(file, place):
        return "nothing", place
    if head[:3] == b"ID3" and len(head) >= 10:
        tag = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
        if place + tag >= file.size:
            return "nothing", place
        if is_form(read_at(file, place + tag, _FORM_BYTES)):
            return "file", place + tag
    if is_form(head[zeros:]):
        return "file", place + zeros
    small = min(_SMALL_SECONDS * (fmt.byte_rate if fmt else 0.0), _SMALL_SHARE * (place - start))
    if size <= max(64, small):
        return "nothing", place
    if tag := _tag_bytes(head[zeros:]):
        if place + zeros + tag >= file.size:
            return "nothing", place
        if tags == _MAX_TAGS:
            return "unknown", place
        # Samples do not go on behind a tag, but another file may begin there.
        kind, found = classify(file, place + zeros + tag, fmt, start, tags + 1)
        return ("unknown" if kind == "sound" else kind), found
    if _is_text(head):
        return "nothing", place
    if _OTHER_FILE.match(head[zeros:]):
        return "unknown", place
    return ("sound" if _is_sound(file, place, fmt, start) else "unknown"), place


def _tag_bytes(head: bytes) -> int:
    """Bytes of a tag for readers of mp3 at the beginning of `head`; 0 where there is none."""
    found = _TAG.match(head)
    if found is None:
        return 0
    if found[0] == b"TAG":
        return 128
    if found[0] == b"APETAGEX" and len(head) >= 32:
        # The size does not count the header; a footer alone has none behind it.
        size = int.from_bytes(head[12:16], "little")
        return 32 + size if int.from_bytes(head[20:24], "little") & 0x2000_0000 else 32
    ends = [head.find(mark) + len(mark) for mark in (b"LYRICSEND", b"LYRICS200") if mark in head]
    return min(ends, default=len(head))


def is_text_file(file: AudioFile, place: int) -> bool:
    """Whether what is at `place` is a text."""
    return _is_text(read_at(file, place, _BLOCK))


def _is_text(data: bytes) -> bool:
    # Digital silence of A-law is the letter U.
    return len(set(data[:4096])) >= 10 and float(_PRINTABLE[np.frombuffer(data, np.uint8)].mean()) > _TEXT


def _is_zero(file: AudioFile, place: int) -> bool:
    if file.size - place <= _READ_WHOLE:
        places = range(place, file.size, 1 << 20)
        return all(not any(read_at(file, start, 1 << 20).lstrip(b"\0")) for start in places)
    step = (file.size - place) // _PLACES
    return all(not read_at(file, start, 4096).lstrip(b"\0") for start in range(place, file.size, step))


def _is_sound(file: AudioFile, place: int, fmt: SampleFormat | None, start: int) -> bool:
    """Whether bytes are samples of this format; where it is not known, they count as samples."""
    if fmt is None or not fmt.codec or not fmt.frame_bytes:
        # Compressed blocks look like noise. Their own decoder says what they are.
        return True
    noise = voiced = 0
    first = place + -(place - start) % fmt.frame_bytes
    for number in range(8):
        begin = first + (file.size - first) * number // 8 // fmt.frame_bytes * fmt.frame_bytes
        samples = to_floats(read_at(file, begin, 1024 * fmt.frame_bytes), fmt)[:, 0]
        if len(samples) < 64 or not samples.any():
            continue
        voiced += 1
        noise += _is_noise(samples)
    return 2 * noise <= voiced


def _is_noise(samples: np.ndarray) -> bool:
    if not np.isfinite(samples).all() or np.abs(samples).max() > 2.0**40:
        return True
    level = float(np.sqrt(np.mean(samples**2)))
    correlation = float(np.mean(samples[1:] * samples[:-1])) / max(level**2, 1e-30)
    return level > _NOISE_LEVEL and abs(correlation) < _NOISE_CORRELATION


def to_floats(data: bytes, fmt: SampleFormat) -> np.ndarray:
    """Samples as float64 of shape (samples, channels); those of companded formats only in their shape."""
    data = data[: len(data) // fmt.frame_bytes * fmt.frame_bytes]
    order = ">" if fmt.codec.endswith("be") else "<"
    if fmt.codec.startswith("pcm_f"):
        with np.errstate(all="ignore"):
            samples = np.frombuffer(data, f"{order}f{fmt.width}").astype(np.float64)
    elif fmt.codec == "pcm_u8":
        samples = (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    elif fmt.codec in ("pcm_alaw", "pcm_mulaw"):
        codes = np.frombuffer(data, np.uint8) ^ (0x55 if fmt.codec == "pcm_alaw" else 0xFF)
        size = 2.0 ** ((codes >> 4 & 7).astype(np.float64) - 8) * (1 + (codes & 15) / 16)
        samples = np.where(codes & 128, size, -size)
    elif fmt.width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, slice(1, 4) if order == "<" else slice(0, 3)] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        samples = wide.reshape(-1).view(f"{order}i4") / 2.0**31
    else:
        samples = np.frombuffer(data, f"{order}i{fmt.width}") / 2.0 ** (8 * fmt.width - 1)
    return samples.reshape(-1, fmt.channels)
