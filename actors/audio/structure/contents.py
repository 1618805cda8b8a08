"""What is decoded of a file: the samples that it has, wherever its headers say they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.audio.sources import AudioFile
from actors.audio.structure.corrected_header import corrected_wave
from actors.audio.structure.front_tags import skip_front_tags
from actors.audio.structure.layout import read_layout
from actors.audio.structure.pcm_samples import PcmPart, part_frames, pcm_parts
from actors.audio.structure.views import Extent, join_pieces, read_at


@dataclass(frozen=True)
class Contents:
    """A file without what would mislead its reader."""

    # The file behind its tags; of a compressed WAVE file a view with a correct header.
    file: AudioFile
    # The samples of a PCM file; None where PyAV decodes it.
    parts: list[PcmPart] | None = None
    container: str = ""
    # `header_says_less`, `files_joined`, `audio_unread`.
    flags: list[str] = field(default_factory=list)
    # Whether the header promises more samples than there are.
    is_cut_off: bool = False
    # Whether the header leaves open how many samples there are.
    is_open: bool = False

    @property
    def duration(self) -> float:
        """Seconds of a PCM file."""
        assert self.parts is not None
        rate = self.parts[0].format.sampling_rate
        return sum(part_frames(part, rate) for part in self.parts) / rate


def read_contents(file: AudioFile) -> Contents:
    """Find out what of a file is to be decoded.

    Raises:
        RowError: bad_header for impossible numbers, no_samples for a PCM file without any.
        RetryableError: reading failed.
    """
    file = skip_front_tags(file)
    layout = read_layout(file)
    if layout is None:
        return Contents(file)
    container, flags = layout.parts[0].container, layout.flags
    parts = pcm_parts(file, layout)
    if parts is not None:
        is_open = any(part.is_open for part in layout.parts)
        return Contents(file, parts, container, flags, layout.is_cut_off, is_open)
    if container != "wav" or read_at(file, 0, 4) == b"RIFX" or not layout.parts[0].extents:
        flags = [flag for flag in flags if flag == "audio_unread"]
        if container == "aiff":
            # ffmpeg reads no further than this size.
            size = (layout.parts[0].end - 8).to_bytes(4, "big")
            file = join_pieces(file, [b"FORM" + size, Extent(8, file.size)])
        return Contents(file, None, container, flags, layout.is_cut_off)
    view, joined = corrected_wave(file, layout)
    if joined < len(layout.parts):
        read = [
            flag for flag in flags if flag == "header_says_less" or (flag == "files_joined" and joined > 1)
        ]
        flags = [*read, "audio_unread"]
    return Contents(view, None, container, flags, layout.is_cut_off)
