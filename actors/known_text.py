"""Recordings whose text is in the manifest: the text is cut to the segments, and the aligner times its words.

The text of a recording with one segment is taken whole. A longer recording is recognised first, and its text
is matched with the recognised one.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from actors.asr import ASRActor
from actors.config import ASRConfig
from actors.records import SAMPLING_RATE, Row
from actors.text.anchoring import assign_text
from actors.text.languages import code_of


class KnownTextActor:
    """Turns DECODED rows with `text` into RECOGNISED rows whose segments have that text.

    The recogniser is loaded only if a recording needs it: because it has several segments, or no language.

    Args:
        config: settings of the recogniser.
        max_duration: longest recording in seconds that is aligned in one piece: the segmenter's limit.
    """

    # See `actors.backends.base`.
    max_concurrent_calls = 1

    def __init__(self, config: ASRConfig, max_duration: float) -> None:
        self.config = config
        self.max_duration = max_duration

    @cached_property
    def recogniser(self) -> ASRActor:
        """The model that locates the text in long recordings, and finds their language."""
        return ASRActor(self.config)

    @property
    def model(self) -> str:
        """Source of the text, for the row's provenance."""
        return self.config.model if "recogniser" in self.__dict__ else "manifest"

    @property
    def revision(self) -> str | None:
        """Revision of the recogniser; None where it was not needed."""
        return self.recogniser.revision if "recogniser" in self.__dict__ else None

    def __call__(self, rows: list[Row]) -> list[Row]:
        """Give the text of each row to its segments; rows without segments are returned unchanged."""
        rows = [_in_one_piece(row, self.max_duration) for row in rows]
        unclear = [
            index
            for index, row in enumerate(rows)
            if len(row["segments"]) > 1 or (row["segments"] and not self._language(row))
        ]
        recognised: dict[int, Row] = {}
        if unclear:
            results = self.recogniser([rows[index] for index in unclear])
            recognised = dict(zip(unclear, results, strict=True))
        return [
            _with_known_text(recognised.get(index, row), self._language(row))
            for index, row in enumerate(rows)
        ]

    def _language(self, row: Row) -> str | None:
        return row["language"] or code_of(self.config.language)


def _in_one_piece(row: Row, max_duration: float) -> Row:
    """Join the segments of a short recording, silence included, so that its text need not be cut."""
    segments = row["segments"] or []
    channels = {segment["channel"] for segment in segments}
    if len(segments) < 2 or len(channels) > 1 or segments[-1]["end"] - segments[0]["start"] > max_duration:
        return row
    first = segments[0]["start"]
    waveform = np.zeros(round((segments[-1]["end"] - first) * SAMPLING_RATE), np.int16)
    for segment in segments:
        samples = np.frombuffer(segment["samples"], np.int16)
        offset = round((segment["start"] - first) * SAMPLING_RATE)
        waveform[offset : offset + len(samples)] = samples[: len(waveform) - offset]
    return {**row, "segments": [{**segments[0], "end": segments[-1]["end"], "samples": waveform.tobytes()}]}


def _with_known_text(row: Row, language: str | None) -> Row:
    segments = row["segments"] or []
    if not segments or row["status"] == "error":
        return row
    durations = [segment["end"] - segment["start"] for segment in segments]
    spoken = language or next(
        (segment.get("language") for segment in segments if segment.get("language")), None
    )
    pieces = (
        [row["text"]]
        if len(segments) == 1
        else assign_text(row["text"], [segment.get("text") or "" for segment in segments], durations)
    )
    with_text = [
        {
            **segment,
            "text": piece.strip(),
            "raw": segment.get("raw"),
            "language": segment.get("language") or spoken if piece.strip() else None,
            "confidence": segment.get("confidence"),
            "flags": [*(segment.get("flags") or []), "text_given"],
        }
        for segment, piece in zip(segments, pieces, strict=True)
    ]
    return {**row, "segments": with_text}
