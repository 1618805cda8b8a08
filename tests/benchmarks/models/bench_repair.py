"""What the repair is worth and costs: injected faults that end with the clean text, and clean speech."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

from actors.asr import ASRActor, recognised_fields
from actors.config import ASRConfig
from actors.config.repair import RepairConfig
from actors.guards.text import is_suspect
from actors.records import Hypothesis, SegmentRequest
from actors.repair import second_model
from actors.repair.budget import LocalBudget
from actors.repair.ladder import Ladder
from actors.segmentation.endings import end_in_silence
from tests.actors.guards.broken_recogniser import BrokenASR, Policy, cured_by, seeded
from tests.actors.guards.demo_speech import error_free, utterances
from tests.benchmarks.workloads.checkpoints import DEMO
from tests.benchmarks.workloads.rows import Row

# Background text of every second utterance.

EXPECTED_MINUTES = 0.9
CONTEXT = "Rheinhausen Bilanzkonferenz Quartalszahlen Mustermann"
SHARE, SECOND_SHARE = 0.4, 0.1
CURES: dict[str, dict[str, Any]] = {
    "shorter pieces": {"shorter_than": 5.5},
    "no context": {"without_context": True},
    "penalty": {"penalty": True},
    "any of them": {"shorter_than": 5.5, "without_context": True, "penalty": True},
}


def measure(full: bool) -> Iterator[Row]:
    """Faults by what cures them; changes and cost on clean speech."""
    actor = ASRActor(ASRConfig(model=str(DEMO / "asr"), threads=1))
    spoken = utterances(3, 16 if full else 8)
    requests = [
        SegmentRequest(end_in_silence(one.waveform), context=CONTEXT if number % 2 else "")
        for number, one in enumerate(spoken)
    ]
    answers = actor.recognise(requests)
    # Only what the demo model itself gets right can end with the clean text.
    sure = [
        number
        for number, answer in enumerate(answers)
        if isinstance(answer, Hypothesis) and error_free(answer.text, spoken[number]) and not answer.flags
    ]
    spoken, requests = [spoken[number] for number in sure], [requests[number] for number in sure]
    seconds = sum(request.duration for request in requests)
    yield from _clean(actor, requests, seconds)
    for name, cure in CURES.items():
        yield _faults(actor, spoken, requests, name, cured_by(seeded(5, SHARE), **cure))
    yield from _second(actor, spoken, requests)


def _clean(actor: ASRActor, requests: Sequence[SegmentRequest], seconds: float) -> Iterator[Row]:
    started = time.process_time()
    answers = actor.recognise(requests)
    model = time.process_time() - started
    ladder = _ladder(actor, actor.backend)
    started = time.process_time()
    found = ladder.repaired(requests, answers)
    cost = time.process_time() - started
    changed = sum(one != other for one, other in zip(answers, found, strict=True))
    note = f"of {len(requests)} segments, {seconds:.0f} s of audio"
    yield Row("clean segments changed by the repair", changed, "segments", "<= 0", note)
    yield Row(
        "the ladder on clean speech, share of the model's core-seconds",
        100 * cost / model,
        "%",
        "<= 0.5",
        note,
    )


def _faults(
    actor: ASRActor, spoken: Sequence[Any], requests: Sequence[SegmentRequest], name: str, cured: Policy
) -> Row:
    first = BrokenASR(actor.backend, seeded(5, SHARE))
    answers = [
        actor.guard.judged_text(request, answer) if isinstance(answer, Hypothesis) else answer
        for request, answer in zip(requests, first.transcribe(list(requests)), strict=True)
    ]
    hit = {id(one.request) for one in first.injected}
    again = BrokenASR(actor.backend, cured)
    again.takes_repetition_penalty = True
    ladder = _ladder(actor, again)
    found = ladder.repaired(requests, answers)
    faults = [number for number, request in enumerate(requests) if id(request) in hit]
    suspects = [number for number in faults if is_suspect(getattr(answers[number], "flags", ()))]
    clean = [number for number in suspects if error_free(getattr(found[number], "text", ""), spoken[number])]
    audio = sum(cost["seconds"] for cost in ladder.take_costs().values())
    lost = sum(
        number not in faults and not error_free(getattr(one, "text", ""), spoken[number])
        for number, one in enumerate(found)
    )
    note = (
        f"{len(clean)} of {len(suspects)} flagged of {len(faults)} faults; {audio:.0f} s decoded again; "
        f"{lost} clean segments changed"
    )
    return Row(
        f"faults cured by {name}: clean text", 100 * len(clean) / max(1, len(suspects)), "%", ">= 90", note
    )


def _second(actor: ASRActor, spoken: Sequence[Any], requests: Sequence[SegmentRequest]) -> Iterator[Row]:
    """Faults that nothing within the first model cures, and a second model with faults of its own."""
    first, other = (
        BrokenASR(actor.backend, seeded(seed, share), seed)
        for seed, share in ((15, SHARE), (16, SECOND_SHARE))
    )
    answers = [
        actor.guard.judged_text(request, answer)
        for request, answer in zip(requests, first.transcribe(list(requests)), strict=True)
        if isinstance(answer, Hypothesis)
    ]
    wanted = [number for number, answer in enumerate(answers) if is_suspect(answer.flags)]
    heard = other.transcribe([requests[number] for number in wanted])
    hit = {id(one.request) for one in other.injected}
    clean, both = 0, 0
    for number, second in zip(wanted, heard, strict=True):
        request = requests[number]
        times: Any = {"start": 0.0, "end": request.duration, "channel": None, "words": []}
        segment = {**times, **recognised_fields(answers[number])}
        judged = actor.guard.judged_text(request, cast(Hypothesis, second))
        kept = second_model.combined(segment, request, judged, actor.guard.judged_text, [])
        if id(request) in hit:
            both += 1
        else:
            clean += error_free(kept.text, spoken[number])
    note = f"{clean} of {len(wanted) - both} flagged; both models were wrong about {both} more"
    share = 100 * clean / max(1, len(wanted) - both)
    yield Row("faults that a second model cures, where it is right: clean text", share, "%", ">= 90", note)


def _ladder(actor: ASRActor, backend: Any) -> Ladder:
    def transcribe(requests: Sequence[SegmentRequest]) -> list[Any]:
        return [
            one
            for start in range(0, len(requests), 32)
            for one in backend.transcribe([*requests[start : start + 32]])
        ]

    return Ladder(RepairConfig(), backend, transcribe, actor.guard.judged_text, LocalBudget(1.0, 1e6))
