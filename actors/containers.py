"""Opening what an audio file is wrapped in: any container that ffmpeg's libraries know, recognised by its content and never by its name.

A file that cannot be opened is named for what is wrong with it (`actors.errors.CODES`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard

from actors.errors import RowError
from actors.sources import AudioFile

MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz; outside is a header that lies
MAX_CHANNELS = 64
# Formats without a length in their header: ffmpeg divides the size by the bit rate of the first frames.
ESTIMATED = frozenset(
    {"aac", "amr", "amrnb", "amrwb", "mp3", "ac3", "eac3", "dts", "truehd", "loas", "gsm", "adx", "h261", "mpeg", "mpegts"}
)
# Content that ffmpeg opens although it is text.
_TEXT = frozenset(
    {
        "tty",
        "srt",
        "ass",
        "webvtt",
        "microdvd",
        "subviewer",
        "subviewer1",
        "sami",
        "lrc",
        "txt",
        "ffmetadata",
        "jacosub",
        "mpl2",
        "vplayer",
        "stl",
    }
)
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"RIFF", "WAVE or AVI"),
    (0, b"RF64", "WAVE"),
    (0, b"FORM", "AIFF"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"ID3", "MP3"),
    (0, b"caff", "CAF"),
    (0, b".snd", "AU"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (4, b"ftyp", "MP4"),
)
_PLACEHOLDERS = (0, 0x7FFF_F000)  # sizes that a streaming writer leaves in a WAVE header: nothing, or at least this


@dataclass(frozen=True, slots=True)
class Opened:
    """An open container and the audio stream that counts in it."""

    container: InputContainer
    stream: AudioStream
    format: str
    codec: str
    sampling_rate: int
    channels: int
    audio_streams: int


@contextmanager
def open_container(file: AudioFile, jump: bool = False, probe_bytes: int | None = None) -> Iterator[Opened]:
    """Open the container in `file` and choose its audio stream; codec threads are off: a decoding task owns one CPU.

    Args:
        file: what to open.
        jump: seek in an mp3 by byte position, which its time stamps do not survive; without it an mp3 is read up to the place.
        probe_bytes: how much behind the header may be read to learn about the streams; None leaves it to ffmpeg (up to 5 MB).

    Raises:
        RowError: empty_file, not_audio, no_audio_stream, no_samples, bad_header, unsupported_codec.
        RetryableError: reading failed.
    """
    if file.size == 0:
        raise RowError("the file has no bytes", "empty_file")
    av.logging.set_level(av.logging.PANIC)
    file.seek(0)
    options = {"fflags": "fastseek"} if jump else {}
    if probe_bytes is not None:
        options["probesize"] = str(probe_bytes)
    try:
        container = av.open(file, mode="r", options=options, metadata_errors="replace", io_open=_refuse)
    except (av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError, av.error.PatchWelcomeError) as error:
        raise RowError(_said(error), "unsupported_codec") from error
    except (av.error.FFmpegError, UnicodeError, ValueError) as error:
        raise _diagnose(file, error) from error
    try:
        yield _choose(container, file)
    finally:
        container.close()


def duration_is_estimated(file: AudioFile, container_format: str) -> bool:
    """Whether the duration that the container reports is only a guess from its bit rate."""
    return container_format in ESTIMATED and not (container_format == "mp3" and mp3_facts(file))


@dataclass(frozen=True, slots=True)
class Mp3Facts:
    """The tag in an mp3's first frame. `frames` and `size` (bytes, the tag's own frame included) are None where it does not tell them."""

    constant: bool  # an Info tag: every frame has the same length, give or take a byte
    start: int  # byte of the tag's frame
    frames: int | None
    size: int | None


def mp3_facts(file: AudioFile) -> Mp3Facts | None:
    """Find the Xing, Info or VBRI tag of an mp3; None for an mp3 without one, and for everything else."""
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    elif head[:1] != b"\xff":
        return None
    file.seek(start)
    frame = file.read(512)
    found = [(place, tag) for tag in (b"Xing", b"Info", b"VBRI") if 0 <= (place := frame.find(tag)) < 200]
    if not found:
        return None
    place, tag = min(found)
    if tag == b"VBRI":
        return Mp3Facts(False, start, None, None)
    has, frames, size = struct.unpack(">III", frame[place + 4 : place + 16].ljust(12, b"\0"))
    return Mp3Facts(tag == b"Info", start, frames if has & 3 == 3 else None, size if has & 3 == 3 else None)


@dataclass(frozen=True, slots=True)
class RiffFacts:
    """What a walk over the chunks of a WAVE file finds; sizes in bytes, None where the chunk is missing."""

    has_format: bool
    data_start: int | None
    data_size: int | None

    @property
    def is_placeholder(self) -> bool:
        """Whether the writer never filled in how much data there is."""
        return self.data_size is not None and (self.data_size == _PLACEHOLDERS[0] or self.data_size >= _PLACEHOLDERS[1])


def riff_facts(file: AudioFile) -> RiffFacts | None:
    """Walk the chunks of a RIFF/WAVE file; None for other files."""
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    has_format = False
    place = 12
    for _ in range(64):
        file.seek(place)
        chunk = file.read(8)
        if len(chunk) < 8:
            break
        size = struct.unpack("<I", chunk[4:])[0]
        if chunk[:4] == b"data":
            return RiffFacts(has_format, place + 8, size)
        has_format = has_format or (chunk[:4] == b"fmt " and 14 <= size <= 4096)
        place += 8 + size + size % 2
    return RiffFacts(has_format, None, None)


def _choose(container: InputContainer, file: AudioFile) -> Opened:
    streams = list(container.streams.audio)
    if not streams:
        return _without_audio(container, file)
    best = container.streams.best("audio")
    stream: Any = best if best is not None else streams[0]
    context = stream.codec_context
    if context is None:
        raise RowError(f"no decoder for the audio stream of this {container.format.name} file", "unsupported_codec")
    rate, channels = context.sample_rate or 0, context.channels or 0
    if not rate and not channels and _kind(file) is None:
        raise RowError("no decoder recognises the content", "not_audio")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise RowError(f"the header claims a sampling rate of {rate} Hz", "bad_header")
    if not 1 <= channels <= MAX_CHANNELS:
        raise RowError(f"the header claims {channels} channels", "bad_header")
    context.thread_count = 1
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return Opened(container, stream, container.format.name, context.codec.name, rate, channels, len(streams))


def _without_audio(container: InputContainer, file: AudioFile) -> Opened:
    name = container.format.name
    if name in _TEXT or not container.streams:
        raise RowError(f"no decoder recognises the content as audio (it looks like {name})", "not_audio")
    kinds = ", ".join(sorted({str(stream.type) for stream in container.streams}))
    raise RowError(f"the {name} container has no audio stream, only {kinds}", "no_audio_stream")


def _diagnose(file: AudioFile, error: Exception) -> RowError:
    """Say why `file` could not be opened, from its first bytes."""
    if isinstance(error, av.error.FFmpegError) and isinstance(error, MemoryError):
        return RowError(_said(error), "decode_out_of_memory")
    facts = riff_facts(file)
    if facts and facts.has_format and (facts.data_start is None or facts.data_start >= file.size):
        return RowError("a WAVE header without any samples behind it", "no_samples")
    kind = _kind(file)
    if kind is None:
        return RowError("no decoder recognises the content", "not_audio")
    return RowError(f"starts like {kind}, but its header cannot be read: {_said(error)}", "bad_header")


def _kind(file: AudioFile) -> str | None:
    file.seek(0)
    head = file.read(16)
    return next((kind for place, magic, kind in _MAGIC if head[place : place + len(magic)] == magic), None)


def _said(error: Exception) -> str:
    if isinstance(error, av.error.FFmpegError):
        return str(tuple(error.log)[-1] if error.log else error.strerror).strip()[:200]
    return " ".join(str(error).split())[:200]


def _refuse(url: str, flags: int, options: dict[str, Any]) -> None:
    # Playlists and references (HLS, concat, external tracks) would make a stranger's "audio" open our files and addresses.
    raise PermissionError(f"the file refers to another one, which is not followed: {os.path.basename(url)[:80]}")
