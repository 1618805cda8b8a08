"""Decoded audio on one time line: blocks of samples with exact positions, from the start of a recording or from anywhere in it.

Positions are in samples of the source, counted from the recording's first audible sample: encoder priming is not part of it, the seconds that a
video runs before its sound begins are. After a seek they come from the container's time stamps, compared with those of the first second, so that
formats whose stamps are coarse (WebM: 1 ms) or wander (Vorbis: half a block) still land where a decoder that read everything would be. Files whose
stamps do not run on with the sound (`actors.audio.pts`) are not sought in: every place in them is reached by decoding up to it.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields, replace
from itertools import chain

import av
import numpy as np

from actors.audio.containers import MAX_RATE, MIN_RATE, open_container
from actors.audio.frames import (
    DecodeLosses,
    Frame,
    anchor_of,
    constant_frames,
    decoded_rate,
    frames_of,
    joined,
    snapped,
    take,
)
from actors.audio.header_facts import mp3_facts
from actors.audio.pts import GAP, can_be_sought, duration_of, furthest, is_hole, lead_of
from actors.audio.sources import AudioFile
from actors.errors import RowError

PRE_ROLL = 1.5  # seconds decoded and thrown away before a place: lossy codecs need their past (MP3's bit reservoir, Opus' 80 ms, AAC's overlap)
_ANCHOR = 1.0  # seconds of frames whose time stamps vote about the position
_FROM_START = 5.0  # seconds; places nearer to the start are reached by decoding up to them


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples: float32, shape (samples, channels), starting at `position`."""

    position: int
    samples: np.ndarray


class SampleReader:
    """The decoded time line of one audio file."""

    def __init__(self, file: AudioFile) -> None:
        self.file = file
        with open_container(file) as opened:
            self.format, self.codec, self.audio_streams = opened.format, opened.codec, opened.audio_streams
            first = next(
                (frame for frame in frames_of(opened, opened.sampling_rate, DecodeLosses(), False)), None
            )
            self.sampling_rate, self.channels = opened.sampling_rate, opened.channels
            self.duration_is_its_own = duration_of(opened)[
                1
            ]  # not that of a video, which may go on without sound
            self._furthest, lead = furthest(opened, file), lead_of(opened)
            if first is not None:
                self.channels = first.channels
                self.sampling_rate = decoded_rate(opened) or opened.sampling_rate
                if not MIN_RATE <= self.sampling_rate <= MAX_RATE:
                    raise RowError(
                        f"the decoder claims a sampling rate of {self.sampling_rate} Hz", "bad_header"
                    )
        self._lead = round(lead * self.sampling_rate)
        self._mp3 = mp3_facts(file) if self.format == "mp3" else None

    @functools.cached_property
    def sought(self) -> bool:
        """Whether places are reached by seeking; found out when the first one is wanted, because it may take reading the file."""
        return can_be_sought(self.file, self.format)

    def blocks(self, first: int, losses: DecodeLosses) -> Iterator[Block]:
        """Yield consecutive blocks, the first of which begins at or before sample `first` (unless the recording ends before it).

        The caller drops what lies before `first`. `losses` is filled in for what lies behind it.

        Raises:
            RowError: the file cannot be opened.
            RetryableError: reading failed.
        """
        for pre_roll, jump in self._ways(first):
            attempt = DecodeLosses()
            blocks = self._after_seek(first, int(pre_roll * self.sampling_rate), jump, attempt)
            head = next(blocks, None)
            if head is not None and head.position <= first:
                yield head
                for block in blocks:
                    _adopt(losses, attempt)
                    yield block
                _adopt(losses, attempt)
                return
            blocks.close()
        yield from self._from_start(losses)

    def _ways(self, first: int) -> list[tuple[float, bool]]:
        """What to try to get to `first`, cheapest way first: seconds of pre-roll, and whether to jump by byte position."""
        if first <= _FROM_START * self.sampling_rate or not self.sought:
            return []
        jump = (
            self._mp3 is not None and self._mp3.constant and bool(self._mp3.frames) and bool(self._mp3.size)
        )
        return [*([(PRE_ROLL, True)] if jump else []), (PRE_ROLL, False), (10 * PRE_ROLL, False)]

    def _from_start(self, losses: DecodeLosses) -> Iterator[Block]:
        with open_container(self.file) as opened:
            frames = frames_of(opened, self.sampling_rate, losses, True)
            head = take(frames, _ANCHOR * self.sampling_rate)
            anchor = anchor_of(head, self.codec)
            channels = head[0].channels if head else self.channels
            yield from _silence(0, self._lead if head else 0, channels, self.sampling_rate)
            yield from self._line(
                head, frames, self._lead, None if anchor is None else anchor - self._lead, losses
            )

    def _after_seek(
        self, first: int, pre_roll: int, jump: bool, losses: DecodeLosses
    ) -> Generator[Block, None, None]:
        with open_container(self.file, jump) as opened:
            start = take(
                frames_of(opened, self.sampling_rate, DecodeLosses(), False), _ANCHOR * self.sampling_rate
            )
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
            head = take(frames, _ANCHOR * self.sampling_rate)
            landed = anchor_of(head, self.codec)
            if jump and self._mp3 is not None and head:
                passed = constant_frames(start, head[0], self._mp3, self.sampling_rate)
                landed = None if passed is None else origin + (passed - 1) * head[0].count + start[0].count
            if landed is None:
                return
            if jump:  # the stamps are a little off from here on: none are better
                head, frames = (
                    [replace(frame, stamp=None) for frame in head],
                    (replace(frame, stamp=None) for frame in frames),
                )
            losses.errors = (
                0  # a decoder that starts in mid-stream stumbles over packets that lean on earlier ones
            )
            total = (
                round(opened.stream.duration * opened.stream.time_base * self.sampling_rate)
                if jump and opened.stream.duration
                else None
            )
            position = round(landed - origin)
            if opened.stream.time_base * self.sampling_rate > 1:  # a tick is longer than a sample
                position = snapped(landed - origin, start, head, self.sampling_rate)
            yield from self._line(head, frames, position + self._lead, origin - self._lead, losses, total)

    def _line(
        self,
        head: list[Frame],
        rest: Iterator[Frame],
        position: int,
        origin: float | None,
        losses: DecodeLosses,
        total: int | None = None,
    ) -> Iterator[Block]:
        """Put frames on the time line: fill what is missing with silence, so that later words keep their times.

        `total` is the length by the header, where the decoder may fail to drop the encoder's padding at the end.
        """
        drift = 0.0 if origin is None else -origin
        # Blocks of about a second: a frame is 20 ms, and what is done for each block would cost more than its decoding.
        pieces: list[Frame] = []
        held = 0
        rate, gap = self.sampling_rate, GAP * self.sampling_rate
        begin = drift
        for frame in chain(head, rest):
            if (
                frame.stamp is not None
                and origin is not None
                and not -gap <= (ahead := frame.stamp + drift - position - held) <= gap
            ):
                if is_hole(ahead / rate, (position + held) / rate, self._furthest):
                    missing = round(ahead)
                    losses.filled += missing / rate
                    if pieces:
                        yield Block(position, joined(pieces))
                        position, pieces, held = position + held, [], 0
                    yield from _silence(position, missing, frame.channels, rate)
                    position += missing
                else:
                    drift -= (
                        ahead  # the stamps started anew (chained streams) or are broken: count on from here
                    )
                    losses.apart = max(losses.apart, abs(drift - begin) / rate)
            if pieces and pieces[0].channels != frame.channels:
                yield Block(position, joined(pieces))
                position, pieces, held = position + held, [], 0
            pieces.append(frame)
            held += frame.count
            if held >= rate:
                yield Block(position, joined(pieces))
                position, pieces, held = position + held, [], 0
        if pieces:
            surplus = 0 if total is None else position + held - total
            samples = joined(pieces)
            yield Block(
                position, samples[: len(samples) - surplus] if 0 < surplus <= 2 * pieces[0].count else samples
            )


def _silence(position: int, samples: int, channels: int, rate: int) -> Iterator[Block]:
    for place in range(0, samples, rate):
        yield Block(position + place, np.zeros((min(rate, samples - place), channels), np.float32))


def _adopt(losses: DecodeLosses, attempt: DecodeLosses) -> None:
    for field in fields(DecodeLosses):
        setattr(losses, field.name, getattr(attempt, field.name))
