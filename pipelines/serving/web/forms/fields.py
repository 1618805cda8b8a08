"""Values of form fields that are lists, in the spellings of common HTTP libraries. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any


def list_field(items: Iterable[tuple[str, Any]], name: str) -> list[str]:
    """The values of a field that is a list, each once, in order.

    Understood are `name[]=a`, `name[0]=a`, `name.0=a` and `name=a`, repeated or not, and in each of them a
    value that is a JSON list (`["a", "b"]`) or a list with commas (`a,b`). Case, hyphens and underscores of
    the name do not matter.

    Args:
        items: the fields of the form.
        name: of the field, in snake case.
    """
    wanted = _letters(name)
    values = [
        value
        for field, given in items
        if isinstance(given, str) and _letters(re.sub(r"(\[[^\]]*\]|\.\d+)+$", "", field.strip())) == wanted
        for value in _split(given)
    ]
    return list(dict.fromkeys(values))


def _letters(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()


def _split(given: str) -> list[str]:
    text = given.strip()
    if text.startswith("["):
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, list):
            return [value if isinstance(value, str) else json.dumps(value) for value in parsed]
    return [value for part in text.split(",") if (value := part.strip(" \t\r\n\"'[]"))]
