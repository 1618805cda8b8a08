"""How far a file's time stamps can be believed.

Decoding from the start counts samples, a place reached by a seek is known by its stamp. Both mean the same place only while the stamps run on with
the sound: they do not where several recordings stand behind each other in one file, or where a recorder's clock was set or ran slow.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.audio.stream import AudioStream

from actors.audio.containers import Opened, open_container
from actors.audio.header_facts import riff_facts
from actors.audio.sources import AudioFile

GAP = 0.05  # seconds that time stamps may run ahead before it counts as missing audio
LONGEST_GAP = 1800.0  # seconds; a larger jump is a broken time stamp, unless the header says that the file lasts as long
_APART = 0.1  # seconds that stamps and counting may come apart: about what a frame of a lossy codec lasts
_LEAD = 0.1  # seconds that sound begins behind the picture before it counts: less is what encoders do
_SLOWEST = 10.0  # bytes per second: no codec says anything in less
_SLOW = 1000.0  # bytes per second: speech codecs need about as much; a longer recording is silence, or its header a lie
_SLACK = 60.0  # seconds
_DOUBTED = 3600.0  # seconds: shorter claims do little harm even if they are not true
_PAGES = 64 << 10  # bytes: no page of an Ogg file is longer
# Formats whose stamps may start anew or stand still on the way, and the bytes up to which a file is walked through to find out: every shard reads
# all of it then. Matroska, which hardly ever does it, less far than what is often several recordings put together.
_WALKED = {"mpegts": 1 << 30, "mpeg": 1 << 30, "flv": 1 << 30, "matroska,webm": 64 << 20}


@dataclass(frozen=True, slots=True)
class Walk:
    """What all packets say."""

    duration: float  # seconds on the time line of who decodes from the start
    apart: float  # seconds by which stamps and counting came apart at most


def longest_believable(size: int) -> float:
    """Seconds that a file of `size` bytes may claim to last."""
    return min(size / _SLOWEST + _SLACK, size / _SLOW + _DOUBTED)


def furthest(opened: Opened, file: AudioFile) -> float:
    """Seconds up to which a jump forward, however long, is a hole in the recording; 0 where the header does not say."""
    seconds = (opened.container.duration or 0) / av.time_base
    return seconds + 1.0 if 0 < seconds <= longest_believable(file.size) else 0.0


def lead_of(opened: Opened) -> float:
    """Seconds that a video runs before its sound begins: they belong to its time."""
    stream, start = opened.stream, opened.container.start_time
    if len(opened.container.streams) == 1 or stream.start_time is None or start is None:
        return 0.0
    lead = float(stream.start_time * (stream.time_base or 0)) - start / av.time_base
    return lead if _LEAD <= lead <= min(LONGEST_GAP, (opened.container.duration or 0) / av.time_base) else 0.0


def duration_of(opened: Opened) -> tuple[float | None, bool]:
    """Seconds that the sound lasts by the header, and whether that is said of the sound alone."""
    stream, container = opened.stream, opened.container
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base) + lead_of(opened), True
    if not container.duration:
        return None, True
    duration, begin = container.duration / av.time_base, 0.0
    matroska = opened.format == "matroska,webm"
    if matroska and container.start_time and container.start_time > 0:
        begin = container.start_time / av.time_base  # its duration counts from 0, whatever the first stamp
    if len(container.streams) == 1:
        return duration - begin, True
    said = _tagged(stream) if matroska else None
    return (
        (said - begin, True)
        if said is not None and begin < said <= duration + 1.0
        else (duration - begin, False)
    )


def _tagged(stream: AudioStream) -> float | None:
    """When the stream ends, by the tag that Matroska's writers give each stream."""
    text = next((value for name, value in stream.metadata.items() if name.startswith("DURATION")), "")
    try:
        hours, minutes, seconds = map(float, text.split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def walk(opened: Opened, longest: float) -> Walk:
    """Go through all packets without decoding them, as `timeline` does with frames. `longest`: see `furthest`."""
    stream = opened.stream
    tick = float(stream.time_base or 0)
    coarse = tick * opened.sampling_rate > 1  # longer than a sample: what packets last is rounded
    frame = (stream.codec_context.frame_size or 0) / opened.sampling_rate
    drift, position, packets, apart = None, 0.0, 0, 0.0  # type: float | None, float, int, float
    begin = 0.0
    try:
        for packet in opened.container.demux(stream):
            if packet.size == 0:
                continue
            length = max(0, packet.duration or 0) * tick
            exact = not coarse or abs(length - frame) <= 1.5 * tick
            packets += not exact
            if packet.pts is not None:
                if drift is None:
                    begin = drift = position - packet.pts * tick
                ahead = packet.pts * tick + drift - position
                if ahead > GAP and is_hole(ahead, position, longest):
                    position += ahead
                elif abs(ahead) > GAP:
                    drift -= ahead
                    apart = max(apart, abs(drift - begin) - packets * tick / 2)
            position += frame if exact and coarse else length
    except av.error.FFmpegError:
        pass  # what follows cannot be read when it is decoded either
    return Walk(position, apart)


def is_hole(ahead: float, position: float, longest: float) -> bool:
    """Whether stamps that jump `ahead` seconds at `position` leave out a part of the recording; they are broken or start anew otherwise."""
    return 0 < ahead <= LONGEST_GAP or (ahead > 0 and position + ahead <= longest)


def can_be_sought(file: AudioFile, container_format: str) -> bool:
    """Whether the stamp of a place tells how many samples are before it, so that the place can be reached without decoding these."""
    if container_format == "ogg":
        return not is_chained(file)
    if container_format == "wav":
        return _runs_by_bytes(file)
    if file.size > _WALKED.get(container_format, 0):
        return True
    with open_container(file) as opened:
        return walk(opened, furthest(opened, file)).apart <= _APART


def _runs_by_bytes(file: AudioFile) -> bool:
    """Whether a WAVE file lasts as long as its bytes a second say, by which ffmpeg seeks and makes the stamps behind it.

    Many writers have it wrong: ffmpeg's own, for all ADPCM that it writes.
    """
    facts = riff_facts(file)
    if facts is None or facts.data_start is None or facts.data_size is None or not facts.byte_rate:
        return facts is None  # RF64, which no old writer makes
    with open_container(file) as opened:
        seconds = (
            float(opened.stream.duration * opened.stream.time_base)
            if opened.stream.duration and opened.stream.time_base
            else None
        )
    sizes = {file.size - facts.data_start, facts.data_size}  # one that was cut off may count by either
    return seconds is not None and any(abs(size / facts.byte_rate - seconds) <= _APART for size in sizes)


def is_chained(file: AudioFile) -> bool:
    """Whether an Ogg file is several behind each other: each has serial numbers of its own, and its last page one that the first does not know."""
    file.seek(0)
    first = set()
    for flags, serial in _pages(file.read(_PAGES)):
        if not flags & 2:  # all streams begin before any goes on
            break
        first.add(serial)
    file.seek(max(0, file.size - 2 * _PAGES))
    last = [serial for _, serial in _pages(file.read(2 * _PAGES))]
    return bool(first and last) and last[-1] not in first


def _pages(data: bytes) -> list[tuple[int, bytes]]:
    """Flags and serial number of each page that begins in `data`."""
    found = []
    place = data.find(b"OggS\0")
    while 0 <= place <= len(data) - 27:
        found.append((data[place + 5], data[place + 14 : place + 18]))
        place = data.find(b"OggS\0", place + 27)
    return found
