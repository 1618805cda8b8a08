"""Decoded audio on one time line: blocks of samples with exact positions, from any place of a recording.

Positions are in samples of the source, counted from the recording's first audible sample. Encoder priming is
not part of the time line; the seconds that a video runs before its sound begins are. After a seek, positions
come from the container's time stamps, compared with those of the first second. Formats whose time stamps are
coarse (WebM: 1 ms) or inexact (Vorbis: half a block) thus get the same positions as when all is decoded from
the start. In files whose time stamps do not advance with the sound (`actors.audio.pts`), every place is
reached by decoding up to it.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from dataclasses import fields, replace
from itertools import chain

import av
import numpy as np

from actors.audio.containers import is_plausible_rate, missing_track, require_audio
from actors.audio.frames import (
    DecodeLosses,
    Frame,
    anchor_of,
    count_frames_before,
    decoded_rate,
    frames_of,
    join_frames,
    snap_to_frame,
    take_frames,
)
from actors.audio.header_facts import duration_is_estimated, mp3_facts
from actors.audio.pts import (
    GAP,
    can_be_sought,
    duration_of,
    is_hole,
    lead_of,
    longest_believable,
    max_hole_end,
)
from actors.audio.recordings.kept_stream import ANCHOR, KeptStream
from actors.audio.recordings.reader import Block
from actors.audio.sources import AudioFile
from actors.audio.structure.contents import read_contents
from actors.audio.structure.cut_offs import COARSE_DURATIONS, is_cut_off
from actors.audio.structure.pcm_samples import read_pcm
from actors.errors import RowError

# Seconds decoded and dropped before a place, because lossy codecs depend on what was before: MP3's bit
# reservoir, Opus' 80 ms, AAC's overlap.
PRE_ROLL = 1.5
# Seconds. Places nearer to the start are reached by decoding up to them.
_FROM_START = 5.0


class SampleReader:
    """Reads the decoded time line of one audio file.

    Args:
        file: the file.
        track: number of the audio track, from 0; None takes the one that ffmpeg selects.

    Raises:
        RowError: the file cannot be opened.
        RetryableError: reading failed.
    """

    def __init__(self, file: AudioFile, track: int | None = None) -> None:
        require_audio(file)
        contents = read_contents(file)
        # What was found out about the file as a whole: flags of a transcript, and a header that promises more
        # samples than there are.
        self.flags, self.is_cut_off = contents.flags, contents.is_cut_off
        self.header_duration: float | None
        self.file = file = contents.file
        self._parts = contents.parts
        if contents.parts is not None:
            first_format = contents.parts[0].format
            self.format, self.codec, self.audio_streams = contents.container, first_format.codec, 1
            self.sampling_rate, self.channels = first_format.sampling_rate, first_format.channels
            self.duration_is_its_own, self.header_duration, self.track = True, None, 0
            if track:
                raise missing_track(track, 1)
            return
        self._stream = KeptStream(file, track)
        self.file, self.track = self._stream.file, self._stream.track
        try:
            self._read_facts()
        except BaseException:
            self._stream.close()
            raise

    def _read_facts(self) -> None:
        file, opened = self.file, self._stream.opened
        self.format, self.codec, self.audio_streams = opened.format, opened.codec, opened.audio_streams
        # False where the header has only the duration of a video, which may go on without sound. Reading
        # on changes what ffmpeg says about the stream.
        duration, self.duration_is_its_own = duration_of(opened, file)
        first = self._stream.begin()
        self.sampling_rate, self.channels = opened.sampling_rate, opened.channels
        # None where the header has no duration of the sound, or only an estimate of it.
        self.header_duration = duration if self._is_own_duration(duration) else None
        self._max_hole_end = max_hole_end(opened, file)
        lead = lead_of(opened, first.stamp if first else None)
        if first is not None:
            self.channels = first.channels
            self.sampling_rate = decoded_rate(opened) or opened.sampling_rate
            if not is_plausible_rate(self.sampling_rate, self.codec):
                raise RowError(f"the decoder claims a sampling rate of {self.sampling_rate} Hz", "bad_header")
        self._lead = round(lead * self.sampling_rate)
        self._mp3 = mp3_facts(file) if self.format == "mp3" else None
        self.is_cut_off = self.is_cut_off or is_cut_off(file, self.format)

    def _is_own_duration(self, duration: float | None) -> bool:
        return (
            duration is not None
            and self.duration_is_its_own
            and self.format not in COARSE_DURATIONS
            and not duration_is_estimated(self.file, self.format)
            and duration <= longest_believable(self.file.size)
        )

    def close(self) -> None:
        """Close what is kept open of the file. The next read opens it again."""
        if self._parts is None:
            self._stream.close()

    @functools.cached_property
    def can_seek(self) -> bool:
        """Whether places are reached by seeking. Computed at the first use: it may read the whole file."""
        return self._parts is not None or can_be_sought(self.file, self.format, self.track)

    def blocks(self, first: int, losses: DecodeLosses) -> Iterator[Block]:
        """Yield consecutive blocks from `first` to the end of the recording.

        The first block begins at or before `first`, unless the recording ends before it. The caller drops the
        samples before `first`.

        Args:
            first: a position in samples of the source.
            losses: is filled in for the audio behind `first`.

        Raises:
            RowError: the file cannot be opened.
            RetryableError: reading failed.
        """
        if self._parts is not None:
            for position, samples in read_pcm(self._parts, first):
                losses.frames += 1
                yield Block(position, samples)
            return
        for pre_roll, jump in self._seeks(first):
            attempt = DecodeLosses()
            blocks = self._after_seek(first, int(pre_roll * self.sampling_rate), jump, attempt)
            head = next(blocks, None)
            if head is not None and head.position <= first:
                yield head
                for block in blocks:
                    _copy(attempt, losses)
                    yield block
                _copy(attempt, losses)
                return
            blocks.close()
        yield from self._from_start(losses)

    def _seeks(self, first: int) -> list[tuple[float, bool]]:
        """The seeks to try, cheapest first: seconds of pre-roll, and whether to jump by byte position."""
        if first <= _FROM_START * self.sampling_rate or not self.can_seek:
            return []
        mp3 = self._mp3
        can_jump = mp3 is not None and mp3.constant and bool(mp3.frames) and bool(mp3.size)
        return [*([(PRE_ROLL, True)] if can_jump else []), (PRE_ROLL, False), (10 * PRE_ROLL, False)]

    def _from_start(self, losses: DecodeLosses) -> Iterator[Block]:
        with self._stream.from_start(self.sampling_rate) as (opened, frames, found):
            head = take_frames(frames, ANCHOR * self.sampling_rate)
            anchor = anchor_of(head, self.codec)
            if opened.packet_times and head:
                # The second frame may be a long time behind the first one.
                anchor = head[0].stamp
            channels = head[0].channels if head else self.channels
            yield from _silence(0, self._lead if head else 0, channels, self.sampling_rate)
            origin = None if anchor is None else anchor - self._lead
            for block in self._position(head, frames, self._lead, origin, found):
                _copy(found, losses)
                yield block
            _copy(found, losses)

    def _after_seek(
        self, first: int, pre_roll: int, jump: bool, losses: DecodeLosses
    ) -> Generator[Block, None, None]:
        with self._stream.for_seek(self.sampling_rate, jump) as (opened, start):
            origin = anchor_of(start, self.codec)
            if origin is None or opened.stream.time_base is None:
                return
            target = (first - self._lead - pre_roll + origin) / self.sampling_rate
            try:
                opened.container.seek(round(target / float(opened.stream.time_base)), stream=opened.stream)
            except av.error.FFmpegError:
                return
            opened.stream.codec_context.flush_buffers()
            frames = frames_of(opened, self.sampling_rate, losses, True)
            head = take_frames(frames, ANCHOR * self.sampling_rate)
            landed = anchor_of(head, self.codec)
            if jump and self._mp3 is not None and head:
                passed = count_frames_before(start, head[0], self._mp3, self.sampling_rate)
                landed = None if passed is None else origin + (passed - 1) * head[0].count + start[0].count
            if landed is None:
                return
            if jump:
                # From here on the time stamps are a little wrong, and none are better.
                head = [replace(frame, stamp=None) for frame in head]
                frames = (replace(frame, stamp=None) for frame in frames)
            # A decoder that starts in mid-stream fails on packets that depend on earlier ones.
            losses.errors = 0
            total = None
            if jump and opened.stream.duration:
                total = round(opened.stream.duration * opened.stream.time_base * self.sampling_rate)
            position = round(landed - origin)
            # A tick is longer than a sample.
            if opened.stream.time_base * self.sampling_rate > 1:
                position = snap_to_frame(landed - origin, start, head, self.sampling_rate)
            yield from self._position(head, frames, position + self._lead, origin - self._lead, losses, total)

    def _position(
        self,
        head: list[Frame],
        rest: Iterator[Frame],
        position: int,
        origin: float | None,
        losses: DecodeLosses,
        total: int | None = None,
    ) -> Iterator[Block]:
        """Join frames to blocks with positions.

        Missing audio becomes silence, so that later words keep their times.

        Args:
            head: the first frames.
            rest: the frames behind them.
            position: of the first sample.
            origin: time stamp, in samples, of position 0; None where there are no time stamps.
            losses: is filled in.
            total: samples of the recording by its header, where the decoder may fail to drop the encoder's
                padding at the end.
        """
        drift = 0.0 if origin is None else -origin
        # Blocks have about a second: a frame has 20 ms, and the work per block would cost more than decoding
        # it.
        pending: list[Frame] = []
        count = 0
        rate, gap = self.sampling_rate, GAP * self.sampling_rate
        begin = drift
        for frame in chain(head, rest):
            ahead = 0.0
            if frame.stamp is not None and origin is not None:
                ahead = frame.stamp + drift - position - count
            if not -gap <= ahead <= gap:
                if is_hole(ahead / rate, (position + count) / rate, self._max_hole_end):
                    missing = round(ahead)
                    losses.filled += missing / rate
                    if pending:
                        yield Block(position, join_frames(pending))
                        position, pending, count = position + count, [], 0
                    yield from _silence(position, missing, frame.channels, rate)
                    position += missing
                else:
                    # The time stamps restart (chained streams) or are broken: count from here on.
                    drift -= ahead
                    losses.max_drift = max(losses.max_drift, abs(drift - begin) / rate)
            if pending and pending[0].channels != frame.channels:
                yield Block(position, join_frames(pending))
                position, pending, count = position + count, [], 0
            pending.append(frame)
            count += frame.count
            if count >= rate:
                yield Block(position, join_frames(pending))
                position, pending, count = position + count, [], 0
        if pending:
            surplus = 0 if total is None else position + count - total
            samples = join_frames(pending)
            if 0 < surplus <= 2 * pending[0].count:
                samples = samples[: len(samples) - surplus]
            yield Block(position, samples)


def _silence(position: int, samples: int, channels: int, rate: int) -> Iterator[Block]:
    for place in range(0, samples, rate):
        yield Block(position + place, np.zeros((min(rate, samples - place), channels), np.float32))


def _copy(source: DecodeLosses, target: DecodeLosses) -> None:
    for field in fields(DecodeLosses):
        setattr(target, field.name, getattr(source, field.name))
