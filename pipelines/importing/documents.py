"""What a file says that people corrected: documents of spans with text. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Piece:
    """A span with text, in seconds of the recording; lines are separated by line breaks."""

    start: float
    end: float
    text: str
    speaker: str | None = None  # None: the format does not say
    language: str | None = None  # ISO code; None: the format does not say


@dataclass(slots=True)
class Document:
    """The corrected transcript of one recording.

    Attributes:
        origin: file, and place in it, for messages.
        form: srt | vtt | textgrid | csv | labelstudio.
        recording_id: as the file states it; None: the name of the file says it.
        pieces: in any order.
        is_whole: whether text that is missing was removed; a CSV may have only the lines that were corrected.
        who: corrected it, if the file says so.
    """

    origin: str
    form: str
    recording_id: str | None = None
    pieces: list[Piece] = field(default_factory=list)
    is_whole: bool = True
    who: str | None = None
