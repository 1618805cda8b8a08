"""Word times for rows: each segment in a language that the aligner knows gets its words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.backends import create_aligner
from actors.batching import dispatch_to
from actors.config import AlignerConfig
from actors.errors import as_row_error
from actors.records import AlignmentRequest, Row, SegmentRow, WordRow
from actors.text.alignment_units import Unit, locate_units
from actors.text.languages import ALIGNER_LANGUAGES, name_of

Times = list[tuple[float, float]]
# A segment with its words and without its samples, and what went wrong with it.
AlignedSegment = tuple[SegmentRow, Exception | None]

STAGE = "align"
_TIME_DIGITS = 3


class AlignerActor:
    """Aligns rows; the output has one row for each input row, in order.

    Reads: `segments[].samples`, `text`, `language`, `start`. Adds to each segment: `words` (text with its
    punctuation, seconds of the recording, characters of the segment's text) and `word_source` (`aligner`;
    `none` where no words were asked for, found, or possible in this language). Removes: `segments[].samples`.
    Flags of a segment: `zero_length_words` (the aligner gave a word no duration; it is kept, no time is
    invented), `alignment_failed` (the row becomes `partial`), `too_long_to_align`.
    """

    def __init__(self, config: AlignerConfig) -> None:
        """Load the model.

        Raises:
            FatalError: the model cannot be loaded; the message says what to do.
        """
        self.config = config
        self.backend = create_aligner(config)
        self.model = self.backend.model
        self.revision = self.backend.revision
        self.max_concurrent_calls = self.backend.max_concurrent_calls
        # What calls cost on this device, for the record of the run; None: not measured.
        self.cost_model = self.backend.cost_model

    def __call__(self, rows: list[Row]) -> list[Row]:
        """Turn RECOGNISED rows into SHARD rows."""
        aligned = iter(self.align([segment for row in rows for segment in row["segments"] or []]))
        return [aligned_row(row, [next(aligned) for _ in row["segments"] or []]) for row in rows]

    def align(self, segments: Sequence[SegmentRow]) -> list[AlignedSegment]:
        """Align recognised segments; the output has one entry for each of them, in order."""
        units = [_units(segment) for segment in segments]
        requests = {
            index: _request(segments[index], of_segment)
            for index, of_segment in enumerate(units)
            if isinstance(of_segment, list) and of_segment
        }
        within_limit = [
            index for index, request in requests.items() if request.duration <= self.backend.max_duration
        ]
        results = dispatch_to(
            self.backend, self.backend.align, self.config, [requests[index] for index in within_limit]
        )
        times: dict[int, Times | Exception] = dict(zip(within_limit, results, strict=True))
        return [
            _aligned(segment, of_segment, times.get(index), too_long=index in requests and index not in times)
            for index, (segment, of_segment) in enumerate(zip(segments, units, strict=True))
        ]


def without_words(segment: SegmentRow) -> SegmentRow:
    """A recognised segment as the aligner returns one in which it finds no words."""
    aligned = segment.copy()
    aligned.pop("samples", None)
    return {**aligned, "words": [], "word_source": "none"}


def aligned_row(row: Row, aligned: Sequence[AlignedSegment]) -> Row:
    """A SHARD row from a RECOGNISED row and its aligned segments."""
    row = {**row, "segments": [segment for segment, _ in aligned]}
    error = next((error for _, error in aligned if error is not None), None)
    if error is not None:
        row["status"] = "partial"
        # An error of an earlier stage stays.
        if not row.get("error_code"):
            code, message = as_row_error(error, default="alignment_failed")
            row |= {"error_stage": STAGE, "error_code": code, "error_message": message}
    return row


def _units(segment: SegmentRow) -> list[Unit] | Exception:
    """The aligner's units of a segment's text; none where the aligner does not know its language."""
    language = name_of(segment.get("language"))
    if language not in ALIGNER_LANGUAGES or not segment["text"]:
        return []
    try:
        return locate_units(segment["text"], language)
    except Exception as error:
        # A third party's tokenizer (nagisa, soynlp) failed on this text. That fails the segment, not its
        # shard.
        return error


def _request(segment: SegmentRow, units: list[Unit]) -> AlignmentRequest:
    texts = tuple(unit.text for unit in units)
    waveform = np.frombuffer(segment["samples"], dtype="<i2")
    return AlignmentRequest(waveform, texts, name_of(segment["language"]))


def _aligned(
    segment: SegmentRow, units: list[Unit] | Exception, times: Times | Exception | None, too_long: bool
) -> AlignedSegment:
    flags = list(segment.get("flags") or [])
    error = next((problem for problem in (units, times) if isinstance(problem, Exception)), None)
    words: list[WordRow] = []
    if isinstance(units, list) and isinstance(times, list):
        words = _words(segment, units, times)
        if any(word["end"] <= word["start"] for word in words):
            flags.append("zero_length_words")
    if too_long:
        flags.append("too_long_to_align")
    if error is not None:
        flags.append("alignment_failed")
    source = "aligner" if words else "none"
    return {**without_words(segment), "flags": flags, "words": words, "word_source": source}, error


def _words(segment: SegmentRow, units: list[Unit], times: Times) -> list[WordRow]:
    """Words of the punctuated text, in seconds of the recording."""
    return [
        {
            "text": segment["text"][unit.char_start : unit.char_end],
            "start": round(segment["start"] + start, _TIME_DIGITS),
            "end": round(segment["start"] + end, _TIME_DIGITS),
            "char_start": unit.char_start,
            "char_end": unit.char_end,
        }
        for unit, (start, end) in zip(units, times, strict=True)
    ]
