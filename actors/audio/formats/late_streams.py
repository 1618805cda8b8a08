"""Films whose sound begins after more than ffmpeg reads to learn about the streams (5 MB).

Transport and program streams and FLV have no header that describes their sound, so ffmpeg does not know it,
or not its sampling rate. Such a film is read as a view: its beginning, by which times are counted, and
everything from the first packet of sound on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import av
from av.stream import Discard

from actors.audio.containers import Opened, open_container
from actors.audio.files.audio_file import AudioFile
from actors.audio.formats.allowed import format_options
from actors.audio.formats.elementary import begins_with_frames
from actors.audio.structure.views import Extent, join_pieces
from actors.errors import RowError

# Bytes of a film in which its sound must begin: an hour of a broadcast at a high rate.
MAX_SEARCHED = 8 << 30
# Bytes of the beginning that a view has: the tables, and the first packets of the picture.
_HEAD = 256 << 10
_BLOCK = 4 << 20
# Start codes of the packets of a program stream that may have sound: MPEG audio, and AC-3, DTS, PCM.
_PROGRAM_AUDIO = re.compile(rb"\0\0\x01[\xbd\xc0-\xdf]")
_PACK = b"\0\0\x01\xba"
# Error codes of a file whose audio stream was not found, or not its sampling rate.
_UNDETERMINED = ("not_audio", "no_audio_stream", "bad_header")
_AUDIO_TAG, _SCRIPT_TAG = 8, 18


def begin_at_audio(file: AudioFile, track: int | None) -> AudioFile | None:
    """A view of a film that begins with its sound; None where nothing is gained by it.

    Args:
        file: a file whose audio stream ffmpeg did not find, or not its sampling rate.
        track: number of the audio stream, from 0; None for any.

    Raises:
        RowError: too_long where the sound does not begin within `MAX_SEARCHED` bytes.
        RetryableError: reading failed.
    """
    file.seek(0)
    head: bytes = file.read(16) or b""
    if head[:4] == b"FLV\x01":
        return _flash(file)
    if head[:4] == _PACK:
        return _program_stream(file)
    return _transport_stream(file, track) if begins_with_frames(file, "mpegts") else None


def find_audio(file: AudioFile, track: int | None = None) -> tuple[AudioFile, int]:
    """A file whose audio stream ffmpeg finds, and the number of that stream. For arguments and errors see
    `open_with_audio`.
    """
    with open_with_audio(file, track) as (view, opened):
        return view, opened.track


@contextmanager
def open_with_audio(file: AudioFile, track: int | None = None) -> Iterator[tuple[AudioFile, Opened]]:
    """The container of a file in which ffmpeg finds the sound: of the file, or of a view of it.

    Args:
        file: the file.
        track: number of the audio track, from 0; None takes the one that ffmpeg selects.

    Raises:
        RowError: the file cannot be opened, or its sound does not begin within `MAX_SEARCHED` bytes.
        RetryableError: reading failed.
    """
    with ExitStack() as stack:
        view: AudioFile | None = file
        try:
            opened = stack.enter_context(open_container(file, track=track))
        except RowError as error:
            view = begin_at_audio(file, track) if error.code in _UNDETERMINED else None
            if view is None:
                raise
            opened = stack.enter_context(open_container(view, track=track))
        assert view is not None
        yield view, opened


def _view(file: AudioFile, head: list[Extent], first: int) -> AudioFile:
    view = join_pieces(file, [*head, Extent(first, file.size)])
    view.begins_late = True
    return view


def _give_up() -> RowError:
    return RowError(f"no sound within the first {MAX_SEARCHED >> 20:,} MiB of this film", "too_long")


def _transport_stream(file: AudioFile, track: int | None) -> AudioFile | None:
    file.seek(0)
    try:
        with av.open(file, mode="r", options=format_options(), metadata_errors="replace") as container:
            streams = container.streams.audio
            wanted = None if track is None else streams[track] if track < len(streams) else None
            if not streams or (track is not None and wanted is None):
                return None
            for stream in container.streams:
                if stream.type != "audio" or wanted not in (None, stream):
                    stream.discard = Discard.all
            packets = container.demux(list(streams) if wanted is None else wanted)
            first = next((packet.pos for packet in packets if packet.size and packet.pos is not None), None)
    except av.error.FFmpegError:
        return None
    if first is None:
        return None
    if first > MAX_SEARCHED:
        raise _give_up()
    # The packets of the view must follow each other without a break.
    size = _packet_size(file)
    end = min(_HEAD, first // 2)
    return _view(file, [Extent(0, max(0, end - (end - first) % size))], first)


def _packet_size(file: AudioFile) -> int:
    file.seek(0)
    head: bytes = file.read(64 << 10) or b""
    for size in (188, 192, 204):
        for place in range(size):
            marks = head[place::size]
            if len(marks) > 8 and marks.count(0x47) > 0.9 * len(marks):
                return size
    return 188


def _program_stream(file: AudioFile) -> AudioFile | None:
    place = 0
    while place < file.size:
        if place > MAX_SEARCHED:
            raise _give_up()
        file.seek(place)
        data: bytes = file.read(_BLOCK) or b""
        found = _PROGRAM_AUDIO.search(data)
        if found:
            first = place + found.start()
            file.seek(0)
            # The head ends with a whole pack.
            end = (file.read(min(_HEAD, first // 2)) or b"").rfind(_PACK)
            return _view(file, [Extent(0, max(0, end))], first)
        if len(data) < 4:
            break
        place += len(data) - 3
    return None


def _flash(file: AudioFile) -> AudioFile | None:
    head: list[Extent] = []
    for kind, start, end in _flash_tags(file):
        if start > MAX_SEARCHED:
            raise _give_up()
        if kind == _AUDIO_TAG:
            return _view(file, head, start)
        # The index in a tag of script has places of the whole file.
        if kind != _SCRIPT_TAG and start < _HEAD:
            head.append(Extent(start, end))
    return None


def _flash_tags(file: AudioFile) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of each tag, with the size that follows it; first the file's header as kind 0."""
    file.seek(5)
    place = int.from_bytes(file.read(4) or b"", "big") + 4
    yield 0, 0, place
    while place + 11 <= file.size:
        file.seek(place)
        tag: bytes = file.read(4) or b""
        end = place + 15 + int.from_bytes(tag[1:4], "big")
        yield tag[0] & 0x1F, place, end
        place = end
