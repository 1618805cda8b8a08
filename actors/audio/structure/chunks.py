"""The chunks of RIFF, AIFF, W64 and CAF files: their headers are walked, their contents are skipped.

All reads are of a few bytes, so that a walk costs few small requests of an object store.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from actors.audio.sources import AudioFile
from actors.audio.structure.views import read_at

# The last 12 bytes of the chunk names of W64, which are GUIDs; that of `riff` differs.
W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
# Chunks of a file at most. Where there are more, the rest of the file counts as not understood.
MAX_CHUNKS = 20_000
# The end of a GUID that names a chunk of W64.
_W64_NAME = b"\x00\xc0\x4f\x8e\xdb\x8a"
_NAME = re.compile(rb"[A-Za-z0-9_(\[][\w \-.()\[\]\xa9]{3}")
# Names of chunks without sound. By them, metadata behind the sound is found where the header does not say
# where the sound ends.
_METADATA = re.compile(
    rb"LIST[\x00-\xff]{4}(?:INFO|adtl|exif|note)|id3 |ID3 |cue |bext|iXML|axml|aXML|_PMX|smpl|inst|fact|PEAK|"
    rb"peak|JUNK|junk|FLLR|PAD |afsp|acid|cart|chna|chnl|levl|LGWV|LGDA|DISP|plst|note|umid|minf|elm1|regn|"
    rb"cvsl|dbmd|MD5 |r64m|olym|ResU|SyLp|strc|Cr8r|tlst|NAME|AUTH|\(c\) |ANNO|COMT|MARK|INST|MIDI|AESD|APPL|"
    rb"SAUR|CHAN|basc|trns|cate|info|strg|mark|midi|ovvw|edct|uuid|free|pakt|kuki|chan"
)
_W64_METADATA = re.compile(rb"(?!data|fmt |riff|wave)[\x00-\xff]{10}" + re.escape(_W64_NAME))


@dataclass(frozen=True, slots=True)
class Grammar:
    """How a family of files writes the headers of its chunks."""

    # Of the size behind the name, for `struct`.
    size_format: str
    # Bytes of the name.
    name_bytes: int = 4
    # Chunks begin at multiples of so many bytes behind the beginning of the file.
    alignment: int = 2
    # Whether the size counts the header of its chunk.
    inclusive: bool = False

    @property
    def head_bytes(self) -> int:
        return self.name_bytes + struct.calcsize(self.size_format)

    @property
    def byte_order(self) -> str:
        return self.size_format[0]


RIFF = Grammar("<I")
# RIFF and AIFF with the most significant byte first.
RIFX = Grammar(">I")
W64 = Grammar("<Q", 16, 8, True)
CAF = Grammar(">q", alignment=1)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk's header; places are bytes of the file."""

    name: bytes
    head: int
    start: int
    # Bytes of the content by the header.
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


def read_chunk(file: AudioFile, place: int, grammar: Grammar) -> Chunk | None:
    """The header of the chunk at `place`; None where there is none with a possible name."""
    head = read_at(file, place, grammar.head_bytes)
    if len(head) < grammar.head_bytes or not _is_name(head[: grammar.name_bytes], grammar):
        return None
    (size,) = struct.unpack(grammar.size_format, head[grammar.name_bytes :])
    if grammar.inclusive:
        size -= grammar.head_bytes
        if size < 0:
            # A streaming writer leaves 0.
            size = 0
    return Chunk(head[:4], place, place + grammar.head_bytes, size)


def _is_name(name: bytes, grammar: Grammar) -> bool:
    if grammar is W64:
        return name.endswith(_W64_NAME) or name == W64_RIFF
    return _NAME.fullmatch(name) is not None


def next_places(end: int, grammar: Grammar, origin: int = 0) -> list[int]:
    """Where the chunk behind one that ends at `end` may begin: some writers forget the padding."""
    padding = -(end - origin) % grammar.alignment
    return [end + padding, end] if padding else [end]


def next_chunk(file: AudioFile, end: int, grammar: Grammar, origin: int = 0) -> Chunk | None:
    """The chunk behind one that ends at `end`, with or without padding."""
    for place in next_places(end, grammar, origin):
        chunk = read_chunk(file, place, grammar)
        if chunk is not None:
            return chunk
    return None


def is_metadata(file: AudioFile, chunk: Chunk, grammar: Grammar) -> bool:
    """Whether the chunk's name is one of those that never have sound."""
    return _metadata_names(grammar).match(read_at(file, chunk.head, 16)) is not None


def _metadata_names(grammar: Grammar) -> re.Pattern[bytes]:
    return _W64_METADATA if grammar is W64 else _METADATA


def walk_chunks(file: AudioFile, end: int, grammar: Grammar, origin: int = 0) -> Iterator[Chunk]:
    """The chunks behind `end`, while each has a possible name and lies within the file."""
    for _ in range(MAX_CHUNKS):
        chunk = next_chunk(file, end, grammar, origin)
        if chunk is None:
            return
        yield chunk
        if chunk.end > file.size:
            return
        end = chunk.end


def find_metadata(data: bytes, grammar: Grammar) -> Iterator[int]:
    """Places in `data` at which a chunk of metadata may begin."""
    for found in _metadata_names(grammar).finditer(data):
        yield found.start()
