"""Recognition of rows: every segment of a batch of shards gets its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from actors.backends import create_asr, runs_on_gpu
from actors.config import ASRConfig
from actors.batching import dispatch
from actors.errors import RetryableError, UsageError, as_row_error
from actors.process.watchdog import call_limit
from actors.records import Hypothesis, Row, SegmentRequest
from actors.text.languages import code_of, normalize_language

STAGE = "recognise"
_NOTHING = Hypothesis(text="", language=None)


class ASRActor:
    """Rows in, rows out, one for one and in order.

    Reads: `status`, `language` (ISO code, forces it), `context`, `segments[].samples`.
    Adds to each segment: `language` (ISO code, None when nothing was said), `text`, `raw`, `confidence`, `flags`.
    Changes: a row of which some segments failed becomes `partial`, those segments flagged `failed`; one of which all failed becomes
    `error` and loses its segments. Rows without segments pass untouched.
    """

    def __init__(self, config: ASRConfig) -> None:
        """Load the model.

        Raises:
            FatalError: it cannot be loaded; the message says what to do.
        """
        self.config = config
        self.backend = create_asr(config)
        self.model = self.backend.model
        self.revision = self.backend.revision
        self._limit = partial(call_limit, config.timeout, runs_on_gpu(self.backend))
        self._prefetch = getattr(self.backend, "prefetch", None)
        self._batches_itself = getattr(self.backend, "batches_itself", False)
        self.max_concurrent_calls = (
            2 if self._batches_itself else 1
        )  # calls at a time that are of use: such an engine is never to wait for the next one

    def __call__(self, rows: list[Row]) -> list[Row]:
        """DECODED to RECOGNISED rows."""
        requests = [requests_of(row, self.config) for row in rows]
        flat = [request for of_row in requests if isinstance(of_row, list) for request in of_row]
        results = iter(self.recognise(flat))
        return [
            recognised_row(row, of_row if isinstance(of_row, UsageError) else [next(results) for _ in of_row])
            for row, of_row in zip(rows, requests, strict=True)
        ]

    def usage(self) -> dict[str, float]:
        """What was asked of a server so far, by name; nothing where the model is here."""
        cost: dict[str, float] = getattr(self.backend, "usage", dict)()
        return cost

    def recognise(self, requests: Sequence[SegmentRequest]) -> list[Hypothesis | Exception]:
        """What the model says to each request, in order, or the exception that it raised on this one alone."""
        if self._batches_itself:
            return dispatch(requests, self.backend.transcribe, None, None)
        batches = (self.config.max_batch_seconds, self.config.max_batch_size)
        return dispatch(requests, self.backend.transcribe, *batches, self._limit, self._prefetch)


def requests_of(row: Row, config: ASRConfig) -> list[SegmentRequest] | UsageError:
    """What the model is asked about a DECODED row, one request a segment, or why it cannot be asked."""
    if row["status"] == "error" or not row["segments"]:
        return []
    try:
        language = normalize_language(row.get("language")) or config.language
    except UsageError as error:
        return error
    context = row.get("context") or config.context
    return [
        SegmentRequest(np.frombuffer(segment["samples"], dtype="<i2"), language=language, context=context)
        for segment in row["segments"]
    ]


def recognised_row(row: Row, results: list[Hypothesis | Exception] | UsageError) -> Row:
    """A DECODED row with what came of its requests filled in."""
    if isinstance(results, UsageError):
        return _failed(row, results)
    if not results:
        return row
    errors = [result for result in results if isinstance(result, Exception)]
    if len(errors) == len(results):
        return _failed(row, errors[0])
    segments = []
    for segment, result in zip(row["segments"], results, strict=True):
        hypothesis = replace(_NOTHING, flags=("failed",)) if isinstance(result, Exception) else result
        segments.append({**segment, **_columns(hypothesis)})
    row = {**row, "segments": segments}
    if errors:
        row["status"] = "partial"
        if not row.get("error_code"):  # what went wrong first, at decoding, stays
            # What may pass before what may not: it decides whether the recording is done again.
            error = next((error for error in errors if isinstance(error, RetryableError)), errors[0])
            code, message = as_row_error(error, default="model_failed")
            row |= {"error_stage": STAGE, "error_code": code, "error_message": message}
    return row


def _columns(hypothesis: Hypothesis) -> Row:
    text = hypothesis.text.strip()
    return {
        "language": code_of(hypothesis.language) if text else None,
        "text": text,
        "raw": hypothesis.raw,
        "confidence": hypothesis.confidence if text else None,
        "flags": list(hypothesis.flags),
    }


def _failed(row: Row, error: Exception) -> Row:
    code, message = as_row_error(error, default="model_failed")
    return {
        **row,
        "status": "error",
        "error_stage": STAGE,
        "error_code": code,
        "error_message": message,
        "segments": [],
    }
