"""The window of a file that is a recording of its own, where a manifest narrows it to a part of the file."""

from __future__ import annotations

from dataclasses import dataclass

from actors.errors import RowError
from actors.records import SAMPLING_RATE, Row

# Seconds by which a file may end before the window that the manifest gives: manifests round.
MAX_SHORT = 0.1


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds [start, end) of a file; `end` is None where the window goes to the end of the file."""

    start: float = 0.0
    end: float | None = None

    @classmethod
    def of(cls, row: Row) -> Window:
        """The window of a PLAN row: its column `window`, or the whole file."""
        found = row.get("window") or {}
        return cls(found.get("start") or 0.0, found.get("end"))

    def is_first(self, start: float) -> bool:
        """Whether a shard that starts at `start` is the window's first."""
        return start <= self.start

    def is_last(self, end: float | None) -> bool:
        """Whether a shard that ends at `end` ends with a window of known end."""
        return self.end is not None and end is not None and end >= self.end

    @property
    def first_sample(self) -> int:
        """The first sample at 16 kHz."""
        return round(self.start * SAMPLING_RATE)

    @property
    def end_sample(self) -> int | None:
        """The sample behind the last one, at 16 kHz."""
        return None if self.end is None else round(self.end * SAMPLING_RATE)

    def end_in_file(self, duration: float | None) -> float | None:
        """The second of the file at which the window ends, from its `duration` by the header."""
        return None if duration is None else self.start + duration

    def lacks(self, true_end: float) -> bool:
        """Whether a file that ends at `true_end` seconds ends noticeably before the window."""
        return self.end is not None and true_end < self.end - MAX_SHORT

    def require_begun(self, true_end: float) -> None:
        """Check that the window begins within a file that ends at `true_end` seconds.

        Raises:
            RowError: no_samples.
        """
        if self.start > 0 and true_end <= self.start:
            raise RowError(
                f"the window begins at {self.start:g} s, but the file ends at {true_end:g} s", "no_samples"
            )
