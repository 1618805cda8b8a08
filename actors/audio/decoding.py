"""A span of any recording as int16 at 16 kHz, on absolute sample positions, in bounded memory.

Whatever span is asked for, sample n of the result is sample n of the whole recording decoded in one piece: the resampler starts at a source
position whose output falls on a whole sample, early enough for its filter to settle, and runs at the precision at which its rounding no longer shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, gcd
from typing import Any

import numpy as np
import soxr

from actors.audio.frames import DecodeLosses, require_frames
from actors.audio.pcm import finite, to_int16
from actors.audio.timeline import Block, SampleReader
from actors.errors import RowError
from actors.records import SAMPLING_RATE

_SETTLE = 0.05  # seconds that the resampling filter needs to forget where it was started
_CANCELLED = 0.003  # energy of a mix relative to its channels below which they cancel each other
_AUDIBLE = 1e-6  # mean square of channels that are more than silence (-60 dBFS)
_CANCELLED_TENTHS = (
    10  # tenths of a second in which audible channels cancel each other that are too much to lose
)
_CANCELLED_PARTLY = "phase_cancelled_partly"
_PACKET_SECONDS = 0.025  # about what one undecodable packet costs


@dataclass
class Decoded:
    """What came out of a span.

    `samples` is int16 of shape (channels, samples) at 16 kHz; `start` and `end` are absolute positions at 16 kHz; `channels` names each row
    (None: a mix); `ended` says that the recording ended before the span did.
    """

    samples: np.ndarray
    channels: list[int | None]
    start: int
    end: int
    ended: bool
    losses: DecodeLosses
    flags: list[str] = field(default_factory=list)


def decode_span(
    recording: SampleReader, start: int, end: int | None, channel: str = "mix", limit: int | None = None
) -> Decoded:
    """Decode samples [start, end) of a recording, counted at 16 kHz; `end` None goes on to the end of the file.

    Args:
        recording: the file.
        start: first sample.
        end: sample after the last, or None.
        channel: mix | left | right | each | a number from 0.
        limit: with `end` None, the position that must not be passed.

    Raises:
        RowError: corrupt_audio or no_samples where the file yields nothing at all, too_long beyond `limit`,
            no_audio_stream for a channel that is not there.
        RetryableError: reading failed.
    """
    decoded = _decode(
        recording, start, end, limit, _Picker(channel, recording.channels, recording.sampling_rate)
    )
    if (
        _CANCELLED_PARTLY in decoded.flags
    ):  # seldom enough that decoding once more costs less than keeping both channels always
        return _decode(
            recording,
            start,
            end,
            limit,
            _Picker(channel, recording.channels, recording.sampling_rate, uneven=True),
        )
    return decoded


def _decode(
    recording: SampleReader, start: int, end: int | None, limit: int | None, picker: _Picker
) -> Decoded:
    resampler = _Resampler(recording.sampling_rate, len(picker.channels), start)
    last = None if end is None else resampler.source_end(end)
    losses = DecodeLosses()
    known_end, reached = 0, False
    for block in recording.blocks(resampler.first, losses):
        known_end = block.position + len(block.samples)
        samples = _trim(block, resampler.first, last)
        if len(samples):
            resampler.feed(picker.pick(samples))
        if last is not None and known_end >= last:
            reached = True
            break
        if end is None and limit is not None and known_end * SAMPLING_RATE > limit * recording.sampling_rate:
            raise RowError(
                f"more than {limit / SAMPLING_RATE:.0f} s of audio, far more than the header said", "too_long"
            )
    if not reached:
        require_frames(losses)
    pieces = resampler.finish(None if end is None else max(0, end - start))
    levelled = to_int16(pieces, len(picker.channels), recording.codec)
    flags = [*picker.flags(), *levelled.flags]
    losses.errors += ceil(levelled.nonsense / _PACKET_SECONDS)  # decoded, but not to sound
    count = levelled.samples.shape[1]
    stop = start + count if count else min(start, round(known_end * SAMPLING_RATE / recording.sampling_rate))
    if losses.errors:
        flags.append("decode_errors")
    if losses.filled:
        flags.append("gap_filled")
    return Decoded(levelled.samples, picker.channels, min(start, stop), stop, not reached, losses, flags)


class _Resampler:
    """Streams float32 blocks of shape (samples, channels) to 16 kHz, in phase with absolute position `start`."""

    def __init__(self, rate: int, channels: int, start: int) -> None:
        self._rate, self._channels, self._pieces = rate, channels, []  # type: int, int, list[np.ndarray]
        self._stream = (
            None
            if rate == SAMPLING_RATE
            else soxr.ResampleStream(rate, SAMPLING_RATE, channels, dtype="float32", quality="VHQ")
        )
        unit = rate // gcd(rate, SAMPLING_RATE)  # every so many source samples, an output sample falls on one
        early = int(start * rate / SAMPLING_RATE) - (ceil(_SETTLE * rate) if self._stream else 0)
        self.first = max(0, early // unit * unit)  # source position of the first sample to feed
        self._skip = start - self.first * SAMPLING_RATE // rate

    def source_end(self, end: int) -> int:
        """The source position up to which samples are needed for output up to `end`."""
        return ceil(end * self._rate / SAMPLING_RATE) + (ceil(_SETTLE * self._rate) if self._stream else 0)

    def feed(self, samples: np.ndarray) -> None:
        self._keep(samples if self._stream is None else self._stream.resample_chunk(self._shaped(samples)))

    def finish(self, most: int | None) -> list[np.ndarray]:
        """All output from `start` on, `most` samples of it, float32 of shape (samples, channels), piece by piece."""
        if self._stream is not None:
            self._keep(
                self._stream.resample_chunk(
                    self._shaped(np.zeros((0, self._channels), np.float32)), last=True
                )
            )
        surplus = 0 if most is None else sum(map(len, self._pieces)) - most
        while surplus > 0:
            last = self._pieces.pop()
            if len(last) > surplus:
                self._pieces.append(last[: len(last) - surplus])
            surplus -= len(last)
        return self._pieces

    def _shaped(self, samples: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(samples[:, 0] if self._channels == 1 else samples)

    def _keep(self, output: np.ndarray) -> None:
        output = output.reshape(len(output), self._channels)
        dropped = min(self._skip, len(output))
        self._skip -= dropped
        if len(output) > dropped:
            self._pieces.append(output[dropped:])


class _Picker:
    """Applies the channel policy and cleans samples.

    `uneven` mixes two channels two to one: no polarity and no position between them is lost in that.
    """

    def __init__(self, policy: str, available: int, rate: int, uneven: bool = False) -> None:
        self._policy, self._uneven, self._tenth = policy, uneven, rate // 10
        self._energy, self._mixed, self._cancelled, self._fixed = 0.0, 0.0, 0, False
        self._missing = policy == "right" and available == 1
        self.channels: list[int | None] = [None]
        if policy == "each":
            self.channels = list(range(available))
        elif policy != "mix":
            wanted = {"left": 0, "right": 1}.get(policy)
            number = int(policy) if wanted is None else min(wanted, available - 1)
            if number >= available:
                raise RowError(
                    f"channel {number} was asked for, the file has {available} (counted from 0)",
                    "no_audio_stream",
                )
            self.channels = [number]

    def pick(self, samples: np.ndarray) -> np.ndarray:
        """Blocks of shape (samples, channels of the file) to (samples, channels wanted)."""
        samples, fixed = finite(samples)
        self._fixed |= fixed
        if self._policy != "mix":
            wanted = [number for number in self.channels if number is not None]
            there = samples.shape[1]
            return samples[:, [min(number, there - 1) for number in wanted]]
        if samples.shape[1] == 1:
            return samples
        if self._uneven and samples.shape[1] == 2:
            return samples[:, :1] * np.float32(2 / 3) + samples[:, 1:] * np.float32(1 / 3)
        mixed = samples[:, :1].copy()
        for number in range(1, samples.shape[1]):  # several times faster than a mean over so short an axis
            mixed += samples[:, number : number + 1]
        mixed *= np.float32(1 / samples.shape[1])
        if samples.shape[1] == 2:
            self._compare(samples, mixed)
        return mixed

    def _compare(self, samples: np.ndarray, mixed: np.ndarray) -> None:
        energy, left = _energies(samples, self._tenth) / 2, _energies(mixed, self._tenth)
        self._energy += float(energy.sum())
        self._mixed += float(left.sum())
        self._cancelled += int(
            np.count_nonzero((energy > _AUDIBLE * self._tenth) & (left < _CANCELLED * energy))
        )

    def flags(self) -> list[str]:
        found = ["non_finite_samples"] if self._fixed else []
        found += ["channel_missing"] if self._missing else []
        # Two channels of opposite polarity: their mean is silence.
        if self._energy > 1.0 and self._mixed < _CANCELLED * self._energy:
            found.append("phase_cancelled")
        elif self._uneven or self._cancelled >= _CANCELLED_TENTHS:
            found.append(_CANCELLED_PARTLY)
        return found


def _energies(samples: np.ndarray, length: int) -> np.ndarray:
    """Sum of squares over all channels of every `length` samples; the last stretch may be shorter."""
    whole = len(samples) // length
    stretches = samples[: whole * length].reshape(whole, length * samples.shape[1])
    rest = samples[whole * length :]
    sums = (stretches[:, None, :] @ stretches[:, :, None]).reshape(
        whole
    )  # as fast as one product of all, and four times as fast as einsum
    return np.append(sums.astype(np.float64), float(np.vdot(rest, rest).real))


def _trim(block: Block, first: int, last: int | None) -> Any:
    start = max(0, first - block.position)
    stop = len(block.samples) if last is None else max(0, last - block.position)
    return block.samples[start:stop]
