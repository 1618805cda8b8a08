"""Answers survive JSON, and keys tell apart what leads to other answers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from actors.answers.codecs import AlignedSegmentCodec, HypothesisCodec, RecognisedSegment
from actors.records import Hypothesis, Piece, SegmentRequest, ServerJudgement, Span

REQUEST = SegmentRequest(np.arange(16_000, dtype=np.int16), flags=("speech_unlikely",))
HYPOTHESIS = Hypothesis(
    "Guten Tag.",
    "German",
    "language German<asr_text>Guten Tag.",
    0.1 + 0.2,
    3,
    ("loop_collapsed",),
    token_ends=(5, 9, 10),
    token_log_probabilities=(-0.1, None, -0.3),
    server_judgements=(ServerJudgement(0.5, None, -0.2),),
    candidates=({"source": "model", "text": "Gut", "language": None, "confidence": 0.1, "flags": []},),
    pieces=(Piece(Span(0, 8_000), Hypothesis("Guten", "German", token_ends=(5,))),),
)


def test_a_hypothesis_survives_json() -> None:
    codec = HypothesisCodec()
    assert codec.decode(json.loads(json.dumps(codec.encode(HYPOTHESIS))), REQUEST) == HYPOTHESIS
    assert codec.encode(ValueError()) is None


def test_every_field_of_a_request_changes_its_key() -> None:
    key = HypothesisCodec().key
    others = {
        "waveform": np.arange(1, 16_001, dtype=np.int16),
        "language": "German",
        "context": "Names",
        "prefix": "a",
        "unsettled_tokens": 1,
        "languages": ("German",),
        "repetition_penalty": 1.1,
        "flags": (),
    }
    assert set(others) == {field.name for field in dataclasses.fields(REQUEST)}
    changed = {key(dataclasses.replace(REQUEST, **{name: value})) for name, value in others.items()}
    assert len(changed | {key(REQUEST)}) == len(others) + 1
    assert key(REQUEST) == key(dataclasses.replace(REQUEST, waveform=REQUEST.waveform.copy()))


def test_a_segment_with_words_survives_json() -> None:
    codec = AlignedSegmentCodec()
    row = {"start": 0.0, "end": 1.0, "channel": None, "text": "Tag", "samples": bytes(32_000), "flags": ["a"]}
    request = RecognisedSegment(row)
    words = [{"text": "Tag", "start": 0.125, "end": None, "char_start": 0, "char_end": 3}]
    aligned = {**{name: value for name, value in row.items() if name != "samples"}, "words": words}
    assert codec.decode(json.loads(json.dumps(codec.encode((aligned, None)))), request) == (aligned, None)
    assert codec.encode((aligned, ValueError())) is None
    assert request.duration == 1.0
    assert codec.key(request) != codec.key(RecognisedSegment({**row, "text": "Nacht"}))
    assert codec.key(request) != codec.key(RecognisedSegment({**row, "samples": bytes(31_998) + b"ab"}))
