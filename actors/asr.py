"""Speech recognition of rows: each segment of a batch of shards gets its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from actors.answers.portions import Portions
from actors.backends import create_asr
from actors.batching import dispatch_to
from actors.confidence.token_spans import TokenSpans
from actors.confidence.words import least_confidence
from actors.config import ASRConfig
from actors.config.repair import RepairConfig
from actors.config.trust import GuardsConfig
from actors.errors import RetryableError, UsageError, as_row_error
from actors.guards.text_guard import TextGuard
from actors.records import SAMPLING_RATE, Hypothesis, Row, SegmentRequest, SegmentRow
from actors.repair.budget import Budget, LocalBudget
from actors.repair.ladder import REPAIRED, Ladder
from actors.segmentation.endings import end_in_silence
from actors.text.languages import code_of, language_set, normalize_language

STAGE = "recognise"
SAMPLE_BYTES = 2
_NOTHING = Hypothesis(text="", language=None)
# Flags of an answer in which the model repeated itself until its tokens were used up.
_ENDLESS_LOOP = frozenset({"loop_collapsed", "truncated"})


class ASRActor:
    """Recognises rows; the output has one row for each input row, in order.

    Reads: `status`, `language` (ISO code, forces it), `context`, `segments[].samples`. Adds to each segment:
    `language` (ISO code, None where nothing was said), `text`, `raw`, `confidence`, `flags`,
    `min_confidence`, `language_confidence`, and the spans of the tokens for the words. Changes: a row
    in which some segments failed becomes `partial`, and those segments get the flag `failed`. A row in which
    all segments failed becomes `error` and loses its segments. A row with an unreliable answer becomes
    `partial`, and that segment gets the flag `unreliable`. Rows without segments are returned unchanged.
    """

    def __init__(
        self,
        config: ASRConfig,
        guards: GuardsConfig | None = None,
        repair: RepairConfig | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Load the model.

        Args:
            config: settings of the recogniser.
            guards: settings of the guards; None: the defaults, and none for the fake recogniser.
            repair: settings of the repair of doubtful segments; None: there is none.
            budget: of the repair; None: `repair.max_share` of what this process has recognised.

        Raises:
            FatalError: the model cannot be loaded; the message says what to do.
        """
        self.config = config
        self.backend = create_asr(config)
        self.guard = TextGuard(guards or GuardsConfig(enabled=config.backend != "fake"))
        repair = repair or RepairConfig(enabled=False)
        self.ladder = Ladder(
            repair,
            self.backend,
            self._transcribe,
            self.guard.judged_text,
            budget or LocalBudget(repair.max_share),
        )
        self.model = self.backend.model
        self.revision = self.backend.revision
        self.max_concurrent_calls = self.backend.max_concurrent_calls
        # What calls cost on this device, for the record of the run; None: not measured.
        self.cost_model = self.backend.cost_model
        # Keeps the answers of tables that take long; None: nothing is kept.
        self.portions: Portions[SegmentRequest, Hypothesis | Exception] | None = None

    def __call__(self, rows: list[Row]) -> list[Row]:
        """Turn DECODED rows into RECOGNISED rows."""
        requests = [segment_requests(row, self.config) for row in rows]
        flat = [request for of_row in requests if isinstance(of_row, list) for request in of_row]
        results = iter(self._in_portions(rows, flat))
        return [
            recognised_row(row, of_row if isinstance(of_row, UsageError) else [next(results) for _ in of_row])
            for row, of_row in zip(rows, requests, strict=True)
        ]

    def usage(self) -> dict[str, float]:
        """What the backend has asked of a server so far, by name; empty where the model runs here."""
        return self.backend.usage()

    def recognise(self, requests: Sequence[SegmentRequest]) -> list[Hypothesis | Exception]:
        """The hypothesis for each request, in order, or the exception that this request alone raised."""
        heard = self.guard.listen(requests)
        results = self.guard.judged(requests, self._transcribe(requests), heard)
        return self.ladder.repaired(requests, results)

    def _in_portions(
        self, rows: Sequence[Row], requests: Sequence[SegmentRequest]
    ) -> Sequence[Hypothesis | Exception]:
        if self.portions is None or not requests:
            return self.recognise(requests)
        return self.portions.run(rows[0]["shard_id"], requests, self.recognise)

    def _transcribe(self, requests: Sequence[SegmentRequest]) -> list[Hypothesis | Exception]:
        return dispatch_to(self.backend, self.backend.transcribe, self.config, requests)


def segment_requests(row: Row, config: ASRConfig) -> list[SegmentRequest] | UsageError:
    """The model's requests for a DECODED row, one for each segment.

    Args:
        row: a DECODED row; its `language` and `context` win over the settings.
        config: settings of the recogniser.

    Returns:
        The requests; none for a row without segments; the error where the row's language is unknown.
    """
    if row["status"] == "error" or not row["segments"]:
        return []
    try:
        language = normalize_language(row.get("language")) or config.language
        languages = language_set(row.get("languages") or config.languages)
    except UsageError as error:
        return error
    context = row.get("context") or config.context
    return [
        SegmentRequest(
            end_in_silence(np.frombuffer(segment["samples"], dtype="<i2")),
            language=language,
            context=context,
            flags=tuple(segment.get("flags") or ()),
            languages=languages,
        )
        for segment in row["segments"]
    ]


def recognised_row(row: Row, results: list[Hypothesis | Exception] | UsageError) -> Row:
    """A RECOGNISED row from a DECODED row and the results of its requests.

    Args:
        row: the DECODED row.
        results: one for each segment, or the error that kept the row from being recognised.
    """
    if isinstance(results, UsageError):
        return _failed_row(row, results)
    if not results:
        return row
    errors = [result for result in results if isinstance(result, Exception)]
    if len(errors) == len(results):
        return _failed_row(row, errors[0])
    segments = []
    for segment, result in zip(row["segments"], results, strict=True):
        hypothesis = replace(_NOTHING, flags=("failed",)) if isinstance(result, Exception) else result
        for part, own in _parts(segment, hypothesis):
            fields = recognised_fields(own)
            segments.append({**part, **fields, "flags": [*(segment.get("flags") or []), *fields["flags"]]})
    row = {**row, "segments": segments}
    if again := sum(result.repair_seconds for result in results if isinstance(result, Hypothesis)):
        row["repair_seconds"] = again
    if any("unreliable" in segment["flags"] for segment in segments):
        row["status"] = "partial"
    if errors:
        row["status"] = "partial"
        # An error of the decoding stage came first and stays.
        if not row.get("error_code"):
            # A retryable error is preferred: it decides whether the recording is done again.
            error = next((error for error in errors if isinstance(error, RetryableError)), errors[0])
            row |= _error_columns(error)
    return row


def _parts(segment: Row, hypothesis: Hypothesis) -> list[tuple[Row, Hypothesis]]:
    """The segment and its answer, or the segments that it becomes: see `Hypothesis.pieces`."""
    if not hypothesis.pieces:
        return [(segment, hypothesis)]
    parts = []
    samples = memoryview(segment["samples"])
    total = len(samples) // SAMPLE_BYTES
    done = tuple(flag for flag in hypothesis.flags if flag.startswith(f"{REPAIRED}:"))
    for number, piece in enumerate(hypothesis.pieces):
        first, last = min(piece.span.start, total), min(piece.span.end, total)
        end = segment["start"] + last / SAMPLING_RATE if last < total else segment["end"]
        own = replace(
            piece.hypothesis,
            flags=(*piece.hypothesis.flags, *done),
            candidates=hypothesis.candidates if number == 0 else (),
        )
        times = {"start": round(segment["start"] + first / SAMPLING_RATE, 6), "end": round(end, 6)}
        cut = bytes(samples[first * SAMPLE_BYTES : last * SAMPLE_BYTES])
        parts.append(({**segment, **times, "samples": cut}, own))
    return parts


def recognised_fields(hypothesis: Hypothesis) -> SegmentRow:
    """The fields that recognition adds to a segment.

    An answer is unreliable if it is an endless loop that names no language or leaves no text: then the model
    has lost its way, as with a context that is too long for it. It has no confidence: the tokens of a loop
    are certain (0.97 was measured), so their probability says nothing about the text.
    """
    text = hypothesis.text.strip()
    endless = _ENDLESS_LOOP.issubset(hypothesis.flags)
    unreliable = endless and (not text or "no_language_tag" in hypothesis.flags)
    return {
        "language": code_of(hypothesis.language) if text else None,
        "text": text,
        "raw": hypothesis.raw,
        "confidence": hypothesis.confidence if text and not unreliable else None,
        "flags": [*hypothesis.flags, *(["unreliable"] if unreliable else [])],
        **({"candidates": [*hypothesis.candidates]} if hypothesis.candidates else {}),
        **_token_fields(hypothesis, text, known=bool(text) and not unreliable),
    }


def _token_fields(hypothesis: Hypothesis, text: str, known: bool) -> SegmentRow:
    """What the tokens of an answer say about its text, and where they stand in it, for its words.

    Args:
        hypothesis: the answer.
        text: its text without outer spaces.
        known: whether the probabilities say anything.
    """
    before = len(hypothesis.text) - len(hypothesis.text.lstrip())
    tokens = TokenSpans(hypothesis.token_ends, hypothesis.token_log_probabilities).shifted(before, len(text))
    ends, scores = (tokens.ends, tokens.log_probabilities) if known else ((), ())
    return {
        "min_confidence": least_confidence(ends, scores, text),
        "language_confidence": hypothesis.language_confidence if known else None,
        "token_ends": [*ends],
        "token_log_probabilities": [*scores],
    }


def _failed_row(row: Row, error: Exception) -> Row:
    return {**row, "status": "error", **_error_columns(error), "segments": []}


def _error_columns(error: Exception) -> dict[str, Any]:
    code, message = as_row_error(error, default="model_failed")
    return {"error_stage": STAGE, "error_code": code, "error_message": message}
