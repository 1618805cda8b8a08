"""A chain of files as one recording: each link is opened for itself, and the times run on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from actors.audio.containers import open_container
from actors.audio.formats.links import find_links
from actors.audio.frames import DecodeLosses
from actors.audio.header_facts import duration_is_estimated
from actors.audio.pts import duration_of, longest_believable, max_hole_end, walk_packets
from actors.audio.recordings.reader import Block, Reader
from actors.audio.sources import AudioFile
from actors.audio.structure.front_tags import skip_front_tags
from actors.audio.structure.views import join_pieces, read_at
from actors.audio.timeline import SampleReader
from actors.errors import RowError

# Seconds by which a link's duration by its header and by its packets may differ.
_TOLERANCE = 0.1
# Seconds of silence at the end of a link that count as missing.
_MISSING = 1.0


@dataclass(frozen=True)
class _Link:
    reader: SampleReader
    # Samples at the chain's rate.
    start: int
    end: int


def open_recording(file: AudioFile, track: int | None = None) -> Reader:
    """The reader of a file: of one file, or of a chain of files.

    Args:
        file: the file.
        track: number of the audio track, from 0; None takes the one that ffmpeg selects.

    Raises:
        RowError: the file cannot be opened.
        RetryableError: reading failed.
    """
    return open_chain(file, track) or SampleReader(file, track)


def open_chain(file: AudioFile, track: int | None = None, briefly: bool = False) -> ChainedReader | None:
    """The reader of a chain of files; None where `file` is a single one.

    Args:
        file: the file.
        track: see `open_recording`.
        briefly: see `find_links`.

    Raises:
        RowError: none of the links can be opened.
        RetryableError: reading failed.
    """
    whole = skip_front_tags(file)
    links = find_links(whole, briefly)
    if len(links) <= 1:
        return None
    return ChainedReader(file, [join_pieces(whole, [link]) for link in links], track)


class ChainedReader:
    """Reads the links of a chain one after another. Has the interface of `SampleReader`.

    The first link that can be read determines the sampling rate; the others are resampled to it.

    Args:
        file: the chain.
        links: views of its links.
        track: of each link, from 0; None takes the one that ffmpeg selects.

    Raises:
        RowError: none of the links can be opened.
        RetryableError: reading failed.
    """

    def __init__(self, file: AudioFile, links: list[AudioFile], track: int | None) -> None:
        self.file = file
        readers, errors = _open_all(links, track)
        first = readers[0]
        self.format, self.codec, self.sampling_rate = first.format, first.codec, first.sampling_rate
        self.channels = max(reader.channels for reader in readers)
        self.audio_streams = max(reader.audio_streams for reader in readers)
        self.track = first.track
        self.is_cut_off = any(reader.is_cut_off for reader in readers)
        self.flags = list(dict.fromkeys(flag for reader in readers for flag in reader.flags))
        if any(error.code != "no_samples" for error in errors) and "audio_unread" not in self.flags:
            self.flags.append("audio_unread")
        self._links: list[_Link] = []
        seconds = 0.0
        for reader in readers:
            start = round(seconds * self.sampling_rate)
            seconds += _duration(reader)
            self._links.append(_Link(reader, start, round(seconds * self.sampling_rate)))
        self.header_duration: float | None = seconds
        self.can_seek = True

    def blocks(self, first: int, losses: DecodeLosses) -> Iterator[Block]:
        """See `SampleReader.blocks`."""
        done = DecodeLosses()
        for number, link in enumerate(self._links):
            is_last = number == len(self._links) - 1
            if link.end <= first and not is_last:
                continue
            lost = DecodeLosses()
            position = max(link.start, min(first, link.end))
            for block in self._link_blocks(link, first, lost):
                samples = block.samples if is_last else block.samples[: max(0, link.end - block.position)]
                position = block.position + len(samples)
                _add(done, lost, losses)
                if len(samples):
                    yield Block(block.position, samples)
            missing = 0 if is_last else link.end - position
            if missing > 0:
                if missing > _MISSING * self.sampling_rate:
                    lost.filled += missing / self.sampling_rate
                yield Block(position, np.zeros((missing, link.reader.channels), np.float32))
            _add(done, lost, losses)
            _add(done, lost, done)

    def _link_blocks(self, link: _Link, first: int, losses: DecodeLosses) -> Iterator[Block]:
        """The blocks of a link with positions in the chain; the first one begins at or before `first`."""
        reader, wanted = link.reader, max(0, first - link.start)
        if reader.sampling_rate == self.sampling_rate:
            for block in reader.blocks(wanted, losses):
                yield Block(link.start + block.position, block.samples)
            return
        # From the start, so that every span gets the same samples.
        stream, position = None, link.start
        channels = reader.channels
        for block in reader.blocks(0, losses):
            samples = block.samples
            if stream is None or samples.shape[1] != channels:
                channels = samples.shape[1]
                stream = soxr.ResampleStream(
                    reader.sampling_rate, self.sampling_rate, channels, dtype="float32", quality="VHQ"
                )
            output = _resample(stream, samples, False)
            if position + len(output) > first - self.sampling_rate:
                yield Block(position, output)
            position += len(output)
        if stream is not None:
            output = _resample(stream, np.zeros((0, channels), np.float32), True)
            yield Block(position, output)


def _resample(stream: soxr.ResampleStream, samples: np.ndarray, last: bool) -> np.ndarray:
    channels = samples.shape[1]
    output = stream.resample_chunk(
        np.ascontiguousarray(samples[:, 0] if channels == 1 else samples), last=last
    )
    return np.asarray(output, np.float32).reshape(-1, channels)


def _open_all(links: list[AudioFile], track: int | None) -> tuple[list[SampleReader], list[RowError]]:
    readers, errors = [], []
    for link in links:
        try:
            readers.append(SampleReader(link, track))
            # There may be many links.
            readers[-1].close()
        except RowError as error:
            errors.append(error)
    if not readers:
        raise errors[0]
    return readers, errors


def _duration(reader: SampleReader) -> float:
    """Seconds of a link: by its header where its packets agree."""
    with open_container(reader.file, track=reader.track) as opened:
        duration = duration_of(opened, reader.file)[0]
        if duration is not None and reader.codec in ("opus", "libopus"):
            duration -= _pre_skip(reader.file)
        counted = walk_packets(opened, max_hole_end(opened, reader.file)).duration
    if (
        duration is None
        or duration_is_estimated(reader.file, reader.format)
        or duration > longest_believable(reader.file.size)
        or abs(duration - counted) > _TOLERANCE
    ):
        return counted
    return duration


def _pre_skip(file: AudioFile) -> float:
    """Seconds that an Opus decoder drops at the beginning of an Ogg file, which its positions count."""
    head = read_at(file, 0, 4096)
    place = head.find(b"OpusHead")
    return int.from_bytes(head[place + 10 : place + 12], "little") / 48_000 if place >= 0 else 0.0


def _add(done: DecodeLosses, link: DecodeLosses, total: DecodeLosses) -> None:
    """Write the losses of the links before and of this one to `total`."""
    total.errors, total.filled = done.errors + link.errors, done.filled + link.filled
    total.frames, total.broken = done.frames + link.frames, done.broken or link.broken
    total.max_drift = max(done.max_drift, link.max_drift)
