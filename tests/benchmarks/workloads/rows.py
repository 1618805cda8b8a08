"""What a benchmark yields: rows of the one table that `make bench` prints."""

from __future__ import annotations

import operator
from dataclasses import dataclass

_COMPARISONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


class Skipped(Exception):
    """Raised by a benchmark that cannot run here; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        name: what was measured, with the conditions that tell it from its neighbours.
        value: the figure; None where it could not be measured, and `note` says why.
        unit: of `value`, such as "s", "x real time", "core-s/h".
        aim: what is wanted, such as "<= 1.25" or ">= 0.95", in the same unit; "" where the row only explains
            another one.
        note: a few words: what was compared with what, out of how many runs.
    """

    name: str
    value: float | None
    unit: str = ""
    aim: str = ""
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the aim was reached; None without an aim.

        Raises:
            ValueError: the aim is none of "<= N", ">= N", "< N", "> N".
        """
        if not self.aim:
            return None
        sign, _, wanted = self.aim.partition(" ")
        if sign not in _COMPARISONS or not wanted:
            raise ValueError(f"the aim of {self.name!r} is {self.aim!r}; write it like '<= 1.25'")
        return self.value is not None and _COMPARISONS[sign](self.value, float(wanted.replace(",", "")))
