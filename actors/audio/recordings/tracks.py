"""The audio tracks of a file: one of them, each for itself, or all of them mixed (`audio.track`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from actors.audio.decoding import Decoded, decode_channels, decode_span
from actors.audio.files.audio_file import AudioFile
from actors.audio.frames import DecodeLosses
from actors.audio.recordings.chained_reader import open_recording
from actors.audio.recordings.reader import Reader
from actors.errors import RowError
from actors.records import track_channel

# Samples whose mean square is at least this are more than silence (-60 dBFS).
_AUDIBLE = 32768**2 * 1e-6


@dataclass
class Tracks:
    """The tracks of a file that a policy takes, the main one first."""

    policy: str
    readers: list[Reader]
    # Whether a track cannot be read.
    unread: bool = False
    # Numbers of tracks that are only taken where the others have no sound.
    others: list[int] = field(default_factory=list)

    @property
    def main(self) -> Reader:
        return self.readers[0]


def open_tracks(file: AudioFile, policy: str) -> Tracks:
    """Open the tracks that a policy takes.

    Args:
        file: the file.
        policy: auto | each | mix | the number of a track from 0.

    Raises:
        RowError: the main track cannot be opened; no_audio_stream for a track that the file does not have.
        RetryableError: reading failed.
    """
    main = open_recording(file, int(policy) if policy.isdigit() else None)
    others = [number for number in range(main.audio_streams) if number != main.track]
    if policy == "auto":
        return Tracks(policy, [main], others=others)
    tracks = Tracks(policy, [main])
    if policy in ("each", "mix"):
        for number in others:
            try:
                tracks.readers.append(open_recording(file, number))
            except RowError as error:
                # A track without a single packet has nothing to say.
                tracks.unread |= error.code != "no_samples"
    return tracks


def decode_tracks(tracks: Tracks, start: int, end: int | None, channel: str, limit: int) -> Decoded:
    """`decode_channels` for all tracks that were opened.

    Returns:
        For one track, what was decoded. For `mix` a mono mix. For `each` the channels of all tracks, as long
        as the longest of them, with numbers from `track_channel`.
    """
    if len(tracks.readers) == 1:
        decoded = decode_channels(tracks.main, start, end, channel, limit)
        return number_channels(decoded, tracks.main.track) if tracks.policy == "each" else decoded
    channel = "mix" if tracks.policy == "mix" else channel
    found = [decode_channels(reader, start, end, channel, limit) for reader in tracks.readers]
    merged = _merge(found)
    if tracks.policy == "mix":
        return replace(merged, samples=_mixed(merged.samples), channels=[None])
    numbered = [number_channels(one, reader.track) for one, reader in zip(found, tracks.readers, strict=True)]
    return replace(merged, channels=[number for one in numbered for number in one.channels])


def decode_others(
    file: AudioFile, tracks: Tracks, span: tuple[int, int | None], channel: str, limit: int
) -> list[Decoded]:
    """The tracks that are only taken where the main one has no sound; one that fails is `unread`."""
    found = []
    for number in tracks.others:
        try:
            decoded = decode_channels(open_recording(file, number), *span, channel, limit)
        except RowError as error:
            tracks.unread |= error.code != "no_samples"
            continue
        found.append(number_channels(decoded, number))
    return found


def number_channels(decoded: Decoded, track: int) -> Decoded:
    """The same samples, whose channels say which track they are of."""
    return replace(decoded, channels=[track_channel(track, channel) for channel in decoded.channels])


def decode_all(tracks: Tracks, start: int, end: int) -> Decoded:
    """All channels of all opened tracks, for finding a place to cut."""
    return _merge([decode_span(reader, start, end, "each") for reader in tracks.readers])


def _merge(found: list[Decoded]) -> Decoded:
    """The rows of all, padded to the longest."""
    if len(found) == 1:
        return found[0]
    longest = max(found, key=lambda one: one.end)
    length = max(one.samples.shape[1] for one in found)
    rows = [np.pad(one.samples, ((0, 0), (0, length - one.samples.shape[1]))) for one in found]
    losses = DecodeLosses()
    for one in found:
        losses.errors += one.losses.errors
        losses.filled += one.losses.filled
        losses.frames += one.losses.frames
        losses.broken = losses.broken or one.losses.broken
        losses.max_drift = max(losses.max_drift, one.losses.max_drift)
    flags = list(dict.fromkeys(flag for one in found for flag in one.flags))
    start = min(one.start for one in found)
    return replace(
        longest, samples=np.concatenate(rows), start=start, losses=losses, flags=flags,
        reached_end=all(one.reached_end for one in found),
    )  # fmt: skip


def _mixed(samples: np.ndarray) -> np.ndarray:
    """The mean of the rows that have any sound; a silent track makes the others no quieter."""
    audible = [
        row for row in samples if row.size and float(np.mean(np.square(row, dtype=np.float64))) >= _AUDIBLE
    ]
    rows = np.stack(audible) if audible else samples
    mean: np.ndarray = np.rint(rows.mean(axis=0, dtype=np.float64)).astype(np.int16)
    return mean[None]
