"""The row of an earlier pass inside a row of a later one, as JSON; bytes are in base64. Pure."""

from __future__ import annotations

import base64
import json
from typing import Any

from actors.records import Row

_BYTES = "base64"


def pack(row: Row, again: list[int]) -> str:
    """A row as text.

    Args:
        row: of a finished shard; times such as `created_at` are left out.
        again: numbers of its segments that are to be recognised again.
    """
    return json.dumps({"again": again, "row": row}, default=_encoded, ensure_ascii=False)


def unpack(text: str) -> tuple[Row, list[int]]:
    """The row, and the numbers of the segments: see `pack`."""
    found = json.loads(text, object_hook=_decoded)
    return found["row"], found["again"]


def _encoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    return None


def _decoded(value: dict[str, Any]) -> Any:
    return base64.b64decode(value[_BYTES]) if value.keys() == {_BYTES} else value
