"""One correct header in front of the samples of a WAVE file that PyAV must decode: ADPCM, GSM, MP3, DTS."""

from __future__ import annotations

import struct

from actors.audio.sources import AudioFile
from actors.audio.structure.layout import Layout
from actors.audio.structure.sample_formats import SampleFormat
from actors.audio.structure.views import Extent, join_pieces


def corrected_wave(file: AudioFile, layout: Layout) -> tuple[AudioFile, int]:
    """A WAVE file with one correct header for samples that PyAV must decode.

    Returns:
        The view, and the number of parts that it has: parts of another format cannot follow.
    """
    first = layout.parts[0]
    assert first.format is not None
    same = [part for part in layout.parts if part.format is not None and part.format.raw == first.format.raw]
    same = same[: next((n for n, part in enumerate(layout.parts) if part not in same), len(same))]
    frame = max(1, first.format.frame_bytes)
    extents = [one for part in same for one in part.extents]
    if len(extents) > 1:
        extents = [Extent(one.start, one.start + (one.end - one.start) // frame * frame) for one in extents]
    size = sum(one.end - one.start for one in extents)
    chunks = _chunk(b"fmt ", _wave_header(first.format))
    if first.fact and len(extents) == 1 and not first.understated and not first.missing:
        chunks += _chunk(b"fact", first.fact)
    if size + len(chunks) + 64 < 2**32:
        head = b"RIFF" + struct.pack("<I", 12 + len(chunks) + size) + b"WAVE" + chunks + b"data"
        head += struct.pack("<I", size)
    else:
        long_sizes = struct.pack("<QQQI", 48 + len(chunks) + size, size, size // frame, 0)
        head = b"RF64" + b"\xff" * 4 + b"WAVE" + _chunk(b"ds64", long_sizes) + chunks + b"data" + b"\xff" * 4
    return join_pieces(file, [head, *extents]), len(same)


def _wave_header(fmt: SampleFormat) -> bytes:
    """The format chunk, with the bits of PCM as wide as they are."""
    raw = bytearray(fmt.raw)
    if fmt.codec and len(raw) >= 16:
        raw[14:16] = struct.pack("<H", 8 * fmt.width)
        if len(raw) >= 20:
            raw[18:20] = raw[14:16]
    return bytes(raw)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
