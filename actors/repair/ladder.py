"""The ladder of repairs within one model: the doubtful segments of a table, step by step, in batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from actors.backends.base import ASRBackend
from actors.config.repair import RepairConfig
from actors.records import Hypothesis, SegmentRequest, Span
from actors.repair import languages, steps
from actors.repair.budget import Budget, affordable
from actors.repair.choice import (
    ORIGINAL,
    Candidate,
    as_row,
    best,
    confirms,
    is_agreed,
    with_fault_of,
)
from actors.repair.recut import VARIANTS, pieces_of
from actors.text.languages import ASR_LANGUAGES

Result = Hypothesis | Exception
# Flag of a segment that was not decoded again because too much was.
REFUSED = "repair_refused"
REPAIRED = "repaired"  # with the name of the step: `repaired:recut`


@dataclass
class StepCost:
    """What one step of the ladder cost, and what it was good for."""

    segments: int = 0  # that were decoded again
    repaired: int = 0  # whose text is the one of this step
    seconds: float = 0.0  # of audio that was decoded again
    busy_seconds: float = 0.0  # of the model's time


@dataclass
class _Case:
    """A doubtful segment.

    Attributes:
        number: of its request.
        request: the segment.
        candidates: its texts so far, the original first.
        steps: that are left to try.
        mixed: whether it may have several languages.
        spans: its pieces.
        cuts: how often it was cut anew.
        refused: whether the budget did not suffice for a step.
        seconds: of audio that were decoded again.
    """

    number: int
    request: SegmentRequest
    candidates: list[Candidate]
    steps: list[str]
    mixed: bool
    spans: list[Span] = field(default_factory=list)
    cuts: int = 0
    refused: bool = False
    seconds: float = 0.0

    def known_language(self) -> str | None:
        """The language that the first answer is in, where nothing speaks against it."""
        original = self.candidates[0]
        doubtful = self.mixed or bool(original.suspects & steps.OF_LANGUAGE)
        return None if doubtful else original.hypothesis.language

    def separated(self) -> Candidate | None:
        """The cut that has found several languages, and of which the model is surer than of the whole."""
        before = self.candidates[0].hypothesis.confidence or 0.0
        found = [
            one
            for one in self.candidates[1:]
            if one.pieces and not one.suspects and (one.hypothesis.confidence or 0.0) > before
        ]
        return max(found, key=lambda one: one.hypothesis.confidence or 0.0, default=None)

    def is_done(self) -> bool:
        last = self.candidates[-1]
        if self.mixed and not self.candidates[0].suspects:
            return not self.steps or self.separated() is not None
        if len(self.candidates) > 1 and confirms(self.candidates[0], last):
            return True
        return not self.steps or (
            len(self.candidates) > 1 and not last.suspects and (last.is_sure or is_agreed(self.candidates))
        )

    def after(self, step: str) -> None:
        """Cut once more, at other pauses, where the model is not sure of what it says about the pieces.

        Two cuts that agree are right where one of them may have lost a word.
        """
        last = self.candidates[-1]
        if self.mixed and not self.candidates[0].suspects:
            wanted = self.separated() is None
        else:
            wanted = not last.suspects and not (last.is_sure or is_agreed(self.candidates))
        if step == steps.RECUT and wanted:
            self.cuts += 1
            self.steps = [steps.RECUT] if self.cuts < VARIANTS else []
            self.spans = pieces_of(self.request.waveform, mixed=self.mixed, variant=self.cuts % VARIANTS)


class Ladder:
    """Repairs the doubtful segments of calls.

    Args:
        config: the settings.
        backend: the model, for what it can do.
        transcribe: decodes requests in batches; an exception in place of an answer belongs to its request.
        check: gives an answer its flags.
        budget: grants the audio that is decoded again.
    """

    def __init__(
        self,
        config: RepairConfig,
        backend: ASRBackend,
        transcribe: Callable[[Sequence[SegmentRequest]], list[Result]],
        check: steps.Check,
        budget: Budget,
    ) -> None:
        self.config, self.backend, self.budget = config, backend, budget
        self._transcribe, self._check = transcribe, check
        # Seconds after which no further step of a call begins; None: all that the budget allows.
        self.time_limit: float | None = None
        # Since `take_costs` was called last. Calls overlap.
        self._costs: dict[str, StepCost] = {}
        self._lock = threading.Lock()

    def repaired(self, requests: Sequence[SegmentRequest], results: Sequence[Result]) -> list[Result]:
        """The answers, and in place of doubtful ones what their repair found.

        Streams, whose answers are continued, are never changed.

        Args:
            requests: the segments.
            results: their answers with all their flags, or errors.
        """
        self.budget.count(sum(request.duration for request in requests))
        found = list(results)
        if not self.config.enabled:
            return found
        cases = [
            case
            for number, (request, result) in enumerate(zip(requests, results, strict=True))
            if isinstance(result, Hypothesis) and (case := self._case(number, request, result))
        ]
        neighbours = [result.language for result in results if isinstance(result, Hypothesis) and result.text]
        started = time.monotonic()
        while running := [case for case in cases if not case.is_done()]:
            if self.time_limit is not None and time.monotonic() - started > self.time_limit:
                break
            self._run_steps(running, neighbours)
        for case in cases:
            found[case.number] = self._outcome(case)
        return found

    def take_costs(self) -> dict[str, dict[str, float]]:
        """What the steps cost since this was called last: the fields of `StepCost`, by step."""
        with self._lock:
            costs, self._costs = self._costs, {}
            return {step: asdict(cost) for step, cost in costs.items()}

    def count(self, step: str, **values: float) -> None:
        """Add to what a step cost: fields of `StepCost`."""
        with self._lock:
            cost = self._costs.setdefault(step, StepCost())
            for name, value in values.items():
                setattr(cost, name, getattr(cost, name) + value)

    def _case(self, number: int, request: SegmentRequest, result: Hypothesis) -> _Case | None:
        """What to do about a segment; None: nothing."""
        if request.prefix or request.unsettled_tokens:
            return None
        original = Candidate(ORIGINAL, result)
        mixed = self._may_be_mixed(request, result)
        if not original.suspects and not mixed:
            return None
        penalty = self.backend.takes_repetition_penalty and self.config.repetition_penalty != 1
        return _Case(
            number,
            request,
            [original],
            steps.steps_for(request, original, penalty=penalty, mixed=mixed),
            mixed,
            pieces_of(request.waveform, mixed=mixed),
        )

    def _may_be_mixed(self, request: SegmentRequest, result: Hypothesis) -> bool:
        if request.language or len(request.languages) == 1 or request.duration < languages.LONGEST_ALONE:
            return False
        # The guard has looked at each stretch of the text already.
        doubtful = "language_doubtful" in result.flags
        return languages.is_unsure_in_between(result) or (
            doubtful and languages.is_mixed(result.text, result.language)
        )

    def _run_steps(self, cases: Sequence[_Case], neighbours: Sequence[str | None]) -> None:
        """Run the next step of each case that the budget allows, all in one call."""
        chosen = affordable([case.request.duration for case in cases], self.budget)
        for number, case in enumerate(cases):
            if number not in chosen:
                case.steps, case.refused = [], True
        running = [cases[number] for number in chosen]
        taken = [case.steps.pop(0) for case in running]
        steps_taken = list(zip(running, taken, strict=True))
        names = self._languages([case for case, step in steps_taken if step == steps.LANGUAGE], neighbours)
        # A model is often wrong about the language of a short piece, which is known unless it is doubted.
        names |= {case.number: case.known_language() for case, step in steps_taken if step == steps.RECUT}
        asked = [
            []
            if step == steps.LANGUAGE and not names.get(case.number)
            else steps.requests_for(
                step,
                case.request,
                case.spans,
                penalty=self.config.repetition_penalty,
                language=names.get(case.number),
            )
            for case, step in steps_taken
        ]
        started = time.monotonic()
        answers = iter(self._transcribe([request for of_case in asked for request in of_case]))
        busy = time.monotonic() - started
        total = sum(request.duration for of_case in asked for request in of_case) or 1.0
        for case, step, requests in zip(running, taken, asked, strict=True):
            own = [next(answers) for _ in requests]
            seconds = sum(request.duration for request in requests)
            if not requests:
                self.budget.give_back(case.request.duration)
                continue
            case.seconds += case.request.duration
            self.count(step, segments=1, seconds=seconds, busy_seconds=busy * seconds / total)
            texts = [answer for answer in own if isinstance(answer, Hypothesis)]
            if len(texts) == len(own):
                candidate = steps.candidate_of(step, case.request, requests, case.spans, texts, self._check)
                case.candidates.append(with_fault_of(case.candidates[0], candidate))
                case.after(step)

    def _languages(self, cases: Sequence[_Case], neighbours: Sequence[str | None]) -> dict[int, str | None]:
        """The language to force in each case, by the number of its request; None: none is known."""
        if not cases:
            return {}
        # The model has named a language that is not allowed: which of those that are is next? Of a doubtful
        # one, the text tells.
        excluded = [case for case in cases if "language_not_allowed" in case.candidates[0].suspects]
        scores = self.backend.language_probabilities(
            [case.request for case in excluded], [case.request.languages for case in excluded]
        )
        scored = {case.number: known for case, known in zip(excluded, scores, strict=True)}
        found: dict[int, str | None] = {}
        for case in cases:
            allowed = case.request.languages or ASR_LANGUAGES
            original = case.candidates[0].hypothesis
            name = languages.most_probable(allowed, scored.get(case.number, {}), original.text, neighbours)
            found[case.number] = None if name == original.language else name
        return found

    def _outcome(self, case: _Case) -> Hypothesis:
        """The text that is kept, with what was done in its flags, and with those that are not kept."""
        number = best(case.candidates)
        chosen, original = case.candidates[number], case.candidates[0]
        pieces = chosen.pieces
        if case.mixed and not original.suspects:
            # Only asked whether there are several languages.
            cut = case.separated()
            if cut is None:
                found = [steps.MIXED] if any(one.pieces for one in case.candidates) else []
                found += [REFUSED] if case.refused else []
                kept = (*original.hypothesis.flags, *found)
                return replace(original.hypothesis, flags=kept, repair_seconds=case.seconds)
            chosen, pieces, number = cut, cut.pieces, case.candidates.index(cut)
        rejected = tuple(as_row(one) for place, one in enumerate(case.candidates) if place != number)
        flags = list(chosen.hypothesis.flags)
        if number:
            flags.append(f"{REPAIRED}:{chosen.source}")
            self.count(chosen.source, repaired=1)
        if chosen.suspects and case.refused:
            flags.append(REFUSED)
        if (
            chosen.suspects
            and not pieces
            and languages.is_mixed(chosen.hypothesis.text, chosen.hypothesis.language)
        ):
            flags.append(steps.MIXED)
        return replace(
            chosen.hypothesis,
            flags=tuple(flags),
            candidates=rejected,
            pieces=pieces,
            repair_seconds=case.seconds,
        )
