"""The audio of recordings for a browser: byte ranges of the file, or of a WAVE file decoded on demand.

A browser gets the file as it is where it is of a kind that browsers play and seek exactly, and where its time
is that of the transcript. Everything else (other containers and codecs, parts of archives, samples without a
header, damaged files) is decoded as for the model, to mono at 16 kHz. Such a file is never written: its size
follows from the duration, and the bytes of a range from the samples that they stand for.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from actors.audio.clips import decode_samples
from actors.audio.files.slices import parse_cell, parse_member, parse_slice
from actors.audio.sources import open_audio
from actors.config import AudioConfig
from actors.process.child_pool import ChildPool
from actors.process.isolation import Child
from actors.records import SAMPLING_RATE, Row
from pipelines.storage import parquet_cells

_HEADER_BYTES = 44
_SAMPLE_BYTES = 2
_BLOCK_SECONDS = 30
_BLOCK_BYTES = _BLOCK_SECONDS * SAMPLING_RATE * _SAMPLE_BYTES
_KEPT_BLOCKS = 40  # about 38 MiB
_CHUNK_BYTES = 256 << 10
_CHILDREN = 2
_LARGEST_WAVE = (1 << 32) - 64
# Beginnings of files that browsers play: place, bytes, media type, and the codecs that may be in them.
_PLAYABLE = (
    (8, b"WAVE", "audio/wav", ("pcm_s16le", "pcm_u8", "pcm_s24le", "pcm_s32le", "pcm_f32le")),
    (0, b"fLaC", "audio/flac", ("flac",)),
    (0, b"OggS", "audio/ogg", ("vorbis", "opus")),
)
# Flags of files whose time in a browser is not that of the transcript, or of which it plays another track.
_OWN_TIME = frozenset(
    {
        *("truncated", "decode_errors", "gap_filled", "stamps_unreliable", "header_duration_wrong"),
        *(
            "header_says_less",
            "files_joined",
            "audio_unread",
            "several_audio_streams",
            "silent_track_replaced",
        ),
        *("phase_cancelled", "phase_cancelled_partly"),
    }
)


@dataclass(frozen=True)
class Source:
    """The audio of one recording.

    Attributes:
        row: `audio`, and what OUT/plan knows: `location`, `channel`, `track`, `raw_format`, `etag`.
        codec: as decoded.
        flags: of the recording.
        end: seconds of the file at which the recording ends.
    """

    row: Row
    codec: str | None
    flags: frozenset[str]
    end: float

    @property
    def address(self) -> str:
        """Where the bytes are."""
        return str(self.row.get("location") or self.row["audio"])


@dataclass(frozen=True, slots=True)
class Media:
    """What is served: a media type and a number of bytes."""

    type: str
    size: int
    is_decoded: bool


class AudioStore:
    """Opens and decodes the audio of recordings; usable from several threads."""

    def __init__(self) -> None:
        settings = AudioConfig()
        self._retries, self._timeout = settings.retries, settings.timeout
        self._children = ChildPool(
            Child(settings.max_memory, imports=(parquet_cells.__name__,)) for _ in range(_CHILDREN)
        )
        self._blocks: OrderedDict[tuple[str, str, int], Future[bytes]] = OrderedDict()
        self._media: OrderedDict[tuple[str, bool], Media] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the child processes."""
        self._children.close()

    def media(self, source: Source, decoded: bool = False) -> Media:
        """What is served of a recording.

        Args:
            source: the recording.
            decoded: do not serve the file as it is: the browser could not play it.
        """
        key = (repr(source), decoded)
        with self._lock:
            if key in self._media:
                return self._media[key]
        found = (None if decoded else self._playable(source)) or Media(
            "audio/wav", wave_bytes(source.end), True
        )
        with self._lock:
            self._media[key] = found
            if len(self._media) > 1000:
                self._media.popitem(last=False)
        return found

    def _playable(self, source: Source) -> Media | None:
        """The file itself, where browsers play it and their time is the transcript's."""
        kinds = {flag.partition(":")[0] for flag in source.flags}
        if kinds & _OWN_TIME or not may_be_played(source):
            return None
        with open_audio(source.address, self._retries) as file:
            head = file.read(16) or b""
            for place, magic, media_type, codecs in _PLAYABLE:
                if head[place : place + len(magic)] == magic and source.codec in codecs:
                    return Media(media_type, file.size, False)
        return None

    def read(self, source: Source, media: Media, first: int, last: int) -> Iterator[bytes]:
        """The bytes [first, last] of what is served.

        Raises:
            RowError: the audio cannot be read or decoded any more.
            RetryableError: reading failed.
        """
        if media.is_decoded:
            yield from self._decoded(source, media, first, last)
            return
        with open_audio(source.address, self._retries) as file:
            file.seek(first)
            left = last + 1 - first
            while left > 0 and (data := file.read(min(_CHUNK_BYTES, left))):
                left -= len(data)
                yield data

    def _decoded(self, source: Source, media: Media, first: int, last: int) -> Iterator[bytes]:
        place, end = first, last + 1
        header = b""
        if place < _HEADER_BYTES:
            header = wave_header(media.size)[place:end]
            place += len(header)
            if place == end:
                yield header
        while place < end:
            number, offset = divmod(place - _HEADER_BYTES, _BLOCK_BYTES)
            size = min(_BLOCK_BYTES, media.size - _HEADER_BYTES - number * _BLOCK_BYTES)
            block = self._block(source, number)
            # A file that ends before its transcript does: silence, because the size has been announced.
            data = (block + bytes(max(0, size - len(block))))[offset : offset + end - place]
            place += len(data)
            # The header comes with the first samples: a file that cannot be decoded has no beginning.
            yield header + data
            header = b""

    def _block(self, source: Source, number: int) -> bytes:
        key = (source.address, repr(source.row), number)
        with self._lock:
            future = self._blocks.pop(key, None)
            if future is None or (future.done() and future.exception() is not None):
                first = number * _BLOCK_SECONDS * SAMPLING_RATE
                last = min(first + _BLOCK_SECONDS * SAMPLING_RATE, round(source.end * SAMPLING_RATE))
                future = self._children.submit(
                    lambda child: child.call(
                        f"{decode_samples.__module__}:{decode_samples.__name__}",
                        *(source.row, first, last, self._retries),
                        timeout=self._timeout,
                    )
                )
            self._blocks[key] = future
            while len(self._blocks) > _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        return future.result()


def may_be_played(source: Source) -> bool:
    """Whether the bytes at the address are a whole file with a header, decoded as a browser would."""
    row, address = source.row, source.address
    is_part = parse_slice(address) or parse_cell(address) or parse_member(address)
    window = row.get("window") or {}
    return (
        not is_part
        and not row.get("raw_format")
        and row.get("channel") in (None, "mix", "each")
        and row.get("track") in (None, "auto")
        and not window.get("start")
        and window.get("end") is None
    )


def wave_bytes(end: float) -> int:
    """The size of a WAVE file, mono at 16 kHz, up to this second; no larger than its header can say."""
    return min(_HEADER_BYTES + round(end * SAMPLING_RATE) * _SAMPLE_BYTES, _LARGEST_WAVE)


def wave_header(size: int) -> bytes:
    """The header of a WAVE file of `size` bytes: 16 bits, mono, 16 kHz."""
    layout = struct.pack("<HHIIHH", 1, 1, SAMPLING_RATE, SAMPLING_RATE * _SAMPLE_BYTES, _SAMPLE_BYTES, 16)
    data = struct.pack("<I", size - _HEADER_BYTES)
    return (
        b"RIFF" + struct.pack("<I", size - 8) + b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + data
    )


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first and last byte that a Range header asks for.

    Returns:
        None where the whole file is to be sent: there is no header, it is not understood, or has several
        ranges.

    Raises:
        ValueError: the range lies outside of the file.
    """
    unit, _, ranges = (header or "").partition("=")
    first_text, dash, last_text = ranges.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or "," in ranges:
        return None
    first_text, last_text = first_text.strip(), last_text.strip()
    if not (first_text or last_text) or not all(
        part.isascii() and part.isdigit() for part in (first_text, last_text) if part
    ):
        return None
    if not first_text:
        count = min(int(last_text), size)
        first, last = size - count, size - 1
    else:
        first, last = int(first_text), min(int(last_text or size - 1), size - 1)
        if last_text and int(last_text) < first:
            return None
    if first >= size or first > last:
        raise ValueError(f"the file has {size} bytes")
    return first, last
