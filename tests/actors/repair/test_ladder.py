"""The ladder: which steps are tried, what is kept, and what it may cost."""

from __future__ import annotations

import numpy as np
import pytest

from actors.config.repair import RepairConfig
from actors.errors import RowError
from actors.records import Hypothesis, SegmentRequest
from tests.actors.repair.scripted import (
    DOUBT,
    LEAK,
    LOOP,
    Scripted,
    flagged,
    is_whole,
    ladder,
    repaired,
    speech,
    text,
)

SEGMENT = SegmentRequest(speech(12))


def test_a_sound_segment_is_neither_asked_again_nor_changed() -> None:
    backend = Scripted(lambda request: text("all is well"))
    (found,) = repaired(backend, SEGMENT)
    assert found == text("all is well")
    assert backend.calls == []


def test_a_loop_that_a_shorter_cut_ends_is_repaired_and_the_loop_is_kept_as_a_candidate() -> None:
    backend = Scripted(
        lambda request: text("the the the", LOOP) if is_whole(request, 12) else text("well said")
    )
    (found,) = repaired(backend, SEGMENT)
    assert isinstance(found, Hypothesis)
    assert found.text == "well said well said"
    assert found.flags == ("repaired:recut",)
    assert [(one["source"], one["text"], one["flags"]) for one in found.candidates] == [
        ("original", "the the the", [LOOP])
    ]
    pieces = [request.duration for request in backend.calls[0]]
    assert len(backend.calls) == 1 and len(pieces) == 2
    assert sum(pieces) == pytest.approx(12, abs=0.25) and max(pieces) < 8


def test_a_fault_of_the_context_is_repaired_without_it() -> None:
    backend = Scripted(lambda request: text("a, b", LOOP) if request.context else text("hello"))
    request = SegmentRequest(speech(12), context="a, b")
    (found,) = repaired(backend, request)
    assert isinstance(found, Hypothesis)
    assert (found.text, found.flags) == ("hello", ("repaired:no_context",))
    assert [one["source"] for one in found.candidates] == ["original", "recut"]


def test_a_leak_is_first_asked_without_the_context() -> None:
    backend = Scripted(lambda request: text("a, b", LEAK) if request.context else text("hello"))
    (found,) = repaired(backend, SegmentRequest(speech(12), context="a, b"))
    assert isinstance(found, Hypothesis) and found.flags == ("repaired:no_context",)
    assert len(backend.calls) == 1


def test_the_penalty_comes_last_and_keeps_the_context() -> None:
    backend = Scripted(
        lambda request: text("fine") if request.repetition_penalty > 1 else text("the the", LOOP)
    )
    (found,) = repaired(backend, SegmentRequest(speech(12), context="terms"))
    assert isinstance(found, Hypothesis) and found.flags == ("repaired:penalty",)
    assert [(request.repetition_penalty, request.context) for request in backend.calls[-1]] == [
        (1.05, "terms")
    ]


@pytest.mark.parametrize(
    "change", [{"takes": False}, {"config": RepairConfig(repetition_penalty=1)}], ids=["backend", "setting"]
)
def test_without_a_penalty_there_is_no_such_step(change: dict) -> None:
    backend = Scripted(lambda request: text("the the", LOOP))
    backend.takes_repetition_penalty = change.get("takes", True)
    repaired(backend, SEGMENT, config=change.get("config"))
    assert [request.repetition_penalty for call in backend.calls for request in call] == [1.0, 1.0]


def test_a_text_that_no_step_betters_stays_with_its_flags() -> None:
    backend = Scripted(lambda request: text(f"loop {request.duration:.3f}", LOOP))
    (found,) = repaired(backend, SEGMENT)
    assert isinstance(found, Hypothesis)
    assert (found.text, found.flags) == ("loop 12.000", (LOOP,))
    assert [one["source"] for one in found.candidates] == ["recut", "penalty"]


def test_all_doubtful_segments_of_a_table_share_each_call() -> None:
    requests = [SegmentRequest(speech(10 + number, number)) for number in range(6)]
    backend = Scripted(
        lambda request: text("the the", LOOP) if request.repetition_penalty == 1 else text("fine")
    )
    found = repaired(backend, *requests)
    assert all(isinstance(one, Hypothesis) and one.text == "fine" for one in found)
    assert [len(call) for call in backend.calls] == [12, 6]


def test_streams_are_never_repaired() -> None:
    backend = Scripted(lambda request: text("the the", LOOP))
    stream = SegmentRequest(speech(12), unsettled_tokens=3)
    found = repaired(backend, stream, SegmentRequest(speech(12), prefix="language English<asr_text>So"))
    assert [one.flags for one in found if isinstance(one, Hypothesis)] == [(LOOP,), (LOOP,)]
    assert backend.calls == []


def test_an_error_stays_an_error_and_one_of_a_step_is_no_text() -> None:
    error = RowError("no", "model_failed")
    backend = Scripted(
        lambda request: (
            text("the the", LOOP) if is_whole(request, 12) and request.repetition_penalty == 1 else error
        )
    )
    found = repaired(backend, SEGMENT, SegmentRequest(speech(3)))
    assert found[1] is error
    assert isinstance(found[0], Hypothesis) and found[0].text == "the the"


def test_switched_off_nothing_is_asked_again() -> None:
    backend = Scripted(lambda request: text("the the", LOOP))
    (found,) = repaired(backend, SEGMENT, config=RepairConfig(enabled=False))
    assert isinstance(found, Hypothesis) and found.flags == (LOOP,) and backend.calls == []


def test_segments_beyond_the_budget_are_flagged_and_the_shortest_come_first() -> None:
    requests = [SegmentRequest(speech(seconds)) for seconds in (20, 6, 10)]
    backend = Scripted(lambda request: text("the the", LOOP) if request.duration >= 5.9 else text("well"))
    found = repaired(backend, *requests, seconds=17)
    flags = [one.flags for one in found if isinstance(one, Hypothesis)]
    assert flags == [(LOOP, "repair_refused"), ("repaired:recut",), ("repaired:recut",)]


def test_the_audio_of_all_steps_stays_within_the_budget() -> None:
    requests = [SegmentRequest(speech(8, number), context="x") for number in range(10)]
    backend = Scripted(lambda request: text(f"{request.duration}", DOUBT))
    steps = ladder(backend, 100)
    first = backend.transcribe(requests)
    backend.calls.clear()
    steps.repaired(requests, first)
    # A piece that ends within sound gets 0.1 s of silence.
    assert sum(request.duration for call in backend.calls for request in call) <= 100 + 2
    costs = steps.take_costs()
    assert costs["recut"]["segments"] == 10 and costs["no_context"]["segments"] == 2
    assert steps.take_costs() == {}


def test_a_text_that_is_only_short_is_not_asked_further_when_another_cut_has_the_same_words() -> None:
    first = speech(8)[:800]

    def answer(request: SegmentRequest) -> Hypothesis:
        if is_whole(request, 8):
            return text("one two three four")
        return text("one two" if np.array_equal(request.waveform[:800], first) else "three four")

    def check(request: SegmentRequest, found: Hypothesis) -> Hypothesis:
        return flagged(found, "too_little_text")

    backend = Scripted(answer)
    request = SegmentRequest(speech(8))
    original = check(request, answer(request))
    (found,) = ladder(backend, check=check).repaired([request], [original])
    assert isinstance(found, Hypothesis) and found.text == "one two three four"
    assert len(backend.calls) == 1
