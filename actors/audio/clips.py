"""Cuts spans of a recording to FLAC, with the decoder of the job: every container, mono, 16 kHz.

`encode_clips` runs in a child process (`actors.process.isolation.Child`), as decoding of files from anywhere
may crash.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile

from actors.audio.formats.raw_pcm import with_header
from actors.audio.recordings.tracks import Tracks, decode_tracks, open_tracks
from actors.audio.sources import open_audio
from actors.records import SAMPLING_RATE, Row

# Seconds that are decoded at once: clips are cut from them, so that a file that cannot be sought is not
# decoded from its start for each clip.
_BLOCK = 300.0


@dataclass(frozen=True, slots=True)
class Clip:
    """A span to cut, in seconds of the file.

    Attributes:
        start: of the span.
        end: of the span.
        channel: number of the channel; None: as the recording was decoded.
        track: number of the audio track; None: as the recording was decoded.
    """

    start: float
    end: float
    channel: int | None = None
    track: int | None = None


def encode_clips(source: Row, clips: Sequence[Clip], retries: int | None) -> list[tuple[bytes, int]]:
    """Cut clips out of one recording.

    Args:
        source: `audio`, and as in a PLAN row `location`, `channel`, `track`, `raw_format` (each may be
        missing).
        clips: in the order of their starts.
        retries: of reads that fail for a moment; None: the default.

    Returns:
        For each clip a FLAC file with 16 bits, and its number of samples; fewer samples where the file ends
        before the clip.

    Raises:
        RowError: the file cannot be read or decoded.
        RetryableError: reading failed.
    """
    found: list[tuple[bytes, int]] = []
    with open_audio(source.get("location") or source["audio"], retries) as file:
        file = with_header(file, source.get("raw_format"))
        opened: dict[str, Tracks] = {}
        blocks: dict[tuple[str, str], tuple[int, np.ndarray]] = {}
        for clip in clips:
            policy = str(clip.track) if clip.track is not None else _single_track(source.get("track"))
            channel = (
                str(clip.channel) if clip.channel is not None else _single_channel(source.get("channel"))
            )
            if policy not in opened:
                opened[policy] = open_tracks(file, policy)
            first, last = round(clip.start * SAMPLING_RATE), round(clip.end * SAMPLING_RATE)
            begin, samples = blocks.get((policy, channel), (0, np.zeros(0, np.int16)))
            if not begin <= first <= last <= begin + len(samples):
                end = max(last, first + round(_BLOCK * SAMPLING_RATE))
                decoded = decode_tracks(opened[policy], first, end, channel, end)
                begin, samples = decoded.start, decoded.samples[0]
                blocks[policy, channel] = begin, samples
            cut = samples[max(0, first - begin) : max(0, last - begin)]
            found.append((flac_bytes(cut), len(cut)))
    return found


def decode_samples(source: Row, first: int, last: int, retries: int | None) -> bytes:
    """Decode samples [first, last) of one recording, counted at 16 kHz from the start of the file.

    Args:
        source: as in `encode_clips`.
        first: number of the first sample.
        last: number of the sample behind the last one.
        retries: of reads that fail for a moment; None: the default.

    Returns:
        int16, little-endian, mono; fewer samples where the file ends before.

    Raises:
        RowError: the file cannot be read or decoded.
        RetryableError: reading failed.
    """
    with open_audio(source.get("location") or source["audio"], retries) as file:
        file = with_header(file, source.get("raw_format"))
        tracks = open_tracks(file, _single_track(source.get("track")))
        decoded = decode_tracks(tracks, first, last, _single_channel(source.get("channel")), last)
    samples = decoded.samples[0][max(0, first - decoded.start) :]
    return samples.astype("<i2").tobytes()


def flac_bytes(samples: np.ndarray) -> bytes:
    """Mono int16 samples at 16 kHz as a FLAC file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _single_track(policy: str | None) -> str:
    return policy if policy is not None and (policy.isdigit() or policy == "mix") else "auto"


def _single_channel(policy: str | None) -> str:
    return "mix" if policy in (None, "each") else str(policy)
