"""Decoded audio on one time line: blocks of samples with exact positions, from the start of a recording or from anywhere in it.

Positions are in samples of the source, counted from the recording's first audible sample: encoder priming is not part of it. After a seek they
come from the container's time stamps, compared with those of the first second, so that formats whose stamps are coarse (WebM: 1 ms) or wander
(Vorbis: half a block) still land where a decoder that read everything would be.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame

from actors.containers import Mp3Facts, Opened, mp3_facts, open_container
from actors.errors import RowError
from actors.sources import AudioFile

PRE_ROLL = (
    1.5  # seconds decoded and thrown away before a place: lossy codecs need their past (MP3's bit reservoir, Opus' 80 ms, AAC's overlap)
)
_ANCHOR = 1.0  # seconds of frames whose time stamps vote about the position
_GAP = 0.05  # seconds that time stamps may run ahead before it counts as missing audio
_LONGEST_GAP = 1800.0  # seconds; a larger jump is a broken time stamp, not missing audio
_DTYPES: dict[str, Any] = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32, "dbl": np.float64}
_FROM_START = 5.0  # seconds; places nearer to the start are reached by decoding up to them


@dataclass
class Losses:
    """What went wrong while decoding."""

    errors: int = 0  # packets that could not be decoded
    filled: float = 0.0  # seconds of missing audio replaced by silence
    broken: str | None = None  # why reading stopped before the end of the file
    frames: int = 0  # frames that could be decoded


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples: float32, shape (samples, channels), starting at `position`."""

    position: int
    samples: np.ndarray


@dataclass(frozen=True, slots=True)
class _Frame:
    samples: np.ndarray
    stamp: float | None  # the container's time stamp in samples
    place: int | None = None  # byte of its packet in the file
    size: int = 0  # bytes of its packet


class Recording:
    """The decoded time line of one audio file."""

    def __init__(self, file: AudioFile) -> None:
        self.file = file
        with open_container(file) as opened:
            self.format, self.codec, self.audio_streams = opened.format, opened.codec, opened.audio_streams
            first = next((frame for frame in _frames(opened, opened.sampling_rate, Losses(), False)), None)
            self.sampling_rate, self.channels = opened.sampling_rate, opened.channels
            if first is not None:
                self.channels = first.samples.shape[1]
                self.sampling_rate = _decoded_rate(opened) or opened.sampling_rate
        self._mp3 = mp3_facts(file) if self.format == "mp3" else None

    def blocks(self, first: int, losses: Losses) -> Iterator[Block]:
        """Yield consecutive blocks, the first of which begins at or before sample `first` (unless the recording ends before it).

        The caller drops what lies before `first`. `losses` is filled in for what lies behind it.

        Raises:
            RowError: the file cannot be opened.
            RetryableError: reading failed.
        """
        for pre_roll, jump in self._ways(first):
            attempt = Losses()
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
        if first <= _FROM_START * self.sampling_rate:
            return []
        jump = self._mp3 is not None and self._mp3.constant and bool(self._mp3.frames) and bool(self._mp3.size)
        return [*([(PRE_ROLL, True)] if jump else []), (PRE_ROLL, False), (10 * PRE_ROLL, False)]

    def _from_start(self, losses: Losses) -> Iterator[Block]:
        with open_container(self.file) as opened:
            frames = _frames(opened, self.sampling_rate, losses, True)
            head = _take(frames, _ANCHOR * self.sampling_rate)
            anchor = _anchor(head, self.codec)
            yield from self._line(head, frames, 0, anchor, losses)

    def _after_seek(self, first: int, pre_roll: int, jump: bool, losses: Losses) -> Generator[Block, None, None]:
        with open_container(self.file, jump) as opened:
            start = _take(_frames(opened, self.sampling_rate, Losses(), False), _ANCHOR * self.sampling_rate)
            origin = _anchor(start, self.codec)
            if origin is None or opened.stream.time_base is None:
                return
            target = (first - pre_roll + origin) / self.sampling_rate
            try:
                opened.container.seek(round(target / float(opened.stream.time_base)), stream=opened.stream)
            except av.error.FFmpegError:
                return
            opened.stream.codec_context.flush_buffers()
            frames = _frames(opened, self.sampling_rate, losses, True)
            head = _take(frames, _ANCHOR * self.sampling_rate)
            landed = _anchor(head, self.codec)
            if jump and self._mp3 is not None and head:
                passed = _constant_frames(start, head[0], self._mp3)
                landed = None if passed is None else origin + (passed - 1) * len(head[0].samples) + len(start[0].samples)
            if landed is None:
                return
            if jump:  # the stamps are a little off from here on: none are better
                head, frames = [_Frame(frame.samples, None) for frame in head], (_Frame(frame.samples, None) for frame in frames)
            losses.errors = 0  # a decoder that starts in mid-stream stumbles over packets that lean on earlier ones
            total = (
                round(opened.stream.duration * opened.stream.time_base * self.sampling_rate) if jump and opened.stream.duration else None
            )
            position = round(landed - origin)
            if opened.stream.time_base * self.sampling_rate > 1:  # a tick is longer than a sample
                position = _snapped(landed - origin, start, head, self.sampling_rate)
            yield from self._line(head, frames, position, origin, losses, total)

    def _line(
        self, head: list[_Frame], rest: Iterator[_Frame], position: int, origin: float | None, losses: Losses, total: int | None = None
    ) -> Iterator[Block]:
        """Put frames on the time line: fill what is missing with silence, so that later words keep their times.

        `total` is the length by the header, where the decoder may fail to drop the encoder's padding at the end.
        """
        drift = 0.0 if origin is None else -origin
        # Blocks of about a second: a frame is 20 ms, and what is done for each block would cost more than its decoding.
        pieces: list[np.ndarray] = []
        held = 0
        for frame in _chain(head, rest):
            if frame.stamp is not None and origin is not None:
                ahead = frame.stamp + drift - position - held
                if _GAP * self.sampling_rate < ahead <= _LONGEST_GAP * self.sampling_rate:
                    missing = round(ahead)
                    losses.filled += missing / self.sampling_rate
                    if pieces:
                        yield Block(position, _joined(pieces))
                        position, pieces, held = position + held, [], 0
                    for place in range(0, missing, self.sampling_rate):
                        count = min(self.sampling_rate, missing - place)
                        yield Block(position, np.zeros((count, frame.samples.shape[1]), np.float32))
                        position += count
                elif abs(ahead) > _GAP * self.sampling_rate:
                    drift -= ahead  # the stamps started anew (chained streams) or are broken: count on from here
            if pieces and pieces[0].shape[1] != frame.samples.shape[1]:
                yield Block(position, _joined(pieces))
                position, pieces, held = position + held, [], 0
            pieces.append(frame.samples)
            held += len(frame.samples)
            if held >= self.sampling_rate:
                yield Block(position, _joined(pieces))
                position, pieces, held = position + held, [], 0
        if pieces:
            surplus = 0 if total is None else position + held - total
            joined = _joined(pieces)
            yield Block(position, joined[: len(joined) - surplus] if 0 < surplus <= 2 * len(pieces[0]) else joined)


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _frames(opened: Opened, rate: int, losses: Losses, to_end: bool) -> Iterator[_Frame]:
    """Decode packet by packet; a packet that cannot be decoded costs itself only."""
    packets = opened.container.demux(opened.stream)
    per_tick = float((opened.stream.time_base or 0) * rate)  # samples that one tick of the container's clock lasts
    convert: av.AudioResampler | None = None
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            if to_end:
                losses.broken = str(error.strerror)
            return
        try:
            decoded = packet.decode()
        except av.error.EOFError:
            continue
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise MemoryError("the decoder ran out of memory") from error
            losses.errors += 1
            continue
        for frame in decoded:
            if not isinstance(frame, AudioFrame) or not frame.samples:
                continue
            losses.frames += 1
            stamp = None if frame.pts is None else frame.pts * per_tick
            if frame.sample_rate != rate:  # the stream changes its rate on the way
                convert = convert or av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
                pieces = [to_float(piece) for piece in convert.resample(frame)]
                if pieces:
                    yield _Frame(np.concatenate(pieces), None)
            else:
                yield _Frame(to_float(frame), stamp, packet.pos, packet.size)


def to_float(frame: AudioFrame) -> np.ndarray:
    """A frame of any sample format as float32 of shape (samples, channels), full scale 1.0."""
    # Not frame.to_ndarray(): PyAV 18.1 reads a ninth plane behind exactly eight planar channels and crashes the process.
    channels, dtype = frame.layout.nb_channels, _DTYPES[frame.format.name.removesuffix("p")]
    planes: Any = frame.planes
    if frame.format.is_planar and channels > 1:
        data = np.stack([np.frombuffer(planes[number], dtype, frame.samples) for number in range(channels)], axis=1)
    else:
        data = np.frombuffer(planes[0], dtype, frame.samples * channels).reshape(-1, channels)
    if dtype == np.float32:
        return data.copy()
    if dtype == np.uint8:
        return (data.astype(np.float32) - 128) / 128
    if dtype != np.float64:
        return data.astype(np.float32) * np.float32(1 / 2 ** (8 * data.itemsize - 1))
    with np.errstate(over="ignore"):
        return data.astype(np.float32)


def _decoded_rate(opened: Opened) -> int:
    # What the decoder puts out may differ from what the header says: HE-AAC doubles the rate.
    return opened.stream.codec_context.sample_rate


def _take(frames: Iterator[_Frame], samples: float) -> list[_Frame]:
    taken: list[_Frame] = []
    count = 0
    for frame in frames:
        taken.append(frame)
        count += len(frame.samples)
        if count >= samples:
            break
    return taken


def _anchor(frames: list[_Frame], codec: str) -> float | None:
    """Where the first of `frames` begins by its container's clock, in samples; every frame's time stamp votes."""
    votes: list[float] = []
    count = 0
    for frame in frames:
        if frame.stamp is not None:
            votes.append(frame.stamp - count)
        count += len(frame.samples)
    if not votes:
        return None
    # Vorbis stamps are right or late by half a block, never early.
    return min(votes) if codec == "vorbis" else median(votes)


def _snapped(position: float, start: list[_Frame], head: list[_Frame], rate: int) -> int:
    """A position found by coarse time stamps, put onto the grid of the frames where all have one length (AAC, Opus, MP3)."""
    lengths = {len(frame.samples) for frame in (*start[1:], *head[1:])}
    if len(lengths) != 1 or not start:
        return round(position)
    length, phase = lengths.pop(), len(start[0].samples)  # the first frame may be cut short: encoder priming
    nearest = phase + round((position - phase) / length) * length
    return nearest if abs(nearest - position) <= 0.002 * rate else round(position)


def _constant_frames(start: list[_Frame], landed: _Frame, facts: Mp3Facts) -> int | None:
    """How many frames of an mp3 of constant bit rate lie before `landed`, from their bytes; None where the bit rate is not what it promises."""
    first = start[0].place if start else None
    if first is None or landed.place is None or not facts.frames or not facts.size:
        return None
    length = (facts.size - (first - facts.start)) / facts.frames
    if any(abs(frame.size - length) > 1.01 for frame in start) or abs(landed.size - length) > 1.01:
        return None
    return round((landed.place - first) / length)


def _chain(head: list[_Frame], rest: Iterator[_Frame]) -> Iterator[_Frame]:
    yield from head
    yield from rest


def _adopt(losses: Losses, attempt: Losses) -> None:
    losses.errors, losses.filled, losses.broken, losses.frames = attempt.errors, attempt.filled, attempt.broken, attempt.frames


def require_frames(losses: Losses) -> None:
    """Raise where nothing, or little more than nothing, could be decoded.

    Raises:
        RowError: corrupt_audio where packets failed, no_samples where there were none.
    """
    if losses.frames == 0 and (losses.errors or losses.broken):
        raise RowError(f"not one of {max(1, losses.errors)} packets could be decoded", "corrupt_audio")
    if losses.frames == 0:
        raise RowError("a valid header, but not one sample behind it", "no_samples")
    if losses.errors > losses.frames:
        raise RowError(f"{losses.errors} packets could not be decoded, {losses.frames} could", "corrupt_audio")
