"""What a reader of recordings gives: blocks of samples in the order of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from actors.audio.frames import (
    DecodeLosses,
)
from actors.audio.sources import AudioFile


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples: float32, shape (samples, channels), starting at `position`."""

    position: int
    samples: np.ndarray


class Reader(Protocol):
    """What decodes a recording: `SampleReader`, or `ChainedReader` for a chain of files."""

    file: AudioFile
    format: str
    codec: str
    sampling_rate: int
    channels: int
    audio_streams: int
    # The number of the audio track, from 0.
    track: int
    # Flags of the file as a whole.
    flags: list[str]
    # Whether the file ends before its own header, index or end mark says.
    is_cut_off: bool
    # Seconds that the sound lasts by the header; None where it does not say.
    header_duration: float | None

    @property
    def can_seek(self) -> bool:
        """Whether places are reached by seeking."""

    def blocks(self, first: int, losses: DecodeLosses) -> Iterator[Block]:
        """See `SampleReader.blocks`."""
