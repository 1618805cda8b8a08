"""Samples without a header, which a manifest describes: columns `format`, `sampling_rate`, `channels`.

They are read as a view with a header in front: WAVE for little-endian samples, AU for the others.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from actors.audio.files.audio_file import AudioFile
from actors.audio.formats.signatures import is_recording
from actors.audio.structure.views import Extent, join_pieces

# Encodings by their names in ffmpeg, without `pcm_`: tag and bits of a WAVE header.
_WAVE = {
    "u8": (1, 8), "s16le": (1, 16), "s24le": (1, 24), "s32le": (1, 32), "f32le": (3, 32), "f64le": (3, 64),
    "alaw": (6, 8), "mulaw": (7, 8),
}  # fmt: skip
# Encoding of an AU header, and bytes of a sample.
_AU = {"s8": (2, 1), "s16be": (3, 2), "s24be": (4, 3), "s32be": (5, 4), "f32be": (6, 4), "f64be": (7, 8)}
_OTHER_NAMES = {
    "s16": "s16le",
    "s24": "s24le",
    "s32": "s32le",
    "f32": "f32le",
    "f64": "f64le",
    "ulaw": "mulaw",
}
_LARGEST_WAVE = (1 << 32) - 4096


def raw_format(encoding: Any, sampling_rate: Any, channels: Any) -> str | None:
    """What a PLAN row says about samples without a header; None where the columns describe something else.

    Args:
        encoding: such as s16le or pcm_s16le; other formats of a file (wav, mp3) are none of samples.
        sampling_rate: in Hz.
        channels: their number.

    Returns:
        `ENCODING:HZ:CHANNELS`.
    """
    name = str(encoding).strip().lower().removeprefix("pcm_")
    name = _OTHER_NAMES.get(name, name)
    try:
        rate, count = int(float(sampling_rate)), int(float(channels))
    except (TypeError, ValueError, OverflowError):
        return None
    if name not in _WAVE | _AU or not 1_000 <= rate <= 768_000 or not 1 <= count <= 64:
        return None
    return f"{name}:{rate}:{count}"


def frame_bytes(description: str) -> int:
    """Bytes of a sample of all channels, of samples with this `raw_format`."""
    name, _, channels = description.split(":")
    return (_WAVE[name][1] // 8 if name in _WAVE else _AU[name][1]) * int(channels)


def with_header(file: AudioFile, description: str | None) -> AudioFile:
    """The file with a header in front, where it has none and `description` is that of its samples."""
    found = re.fullmatch(r"(\w+):(\d+):(\d+)", description or "")
    if found is None or is_recording(file):
        return file
    name, rate, channels = found[1], int(found[2]), int(found[3])
    if name in _WAVE:
        tag, bits = _WAVE[name]
        frame = channels * bits // 8
        size = file.size // frame * frame
        if size > _LARGEST_WAVE:
            header = _w64_header(tag, channels, rate, bits, size)
        else:
            layout = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
            header = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<I", 16) + layout
            header += b"data" + struct.pack("<I", size)
    else:
        encoding, width = _AU[name]
        size = file.size // (channels * width) * channels * width
        header = b".snd" + struct.pack(">IIIII", 24, min(size, 0xFFFF_FFFF), encoding, rate, channels)
    return join_pieces(file, [header, Extent(0, size)])


def _w64_header(tag: int, channels: int, rate: int, bits: int, size: int) -> bytes:
    tail = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    frame = channels * bits // 8
    layout = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    body = b"wave" + tail + b"fmt " + tail + struct.pack("<Q", 40) + layout
    body += b"data" + tail + struct.pack("<Q", 24 + size)
    return bytes.fromhex("726966662e91cf11a5d628db04c10000") + struct.pack("<Q", 24 + len(body) + size) + body
