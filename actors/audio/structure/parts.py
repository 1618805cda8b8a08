"""Walks the chunks of one file of samples, which may be one of several that are joined."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from actors.audio.sources import AudioFile
from actors.audio.structure.chunks import CAF, MAX_CHUNKS, Chunk, Grammar, is_metadata, next_chunk, read_chunk
from actors.audio.structure.remainder import (
    classify,
    find_form,
    is_form,
    is_text_file,
    leads_to_end,
    metadata_start,
)
from actors.audio.structure.sample_formats import (
    MAX_FORMAT_BYTES,
    SampleFormat,
    aiff_format,
    au_format,
    caf_format,
    wave_format,
)
from actors.audio.structure.views import Extent, read_at
from actors.errors import RowError

# Bytes in which the sound is searched behind a chunk that is none.
_RESYNC_BYTES = 1 << 20
_MAX_RESYNCS = 16
# Seconds of samples beyond those that an AIFF header promises, above which it says less than there is.
_MORE_SECONDS = 0.1


@dataclass
class Part:
    """One of the files that are joined in a file, nearly always the only one."""

    # ffmpeg's name of the container.
    container: str
    format: SampleFormat | None = None
    # Where its samples are.
    extents: list[Extent] = field(default_factory=list)
    # Silence that the file describes instead of having it: behind how many extents, and how many frames.
    silences: list[tuple[int, int]] = field(default_factory=list)
    # Bytes of samples that the header promises and the file does not have.
    missing: int = 0
    # Whether the header describes fewer samples than there are.
    understated: bool = False
    # Whether the header leaves open how many samples there are.
    is_open: bool = False
    # Byte behind what was understood.
    end: int = 0
    # The `fact` chunk of a compressed WAVE file.
    fact: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of the samples, each extent in whole frames."""
        frame = max(1, self.format.frame_bytes if self.format else 1)
        return sum((extent.end - extent.start) // frame * frame for extent in self.extents)


class ChunkWalk:
    """Walks the chunks of one part.

    Args:
        file: the file.
        origin: byte at which the part begins.
        grammar: of its chunks.
        container: ffmpeg's name of it.
        sound: name of the chunk with the samples.
        preface: bytes of that chunk in front of the samples.
    """

    def __init__(
        self,
        file: AudioFile,
        origin: int,
        grammar: Grammar | None,
        container: str,
        sound: bytes,
        preface: int = 0,
    ) -> None:
        self.file, self.origin, self.grammar = file, origin, grammar
        self.part = Part(container)
        self.compressed = False
        self._sound, self._preface = sound, preface
        # Sizes in 64 bits of an RF64 file: of the samples, and of other chunks.
        self._long_size: int | None = None
        self._frames: int | None = None

    def walk(self, place: int) -> Part:
        """Read all chunks from `place` on."""
        assert self.grammar is not None
        file, part, resyncs = self.file, self.part, 0
        for _ in range(MAX_CHUNKS):
            chunk = next_chunk(file, place, self.grammar, self.origin)
            if chunk is not None and chunk.head > self.origin and self._is_form(chunk):
                place = chunk.head
                break
            if chunk is not None and self._is_wave_list(chunk):
                # Its `data` and `slnt` chunks follow, as if they were not in a list.
                place = chunk.start + 4
            elif chunk is not None and chunk.name == self._sound:
                place = self._add_sound(chunk)
            elif chunk is not None and chunk.size >= 0 and chunk.end <= file.size:
                self._read_chunk(chunk)
                place = chunk.end
            elif chunk is not None and is_metadata(file, chunk, self.grammar) and part.extents:
                # The end of the metadata was cut off.
                place = file.size
                break
            elif part.extents or resyncs == _MAX_RESYNCS or (found := self._find_sound(place)) is None:
                break
            else:
                resyncs += 1
                place = found
        if not part.extents and part.format is not None and (chunk := self._hidden_sound()) is not None:
            place = self._add_sound(chunk)
        part.end = min(place, file.size)
        self._check_frames()
        return part

    def _hidden_sound(self) -> Chunk | None:
        """The chunk of the samples that another chunk's wrong size hides."""
        assert self.grammar is not None
        data = read_at(self.file, self.origin, _RESYNC_BYTES)
        place = data.find(self._sound[:4])
        while place >= 0:
            chunk = read_chunk(self.file, self.origin + place, self.grammar)
            fits = chunk is not None and self._preface < chunk.size <= self.file.size - chunk.start
            if chunk is not None and fits and leads_to_end(self.file, chunk.end, self.grammar, self.origin):
                return chunk
            place = data.find(self._sound[:4], place + 1)
        return None

    def _is_form(self, chunk: Chunk) -> bool:
        return is_form(read_at(self.file, chunk.head, 16))

    def _is_wave_list(self, chunk: Chunk) -> bool:
        return chunk.name == b"LIST" and read_at(self.file, chunk.start, 4) == b"wavl"

    def _find_sound(self, place: int) -> int | None:
        """Where the samples or their format begin behind bytes that are no chunk."""
        data = read_at(self.file, place, _RESYNC_BYTES)
        found = [at for name in (b"fmt ", b"COMM", self._sound) if (at := data.find(name, 1)) >= 0]
        return place + min(found) if found else None

    def _read_chunk(self, chunk: Chunk) -> None:
        part, order = self.part, self.grammar.byte_order if self.grammar else "<"
        if chunk.name in (b"fmt ", b"COMM", b"desc", b"ds64", b"fact"):
            raw = read_at(self.file, chunk.start, min(chunk.size, MAX_FORMAT_BYTES))
        if chunk.name == b"fmt " and part.container in ("wav", "w64") and part.format is None:
            part.format = wave_format(raw, order)
        elif chunk.name == b"COMM" and part.container == "aiff" and part.format is None:
            found = aiff_format(raw, self.compressed)
            if found:
                part.format, self._frames = found
        elif chunk.name == b"desc" and part.container == "caf" and part.format is None:
            part.format = caf_format(raw)
        elif chunk.name == b"ds64" and len(raw) >= 16:
            self._long_size = struct.unpack("<Q", raw[8:16])[0]
        elif chunk.name == b"fact":
            part.fact = raw
        elif chunk.name == b"slnt" and part.container == "wav":
            frames = int.from_bytes(read_at(self.file, chunk.start, 4), "little" if order == "<" else "big")
            part.silences.append((len(part.extents), frames))

    def _add_sound(self, chunk: Chunk) -> int:
        """Find the end of the samples in a chunk; returns the byte behind the chunk."""
        start, size = chunk.start + self._preface, chunk.size - self._preface
        if self._sound == b"SSND":
            offset = int.from_bytes(read_at(self.file, chunk.start, 4), "big")
            if offset < min(max(size, 0), 64 << 10):
                start, size = start + offset, size - offset
        if self._long_size is not None and chunk.size == 0xFFFF_FFFF:
            size = self._long_size
        return self.add_samples(start, size)

    def add_samples(self, start: int, size: int) -> int:
        """Add samples of `size` bytes by the header that begin at `start`; returns the byte behind them."""
        file, part, grammar = self.file, self.part, self.grammar
        declared = start + max(0, size)
        if _is_placeholder(size):
            part.is_open = True
            if size <= 0 and declared < file.size and leads_to_end(file, declared, grammar, self.origin):
                end = declared
            else:
                end = (
                    start if is_text_file(file, start) else metadata_start(file, start, grammar, self.origin)
                )
        elif declared >= file.size:
            end = file.size if declared == file.size else metadata_start(file, start, grammar, self.origin)
            part.missing += declared - end if end == file.size else 0
        elif leads_to_end(file, declared, grammar, self.origin):
            end = declared
        else:
            end = self._wrapped_end(declared) or self._understated_end(start, declared)
            part.understated |= end > declared
        if end > start:
            part.extents.append(Extent(start, end))
        return end

    def _wrapped_end(self, declared: int) -> int | None:
        """The end of samples of more than 4 GiB whose size was written modulo 2^32."""
        if self.grammar is None or self.grammar.head_bytes != 8 or self.grammar is CAF:
            return None
        for end in range(declared + 2**32, self.file.size + 2, 2**32):
            if end >= self.file.size - 1 or leads_to_end(self.file, end, self.grammar, self.origin):
                return min(end, self.file.size)
        return None

    def _understated_end(self, start: int, declared: int) -> int:
        if classify(self.file, declared, self.part.format, start)[0] != "sound":
            return declared
        end = find_form(self.file, declared)
        return metadata_start(self.file, declared, self.grammar, self.origin) if end is None else end

    def _check_frames(self) -> None:
        """Compare the frames that an AIFF header promises with the samples.

        Raises:
            RowError: bad_header where no file could have so many.
        """
        part = self.part
        if self._frames is None or part.format is None or not part.format.codec:
            return
        promised = self._frames * part.format.frame_bytes
        if promised >= 2**32 and promised > 2 * self.file.size:
            raise RowError(f"the header claims {self._frames} samples", "bad_header")
        if part.is_open and _is_placeholder(promised):
            return
        # The size of the chunk says the same, unless it was left open or is wrong.
        part.missing = max(part.missing, promised - part.size)
        part.understated |= 0 < promised < part.size - _MORE_SECONDS * part.format.byte_rate


def _is_placeholder(size: int) -> bool:
    """Whether a writer that could not go back left this size in the header: 0, or one of the largest."""
    return (
        size <= 0 or 0x7FFF_F000 <= size <= 0x8000_0100 or 0xFFFF_F000 <= size <= 0xFFFF_FFFF or size >= 2**62
    )


def read_au(file: AudioFile, origin: int, head: bytes) -> Part:
    """The samples of an AU file, which has no chunks; `head` is its header."""
    order = ">" if head[:4] == b".snd" else "<"
    offset, size = struct.unpack(order + "II", head[4:12])
    walk = ChunkWalk(file, origin, None, "au", b"")
    walk.part.format = au_format(head[12:24], order)
    # Behind the end there are no samples: such an offset is wrong.
    start = origin + (max(24, offset) if origin + offset < file.size else 24)
    walk.part.end = min(file.size, walk.add_samples(start, size))
    return walk.part
