"""Text that the manifest already has: it is cut to the segments, so that the aligner can give times to its words.

A recording of one segment takes its whole text. A longer one is recognised first, and the text is anchored on what was recognised.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from actors.asr import ASRActor
from actors.config import ASRConfig
from actors.records import SAMPLING_RATE
from actors.text.anchoring import assign_text


class GivenTextActor:
    """DECODED rows with `text` to RECOGNISED rows whose segments carry that text.

    The recogniser is only loaded if some recording needs it: because it has several segments, or no language.

    Args:
        config: of the recogniser.
        max_duration: seconds up to which a recording is aligned in one piece: the segmenter's limit.
    """

    max_concurrent_calls = 1  # see `ASRActor`

    def __init__(self, config: ASRConfig, max_duration: float) -> None:
        self.config = config
        self.max_duration = max_duration

    @cached_property
    def recogniser(self) -> ASRActor:
        """The model that finds the places (and the language) in long recordings."""
        return ASRActor(self.config)

    @property
    def model(self) -> str:
        """Where the text comes from, for the provenance of the row."""
        return self.config.model if "recogniser" in self.__dict__ else "manifest"

    @property
    def revision(self) -> str | None:
        """Revision of the recogniser, if it was needed."""
        return self.recogniser.revision if "recogniser" in self.__dict__ else None

    def __call__(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give every row's text to its segments; rows without audible segments pass untouched."""
        rows = [_in_one_piece(row, self.max_duration) for row in rows]
        unknown = [
            i
            for i, row in enumerate(rows)
            if len(row["segments"]) > 1 or (row["segments"] and not self._language(row))
        ]
        heard = (
            dict(zip(unknown, self.recogniser([rows[i] for i in unknown]), strict=True)) if unknown else {}
        )
        return [_assigned(heard.get(i, row), self._language(row)) for i, row in enumerate(rows)]

    def _language(self, row: dict[str, Any]) -> str | None:
        from actors.text.languages import code_of

        return row["language"] or code_of(self.config.language)


def _in_one_piece(row: dict[str, Any], max_duration: float) -> dict[str, Any]:
    """Join the segments of a short recording again, with the silence between them, so that its text needs no cutting."""
    segments = row["segments"] or []
    channels = {segment["channel"] for segment in segments}
    if len(segments) < 2 or len(channels) > 1 or segments[-1]["end"] - segments[0]["start"] > max_duration:
        return row
    first = segments[0]["start"]
    waveform = np.zeros(round((segments[-1]["end"] - first) * SAMPLING_RATE), np.int16)
    for segment in segments:
        samples = np.frombuffer(segment["samples"], np.int16)
        at = round((segment["start"] - first) * SAMPLING_RATE)
        waveform[at : at + len(samples)] = samples[: len(waveform) - at]
    return {**row, "segments": [{**segments[0], "end": segments[-1]["end"], "samples": waveform.tobytes()}]}


def _assigned(row: dict[str, Any], language: str | None) -> dict[str, Any]:
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
    given = [
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
    return {**row, "segments": given}
