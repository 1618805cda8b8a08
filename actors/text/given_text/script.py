"""What the aligner is given of a segment with a given text: what is said, without what is not.

Speech that the text lacks is in it too, as it was recognised, so that the aligner has words for all of the
sound and stretches none of the text's words over it. Its times are dropped afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from actors.text.alignment_units import Unit, locate_units
from actors.text.given_text.spoken_text import Part

# So many words in a row without any duration, none of which was heard, are not said.
_MIN_RUN = 3

# Start and end of a word, in seconds of its segment.
Span = tuple[float, float]
Times = list[Span]


@dataclass(frozen=True, slots=True)
class Script:
    """The units of a segment's text, and those that the aligner is given.

    Attributes:
        units: of the text, in order.
        doubtful: for each of them, whether the recogniser did not hear it.
        sent: texts of the aligner's units.
        places: for each of these the number of its unit of the text; None: speech that the text lacks.
    """

    units: list[Unit]
    doubtful: list[bool]
    sent: list[str]
    places: list[int | None]

    @property
    def is_empty(self) -> bool:
        """Whether none of the text is said."""
        return all(place is None for place in self.places)

    def times(self, found: Times) -> list[Span | None]:
        """The times of each unit of the text; None where it is not said.

        Args:
            found: the aligner's answer, one entry for each of `sent`; not read where nothing is said.
        """
        times: list[Span | None] = [None] * len(self.units)
        if self.is_empty:
            return times
        for place, span in zip(self.places, found, strict=True):
            if place is not None:
                times[place] = span
        return self._without_runs(times)

    def _without_runs(self, times: list[Span | None]) -> list[Span | None]:
        """Times without those of runs of words that were not heard and have no duration."""
        result, run = list(times), list[int]()
        for number, span in enumerate([*times, (0.0, 1.0)]):
            if number < len(times) and self.doubtful[number] and span is not None and span[1] <= span[0]:
                run.append(number)
                continue
            if len(run) >= _MIN_RUN:
                for place in run:
                    result[place] = None
            run = []
        return result


EMPTY_SCRIPT = Script([], [], [], [])


def plain_script(text: str, language: str | None) -> Script:
    """The script of a recognised text: all of it."""
    units = locate_units(text, language)
    return Script(units, [False] * len(units), [unit.text for unit in units], list(range(len(units))))


def given_script(text: str, parts: Sequence[Part], language: str | None) -> Script:
    """The script of a given text.

    Args:
        text: of the segment.
        parts: of the text, in order.
        language: English name of the language.
    """
    script = Script([], [], [], [])
    for part in parts:
        if part.kind == "other":
            spoken = [unit.text for unit in locate_units(part.text, language)]
            script.sent.extend(spoken)
            script.places.extend([None] * len(spoken))
            continue
        units = [
            replace(unit, char_start=unit.char_start + part.start, char_end=unit.char_end + part.start)
            for unit in locate_units(text[part.start : part.end], language)
        ]
        if part.kind != "unsaid":
            script.sent.extend(unit.text for unit in units)
            script.places.extend(range(len(script.units), len(script.units) + len(units)))
        script.units.extend(units)
        script.doubtful.extend([part.kind == "doubtful"] * len(units))
    return script
