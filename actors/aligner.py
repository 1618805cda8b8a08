"""Word times for rows: every segment whose language the aligner knows gets its words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from actors.backends import create_aligner, runs_on_gpu
from actors.config import AlignerConfig
from actors.batching import dispatch
from actors.errors import as_row_error
from actors.process.watchdog import call_limit
from actors.records import AlignmentRequest, Row, SegmentRow, Word
from actors.text.alignment_units import Unit, locate_units
from actors.text.languages import ALIGNER_LANGUAGES, name_of

Times = list[tuple[float, float]]
Finished = tuple[SegmentRow, Exception | None]

STAGE = "align"
_TIME_DIGITS = 3


class AlignerActor:
    """Rows in, rows out, one for one and in order.

    Reads: `segments[].samples`, `text`, `language`, `start`.
    Adds to each segment: `words` (text with its punctuation, seconds of the recording, characters of the segment's text), `word_source`
    (`aligner`, or `none`: no words asked for, found, or possible in this language).
    Removes: `segments[].samples`.
    Flags on a segment: `zero_length_words` (the aligner gave a word no time; kept as it is, not invented), `alignment_failed` (the row
    becomes `partial`), `too_long_to_align`.
    """

    def __init__(self, config: AlignerConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        self.config = config
        self.backend = create_aligner(config)
        self.model = self.backend.model
        self.revision = self.backend.revision
        self._limit = partial(call_limit, config.timeout, runs_on_gpu(self.backend))
        self._prefetch = getattr(self.backend, "prefetch", None)
        self._batches_itself = getattr(self.backend, "batches_itself", False)
        self.max_concurrent_calls = (
            2 if self._batches_itself else 1
        )  # calls at a time that are of use: such an engine is never to wait for the next one

    def __call__(self, rows: list[Row]) -> list[Row]:
        """RECOGNISED to SHARD rows."""
        finished = iter(self.align([segment for row in rows for segment in row["segments"] or []]))
        return [aligned_row(row, [next(finished) for _ in row["segments"] or []]) for row in rows]

    def align(self, segments: Sequence[SegmentRow]) -> list[Finished]:
        """Each recognised segment with its words and without its samples, in order, and what went wrong with it."""
        units = [self._units(segment) for segment in segments]
        wanted = [
            index for index, of_segment in enumerate(units) if isinstance(of_segment, list) and of_segment
        ]
        requests = [_request(segments[index], units[index]) for index in wanted]
        short = [
            position
            for position, request in enumerate(requests)
            if request.duration <= self.backend.max_duration
        ]
        results = self._through_backend([requests[position] for position in short])
        found: dict[int, Times | Exception] = {
            wanted[position]: result for position, result in zip(short, results, strict=True)
        }
        too_long = set(wanted) - set(found)
        return [
            _finish(segment, of_segment, found.get(index), index in too_long)
            for index, (segment, of_segment) in enumerate(zip(segments, units, strict=True))
        ]

    def _through_backend(self, requests: list[AlignmentRequest]) -> list[Times | Exception]:
        if self._batches_itself:
            return dispatch(requests, self.backend.align, None, None)
        batches = (self.config.max_batch_seconds, self.config.max_batch_size)
        return dispatch(requests, self.backend.align, *batches, self._limit, self._prefetch)

    def _units(self, segment: SegmentRow) -> list[Unit] | Exception:
        """The aligner's units of a segment's text; none where its language is not one of the aligner's."""
        language = name_of(segment.get("language"))
        if language not in ALIGNER_LANGUAGES or not segment["text"]:
            return []
        try:
            return locate_units(segment["text"], language)
        except Exception as error:  # a tokenizer of a third party (nagisa, soynlp) choked on this text: its segment pays, not its shard
            return error


def _request(segment: SegmentRow, units: list[Unit] | Exception) -> AlignmentRequest:
    assert isinstance(units, list)
    texts = tuple(unit.text for unit in units)
    return AlignmentRequest(
        np.frombuffer(segment["samples"], dtype="<i2"), texts, name_of(segment["language"])
    )


def _finish(
    segment: SegmentRow, units: list[Unit] | Exception, times: Times | Exception | None, too_long: bool
) -> Finished:
    """A segment with its words and without its samples, and what went wrong."""
    finished = {key: value for key, value in segment.items() if key != "samples"}
    flags = list(segment.get("flags") or [])
    error = next((problem for problem in (units, times) if isinstance(problem, Exception)), None)
    words: list[Word] = []
    if isinstance(units, list) and isinstance(times, list):
        words = _words(segment, units, times)
        if any(word.end <= word.start for word in words):
            flags.append("zero_length_words")
    if too_long:
        flags.append("too_long_to_align")
    if error is not None:
        flags.append("alignment_failed")
    columns = [
        {
            "text": word.text,
            "start": word.start,
            "end": word.end,
            "char_start": word.char_start,
            "char_end": word.char_end,
        }
        for word in words
    ]
    return {
        **finished,
        "flags": flags,
        "words": columns,
        "word_source": "aligner" if words else "none",
    }, error


def _words(segment: SegmentRow, units: list[Unit], times: Times) -> list[Word]:
    """Units and their times, as words of the punctuated text in seconds of the recording."""
    return [
        Word(
            text=segment["text"][unit.char_start : unit.char_end],
            start=round(segment["start"] + start, _TIME_DIGITS),
            end=round(segment["start"] + end, _TIME_DIGITS),
            char_start=unit.char_start,
            char_end=unit.char_end,
        )
        for unit, (start, end) in zip(units, times, strict=True)
    ]


def aligned_row(row: Row, finished: Sequence[Finished]) -> Row:
    """A RECOGNISED row with its finished segments in place of what they were made of."""
    row = {**row, "segments": [segment for segment, _ in finished]}
    error = next((error for _, error in finished if error is not None), None)
    if error is not None:
        row["status"] = "partial"
        if not row.get("error_code"):
            code, message = as_row_error(error, default="alignment_failed")
            row |= {"error_stage": STAGE, "error_code": code, "error_message": message}
    return row
