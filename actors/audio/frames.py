"""Packets to frames of samples: decoding one by one, so that a packet that cannot be decoded costs itself only; and what frames' time stamps tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame

from actors.audio.containers import MAX_CHANNELS, MAX_RATE, MIN_RATE, Opened
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
_WHOLE = 0.1  # frames by which a count of frames out of bytes may miss a whole number: more is a wrong length of one
_HOPELESS = 5000  # packets more that could not be decoded than could: minutes of nothing but errors, each of which costs more than a frame


@dataclass
class DecodeLosses:
    """What went wrong while decoding."""

    errors: int = 0  # packets that could not be decoded
    filled: float = 0.0  # seconds of missing audio replaced by silence
    broken: str | None = None  # why reading stopped before the end of the file
    frames: int = 0  # frames that could be decoded
    apart: float = 0.0  # seconds by which time stamps and counting came apart at most


@dataclass(slots=True)  # not frozen: there are fifty a second, and that would double what making one costs
class Frame:
    """Samples as the decoder gave them: nothing is copied or converted before `joined` does it for a second of them."""

    planes: list[
        np.ndarray
    ]  # one for each channel, or one with all channels interleaved; in the decoder's sample type
    channels: int
    count: int  # samples of each channel
    stamp: float | None  # the container's time stamp in samples
    place: int | None = None  # byte of its packet in the file
    size: int = 0  # bytes of its packet


def frames_of(opened: Opened, rate: int, losses: DecodeLosses, to_end: bool) -> Iterator[Frame]:
    """Decode packet by packet; a packet that cannot be decoded costs itself only."""
    packets = opened.container.demux(opened.stream)
    per_tick = float(
        (opened.stream.time_base or 0) * rate
    )  # samples that one tick of the container's clock lasts
    convert = _Converter(rate)
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
            if losses.errors > _HOPELESS + losses.frames:
                losses.broken = "too many packets could not be decoded"
                return
            continue
        for frame in decoded:
            if not isinstance(frame, AudioFrame) or not frame.samples:
                continue
            same = frame.sample_rate == rate
            try:
                found = read(frame) if same else convert(frame)
            except (av.error.FFmpegError, ValueError, KeyError):
                losses.errors += 1  # of a kind that nothing can be made of: no rate, no sample format, hundreds of channels
                continue
            losses.frames += 1
            if same:
                pts = frame.pts
                found.stamp = None if pts is None else pts * per_tick
                found.place, found.size = packet.pos, packet.size
            if found.count:
                yield found


class _Converter:
    """Brings frames to `rate` where a stream changes its rate on the way; each change starts another resampler."""

    def __init__(self, rate: int) -> None:
        self._rate, self._kind, self._resampler = rate, ("", "", 0), None  # type: int, tuple[str, str, int], av.AudioResampler | None

    def __call__(self, frame: AudioFrame) -> Frame:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if not MIN_RATE <= frame.sample_rate <= MAX_RATE:
            raise ValueError(f"a frame of {frame.sample_rate} Hz")
        if self._resampler is None or kind != self._kind:
            self._resampler, self._kind = (
                av.AudioResampler(format="fltp", layout=frame.layout, rate=self._rate),
                kind,
            )
        frame.pts = None  # the resampler would fill jumps of the clock with silence of any length
        channels = frame.layout.nb_channels
        pieces = [read(piece) for piece in self._resampler.resample(frame)]
        samples = joined(pieces) if pieces else np.zeros((0, channels), np.float32)
        return Frame([samples.reshape(-1)], channels, len(samples), None)


def read(frame: AudioFrame) -> Frame:
    """A decoder's frame of any sample format, without its time stamp. Its memory stays the decoder's.

    Raises:
        ValueError: more channels than any recording has.
        KeyError: an unknown sample format.
    """
    # Not frame.to_ndarray(): PyAV 18.1 reads a ninth plane behind exactly eight planar channels and crashes the process.
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


def joined(frames: Sequence[Frame]) -> np.ndarray:
    """Consecutive frames with the same number of channels as float32 of shape (samples, channels), full scale 1.0."""
    kinds = {(len(frame.planes), frame.planes[0].dtype) for frame in frames}
    if len(kinds) > 1:
        return np.concatenate([joined([frame]) for frame in frames])
    (planes, dtype), channels = kinds.pop(), frames[0].channels
    count = sum(frame.count for frame in frames)
    if planes == 1:
        return _to_float(np.concatenate([frame.planes[0] for frame in frames]).reshape(-1, channels))
    together = np.empty((count, channels), dtype)
    for channel in range(channels):
        np.concatenate([frame.planes[channel] for frame in frames], out=together[:, channel])
    return _to_float(together)


def _to_float(data: np.ndarray) -> np.ndarray:
    """Samples of any type, of their own memory, as float32 with full scale 1.0."""
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
    # What the decoder puts out may differ from what the header says: HE-AAC doubles the rate.
    return opened.stream.codec_context.sample_rate


def take(frames: Iterator[Frame], samples: float) -> list[Frame]:
    taken: list[Frame] = []
    count = 0
    for frame in frames:
        taken.append(frame)
        count += frame.count
        if count >= samples:
            break
    return taken


def anchor_of(frames: list[Frame], codec: str) -> float | None:
    """Where the first of `frames` begins by its container's clock, in samples; every frame's time stamp votes."""
    votes: list[float] = []
    count = 0
    for frame in frames:
        if frame.stamp is not None:
            votes.append(frame.stamp - count)
        count += frame.count
    if not votes:
        return None
    # Vorbis stamps are right or late by half a block, never early.
    return min(votes) if codec == "vorbis" else median(votes)


def snapped(position: float, start: list[Frame], head: list[Frame], rate: int) -> int:
    """A position found by coarse time stamps, put onto the grid of the frames where all have one length (AAC, Opus, MP3)."""
    lengths = {frame.count for frame in (*start[1:], *head[1:])}
    if len(lengths) != 1 or not start:
        return round(position)
    length, phase = lengths.pop(), start[0].count  # the first frame may be cut short: encoder priming
    nearest = phase + round((position - phase) / length) * length
    return nearest if abs(nearest - position) <= 0.002 * rate else round(position)


def constant_frames(start: list[Frame], landed: Frame, facts: Mp3Facts, rate: int) -> int | None:
    """How many frames of an mp3 of constant bit rate lie before `landed`, from their bytes; None where the bit rate is not what it promises."""
    first = start[0].place if start else None
    if first is None or landed.place is None or not facts.frames or not facts.size:
        return None
    length = (facts.size - (first - facts.start)) / facts.frames
    if any(abs(frame.size - length) > 1.01 for frame in start) or abs(landed.size - length) > 1.01:
        return None
    # Tags may count a frame too many or too few, which in the end is a whole frame; but bit rates are whole numbers of kbit/s.
    bit_rate = round(length * 8 * rate / landed.count, -3)
    passed = (landed.place - first) / (bit_rate * landed.count / 8 / rate) if bit_rate else 0.5
    return round(passed) if abs(passed - round(passed)) <= _WHOLE else None


def require_frames(losses: DecodeLosses) -> None:
    """Raise where nothing, or little more than nothing, could be decoded.

    Raises:
        RowError: corrupt_audio where packets failed, no_samples where there were none.
    """
    if losses.frames == 0 and (losses.errors or losses.broken):
        raise RowError(f"not one of {max(1, losses.errors)} packets could be decoded", "corrupt_audio")
    if losses.frames == 0:
        raise RowError("a valid header, but not one sample behind it", "no_samples")
    if losses.errors > losses.frames:
        raise RowError(
            f"{losses.errors} packets could not be decoded, {losses.frames} could", "corrupt_audio"
        )
