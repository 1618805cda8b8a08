"""Finds the samples of WAVE, RF64, W64, AIFF, AU and CAF files, also where their headers are wrong.

A header may say less than there is (a recorder that was switched off, a size of 32 bits that wrapped, files
joined by `cat`), or more (a broken transfer). So the chunks are walked to the end of the file: a chain of
valid chunks is metadata; a further `data` chunk or file is more sound; a file above 4 GiB whose size fits
modulo 2^32 has a wrapped header; and what is none of these is examined (`structure.remainder`).
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.audio.sources import AudioFile
from actors.audio.structure.chunks import CAF, RIFF, RIFX, W64, W64_RIFF
from actors.audio.structure.parts import ChunkWalk, Part, read_au
from actors.audio.structure.remainder import classify
from actors.audio.structure.views import read_at

# Files joined in one; what is behind them is not read.
_MAX_PARTS = 4096
# Seconds of samples, or their share, whichever is less, that a header may promise in vain.
_MISSING_SECONDS, _MISSING_SHARE = 0.1, 0.01


@dataclass(frozen=True)
class Layout:
    """Where the samples of a file are, and whether all of it was understood."""

    parts: tuple[Part, ...]
    # Bytes behind the samples that are neither metadata nor samples.
    unread: int

    @property
    def is_cut_off(self) -> bool:
        """Whether the header of the last part promises noticeably more than there is."""
        part = self.parts[-1]
        rate = part.format.byte_rate if part.format else 0.0
        allowed = min(_MISSING_SECONDS * rate, _MISSING_SHARE * (part.missing + part.size))
        return part.missing > max(allowed, 1)

    @property
    def flags(self) -> list[str]:
        """What readers of the transcript must know about the file."""
        found = ["header_says_less"] if any(part.understated for part in self.parts) else []
        found += ["files_joined"] if len(self.parts) > 1 else []
        return found + (["audio_unread"] if self.unread else [])


def read_layout(file: AudioFile) -> Layout | None:
    """Find all samples of a file; None for a format without them, or without a description of its samples.

    Raises:
        RowError: bad_header where the header's numbers are impossible.
        RetryableError: reading failed.
    """
    parts: list[Part] = []
    place, unread = 0, 0
    while len(parts) < _MAX_PARTS:
        part = _read_part(file, place)
        if part is None or part.format is None:
            unread = file.size - place
            break
        parts.append(part)
        if part.end >= file.size:
            break
        kind, place = classify(
            file, part.end, part.format, part.extents[0].start if part.extents else part.end
        )
        if kind != "file":
            unread = 0 if kind == "nothing" else file.size - place
            break
    else:
        unread = file.size - place
    return Layout(tuple(parts), unread) if parts else None


def _read_part(file: AudioFile, origin: int) -> Part | None:
    head = read_at(file, origin, 40)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        grammar = RIFX if head[:4] == b"RIFX" else RIFF
        return ChunkWalk(file, origin, grammar, "wav", b"data").walk(origin + 12)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        walk = ChunkWalk(file, origin, RIFX, "aiff", b"SSND", 8)
        walk.compressed = head[8:12] == b"AIFC"
        return walk.walk(origin + 12)
    if head[:16] == W64_RIFF:
        return ChunkWalk(file, origin, W64, "w64", b"data").walk(origin + 40)
    if head[:4] == b"caff":
        return ChunkWalk(file, origin, CAF, "caf", b"data", 4).walk(origin + 8)
    if head[:4] in (b".snd", b"dns.") and len(head) >= 24:
        return read_au(file, origin, head)
    return None
