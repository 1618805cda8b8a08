"""Values of a manifest's cells: empty ones, what JSON can hold, and how a wrong one is refused."""

from __future__ import annotations

import base64
import datetime
import math
from typing import Any, NoReturn

from actors.errors import UsageError

DEEPEST = 100  # levels of nesting in metadata


def is_missing(value: Any) -> bool:
    """Whether a cell is empty."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_unicode(text: str) -> bool:
    """Whether a text has no half characters (lone surrogates)."""
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)


def jsonable(value: Any, depth: int = 0) -> Any:
    """Convert a value for JSON: NaN and infinity to null, times to ISO 8601, bytes to base64, others to text.

    Raises:
        RecursionError: the value is nested deeper than later readers can be expected to handle.
    """
    if depth > DEEPEST:
        raise RecursionError
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): jsonable(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(one, depth + 1) for one in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def show(value: Any) -> str:
    """A value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def refuse(origin: str, what: str) -> NoReturn:
    """Raise UsageError about a row."""
    raise UsageError(f"{origin}: {what}")
