"""How much audio may be decoded again, as a share of the audio that there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Budget(Protocol):
    """What grants seconds of audio. An implementation may ask another process."""

    def count(self, seconds: float) -> None:
        """So many seconds of audio were decoded for the first time."""
        ...

    def grant(self, seconds: float) -> float:
        """Ask for seconds of audio to decode again; returns how many of them may be."""
        ...

    def give_back(self, seconds: float) -> None:
        """Return seconds that were granted and not used."""
        ...


class LocalBudget:
    """The budget of one process.

    Args:
        share: most seconds that are granted for each second that was counted, 0..1.
        credit: seconds that may be granted before anything is counted.
    """

    def __init__(self, share: float, credit: float = 0.0) -> None:
        self.share, self.credit = share, credit
        self.counted = self.granted = 0.0

    def count(self, seconds: float) -> None:
        """See `Budget`."""
        self.counted += seconds

    def grant(self, seconds: float) -> float:
        """See `Budget`."""
        allowed = max(0.0, min(seconds, self.left))
        self.granted += allowed
        return allowed

    def give_back(self, seconds: float) -> None:
        """See `Budget`."""
        self.granted -= seconds

    @property
    def left(self) -> float:
        """Seconds that may still be granted."""
        return self.credit + self.share * self.counted - self.granted


def affordable(seconds: Sequence[float], budget: Budget) -> list[int]:
    """Which of several segments may be decoded again: the shortest first, so that many of them are.

    Args:
        seconds: what each of them costs.
        budget: asked once, for all of them.

    Returns:
        Their numbers, in ascending order.
    """
    if not seconds:
        return []
    left = granted = budget.grant(sum(seconds))
    chosen: list[int] = []
    for number in sorted(range(len(seconds)), key=lambda number: (seconds[number], number)):
        # Sums of floats: a millisecond more or less is no audio.
        if seconds[number] <= left + 1e-3:
            left -= seconds[number]
            chosen.append(number)
    if len(chosen) < len(seconds):
        budget.give_back(min(granted, max(0.0, left)))
    return sorted(chosen)
