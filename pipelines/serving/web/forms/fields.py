"""Names and values of form fields, in the spellings of common HTTP libraries. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import FormData, UploadFile

# The fields with one value, by their names in the API.
_SINGLE = ("file", "model", "language", "prompt", "response_format", "temperature", "stream")


def with_known_names(query: Iterable[tuple[str, str]], form: FormData) -> FormData:
    """All fields of a request; those with one value have their names in the API.

    Case, hyphens, underscores and brackets of a name do not matter (`responseFormat`, `file[]`). A field that
    has the API's name takes precedence over one with another spelling, and a form over the query.

    Args:
        query: parameters in the address.
        form: the fields of the body, which still owns its file.
    """
    names = {_letters(name): name for name in _SINGLE}
    exact: list[tuple[str, Any]] = []
    others: list[tuple[str, Any]] = []
    for name, value in [*query, *form.multi_items()]:
        known = names.get(_letters(_base(name)), name)
        if known == "file" and not isinstance(value, UploadFile):
            known = name
        (exact if known == name else others).append((known, value))
    # `FormData.get` returns the last one.
    return FormData([*others, *exact])


def list_field(items: Iterable[tuple[str, Any]], name: str) -> list[str]:
    """The values of a field that is a list, each once, in order.

    Understood are `name[]=a`, `name[0]=a`, `name.0=a` and `name=a`, repeated or not, and in each of them a
    value that is a JSON list (`["a", "b"]`) or a list with commas (`a,b`). Case, hyphens and underscores of
    the name do not matter, and it may be percent-encoded.

    Args:
        items: the fields of the form.
        name: of the field, in snake case.
    """
    wanted = _letters(name)
    values = [
        value
        for field, given in items
        if isinstance(given, str) and _letters(_base(field)) == wanted
        for value in _split(given)
    ]
    return list(dict.fromkeys(values))


def _base(name: str) -> str:
    """A name without the brackets or numbers of a list."""
    return re.sub(r"(\[[^\]]*\]|\.\d+)+$", "", unquote(name).strip())


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
