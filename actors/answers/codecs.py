"""Requests of the models as keys, and their answers as values that JSON can hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from actors.records import SAMPLING_RATE, Hypothesis, Piece, SegmentRequest, SegmentRow, ServerJudgement, Span

_TUPLES = ("flags", "token_ends", "token_log_probabilities", "candidates")
# A segment with its words and without its samples, and what went wrong with it: see `actors.aligner`.
_Aligned = tuple[SegmentRow, Exception | None]


class HypothesisCodec:
    """Segments for the recogniser and its hypotheses."""

    def key(self, request: SegmentRequest) -> str:
        """See `Codec`."""
        facts = {field.name: getattr(request, field.name) for field in fields(request)}
        return _digest(facts.pop("waveform"), facts)

    def encode(self, result: Hypothesis | Exception) -> Any | None:
        """See `Codec`; an error is not kept."""
        return asdict(result) if isinstance(result, Hypothesis) else None

    def decode(self, value: Any, request: SegmentRequest) -> Hypothesis:
        """See `Codec`."""
        return _hypothesis(value)


@dataclass(frozen=True, slots=True)
class RecognisedSegment:
    """A recognised segment on its way through the aligner."""

    row: SegmentRow

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.row["samples"]) / 2 / SAMPLING_RATE


class AlignedSegmentCodec:
    """Recognised segments for the aligner, and the same with words."""

    def key(self, request: RecognisedSegment) -> str:
        """See `Codec`."""
        facts = {name: value for name, value in request.row.items() if name != "samples"}
        return _digest(request.row["samples"], facts)

    def encode(self, result: _Aligned) -> Any | None:
        """See `Codec`; a segment with an error is not kept."""
        segment, error = result
        return segment if error is None else None

    def decode(self, value: Any, request: RecognisedSegment) -> _Aligned:
        """See `Codec`."""
        return {**value}, None


def _digest(samples: np.ndarray | bytes, facts: Mapping[str, Any]) -> str:
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(samples).data if isinstance(samples, np.ndarray) else samples)
    return digest.hexdigest()


def _hypothesis(value: Mapping[str, Any]) -> Hypothesis:
    return Hypothesis(
        **{
            **value,
            **{name: tuple(value[name]) for name in _TUPLES},
            "server_judgements": tuple(ServerJudgement(**one) for one in value["server_judgements"]),
            "pieces": tuple(
                Piece(Span(**one["span"]), _hypothesis(one["hypothesis"])) for one in value["pieces"]
            ),
        }
    )
