"""Rows through the recogniser: order, languages, context, and which failure is charged to what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from actors import asr
from actors.asr import ASRActor
from actors.backends.base import ASRBackend
from actors.config import ASRConfig
from actors.config.trust import GuardsConfig
from actors.records import Hypothesis, Row, SegmentRequest


class Echo(ASRBackend):
    """Returns its requests; fails on a waveform that starts with 13."""

    model, revision = "echo", "1"

    def __init__(self) -> None:
        self.batches: list[list[SegmentRequest]] = []
        self.prefetched: list[Sequence[SegmentRequest]] = []

    def prefetch(self, requests: Sequence[SegmentRequest]) -> None:
        self.prefetched.append(requests)

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis]:
        self.batches.append(requests)
        if any(request.waveform[0] == 13 for request in requests):
            raise ValueError("bad audio")
        return [
            Hypothesis(
                f"{request.waveform[0]} {request.context}",
                request.language or "Cantonese",
                "raw",
                0.5,
                2,
                ("odd",),
                language_confidence=0.9,
                token_ends=(1, 7),
                token_log_probabilities=(math.log(0.25), None),
            )
            for request in requests
        ]


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    backend = Echo()
    monkeypatch.setattr(asr, "create_asr", lambda config: backend)
    return backend


def segment(start: float, seconds: float, mark: int) -> Row:
    samples = np.full(round(seconds * 16_000), mark, dtype="<i2").tobytes()
    return {"start": start, "end": start + seconds, "channel": None, "samples": samples}


def row(*segments: Row, status: str = "ok", **columns: Any) -> Row:
    plan = {
        "shard_id": "s",
        "language": None,
        "context": "",
        "error_stage": None,
        "error_code": None,
        "error_message": None,
        "flags": [],
    }
    return {**plan, "status": status, "segments": list(segments), **columns}


def texts(rows: list[Row]) -> list[list[str]]:
    return [[segment["text"] for segment in row["segments"]] for row in rows]


def test_every_segment_gets_its_own_text(echo: Echo) -> None:
    rows = [
        row(segment(0, 3, 1), segment(3, 1, 2)),
        row(segment(0, 2, 3)),
        row(segment(0, 0.2, 4), segment(1, 5, 5), segment(6, 1, 6)),
    ]
    assert texts(ASRActor(ASRConfig(max_batch_size=2))(rows)) == [["1", "2"], ["3"], ["4", "5", "6"]]
    longest = [len(batch[0].waveform) for batch in echo.batches]
    assert longest == sorted(longest, reverse=True)
    assert max(map(len, echo.batches)) <= 2


def test_the_columns_of_a_segment_are_added(echo: Echo) -> None:
    before = row(segment(1.5, 2, 7), language="de", context="names")
    [after] = ASRActor(ASRConfig(), GuardsConfig(enabled=False))([before])
    added = {"language": "de", "text": "7 names", "raw": "raw", "confidence": 0.5, "flags": ["odd"]}
    tokens = {"min_confidence": 0.25, "language_confidence": 0.9}
    tokens |= {"token_ends": [1, 7], "token_log_probabilities": [math.log(0.25), None]}
    assert after == {**before, "segments": [{**before["segments"][0], **added, **tokens}]}
    # The input is unchanged.
    assert "text" not in before["segments"][0]


@pytest.mark.parametrize(
    ("of_row", "of_config", "requested", "returned"),
    [
        (None, None, None, "yue"),
        ("de", None, "German", "de"),
        (None, "fr", "French", "fr"),
        ("de", "fr", "German", "de"),
        ("", "fr", "French", "fr"),
    ],
)
def test_the_language_of_the_row_wins(
    echo: Echo, of_row: str | None, of_config: str | None, requested: str | None, returned: str
) -> None:
    [after] = ASRActor(ASRConfig(language=of_config))([row(segment(0, 1, 1), language=of_row)])
    assert echo.batches[0][0].language == requested
    assert after["segments"][0]["language"] == returned


@pytest.mark.parametrize(
    ("of_row", "of_config", "requested"), [("", "", ""), ("a", "", "a"), ("", "b", "b"), ("a", "b", "a")]
)
def test_the_context_of_the_row_wins(echo: Echo, of_row: str, of_config: str, requested: str) -> None:
    ASRActor(ASRConfig(context=of_config))([row(segment(0, 1, 1), context=of_row)])
    assert echo.batches[0][0].context == requested


def test_a_bad_segment_fails_alone(echo: Echo) -> None:
    rows = [row(segment(0, 1, 1), segment(1, 1, 13), segment(2, 1, 2)), row(segment(0, 1, 3))]
    partial, whole = ASRActor(ASRConfig())(rows)
    assert texts([partial, whole]) == [["1", "", "2"], ["3"]]
    bad = partial["segments"][1]
    assert (bad["flags"], bad["language"], bad["confidence"], bad["raw"]) == (["failed"], None, None, "")
    problem = (partial["status"], partial["error_stage"], partial["error_code"], partial["error_message"])
    assert problem == ("partial", "recognise", "model_failed", "ValueError: bad audio")
    assert whole["status"] == "ok"
    assert whole["error_code"] is None


def test_a_row_whose_segments_all_failed_is_an_error(echo: Echo) -> None:
    failed, whole = ASRActor(ASRConfig())([row(segment(0, 1, 13), segment(1, 2, 13)), row(segment(0, 1, 3))])
    assert (failed["status"], failed["error_stage"], failed["error_code"], failed["segments"]) == (
        "error",
        "recognise",
        "model_failed",
        [],
    )
    assert texts([whole]) == [["3"]]


def test_an_earlier_error_of_the_row_stays(echo: Echo) -> None:
    before = row(
        segment(0, 1, 1),
        segment(1, 1, 13),
        status="partial",
        error_stage="decode",
        error_code="corrupt_audio",
        error_message="cut",
    )
    [after] = ASRActor(ASRConfig())([before])
    assert (after["status"], after["error_stage"], after["error_code"]) == (
        "partial",
        "decode",
        "corrupt_audio",
    )


def test_an_unknown_language_fails_its_row(echo: Echo) -> None:
    failed, whole = ASRActor(ASRConfig())([row(segment(0, 1, 1), language="tlh"), row(segment(0, 1, 2))])
    assert (failed["status"], failed["error_stage"], failed["error_code"]) == (
        "error",
        "recognise",
        "unsupported_language",
    )
    assert texts([whole]) == [["2"]]


@pytest.mark.parametrize(
    "unchanged",
    [row(status="no_speech"), row(status="error", error_code="not_audio"), row(segments=None), row()],
)
def test_rows_without_segments_are_returned_unchanged(echo: Echo, unchanged: Row) -> None:
    assert ASRActor(ASRConfig())([unchanged]) == [unchanged]
    assert echo.batches == []


def test_a_segment_without_text_has_no_language_and_no_confidence(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        echo,
        "transcribe",
        lambda requests: [Hypothesis(" ", "German", "language German<asr_text> ", 0.9)] * len(requests),
    )
    [after] = ASRActor(ASRConfig())([row(segment(0, 1, 1), language="de")])
    silent = after["segments"][0]
    assert (silent["text"], silent["language"], silent["confidence"], after["status"]) == (
        "",
        None,
        None,
        "ok",
    )


LOST = ("no_language_tag", "loop_collapsed", "truncated")


def test_an_endless_loop_without_text_is_unreliable_and_no_silence(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Hypothesis("", None, "language None<asr_text>" + " None" * 500, 0.97, 500, LOST[1:])
    monkeypatch.setattr(echo, "transcribe", lambda requests: [answer for _ in requests])
    [found] = ASRActor(ASRConfig(backend="fake"))([row(segment(0, 1, 1))])
    assert (found["status"], found["segments"][0]["flags"]) == ("partial", [*LOST[1:], "unreliable"])


@pytest.mark.parametrize("text", ["go go", ""])
def test_an_unreliable_answer_has_no_confidence_and_makes_its_row_partial(
    echo: Echo, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    answer = Hypothesis(text, None, "go go go", 0.95, 900, LOST)
    monkeypatch.setattr(echo, "transcribe", lambda requests: [answer for _ in requests])
    [found] = ASRActor(ASRConfig(backend="fake"))([row(segment(0, 1, 1))])
    assert found["status"] == "partial"
    assert found["segments"][0]["text"] == text
    assert found["segments"][0]["confidence"] is None
    assert found["segments"][0]["flags"] == [*LOST, "unreliable"]


@pytest.mark.parametrize("missing", LOST)
def test_two_of_the_three_flags_do_not_make_an_answer_unreliable(
    echo: Echo, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    flags = tuple(flag for flag in LOST if flag != missing)
    answer = Hypothesis("go go", None, "go go go", 0.95, 900, flags)
    monkeypatch.setattr(echo, "transcribe", lambda requests: [answer for _ in requests])
    [found] = ASRActor(ASRConfig(backend="fake"))([row(segment(0, 1, 1))])
    assert (found["status"], found["segments"][0]["confidence"]) == ("ok", 0.95)
    assert found["segments"][0]["flags"] == [*flags]


def test_rows_do_not_depend_on_the_other_rows_of_a_batch(tiny_models, waveforms) -> None:
    rows = [
        row(
            *[{**segment(index, 1, 0), "samples": clip.tobytes()} for index, clip in enumerate(clips)],
            context=context,
        )
        for clips, context in ((waveforms[:2], "names"), (waveforms[2:3], ""), (waveforms[3:], ""))
    ]
    random_model = ASRConfig(
        model=str(tiny_models.asr), max_tokens_per_second=1, min_tokens=6, max_batch_size=4
    )
    for config in (ASRConfig(backend="fake"), random_model):
        actor = ASRActor(config)
        batched = actor(rows)
        assert batched == [actor([single])[0] for single in rows]
        assert all(segment["raw"] for after in batched for segment in after["segments"])
        assert actor.model and actor.revision


def test_the_backend_may_prefetch_each_batch(echo: Echo) -> None:
    ASRActor(ASRConfig(max_batch_size=2))([row(segment(0, 3, 1), segment(3, 1, 2), segment(4, 2, 3))])
    assert [[id(request) for request in batch] for batch in echo.prefetched] == [
        [id(request) for request in batch] for batch in echo.batches
    ]
    assert len(echo.prefetched) > 1


def test_silence_follows_a_segment_that_ends_within_sound(echo: Echo) -> None:
    sound = np.random.default_rng(0).normal(0, 3000, 16_000).astype("<i2")
    quiet = np.concatenate([sound, np.full(1600, 20, "<i2")])
    segments = [{**segment(0.0, 1.0, 1), "samples": clip.tobytes()} for clip in (sound, quiet, sound[:0])]
    ASRActor(ASRConfig(backend="fake"))([row(*segments)])
    ends_loud, ends_quiet, empty = (request.waveform for batch in echo.batches for request in batch)
    assert np.array_equal(ends_loud, np.concatenate([sound, np.zeros(1600, "<i2")]))
    assert np.array_equal(ends_quiet, quiet)
    assert not len(empty)
