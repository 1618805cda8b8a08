"""What a file's header says about it, from a few kilobytes: enough to plan with.

Where the header does not say, the file's packets are counted on request.
"""

from __future__ import annotations

import av

from actors.containers import Opened, open_container
from actors.errors import RowError
from actors.lengths import duration_is_estimated, riff_facts
from actors.results import Probe
from actors.sources import AudioFile, open_audio

_BLOCK = 128 << 10  # bytes read ahead: a header is small
_PROBE_BYTES = 64 << 10  # bytes behind the header
_SMALL = 256 << 10  # bytes: whatever is no larger is scanned where its header leaves questions
_SLOWEST = 10.0  # bytes per second: no codec says anything in less
_SLACK = 60.0  # seconds
_WIDTHS = {  # bytes of a sample
    "pcm_u8": 1,
    "pcm_mulaw": 1,
    "pcm_alaw": 1,
    "pcm_s16le": 2,
    "pcm_s24le": 3,
    "pcm_s32le": 4,
    "pcm_f32le": 4,
    "pcm_f64le": 8,
}


def probe(uri: str, scan: bool = False, retries: int = 4) -> Probe:
    """Read a file's header.

    Args:
        uri: a local path or any fsspec URI.
        scan: where the header does not give a duration to rely on, read all packets (without decoding them) to learn it.
        retries: attempts after a storage error.

    Returns:
        The facts. `duration` is None where the header does not say, or says something absurd. Flags: duration_estimated (a guess from the bit
        rate), duration_scanned (counted), duration_from_size (a WAVE whose writer never filled in its length), absurd_duration.

    Raises:
        RowError: a code that names what is wrong with the file.
        RetryableError: storage_unavailable.
    """
    with open_audio(uri, retries, block_size=_BLOCK, whole=_SMALL) as file:
        try:
            facts, duration, flags = _header(file, _PROBE_BYTES)
        except RowError as error:
            if error.code == "empty_file":
                raise
            facts, duration, flags = _header(file, None)  # a video may need more bytes until its audio shows
        if duration is None or "duration_estimated" in flags:
            if scan or file.size <= _SMALL:
                duration, flags = _scanned(file), [flag for flag in flags if flag != "duration_estimated"]
                flags.append("duration_scanned")
            if duration == 0:
                raise RowError("a valid header, but not one sample behind it", "no_samples")
        return Probe(duration, facts.codec, facts.format, facts.sampling_rate, facts.channels, file.size, file.etag, tuple(flags))


def _header(file: AudioFile, probe_bytes: int | None) -> tuple[Opened, float | None, list[str]]:
    with open_container(file, probe_bytes=probe_bytes) as opened:
        return opened, *_duration(opened, file)


def _duration(opened: Opened, file: AudioFile) -> tuple[float | None, list[str]]:
    stream, container = opened.stream, opened.container
    duration: float | None = None
    if stream.duration and stream.time_base:
        duration = float(stream.duration * stream.time_base)
    elif container.duration:
        duration = container.duration / av.time_base
    facts = riff_facts(file) if opened.format == "wav" else None
    if facts and facts.is_placeholder and facts.data_start is not None:
        width = _WIDTHS.get(opened.codec)
        if width:
            samples = (file.size - facts.data_start) // (width * opened.channels)
            return (samples / opened.sampling_rate, ["duration_from_size"]) if samples > 0 else (None, [])
    if duration is None or duration <= 0:
        return None, []
    if duration > file.size / _SLOWEST + _SLACK:
        return None, ["absurd_duration"]
    return duration, ["duration_estimated"] if duration_is_estimated(file, opened.format) else []


def _scanned(file: AudioFile) -> float:
    """Seconds from the first to the end of the last packet."""
    with open_container(file) as opened:
        first: int | None = None
        end, ticks = 0, 0
        try:
            for packet in opened.container.demux(opened.stream):
                if packet.size == 0:
                    continue
                ticks += packet.duration or 0
                if packet.pts is not None:
                    first = packet.pts if first is None else min(first, packet.pts)
                    end = max(end, packet.pts + (packet.duration or 0))
        except av.error.FFmpegError:
            pass  # what follows cannot be read when it is decoded either
        time_base = float(opened.stream.time_base or 0)
        return max(end - (first or 0), 0 if first is not None else ticks) * time_base
