"""How far a file's time stamps can be trusted.

Decoding from the start counts samples; a place reached by a seek is known by its time stamp. Both give the
same position only while the time stamps advance with the sound. They do not where one file contains several
recordings one after another, or where a recorder's clock was set or ran slow.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.audio.stream import AudioStream

from actors.audio.containers import Opened, open_container, packets_of
from actors.audio.formats.links import first_flac_sample
from actors.audio.header_facts import riff_facts
from actors.audio.sources import AudioFile

# Seconds that time stamps may run ahead before it counts as missing audio.
GAP = 0.05
# Seconds. A larger jump is a broken time stamp, unless the header says that the file lasts as long.
MAX_GAP = 1800.0
# Seconds that positions from time stamps and from counting may differ: about the length of a lossy codec's
# frame.
_MAX_DIFFERENCE = 0.1
# Seconds by which sound must begin after the picture to count as late: encoders cause less.
_MIN_LEAD = 0.1
# Bytes per second that no codec goes below.
_MIN_BYTE_RATE = 10.0
# Bytes per second that speech codecs need, about. A longer recording is silence, or its header is wrong.
_SPEECH_BYTE_RATE = 1000.0
# Seconds that are added to the longest duration by `_MIN_BYTE_RATE` and by `_SPEECH_BYTE_RATE`. A wrong
# duration of up to an hour does little harm.
_SLACK, _SPEECH_SLACK = 60.0, 3600.0
# Bytes that no page of an Ogg file exceeds.
_MAX_OGG_PAGE = 64 << 10
# Formats whose time stamps may restart or stop on the way, and the bytes up to which all packets of a file
# are read to find out. Every shard does that. Matroska, which hardly ever does it, has a lower limit than
# formats that often contain several recordings.
_MAX_WALKED_BYTES = {"mpegts": 1 << 30, "mpeg": 1 << 30, "flv": 1 << 30, "matroska,webm": 64 << 20}


# Formats whose time stamps count from the beginning of the film.
_CLOCK_FROM_ZERO = frozenset({"matroska,webm", "asf", "nut", "flv", "ogg"})
# Formats that have a duration of the whole film only.
_WITHOUT_OWN_DURATION = frozenset({"matroska,webm", "asf", "nut", "flv"})
# Formats without time stamps in which ffmpeg seeks by an estimate of the bit rate.
_INEXACT = frozenset({"dts", "dtshd", "truehd", "mlp"})


@dataclass(frozen=True, slots=True)
class Walk:
    """What the time stamps and lengths of all packets say."""

    # Seconds that the file lasts when it is decoded from the start.
    duration: float
    # Seconds by which positions from time stamps and from counting differed at most.
    max_drift: float


def longest_believable(size: int) -> float:
    """Seconds that a file of `size` bytes may claim to last."""
    return min(size / _MIN_BYTE_RATE + _SLACK, size / _SPEECH_BYTE_RATE + _SPEECH_SLACK)


def max_hole_end(opened: Opened, file: AudioFile) -> float:
    """Seconds up to which a jump forward of any length is missing audio; 0 where the header does not say."""
    seconds = (opened.container.duration or 0) / av.time_base
    return seconds + 1.0 if 0 < seconds <= longest_believable(file.size) else 0.0


def lead_of(opened: Opened, first: float | None = None) -> float:
    """Seconds that a video runs before its sound begins. They are part of the recording's time line.

    Args:
        opened: the container.
        first: time stamp, in samples, of the first frame. ffmpeg takes the start of the picture for that of
            sound that begins more than 5 s later.
    """
    stream, start = opened.stream, opened.container.start_time
    if start is None and opened.format in _CLOCK_FROM_ZERO:
        # The picture's time stamps cannot be told without its decoder.
        start = 0
    begins = [] if stream.start_time is None else [float(stream.start_time * (stream.time_base or 0))]
    begins += [] if first is None else [first / opened.sampling_rate]
    if len(opened.container.streams) == 1 or not begins or start is None:
        return 0.0
    lead, duration = max(begins) - start / av.time_base, (opened.container.duration or 0) / av.time_base
    return lead if _MIN_LEAD <= lead <= (duration or MAX_GAP) else 0.0


def duration_of(opened: Opened, file: AudioFile) -> tuple[float | None, bool]:
    """Seconds that the sound lasts by the header, and whether that is the length of the sound alone."""
    stream, container = opened.stream, opened.container
    # ffmpeg gives a stream whose start it does not know the duration of the whole film.
    is_own = opened.format not in _WITHOUT_OWN_DURATION
    if is_own and stream.duration and stream.time_base:
        ticks = stream.duration
        if opened.format == "ogg" and len(container.streams) == 1:
            ticks -= _joined_at(opened, file)
        return float(ticks * stream.time_base) + lead_of(opened), True
    if not container.duration:
        return None, True
    duration, begin = container.duration / av.time_base, 0.0
    matroska = opened.format == "matroska,webm"
    if matroska and container.start_time and container.start_time > 0:
        # Matroska counts the duration from 0, whatever the first time stamp.
        begin = container.start_time / av.time_base
    if len(container.streams) == 1:
        return duration - begin, True
    tagged = _tagged_end(stream) if matroska else None
    if tagged is not None and begin < tagged <= duration + 1.0:
        return tagged - begin, True
    return duration - begin, False


def _joined_at(opened: Opened, file: AudioFile) -> int:
    """The position, in ticks, at which an Ogg stream begins that was joined midway.

    ffmpeg takes the position of the end for the duration of Opus and FLAC; of other codecs it subtracts the
    start.
    """
    start, end = 0, opened.stream.duration or 0
    if opened.codec in ("opus", "libopus"):
        start = opened.stream.start_time or 0
    elif opened.codec == "flac":
        start = first_flac_sample(file)
    return start if 0 < start < end else 0


def _tagged_end(stream: AudioStream) -> float | None:
    """The second at which the stream ends, by the tag that writers of Matroska give each stream."""
    text = next((value for name, value in stream.metadata.items() if name.startswith("DURATION")), "")
    try:
        hours, minutes, seconds = map(float, text.split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def walk_packets(opened: Opened, longest: float) -> Walk:
    """Read all packets without decoding them, and apply the rules by which `timeline` positions frames.

    Args:
        opened: the container, at its start.
        longest: see `max_hole_end`.
    """
    stream = opened.stream
    tick = float(stream.time_base or 0)
    # A tick is longer than a sample, so the lengths of packets are rounded.
    coarse = tick * opened.sampling_rate > 1
    frame = (stream.codec_context.frame_size or 0) / opened.sampling_rate
    drift: float | None = None
    position, begin, max_drift = 0.0, 0.0, 0.0
    rounded_packets = 0
    try:
        for packet in packets_of(opened):
            if packet.size == 0:
                continue
            length = max(0, packet.duration or 0) * tick
            exact = not coarse or abs(length - frame) <= 1.5 * tick
            rounded_packets += not exact
            if packet.pts is not None:
                if drift is None:
                    position += lead_of(opened, packet.pts * tick * opened.sampling_rate)
                    begin = drift = position - packet.pts * tick
                ahead = packet.pts * tick + drift - position
                if ahead > GAP and is_hole(ahead, position, longest):
                    position += ahead
                elif abs(ahead) > GAP:
                    drift -= ahead
                    max_drift = max(max_drift, abs(drift - begin) - rounded_packets * tick / 2)
            position += frame if exact and coarse else length
    except av.error.FFmpegError:
        # What follows cannot be decoded either.
        pass
    return Walk(position, max_drift)


def is_hole(ahead: float, position: float, longest: float) -> bool:
    """Whether a jump of the time stamps is missing audio; otherwise they are broken or restart.

    Args:
        ahead: seconds of the jump.
        position: where it is, in seconds.
        longest: see `max_hole_end`.
    """
    return 0 < ahead <= MAX_GAP or (ahead > 0 and position + ahead <= longest)


def can_be_sought(file: AudioFile, container_format: str, track: int | None = None) -> bool:
    """Whether the time stamp of a place gives its position, so that a seek can reach it without decoding."""
    if container_format == "ogg":
        return not is_chained(file)
    if container_format in _INEXACT:
        return False
    if container_format == "avi":
        with open_container(file, track=track) as opened:
            return not opened.packet_times
    if container_format == "wav":
        return _has_true_byte_rate(file)
    if file.size > _MAX_WALKED_BYTES.get(container_format, 0):
        return True
    with open_container(file, track=track) as opened:
        return walk_packets(opened, max_hole_end(opened, file)).max_drift <= _MAX_DIFFERENCE


def _has_true_byte_rate(file: AudioFile) -> bool:
    """Whether a WAVE file lasts as long as its byte rate says.

    ffmpeg seeks and computes time stamps by it. Many writers write a wrong one. ffmpeg itself does for all
    ADPCM.
    """
    facts = riff_facts(file)
    if facts is None or facts.data_start is None or facts.data_size is None or not facts.byte_rate:
        # A file without RIFF facts is RF64, which no old writer makes.
        return facts is None
    with open_container(file) as opened:
        seconds = (
            float(opened.stream.duration * opened.stream.time_base)
            if opened.stream.duration and opened.stream.time_base
            else None
        )
    if seconds is None:
        return False
    # The duration of a file that was cut off may come from either size.
    sizes = {file.size - facts.data_start, facts.data_size}
    return any(abs(size / facts.byte_rate - seconds) <= _MAX_DIFFERENCE for size in sizes)


def is_chained(file: AudioFile) -> bool:
    """Whether an Ogg file is several files one after another.

    Each of them has its own serial numbers, so the last page has one that the first pages do not have.
    """
    file.seek(0)
    first = set()
    for flags, serial in _pages(file.read(_MAX_OGG_PAGE)):
        # All streams of a file begin before any of them continues.
        if not flags & 2:
            break
        first.add(serial)
    file.seek(max(0, file.size - 2 * _MAX_OGG_PAGE))
    last = [serial for _, serial in _pages(file.read(2 * _MAX_OGG_PAGE))]
    return bool(first and last) and last[-1] not in first


def _pages(data: bytes) -> list[tuple[int, bytes]]:
    """Flags and serial number of each Ogg page that begins in `data`."""
    found = []
    place = data.find(b"OggS\0")
    while 0 <= place <= len(data) - 27:
        found.append((data[place + 5], data[place + 14 : place + 18]))
        place = data.find(b"OggS\0", place + 27)
    return found
