"""Bad stretches of word times: aligned again in a small window between words whose times are good. Pure.

An aligner that has lost its way gives several words no length, or piles them up in a moment. With the few
words around them and only their audio it has less to go wrong about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.records import SAMPLING_RATE, AlignedTimes, AlignmentRequest

Times = Sequence[tuple[float, float]]
# Words without length in a row, and words in a row of so many seconds each at most, that are bad.
_ZEROS, _PILE, _SHORTEST = 2, 5, 0.05
# Good words on both sides that are aligned again, too: what becomes of them shows whether the rest is right.
_ANCHORS = 2
# Seconds of a window: shorter ones tell nothing, longer ones are no small window.
_LEAST, _MOST = 0.4, 30.0
# Seconds that an anchor may move.
_SHIFT = 0.2


@dataclass(frozen=True, slots=True)
class Window:
    """Units of a request that are aligned again, and the audio that they are in.

    Attributes:
        first: unit.
        last: unit, exclusive.
        start: seconds from the start of the request's audio.
        end: likewise.
    """

    first: int
    last: int
    start: float
    end: float


def bad_units(times: Times) -> list[bool]:
    """Which units have times that cannot be right: runs without length, and pile-ups."""
    bad = [False] * len(times)
    lengths = [end - start for start, end in times]
    for start in range(len(times)):
        if all(length <= 0 for length in lengths[start : start + _ZEROS]) and start + _ZEROS <= len(times):
            bad[start : start + _ZEROS] = [True] * _ZEROS
        pile = times[start : start + _PILE]
        if len(pile) == _PILE and pile[-1][1] - pile[0][0] <= _PILE * _SHORTEST:
            bad[start : start + _PILE] = [True] * _PILE
    return bad


def windows(times: Times, duration: float) -> list[Window]:
    """The windows in which bad stretches are aligned again.

    Args:
        times: of the units, in seconds.
        duration: of the audio.
    """
    bad = bad_units(times)
    found: list[Window] = []
    unit = 0
    while unit < len(times):
        if not bad[unit]:
            unit += 1
            continue
        end = unit
        while end < len(times) and bad[end]:
            end += 1
        first, last = max(0, unit - _ANCHORS), min(len(times), end + _ANCHORS)
        start = times[first][0] if first else 0.0
        stop = times[last - 1][1] if last < len(times) else duration
        if _LEAST <= stop - start <= _MOST and (not found or first >= found[-1].last):
            found.append(Window(first, last, start, stop))
        unit = end
    return found


def request_for(request: AlignmentRequest, window: Window) -> AlignmentRequest:
    """The window as a request of its own."""
    first, last = round(window.start * SAMPLING_RATE), round(window.end * SAMPLING_RATE)
    units = request.units[window.first : window.last]
    return AlignmentRequest(request.waveform[first:last], units, request.language)


def better(times: Times, window: Window, found: Times) -> AlignedTimes | None:
    """The times with those of a window; None where the earlier ones are as good.

    New times are better where fewer of them are bad, and the good words on both sides stay where they were.

    Args:
        times: of the whole request.
        window: that was aligned again.
        found: times of its units, from its start.
    """
    before = times[window.first : window.last]
    after = [(start + window.start, end + window.start) for start, end in found]
    bad = bad_units(before)
    if len(after) != len(before) or sum(bad_units(after)) >= sum(bad):
        return None
    if any(
        not is_bad and abs(new[0] - old[0]) > _SHIFT
        for is_bad, new, old in zip(bad, after, before, strict=True)
    ):
        return None
    changed = AlignedTimes([*times[: window.first], *after, *times[window.last :]])
    changed.repaired = getattr(times, "repaired", 0)
    return changed
