"""The second model of the repair: recognises the doubtful segments of finished shards once more."""

from __future__ import annotations

import time
from collections.abc import Sequence

from actors.asr import ASRActor, recognised_fields, segment_requests
from actors.config import ASRConfig
from actors.config.trust import GuardsConfig
from actors.errors import UsageError
from actors.records import Hypothesis, Row
from actors.repair import second_model
from actors.repair.earlier import unpack


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
