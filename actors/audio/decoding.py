"""Decodes a span of any recording to int16 at 16 kHz, at absolute sample positions and in bounded memory.

For any span, sample n of the result equals sample n of the whole recording decoded in one piece. For that the
resampler starts at a source position that falls on a whole output sample, early enough for its filter to
settle, and runs at a precision at which its rounding does not show.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil, gcd
from typing import Any

import numpy as np
import soxr

from actors.audio.frames import PACKET_SECONDS, DecodeLosses, require_frames
from actors.audio.pcm import finite, to_int16
from actors.audio.recordings.reader import Block, Reader
from actors.errors import RowError
from actors.records import SAMPLING_RATE

# Seconds after which the output of the resampling filter no longer depends on where it was started.
_SETTLE = 0.05
# Energy of a mix relative to its channels below which they cancel each other.
_CANCELLED = 0.003
# Mean square of channels that are more than silence (-60 dBFS).
_AUDIBLE = 1e-6
# Tenths of a second in which audible channels may cancel each other before the mix counts as partly
# cancelled.
_CANCELLED_TENTHS = 10
_CANCELLED_PARTLY = "phase_cancelled_partly"


@dataclass
class Decoded:
    """A decoded span."""

    # int16 at 16 kHz, shape (channels, samples).
    samples: np.ndarray
    # The number of the channel of each row of `samples`; None for a mix.
    channels: list[int | None]
    # Absolute positions in samples at 16 kHz.
    start: int
    end: int
    # Whether the recording ended before the span did.
    reached_end: bool
    losses: DecodeLosses
    flags: list[str] = field(default_factory=list)


def decode_span(
    recording: Reader, start: int, end: int | None, channel: str = "mix", limit: int | None = None
) -> Decoded:
    """Decode samples [start, end) of a recording, counted at 16 kHz.

    Args:
        recording: the file.
        start: first sample.
        end: sample after the last; None decodes to the end of the file.
        channel: mix | left | right | each | a number from 0.
        limit: sample that must not be exceeded where `end` is None.

    Raises:
        RowError: corrupt_audio or no_samples where the file yields nothing at all, too_long beyond `limit`,
            no_audio_stream for a channel that the file does not have.
        RetryableError: reading failed.
    """
    mixer = _Mixer(channel, recording.channels, recording.sampling_rate)
    decoded = _decode(recording, start, end, limit, mixer)
    if _CANCELLED_PARTLY in decoded.flags:
        # Rare enough that decoding once more costs less than always keeping both channels.
        mixer = _Mixer(channel, recording.channels, recording.sampling_rate, uneven=True)
        return _decode(recording, start, end, limit, mixer)
    return decoded


def decode_channels(recording: Reader, start: int, end: int | None, channel: str, limit: int) -> Decoded:
    """`decode_span`, with the left channel instead of a mix of channels that cancel each other."""
    decoded = decode_span(recording, start, end, channel, limit)
    if "phase_cancelled" not in decoded.flags:
        return decoded
    left = decode_span(recording, start, end, "left", limit)
    return replace(left, channels=[None], flags=[*left.flags, "phase_cancelled"])


def _decode(recording: Reader, start: int, end: int | None, limit: int | None, mixer: _Mixer) -> Decoded:
    resampler = _Resampler(recording.sampling_rate, len(mixer.channels), start)
    last = None if end is None else resampler.source_end(end)
    losses = DecodeLosses()
    known_end, reached = 0, False
    for block in recording.blocks(resampler.first, losses):
        known_end = block.position + len(block.samples)
        samples = _trim(block, resampler.first, last)
        if len(samples):
            resampler.feed(mixer.mix(samples))
        if last is not None and known_end >= last:
            reached = True
            break
        if end is None and limit is not None and known_end * SAMPLING_RATE > limit * recording.sampling_rate:
            raise RowError(
                f"more than {limit / SAMPLING_RATE:.0f} s of audio, far more than the header said", "too_long"
            )
    if not reached:
        require_frames(losses)
    blocks = resampler.finish(None if end is None else max(0, end - start))
    converted = to_int16(blocks, len(mixer.channels), recording.codec)
    flags = [*mixer.flags(), *converted.flags]
    losses.errors += ceil(converted.removed / PACKET_SECONDS)
    count = converted.samples.shape[1]
    stop = start + count if count else min(start, round(known_end * SAMPLING_RATE / recording.sampling_rate))
    if losses.errors:
        flags.append("decode_errors")
    if losses.filled:
        flags.append("gap_filled")
    return Decoded(converted.samples, mixer.channels, min(start, stop), stop, not reached, losses, flags)


class _Resampler:
    """Resamples float32 blocks of shape (samples, channels) to 16 kHz.

    Args:
        rate: of the source in Hz.
        channels: of the blocks.
        start: absolute position, at 16 kHz, of the first sample of the output.
    """

    def __init__(self, rate: int, channels: int, start: int) -> None:
        self._rate, self._channels = rate, channels
        self._blocks: list[np.ndarray] = []
        self._stream = (
            None
            if rate == SAMPLING_RATE
            else soxr.ResampleStream(rate, SAMPLING_RATE, channels, dtype="float32", quality="VHQ")
        )
        # An output sample falls on every so many source samples.
        unit = rate // gcd(rate, SAMPLING_RATE)
        early = int(start * rate / SAMPLING_RATE) - (ceil(_SETTLE * rate) if self._stream else 0)
        # Source position of the first sample to feed.
        self.first = max(0, early // unit * unit)
        self._skip = start - self.first * SAMPLING_RATE // rate

    def source_end(self, end: int) -> int:
        """The source position up to which samples are needed for output up to `end`."""
        return ceil(end * self._rate / SAMPLING_RATE) + (ceil(_SETTLE * self._rate) if self._stream else 0)

    def feed(self, samples: np.ndarray) -> None:
        """Resample the next block."""
        self._store(samples if self._stream is None else self._stream.resample_chunk(self._reshape(samples)))

    def finish(self, count: int | None) -> list[np.ndarray]:
        """The output from `start` on.

        Args:
            count: samples to return at most; None returns all.

        Returns:
            Consecutive blocks of float32, shape (samples, channels).
        """
        if self._stream is not None:
            nothing = self._reshape(np.zeros((0, self._channels), np.float32))
            self._store(self._stream.resample_chunk(nothing, last=True))
        surplus = 0 if count is None else sum(map(len, self._blocks)) - count
        while surplus > 0:
            last = self._blocks.pop()
            if len(last) > surplus:
                self._blocks.append(last[: len(last) - surplus])
            surplus -= len(last)
        return self._blocks

    def _reshape(self, samples: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(samples[:, 0] if self._channels == 1 else samples)

    def _store(self, output: np.ndarray) -> None:
        output = output.reshape(len(output), self._channels)
        dropped = min(self._skip, len(output))
        self._skip -= dropped
        if len(output) > dropped:
            self._blocks.append(output[dropped:])


class _Mixer:
    """Applies the channel policy and removes samples that are not finite.

    Args:
        policy: see `decode_span`.
        available: channels of the file.
        rate: sampling rate in Hz.
        uneven: mix two channels two to one. A sound of any polarity and position stays audible in such a mix.

    Raises:
        RowError: no_audio_stream for a channel that the file does not have.
    """

    def __init__(self, policy: str, available: int, rate: int, uneven: bool = False) -> None:
        self._policy, self._uneven, self._tenth = policy, uneven, rate // 10
        self._energy, self._mixed_energy, self._cancelled_tenths, self._non_finite = 0.0, 0.0, 0, False
        self._missing = policy == "right" and available == 1
        self.channels: list[int | None] = [None]
        if policy == "each":
            self.channels = list(range(available))
        elif policy != "mix":
            wanted = {"left": 0, "right": 1}.get(policy)
            number = int(policy) if wanted is None else min(wanted, available - 1)
            if number >= available:
                raise RowError(
                    f"channel {number} (counted from 0) was requested, but the file has {available}",
                    "no_audio_stream",
                )
            self.channels = [number]

    def mix(self, samples: np.ndarray) -> np.ndarray:
        """A block of shape (samples, channels of the file) as one of shape (samples, channels wanted)."""
        samples, non_finite = finite(samples)
        self._non_finite |= non_finite
        if self._policy != "mix":
            wanted = [number for number in self.channels if number is not None]
            available = samples.shape[1]
            return samples[:, [min(number, available - 1) for number in wanted]]
        if samples.shape[1] == 1:
            return samples
        if self._uneven and samples.shape[1] == 2:
            return samples[:, :1] * np.float32(2 / 3) + samples[:, 1:] * np.float32(1 / 3)
        mixed = samples[:, :1].copy()
        # Several times faster than a mean over such a short axis.
        for number in range(1, samples.shape[1]):
            mixed += samples[:, number : number + 1]
        mixed *= np.float32(1 / samples.shape[1])
        if samples.shape[1] == 2:
            self._compare(samples, mixed)
        return mixed

    def flags(self) -> list[str]:
        """What was found in all blocks."""
        found = ["non_finite_samples"] if self._non_finite else []
        found += ["channel_missing"] if self._missing else []
        # The mean of two channels of opposite polarity is silence.
        if self._energy > 1.0 and self._mixed_energy < _CANCELLED * self._energy:
            found.append("phase_cancelled")
        elif self._uneven or self._cancelled_tenths >= _CANCELLED_TENTHS:
            found.append(_CANCELLED_PARTLY)
        return found

    def _compare(self, samples: np.ndarray, mixed: np.ndarray) -> None:
        energy, mixed_energy = _energies(samples, self._tenth) / 2, _energies(mixed, self._tenth)
        self._energy += float(energy.sum())
        self._mixed_energy += float(mixed_energy.sum())
        cancelled = (energy > _AUDIBLE * self._tenth) & (mixed_energy < _CANCELLED * energy)
        self._cancelled_tenths += int(np.count_nonzero(cancelled))


def _energies(samples: np.ndarray, length: int) -> np.ndarray:
    """Sum of squares over all channels of every `length` samples; the last stretch may be shorter."""
    whole = len(samples) // length
    stretches = samples[: whole * length].reshape(whole, length * samples.shape[1])
    rest = samples[whole * length :]
    # As fast as one product of all, and four times as fast as einsum.
    sums = (stretches[:, None, :] @ stretches[:, :, None]).reshape(whole)
    return np.append(sums.astype(np.float64), float(np.vdot(rest, rest).real))


def _trim(block: Block, first: int, last: int | None) -> Any:
    """The samples of a block from source position `first` to before `last`."""
    start = max(0, first - block.position)
    stop = len(block.samples) if last is None else max(0, last - block.position)
    return block.samples[start:stop]
