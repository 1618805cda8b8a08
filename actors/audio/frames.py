"""Decodes packets to frames of samples, and locates frames by their time stamps.

Packets are decoded one by one, so that a packet that cannot be decoded costs only itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame

from actors.audio.containers import MAX_CHANNELS, Opened, is_plausible_rate, packets_of
from actors.audio.header_facts import Mp3Facts
from actors.errors import RowError

_DTYPES: dict[str, Any] = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
_KINDS = {name + planar: (dtype, bool(planar)) for name, dtype in _DTYPES.items() for planar in ("", "p")}
# Seconds that one undecodable packet costs, about.
PACKET_SECONDS = 0.025
# Frames by which a number of frames computed from bytes may differ from a whole number. A larger difference
# means that the length of a frame is wrong.
_MAX_FRACTION = 0.1
# Decoding stops after so many more packets failed than succeeded: minutes of nothing but errors, each of
# which costs more time than a frame.
_MAX_FAILURES = 5000


@dataclass
class DecodeLosses:
    """What was lost while decoding, and how much was decoded."""

    # Packets that could not be decoded, or that decoded to something that is not sound.
    errors: int = 0
    # Seconds of missing audio that were replaced by silence.
    filled: float = 0.0
    # Why reading stopped before the end of the file.
    broken: str | None = None
    # Frames that were decoded.
    frames: int = 0
    # Seconds by which positions from time stamps and from counting samples differed at most.
    max_drift: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of audio that were lost, about."""
        return max(self.filled, self.errors * PACKET_SECONDS) if self.errors else 0.0


# Not frozen: there are fifty frames per second of audio, and that would double the cost of making one.
@dataclass(slots=True)
class Frame:
    """Samples as the decoder returned them.

    `join_frames` copies and converts them later, a second of audio at a time.
    """

    # One array per channel, or one with all channels interleaved, in the decoder's sample type.
    planes: list[np.ndarray]
    channels: int
    # Samples of each channel.
    count: int
    # The container's time stamp in samples.
    stamp: float | None
    # Byte of its packet in the file.
    place: int | None = None
    # Bytes of its packet.
    size: int = 0


def frames_of(opened: Opened, rate: int, losses: DecodeLosses, to_end: bool) -> Iterator[Frame]:
    """Decode packet by packet; a packet that cannot be decoded costs only itself.

    Args:
        opened: the container, at the place where decoding starts.
        rate: sampling rate in Hz of the frames. Those of other rates are resampled.
        losses: is filled in.
        to_end: whether an error of the container is a loss; else the frames just end.
    """
    packets = packets_of(opened)
    samples_per_tick = float((opened.stream.time_base or 0) * rate)
    convert = _Converter(rate, opened.codec)
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
            if losses.errors > _MAX_FAILURES + losses.frames:
                losses.broken = "too many packets could not be decoded"
                return
            continue
        for frame in decoded:
            if not isinstance(frame, AudioFrame) or not frame.samples:
                continue
            has_rate = frame.sample_rate == rate
            try:
                samples = read(frame) if has_rate else convert(frame)
            except (av.error.FFmpegError, ValueError, KeyError):
                # The frame has no rate, no known sample format, or hundreds of channels.
                losses.errors += 1
                continue
            losses.frames += 1
            if has_rate:
                pts = frame.pts
                samples.stamp = None if pts is None else pts * samples_per_tick
                samples.place, samples.size = packet.pos, packet.size
                if opened.packet_times:
                    # Of several frames of a packet, the first one has its time.
                    begin = opened.packet_times.get(packet.pos or -1) if frame is decoded[0] else None
                    samples.stamp = None if begin is None else begin * rate
            if samples.count:
                yield samples


class _Converter:
    """Resamples frames of a stream that changes its rate on the way. Each change starts a new resampler."""

    def __init__(self, rate: int, codec: str) -> None:
        self._rate, self._codec = rate, codec
        self._kind = ("", "", 0)
        self._resampler: av.AudioResampler | None = None

    def __call__(self, frame: AudioFrame) -> Frame:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if not is_plausible_rate(frame.sample_rate, self._codec):
            raise ValueError(f"a frame of {frame.sample_rate} Hz")
        if self._resampler is None or kind != self._kind:
            self._resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=self._rate)
            self._kind = kind
        # The resampler would fill jumps of the time stamps with silence of any length.
        frame.pts = None
        channels = frame.layout.nb_channels
        resampled = [read(piece) for piece in self._resampler.resample(frame)]
        samples = join_frames(resampled) if resampled else np.zeros((0, channels), np.float32)
        return Frame([samples.reshape(-1)], channels, len(samples), None)


def read(frame: AudioFrame) -> Frame:
    """A decoder's frame of any sample format as a `Frame` without a time stamp. Its memory is the decoder's.

    Raises:
        ValueError: no channels, or more than any recording has.
        KeyError: an unknown sample format.
    """
    # Not frame.to_ndarray(): for exactly eight planar channels, PyAV 18.1 reads a ninth plane and crashes the
    # process.
    count = frame.samples
    channels, (dtype, planar) = frame.layout.nb_channels, _KINDS[frame.format.name]
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"a frame of {channels} channels")
    planes: Any = frame.planes
    if planar and channels > 1:
        return Frame(
            [np.frombuffer(planes[number], dtype, count) for number in range(channels)], channels, count, None
        )
    return Frame([np.frombuffer(planes[0], dtype, count * channels)], channels, count, None)


def join_frames(frames: Sequence[Frame]) -> np.ndarray:
    """Samples of frames with equally many channels: float32, shape (samples, channels), full scale 1.0."""
    kinds = {(len(frame.planes), frame.planes[0].dtype) for frame in frames}
    if len(kinds) > 1:
        return np.concatenate([join_frames([frame]) for frame in frames])
    (planes, dtype), channels = kinds.pop(), frames[0].channels
    count = sum(frame.count for frame in frames)
    if planes == 1:
        return _to_float(np.concatenate([frame.planes[0] for frame in frames]).reshape(-1, channels))
    samples = np.empty((count, channels), dtype)
    for channel in range(channels):
        np.concatenate([frame.planes[channel] for frame in frames], out=samples[:, channel])
    return _to_float(samples)


def _to_float(data: np.ndarray) -> np.ndarray:
    """Samples of any type as float32 with full scale 1.0. `data` must own its memory where it is float32."""
    if data.dtype == np.float32:
        return data
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / 128
    if data.dtype != np.float64:
        floats = data.astype(np.float32)
        floats *= np.float32(1 / 2 ** (8 * data.itemsize - 1))
        return floats
    with np.errstate(over="ignore"):
        return data.astype(np.float32)


def decoded_rate(opened: Opened) -> int:
    """The sampling rate of the decoder's output in Hz. It may differ from the header: HE-AAC doubles it."""
    return opened.stream.codec_context.sample_rate


def take_frames(frames: Iterator[Frame], samples: float) -> list[Frame]:
    """The first frames that have `samples` samples together."""
    taken: list[Frame] = []
    count = 0
    for frame in frames:
        taken.append(frame)
        count += frame.count
        if count >= samples:
            break
    return taken


def anchor_of(frames: list[Frame], codec: str) -> float | None:
    """Where the first frame begins by the time stamps of all frames, in samples; None without time stamps."""
    votes: list[float] = []
    count = 0
    for frame in frames:
        if frame.stamp is not None:
            votes.append(frame.stamp - count)
        count += frame.count
    if not votes:
        return None
    # A time stamp of Vorbis is right or late by half a block, never early.
    return min(votes) if codec == "vorbis" else median(votes)


def snap_to_frame(position: float, start: list[Frame], head: list[Frame], rate: int) -> int:
    """Round a position to the border of a frame, where all frames have one length (AAC, Opus, MP3).

    Args:
        position: in samples, found by coarse time stamps.
        start: the first frames of the file.
        head: the first frames at the position.
        rate: sampling rate in Hz.

    Returns:
        The nearest border within 2 ms, else the position rounded to a whole sample.
    """
    lengths = {frame.count for frame in (*start[1:], *head[1:])}
    if len(lengths) != 1 or not start:
        return round(position)
    # Encoder priming may cut the first frame short.
    length, phase = lengths.pop(), start[0].count
    nearest = phase + round((position - phase) / length) * length
    return nearest if abs(nearest - position) <= 0.002 * rate else round(position)


def count_frames_before(start: list[Frame], landed: Frame, facts: Mp3Facts, rate: int) -> int | None:
    """How many frames of an mp3 of constant bit rate lie before a frame, computed from their bytes.

    Args:
        start: the first frames of the file.
        landed: the frame that a seek found.
        facts: of the file's tag.
        rate: sampling rate in Hz.

    Returns:
        The number of frames; None where the bit rate is not constant.
    """
    first = start[0].place if start else None
    if first is None or landed.place is None or not facts.frames or not facts.size:
        return None
    length = (facts.size - (first - facts.start)) / facts.frames
    if any(abs(frame.size - length) > 1.01 for frame in start) or abs(landed.size - length) > 1.01:
        return None
    # A tag may count a frame too many or too few, which adds up to a whole frame at the end of the file. Bit
    # rates are whole numbers of kbit/s, so the rounded bit rate is exact.
    bit_rate = round(length * 8 * rate / landed.count, -3)
    passed = (landed.place - first) / (bit_rate * landed.count / 8 / rate) if bit_rate else 0.5
    return round(passed) if abs(passed - round(passed)) <= _MAX_FRACTION else None


def require_frames(losses: DecodeLosses) -> None:
    """Check that more than a little was decoded.

    Raises:
        RowError: corrupt_audio where more packets failed than frames were decoded, no_samples where there
            were no packets.
    """
    if losses.frames == 0 and (losses.errors or losses.broken):
        raise RowError(f"none of {max(1, losses.errors)} packets could be decoded", "corrupt_audio")
    if losses.frames == 0:
        raise RowError("a valid header without any samples behind it", "no_samples")
    if losses.errors > losses.frames:
        raise RowError(
            f"{losses.errors} packets could not be decoded, {losses.frames} could", "corrupt_audio"
        )
