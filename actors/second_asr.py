"""The second pass of the repair: doubtful segments of finished shards are recognised once more.

A second model hears what the first one's repair has not settled. Without one, the first model hears again
what only word times speak against.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from actors.asr import ASRActor, recognised_fields, segment_requests
from actors.config import ASRConfig
from actors.config.repair import RepairConfig
from actors.config.trust import GuardsConfig
from actors.errors import UsageError
from actors.records import Hypothesis, Row, SegmentRequest
from actors.repair import second_model
from actors.repair.earlier import unpack
from actors.repair.ladder import Ladder
from actors.repair.words import faults


class SecondASRActor(ASRActor):
    """Turns DECODED rows with `earlier` into RECOGNISED rows with the segments that were recognised again.

    Args:
        config: settings of the second model.
        guards: settings of the guards.
        languages: ISO codes of the languages for which it is the better one.
    """

    def __init__(
        self, config: ASRConfig, guards: GuardsConfig | None = None, languages: Sequence[str] = ()
    ) -> None:
        super().__init__(config, guards)
        self.languages = tuple(languages)

    def __call__(self, rows: list[Row]) -> list[Row]:
        """See the class. A segment whose audio is missing, or that fails, is left out."""
        wanted = [_segments(row) for row in rows]
        requests = [
            segment_requests({**row, "segments": parts}, self.config)
            for row, parts in zip(rows, wanted, strict=True)
        ]
        flat = [request for one in requests if not isinstance(one, UsageError) for request in one]
        started = time.monotonic()
        answers = iter(self._in_portions(rows, flat))
        seconds = sum(request.duration for request in flat)
        self.ladder.count(
            second_model.SECOND,
            segments=len(flat),
            seconds=seconds,
            busy_seconds=time.monotonic() - started,
        )
        found = []
        for row, parts, asked in zip(rows, wanted, requests, strict=True):
            segments = []
            for part, request in zip(parts, asked if isinstance(asked, list) else [], strict=False):
                answer = next(answers)
                if isinstance(answer, Hypothesis):
                    segments.append(self._segment(part, request, answer))
            found.append({**row, "segments": segments})
        return found

    def _segment(self, part: Row, request, answer: Hypothesis) -> Row:  # type: ignore[no-untyped-def]
        first = part["first"]
        kept = second_model.combined(first, request, answer, self.guard.judged_text, self.languages)
        if "second_model" in kept.flags or f"repaired:{second_model.SECOND}" in kept.flags:
            self.ladder.count(second_model.SECOND, repaired=1)
        fields = recognised_fields(kept)
        flags = list(dict.fromkeys([*part["flags"], *fields["flags"]]))
        times = {name: first[name] for name in ("start", "end", "channel")}
        return {**times, "samples": part["samples"], **fields, "flags": flags}


class SecondLookActor(ASRActor):
    """The first model hears again what only word times speak against, as `SecondASRActor` does.

    The segments go through the ladder with the flags of their word times. Which text is kept is decided when
    the words of the new one are known: see `actors.repair.words.faults`.

    Args:
        config: settings of the model.
        guards: settings of the guards.
        repair: settings of the repair.
    """

    def __init__(self, config: ASRConfig, guards: GuardsConfig | None, repair: RepairConfig) -> None:
        super().__init__(config, guards, repair)
        # The first answers by the number of their samples' array, which steps of the ladder share.
        self._originals: dict[int, Hypothesis] = {}
        self.ladder = Ladder(repair, self.backend, self._transcribe, self._checked, self.ladder.budget)

    def __call__(self, rows: list[Row]) -> list[Row]:
        """See the class. A segment whose audio is missing is left out."""
        wanted = [_segments(row) for row in rows]
        asked = [
            segment_requests({**row, "segments": parts}, self.config)
            for row, parts in zip(rows, wanted, strict=True)
        ]
        pairs = [
            (request, _first_text(part["first"]))
            for parts, requests in zip(wanted, asked, strict=True)
            for part, request in zip(parts, requests if isinstance(requests, list) else [], strict=False)
        ]
        self._originals = {id(request.waveform): original for request, original in pairs}
        answers = iter(
            self.ladder.repaired([request for request, _ in pairs], [original for _, original in pairs])
        )
        self._originals = {}
        found = []
        for row, parts, requests in zip(rows, wanted, asked, strict=True):
            own = [next(answers) for _ in requests] if isinstance(requests, list) else []
            kept = [(part, one) for part, one in zip(parts, own, strict=False) if isinstance(one, Hypothesis)]
            segments = [_recognised(part, one) for part, one in kept]
            seconds = sum(one.repair_seconds for _, one in kept)
            found.append({**row, "segments": segments, "repair_seconds": seconds or None})
        return found

    def _checked(self, request: SegmentRequest, answer: Hypothesis) -> Hypothesis:
        checked = self.guard.judged_text(request, answer)
        original = self._originals.get(id(request.waveform))
        if original is None:  # a piece
            return checked
        return faults.with_word_faults(original, checked, self.guard.limits.max_uncovered_syllables)


def _first_text(segment: Row) -> Hypothesis:
    """The earlier text with the flags of its word times."""
    first = second_model.first_text(segment)  # type: ignore[arg-type]
    return replace(first, flags=tuple(segment.get("flags") or ()))


def _recognised(part: Row, answer: Hypothesis) -> Row:
    """A segment with its text, for the aligner; parts in other languages are not separated."""
    first = part["first"]
    if answer.pieces:
        answer = second_model.first_text(first)
    fields = recognised_fields(answer)
    own = second_model.without_word_flags(fields["flags"])
    times = {name: first[name] for name in ("start", "end", "channel")}
    flags = list(dict.fromkeys([*part["flags"], *own]))
    return {**times, "samples": part["samples"], **fields, "flags": flags}


def _segments(row: Row) -> list[Row]:
    """The segments to recognise again with their samples; `first` is the earlier one."""
    if row["status"] == "error":
        return []
    earlier, again = unpack(row["earlier"])
    found = []
    for number in again:
        first = earlier["segments"][number]
        part = second_model.with_audio(first, row["segments"])
        if part is not None:
            found.append({**part, "first": first})
    return found
