"""The columns that narrow a recording to a part of its file: `offset` or `start`, `duration` or `end`."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from actors.errors import UsageError
from actors.records import Row

WINDOW_COLUMNS = ("offset", "start", "end", "duration")
# Seconds by which columns that say the same may differ: manifests round.
TOLERANCE = 0.05

Window = tuple[float, float | None]


def read_window(rest: Row, origin: str) -> tuple[Window | None, float | None]:
    """Take the window columns out of a row.

    Returns:
        The window in seconds of the file, its end None where it goes to the end of the file, and None where
        the recording is a whole file; and the duration that the manifest claims for the recording.

    Raises:
        UsageError: a column is no number of seconds, or the columns contradict each other.
    """
    given = {name: _seconds(rest.pop(name), name, origin) for name in WINDOW_COLUMNS if name in rest}
    offset, start, end, duration = (given.get(name) for name in WINDOW_COLUMNS)
    if offset is None and start is None and end is None:
        return None, duration or None
    if offset is not None and start is not None and abs(offset - start) > TOLERANCE:
        _refuse(origin, f"`offset` {offset:g} and `start` {start:g} say different things; keep one of them")
    begin = offset if offset is not None else start or 0.0
    if end is None:
        if duration == 0:
            _refuse(origin, f"a part of 0 s from {begin:g} s on; correct `duration` or leave the row out")
        end = None if duration is None else begin + duration
    elif end <= begin:
        _refuse(origin, f"`end` {end:g} is not behind the start {begin:g}; both are seconds of the file")
    elif duration is not None and _contradicts(duration, begin, end):
        _refuse(
            origin,
            f"`end` {end:g} is {end - begin:g} s behind the start, but `duration` says {duration:g} s; "
            "keep one of them",
        )
    if begin == 0 and end is None:
        return None, None
    return (begin, end), None if end is None else end - begin


def _contradicts(duration: float, begin: float, end: float) -> bool:
    """Whether a duration is neither that of the window nor one that the whole file may have."""
    is_of_window = abs(duration - (end - begin)) <= max(TOLERANCE, 0.01 * duration)
    return duration < end - TOLERANCE and not is_of_window


def window_suffix(window: Window) -> str:
    """The window as a part of an id or an address, as media fragments write it: `#t=12.5,20`."""
    return "#t=" + ",".join(_plain(seconds) for seconds in window if seconds is not None)


def _plain(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _seconds(value: Any, name: str, origin: str) -> float | None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        _refuse(
            origin,
            f"`{name}` must be a number of seconds, not {shown}; correct it, rename it or leave it out",
        )
    return seconds


def _refuse(origin: str, what: str) -> NoReturn:
    raise UsageError(f"{origin}: {what}")
