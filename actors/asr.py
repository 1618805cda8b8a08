"""Speech recognition of rows: each segment of a batch of shards gets its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from actors.backends import create_asr
from actors.batching import dispatch_to
from actors.config import ASRConfig
from actors.errors import RetryableError, UsageError, as_row_error
from actors.records import SAMPLING_RATE, Hypothesis, Row, SegmentRequest, SegmentRow
from actors.text.languages import code_of, normalize_language

STAGE = "recognise"
_NOTHING = Hypothesis(text="", language=None)
# Samples of silence behind a segment that ends within sound: 0.1 s. Of 416 clips of the demo recordings, cut
# at the end of a word, 7 lost that word without it and none with it (docs/decisions.md).
_SILENT_SAMPLES = SAMPLING_RATE // 10
# A segment ends within sound where its last 50 ms are louder than this share of the whole.
_END_SAMPLES, _LOUD_END = SAMPLING_RATE // 20, 0.1
# Flags of an answer in which the model repeated itself until its tokens were used up.
_ENDLESS_LOOP = frozenset({"loop_collapsed", "truncated"})


class ASRActor:
    """Recognises rows; the output has one row for each input row, in order.

    Reads: `status`, `language` (ISO code, forces it), `context`, `segments[].samples`. Adds to each segment:
    `language` (ISO code, None where nothing was said), `text`, `raw`, `confidence`, `flags`. Changes: a row
    in which some segments failed becomes `partial`, and those segments get the flag `failed`. A row in which
    all segments failed becomes `error` and loses its segments. A row with an unreliable answer becomes
    `partial`, and that segment gets the flag `unreliable`. Rows without segments are returned unchanged.
    """

    def __init__(self, config: ASRConfig) -> None:
        """Load the model.

        Raises:
            FatalError: the model cannot be loaded; the message says what to do.
        """
        self.config = config
        self.backend = create_asr(config)
        self.model = self.backend.model
        self.revision = self.backend.revision
        self.max_concurrent_calls = self.backend.max_concurrent_calls
        # What calls cost on this device, for the record of the run; None: not measured.
        self.cost_model = self.backend.cost_model

    def __call__(self, rows: list[Row]) -> list[Row]:
        """Turn DECODED rows into RECOGNISED rows."""
        requests = [segment_requests(row, self.config) for row in rows]
        flat = [request for of_row in requests if isinstance(of_row, list) for request in of_row]
        results = iter(self.recognise(flat))
        return [
            recognised_row(row, of_row if isinstance(of_row, UsageError) else [next(results) for _ in of_row])
            for row, of_row in zip(rows, requests, strict=True)
        ]

    def usage(self) -> dict[str, float]:
        """What the backend has asked of a server so far, by name; empty where the model runs here."""
        return self.backend.usage()

    def recognise(self, requests: Sequence[SegmentRequest]) -> list[Hypothesis | Exception]:
        """The hypothesis for each request, in order, or the exception that this request alone raised."""
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
    except UsageError as error:
        return error
    context = row.get("context") or config.context
    return [
        SegmentRequest(
            _end_in_silence(np.frombuffer(segment["samples"], dtype="<i2")),
            language=language,
            context=context,
        )
        for segment in row["segments"]
    ]


def _end_in_silence(waveform: np.ndarray) -> np.ndarray:
    """Append silence to a segment that ends within sound, without which its last word is lost more often.

    It depends on the segment alone, so that a text does not depend on its neighbours in a batch.
    """
    end = waveform[-_END_SAMPLES:].astype(np.float32)
    if not len(end) or np.sqrt(np.mean(end**2)) <= _LOUD_END * np.sqrt(
        np.mean(waveform.astype(np.float32) ** 2)
    ):
        return waveform
    return np.concatenate([waveform, np.zeros(_SILENT_SAMPLES, waveform.dtype)])


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
        fields = recognised_fields(hypothesis)
        flags = [*(segment.get("flags") or []), *fields["flags"]]
        segments.append({**segment, **fields, "flags": flags})
    row = {**row, "segments": segments}
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
    }


def _failed_row(row: Row, error: Exception) -> Row:
    return {**row, "status": "error", **_error_columns(error), "segments": []}


def _error_columns(error: Exception) -> dict[str, Any]:
    code, message = as_row_error(error, default="model_failed")
    return {"error_stage": STAGE, "error_code": code, "error_message": message}
