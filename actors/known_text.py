"""Recordings whose text is in the manifest: the text is cut to the segments, and the aligner times its words.

Every recording is recognised, too: that locates the text in long recordings, and shows which of it is said.
Nothing proves it where the recogniser is switched off (`given_text.verify`); then only a recording of several
segments, or without a language, is recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from actors.answers.portions import Portions
from actors.asr import ASRActor
from actors.config import ASRConfig
from actors.config.given_text import GivenTextConfig
from actors.config.trust import GuardsConfig
from actors.records import SAMPLING_RATE, Hypothesis, Row, SegmentRequest, SegmentRow
from actors.text.given_text.anchoring import assign_text
from actors.text.given_text.judgement import LACKING, TEXT_GIVEN, judged, with_share
from actors.text.given_text.spoken_text import Part, Piece, SpokenText, find_spoken
from actors.text.languages import code_of


class KnownTextActor:
    """Turns DECODED rows with `text` into RECOGNISED rows whose segments have that text.

    Adds to each segment `parts`, which say what of its text is said, and the flags `text_given`,
    `text_unlike_audio:SHARE` and `speech_without_text:SHARE`; the last two also to rows. A row with a large
    share becomes `partial`. The recogniser is loaded only if a recording needs it.

    Args:
        config: settings of the recogniser.
        max_duration: longest recording in seconds that is aligned in one piece: the segmenter's limit.
        given_text: whether texts are compared with what is said.
    """

    # See `actors.backends.base`.
    max_concurrent_calls = 1

    def __init__(
        self, config: ASRConfig, max_duration: float, given_text: GivenTextConfig | None = None
    ) -> None:
        self.config = config
        self.max_duration = max_duration
        self.portions: Portions[SegmentRequest, Hypothesis | Exception] | None = None
        # The fake recogniser hears words of its own.
        self.verify = (given_text or GivenTextConfig()).verify and config.backend != "fake"

    @cached_property
    def recogniser(self) -> ASRActor:
        """The model that locates the text in the audio, and finds its language."""
        # Its text is only compared.
        recogniser = ASRActor(self.config, GuardsConfig(enabled=False))
        recogniser.portions = self.portions
        return recogniser

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
        unclear = [index for index, row in enumerate(rows) if self._needs_recogniser(row)]
        recognised: dict[int, Row] = {}
        if unclear:
            results = self.recogniser([rows[index] for index in unclear])
            recognised = dict(zip(unclear, results, strict=True))
        return [
            _with_known_text(recognised.get(index, row), row, self._language(row), self.verify)
            for index, row in enumerate(rows)
        ]

    def _needs_recogniser(self, row: Row) -> bool:
        segments = row["segments"] or []
        return bool(segments) and (self.verify or len(segments) > 1 or not self._language(row))

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


def _with_known_text(row: Row, decoded: Row, language: str | None, verify: bool) -> Row:
    """A row whose segments have the given text.

    Args:
        row: RECOGNISED, or DECODED where no recogniser was needed.
        decoded: the row before it was recognised.
        language: ISO code, if it is known.
        verify: compare the text with the recognised one.
    """
    if row.get("error_code") == "unsupported_language" and len(decoded["segments"]) == 1:
        # The text of one segment needs no recogniser, and the aligner may know the language.
        row, verify = decoded, False
    segments = row["segments"] or []
    if not segments or row["status"] == "error":
        return row
    spoken = language or next(
        (segment.get("language") for segment in segments if segment.get("language")), None
    )
    found = _spoken_text(row["text"], segments) if verify else _unverified(row["text"], segments)
    own_flags = [segment.get("flags") or [] for segment in decoded["segments"]]
    with_text = [
        _segment_with_text(segment, flags, piece, spoken)
        for segment, flags, piece in zip(segments, own_flags, found.pieces, strict=True)
    ]
    # What the recogniser says of its own texts, such as loops, says nothing about this one.
    status = row["status"] if row.get("error_code") else decoded["status"]
    flags = with_share(decoded.get("flags") or [], LACKING, found.unwritten)
    return judged({**row, "status": status, "flags": flags, "segments": with_text})


def _spoken_text(text: str, segments: Sequence[SegmentRow]) -> SpokenText:
    failed = [bool({"failed", "unreliable"}.intersection(segment.get("flags") or [])) for segment in segments]
    return find_spoken(
        text,
        [None if lost else segment.get("text") or "" for lost, segment in zip(failed, segments, strict=True)],
        [segment["end"] - segment["start"] for segment in segments],
    )


def _unverified(text: str, segments: Sequence[SegmentRow]) -> SpokenText:
    """The text cut to the segments as if all of it were said."""
    durations = [segment["end"] - segment["start"] for segment in segments]
    pieces = assign_text(text, [segment.get("text") or "" for segment in segments], durations)
    return SpokenText([Piece(piece, (Part("doubtful", 0, len(piece)),)) for piece in pieces], 0.0, 0.0)


def _segment_with_text(
    segment: SegmentRow, decoded_flags: Sequence[str], piece: Piece, spoken: str | None
) -> SegmentRow:
    text = piece.text.strip()
    before = len(piece.text) - len(piece.text.lstrip())
    flags = [*decoded_flags, *(flag for flag in segment.get("flags") or [] if flag == "failed"), TEXT_GIVEN]
    return {
        **segment,
        "text": text,
        "raw": segment.get("raw"),
        "language": segment.get("language") or spoken if text else None,
        # The confidence of the recogniser is not that of the given text.
        "confidence": None,
        "min_confidence": None,
        "token_ends": None,
        "token_log_probabilities": None,
        "candidates": None,
        "flags": with_share(flags, LACKING, piece.unwritten),
        "parts": [
            {
                "kind": part.kind,
                "start": min(max(part.start - before, 0), len(text)),
                "end": min(max(part.end - before, 0), len(text)),
                "text": part.text,
            }
            for part in piece.parts
        ],
    }
