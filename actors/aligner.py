"""Word times for rows: each segment in a language that the aligner knows gets its words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.answers.codecs import RecognisedSegment
from actors.answers.portions import Portions
from actors.backends import create_aligner
from actors.batching import dispatch_to
from actors.confidence.words import word_confidences
from actors.config import AlignerConfig
from actors.config.repair import RepairConfig
from actors.config.trust import GuardsConfig
from actors.errors import as_row_error
from actors.guards.word_guard import WordGuard
from actors.records import AlignmentRequest, Row, SegmentRow, WordRow
from actors.repair.budget import LocalBudget, affordable
from actors.repair.words import realign, refine
from actors.text.alignment_units import Unit
from actors.text.given_text.judgement import judged
from actors.text.given_text.script import EMPTY_SCRIPT, Script, Span, Times, given_script, plain_script
from actors.text.given_text.spoken_text import Part
from actors.text.languages import ALIGNER_LANGUAGES, name_of

# A segment with its words and without its samples, and what went wrong with it.
AlignedSegment = tuple[SegmentRow, Exception | None]

STAGE = "align"
_TIME_DIGITS = 3
# Seconds that a process may align again before it has aligned anything.
_REPAIR_CREDIT = 30.0


class AlignerActor:
    """Aligns rows; the output has one row for each input row, in order.

    Reads: `segments[].samples`, `text`, `language`, `start`. Adds to each segment: `words` (text with its
    punctuation, seconds of the recording, characters of the segment's text) and `word_source` (`aligner`;
    `none` where no words were asked for, found, or possible in this language). Removes: `segments[].samples`.
    Flags of a segment: `zero_length_words` (the aligner gave a word no duration; it is kept, no time is
    invented), `alignment_failed` (the row becomes `partial`), `too_long_to_align`.
    """

    def __init__(
        self,
        config: AlignerConfig,
        guards: GuardsConfig | None = None,
        repair: RepairConfig | None = None,
    ) -> None:
        """Load the model.

        Args:
            config: settings of the aligner.
            guards: settings of the guards; None: the defaults, and none for the fake aligner.
            repair: settings of the repair of bad stretches of words; None: there is none.

        Raises:
            FatalError: the model cannot be loaded; the message says what to do.
        """
        self.config = config
        self.backend = create_aligner(config)
        self.guard = WordGuard(guards or GuardsConfig(enabled=config.backend != "fake"))
        self.repair = repair or RepairConfig(enabled=False)
        self.budget = LocalBudget(self.repair.max_share, _REPAIR_CREDIT)
        self.model = self.backend.model
        self.revision = self.backend.revision
        self.max_concurrent_calls = self.backend.max_concurrent_calls
        # What calls cost on this device, for the record of the run; None: not measured.
        self.cost_model = self.backend.cost_model
        # Keeps the words of tables that take long; None: nothing is kept.
        self.portions: Portions[RecognisedSegment, AlignedSegment] | None = None

    def __call__(self, rows: list[Row]) -> list[Row]:
        """Turn RECOGNISED rows into SHARD rows."""
        aligned = iter(self._in_portions(rows, [one for row in rows for one in row["segments"] or []]))
        return [aligned_row(row, [next(aligned) for _ in row["segments"] or []]) for row in rows]

    def _in_portions(self, rows: Sequence[Row], segments: Sequence[SegmentRow]) -> list[AlignedSegment]:
        if self.portions is None or not segments:
            return self.align(segments)
        requests = [RecognisedSegment(segment) for segment in segments]
        return self.portions.run(
            rows[0]["shard_id"], requests, lambda some: self.align([request.row for request in some])
        )

    def align(self, segments: Sequence[SegmentRow]) -> list[AlignedSegment]:
        """Align recognised segments; the output has one entry for each of them, in order."""
        scripts = [_script(segment) for segment in segments]
        requests = {
            index: _request(segments[index], script)
            for index, script in enumerate(scripts)
            if isinstance(script, Script) and not script.is_empty
        }
        within_limit = [
            index for index, request in requests.items() if request.duration <= self.backend.max_duration
        ]
        heard = self.guard.listen(segments)
        results = dispatch_to(
            self.backend, self.backend.align, self.config, [requests[index] for index in within_limit]
        )
        times: dict[int, Times | Exception] = dict(zip(within_limit, results, strict=True))
        self._refine({index: requests[index] for index in within_limit}, times)
        realigned = self._align_again({index: requests[index] for index in within_limit}, times)
        aligned = [
            _aligned(segment, script, times.get(index), too_long=index in requests and index not in times)
            for index, (segment, script) in enumerate(zip(segments, scripts, strict=True))
        ]
        for index in realigned:
            aligned[index][0]["flags"].append("words_realigned")
        return [
            (self.guard.judged(segments[index], segment, times.get(index), heard[index]), error)
            for index, (segment, error) in enumerate(aligned)
        ]

    def _refine(self, requests: dict[int, AlignmentRequest], times: dict[int, Times | Exception]) -> None:
        """Align segments again, in two parts, whose times do not fit their sound; keep what fits better."""
        if self.config.refine is None:
            return
        searches: dict[int, refine.Search] = {}
        for index, request in requests.items():
            of_request = times[index]
            if not isinstance(of_request, Exception):
                sound = refine.is_sound(request.waveform)
                if refine.is_doubtful(of_request, sound, self.config.refine):
                    searches[index] = refine.Search(of_request, sound, self.config.refine)
        while asked := [(index, one.left.pop(0)) for index, one in searches.items() if one.left]:
            parts = [part for index, division in asked for part in refine.parts(requests[index], division)]
            results = iter(dispatch_to(self.backend, self.backend.align, self.config, parts))
            for (index, division), left, right in zip(asked, results, results, strict=True):
                if isinstance(left, list) and isinstance(right, list):
                    searches[index].add(refine.joined(division, left, right))
        for index, search in searches.items():
            if better := search.best():
                times[index] = better

    def _align_again(
        self, requests: dict[int, AlignmentRequest], times: dict[int, Times | Exception]
    ) -> set[int]:
        """Align bad stretches of words again; better times replace the others. Returns whose have changed."""
        self.budget.count(sum(request.duration for request in requests.values()))
        if not self.repair.enabled:
            return set()
        found = [
            (index, window)
            for index, request in requests.items()
            if isinstance(of_request := times[index], list)
            for window in realign.windows(of_request, request.duration)
        ]
        chosen = affordable([window.end - window.start for _, window in found], self.budget)
        asked = [found[number] for number in chosen]
        again = [realign.request_for(requests[index], window) for index, window in asked]
        results = dispatch_to(self.backend, self.backend.align, self.config, again) if again else []
        changed = set()
        for (index, window), result in zip(asked, results, strict=True):
            before = times[index]
            if isinstance(result, list) and isinstance(before, list):
                better = realign.better(before, window, result)
                if better is not None:
                    times[index] = better
                    changed.add(index)
        return changed


def without_words(segment: SegmentRow) -> SegmentRow:
    """A recognised segment as the aligner returns one in which it finds no words."""
    aligned = segment.copy()
    for field in ("samples", "token_ends", "token_log_probabilities", "parts"):
        aligned.pop(field, None)  # type: ignore[misc]
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
    return judged(row)


def _script(segment: SegmentRow) -> Script | Exception:
    """What the aligner is given of a segment's text: nothing where the aligner does not know its language."""
    language = name_of(segment.get("language"))
    if language not in ALIGNER_LANGUAGES or not segment["text"]:
        return EMPTY_SCRIPT
    try:
        if parts := segment.get("parts"):
            return given_script(segment["text"], [Part(**part) for part in parts], language)
        return plain_script(segment["text"], language)
    except Exception as error:
        # A third party's tokenizer (nagisa, soynlp) failed on this text. That fails the segment, not its
        # shard.
        return error


def _request(segment: SegmentRow, script: Script) -> AlignmentRequest:
    waveform = np.frombuffer(segment["samples"], dtype="<i2")
    return AlignmentRequest(waveform, tuple(script.sent), name_of(segment["language"]))


def _aligned(
    segment: SegmentRow, script: Script | Exception, times: Times | Exception | None, too_long: bool
) -> AlignedSegment:
    flags = list(segment.get("flags") or [])
    error = next((problem for problem in (script, times) if isinstance(problem, Exception)), None)
    words: list[WordRow] = []
    if isinstance(script, Script) and script.units and (script.is_empty or isinstance(times, list)):
        spans = script.times(times if isinstance(times, list) else [])
        words = _words(segment, script.units, spans)
        if any(span is not None and span[1] <= span[0] for span in spans):
            flags.append("zero_length_words")
    if too_long:
        flags.append("too_long_to_align")
    if error is not None:
        flags.append("alignment_failed")
    source = "aligner" if any(word["start"] is not None for word in words) else "none"
    return {**without_words(segment), "flags": flags, "words": words, "word_source": source}, error


def _words(segment: SegmentRow, units: list[Unit], spans: Sequence[Span | None]) -> list[WordRow]:
    """Words of the punctuated text, in seconds of the recording; those that are not said have no times."""
    confidences = word_confidences(
        segment.get("token_ends") or (),
        segment.get("token_log_probabilities") or (),
        segment["text"],
        [(unit.char_start, unit.char_end) for unit in units],
    )
    return [
        {
            "text": segment["text"][unit.char_start : unit.char_end],
            "start": None if span is None else round(segment["start"] + span[0], _TIME_DIGITS),
            "end": None if span is None else round(segment["start"] + span[1], _TIME_DIGITS),
            "char_start": unit.char_start,
            "char_end": unit.char_end,
            "confidence": confidence,
        }
        for unit, span, confidence in zip(units, spans, confidences, strict=True)
    ]
