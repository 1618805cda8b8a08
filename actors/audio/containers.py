"""Opens any container that ffmpeg's libraries know, recognised by its content and never by its name.

A file that cannot be opened raises an error whose code says what is wrong with it (`actors.errors.CODES`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard

from actors.audio.formats.allowed import format_options
from actors.audio.formats.avi_clock import chunk_times
from actors.audio.formats.elementary import begins_with_frames
from actors.audio.formats.encryption import encrypted_tracks
from actors.audio.formats.signatures import other_content, unknown_content
from actors.audio.header_facts import riff_facts
from actors.audio.sources import AudioFile
from actors.errors import RowError

# Hz; a header that claims a rate outside is wrong.
MIN_RATE, MAX_RATE = 1_000, 768_000
# Hz of DSD, whose samples have 1 bit, 8 of which are read as one: DSD64 to DSD1024.
_MAX_DSD_RATE = 44_100 * 1024 // 8
MAX_CHANNELS = 64
# Microseconds of a film that may pass before its sound begins: a day.
_LONGEST_JUMP = str(24 * 3600 * 1_000_000)
# Bytes per packet of a WAVE file, which has no packets of its own; ffmpeg's default of 4 KiB makes too many.
_PCM_PACKET = 32 << 10
# The samples of a WAVE file must begin within so many bytes behind its first chunks.
_MAX_DATA_OFFSET = 64 << 10
# Bytes. No valid header of a smaller file needs more memory than a shard may have.
_HUGE_HEADER = 64 << 20
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


@dataclass(frozen=True, slots=True)
class Opened:
    """An open container and the audio stream that is decoded."""

    container: InputContainer
    stream: AudioStream
    format: str
    codec: str
    sampling_rate: int
    channels: int
    audio_streams: int
    # The number of the stream among the audio streams, from 0.
    track: int
    # Seconds by the byte of a packet, in an AVI film whose time stamps are wrong.
    packet_times: dict[int, float] = field(default_factory=dict)


@contextmanager
def open_container(
    file: AudioFile, jump: bool = False, probe_bytes: int | None = None, track: int | None = None
) -> Iterator[Opened]:
    """Open the container in `file` and choose its audio stream.

    Decoding uses one thread, because a decoding task owns one CPU.

    Args:
        file: the file to open.
        jump: seek in an mp3 by byte position, which makes its time stamps useless. Otherwise an mp3 is read
            up to the wanted place.
        probe_bytes: bytes behind the header that may be read to learn about the streams; None leaves it to
            ffmpeg (up to 5 MB).
        track: number of the audio stream, from 0; None takes the one that ffmpeg selects.

    Raises:
        RowError: empty_file, not_audio, no_audio_stream, no_samples, bad_header, unsupported_codec.
        RetryableError: reading failed.
    """
    if file.size == 0:
        raise RowError("the file has no bytes", "empty_file")
    av.logging.set_level(av.logging.PANIC)
    options = format_options() | ({"fflags": "fastseek"} if jump else {})
    if file.begins_late:
        options["analyzeduration"] = _LONGEST_JUMP
    if probe_bytes is not None and not file.begins_late:
        options["probesize"] = str(probe_bytes)
    if _is_wave(file):
        _hide_trailing_data(file)
    if probe_bytes is None and _is_wave(file):
        # One such packet shows whether it contains DTS. By default ffmpeg would look at more and more
        # packets, which takes longer than decoding.
        options |= {"max_size": str(_PCM_PACKET), "max_probe_packets": "1"}
    file.seek(0)
    try:
        container = av.open(
            file, mode="r", options=options, metadata_errors="replace", io_open=_refuse_to_open
        )
    except (
        av.error.DecoderNotFoundError,
        av.error.DemuxerNotFoundError,
        av.error.PatchWelcomeError,
    ) as error:
        raise RowError(_message(error), "unsupported_codec") from error
    except (av.error.FFmpegError, UnicodeError, ValueError) as error:
        raise _diagnose(file, error) from error
    try:
        # ffmpeg reads on where it stopped, so the checks must leave the file there.
        position = file.tell()
        opened = _choose_stream(container, file, track)
        file.seek(position)
        yield opened
    finally:
        container.close()


def packets_of(opened: Opened) -> Iterator[Packet]:
    """The packets of the stream from where the container is, also where a film gets further streams.

    PyAV knows the streams of the beginning only: at the first packet of another one it fails.
    """
    while True:
        try:
            yield from opened.container.demux(opened.stream)
            return
        except IndexError:
            continue


def is_plausible_rate(rate: int, codec: str) -> bool:
    """Whether a recording with this codec may have this sampling rate in Hz."""
    return MIN_RATE <= rate <= (_MAX_DSD_RATE if codec.startswith("dsd_") else MAX_RATE)


def _choose_stream(container: InputContainer, file: AudioFile, track: int | None) -> Opened:
    name = container.format.name
    if not begins_with_frames(file, name):
        raise RowError(
            f"no decoder recognises the content: it has frames of {name}, but does not begin with them",
            "not_audio",
        )
    streams = list(container.streams.audio)
    if not streams:
        raise _without_audio(container)
    stream, number = _select(container, streams, track, encrypted_tracks(file, name))
    context = stream.codec_context
    if context is None:
        raise RowError(f"no decoder for the audio stream of this {name} file", "unsupported_codec")
    rate, channels = context.sample_rate or 0, context.channels or 0
    if not rate and not channels and _kind(file) is None:
        raise _unrecognised(file)
    if not is_plausible_rate(rate, context.codec.name):
        raise RowError(f"the header claims a sampling rate of {rate} Hz", "bad_header")
    if not 1 <= channels <= MAX_CHANNELS:
        raise RowError(f"the header claims {channels} channels", "bad_header")
    times = chunk_times(file, stream.index) if name == "avi" else {}
    context.thread_count = 1
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return Opened(container, stream, name, context.codec.name, rate, channels, len(streams), number, times)


def _select(
    container: InputContainer, streams: list[AudioStream], track: int | None, encrypted: dict[int, str]
) -> tuple[Any, int]:
    """The audio stream to decode, and its number."""
    best = container.streams.best("audio")
    number = track
    if number is None:
        number = next(
            (one for one, stream in enumerate(streams) if best is not None and stream.index == best.index), 0
        )
        if _is_encrypted(streams, number, encrypted):
            readable = [one for one in range(len(streams)) if not _is_encrypted(streams, one, encrypted)]
            number = readable[0] if readable else number
    if number >= len(streams):
        raise missing_track(number, len(streams))
    if _is_encrypted(streams, number, encrypted):
        raise _encrypted(encrypted.get(number, "DRM"))
    return streams[number], number


def _encrypted(how: str) -> RowError:
    return RowError(
        f"the audio is encrypted ({how}) and cannot be decoded without its key", "unsupported_codec"
    )


def missing_track(number: int, available: int) -> RowError:
    """The error for an audio track that a file does not have."""
    return RowError(
        f"track {number} (counted from 0) was requested, but the file has {available}", "no_audio_stream"
    )


def _is_encrypted(streams: list[AudioStream], number: int, encrypted: dict[int, str]) -> bool:
    # Matroska has a key's id for each encrypted stream.
    return number in encrypted or "enc_key_id" in streams[number].metadata


def require_audio(file: AudioFile) -> None:
    """Refuse what is certainly no recording: archives, documents, pages, pictures.

    Raises:
        RowError: empty_file, not_audio.
    """
    if file.size == 0:
        raise RowError("the file has no bytes", "empty_file")
    kind = other_content(file)
    if kind is not None:
        raise _looks_like(kind)


def _looks_like(kind: str) -> RowError:
    return RowError(f"no decoder recognises the content as audio: it looks like {kind}", "not_audio")


def _unrecognised(file: AudioFile) -> RowError:
    kind = other_content(file) or unknown_content(file)
    return RowError("no decoder recognises the content", "not_audio") if kind is None else _looks_like(kind)


def _without_audio(container: InputContainer) -> RowError:
    name = container.format.name
    if not container.streams:
        return _looks_like(name)
    kinds = ", ".join(sorted({str(stream.type) for stream in container.streams}))
    return RowError(f"the {name} container has no audio stream, only {kinds}", "no_audio_stream")


def _diagnose(file: AudioFile, error: Exception) -> RowError:
    """The error for a file that could not be opened, by its first bytes."""
    if isinstance(error, av.error.FFmpegError) and isinstance(error, MemoryError):
        if file.size < _HUGE_HEADER:
            return RowError(
                f"the header claims sizes that no memory could hold: {_message(error)}", "bad_header"
            )
        return RowError(_message(error), "decode_out_of_memory")
    facts = riff_facts(file)
    if facts and facts.has_format and (facts.data_start is None or facts.data_start >= file.size):
        return RowError("a WAVE header without any samples behind it", "no_samples")
    if how := next(iter(encrypted_tracks(file, "asf").values()), None):
        return _encrypted(how)
    kind = _kind(file)
    if kind is None or other_content(file):
        return _unrecognised(file)
    return RowError(f"starts like {kind}, but its header cannot be read: {_message(error)}", "bad_header")


def _kind(file: AudioFile) -> str | None:
    file.seek(0)
    head = file.read(16)
    return next((kind for place, magic, kind in _MAGIC if head[place : place + len(magic)] == magic), None)


def _is_wave(file: AudioFile) -> bool:
    file.seek(0)
    head = file.read(12)
    return head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"


def _hide_trailing_data(file: AudioFile) -> None:
    """Let a WAVE file end behind its samples; where it has none, limit the search for them.

    Some recorders allocate their file beforehand, so that it has zeros instead of chunks. ffmpeg reads these
    8 bytes at a time, which takes a second per MB.
    """
    facts = riff_facts(file)
    if facts is None or facts.is_placeholder:
        return
    if facts.data_start is None or facts.data_size is None:
        file.end = min(file.size, facts.walked + _MAX_DATA_OFFSET)
    else:
        file.end = min(file.size, facts.data_start + facts.data_size)


def _message(error: Exception) -> str:
    if isinstance(error, av.error.FFmpegError):
        return str(tuple(error.log)[-1] if error.log else error.strerror).strip()[:200]
    return " ".join(str(error).split())[:200]


def _refuse_to_open(url: str, flags: int, options: dict[str, Any]) -> None:
    # Playlists and references (HLS, concat, external tracks) would let untrusted "audio" open local files and
    # addresses.
    raise PermissionError(
        f"the file refers to another one, which is not opened: {os.path.basename(url)[:80]}"
    )
