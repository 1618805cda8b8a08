"""The languages of a manifest's row: the one that is spoken, and those that are expected."""

from __future__ import annotations

import difflib
import functools
import re

from actors.errors import ScriptoriumError
from actors.records import Row
from actors.text.languages import CODES, code_of, normalize_language
from pipelines.manifests.cells import is_missing, refuse, show

LANGUAGE_COLUMNS = ("language", "lang", "source_lang")
# For these no single language can be forced: the model decides for each segment.
_SEVERAL = frozenset(
    {"mul", "multi", "multilingual", "mixed", "und", "unk", "unknown", "other", "mis", "zxx", "n/a", "?"}
)


def read_languages(rest: Row, origin: str) -> str | None:
    """The languages that are expected: of `languages`, or of a `language` that names several."""
    value = rest.pop("languages", None)
    several = next((rest[name] for name in LANGUAGE_COLUMNS if not is_missing(rest.get(name))), None)
    if is_missing(value) or value in ("", []):
        parts = several if isinstance(several, list) else re.split(r"[+,;/|&]", str(several or ""))
        codes = {code for part in parts if (code := _code_or_none(str(part)))}
        return ",".join(sorted(codes)) if len(codes) > 1 and len(codes) == len(parts) else None
    try:
        if not isinstance(value, str) and not (
            isinstance(value, list) and all(isinstance(part, str) for part in value)
        ):
            raise ValueError("; give a list, or names with commas between them")
        parts = value if isinstance(value, list) else value.split(",")
        codes = {code for part in parts if (code := code_of(_name(part)))}
    except ValueError as error:
        refuse(origin, f"unknown language in `languages` {show(value)}{error}")
    return ",".join(sorted(codes)) or None


def _code_or_none(value: str) -> str | None:
    try:
        return code_of(normalize_language(value))
    except (ValueError, ScriptoriumError):
        return None


def read_language(rest: Row, origin: str, expected: str | None) -> str | None:
    """The language that a row names, as ISO code; None: the model decides.

    Args:
        rest: the columns; those that are read are removed.
        origin: of the row, for messages.
        expected: from `read_languages`.
    """
    for name in LANGUAGE_COLUMNS:
        if name in rest:
            value = rest.pop(name)
            if isinstance(value, list) and all(isinstance(one, str) for one in value):
                value = "+".join(value)
            if is_missing(value):
                return None
            if not isinstance(value, str):
                refuse(origin, f"`{name}` must be a language's name or ISO code, not {show(value)}")
            try:
                code, plural = _read_language(value)
            except ValueError as error:
                refuse(origin, f"unknown language {show(value)}{error}")
            if plural:
                rest[name] = value
            if code and expected and code not in expected.split(","):
                refuse(origin, f"`{name}` is {code}, but `languages` only has {expected}")
            return code
    return None


@functools.lru_cache(maxsize=4096)
def _read_language(value: str) -> tuple[str | None, bool]:
    """Parse a language column.

    Returns:
        The ISO code or None, and whether the value names several languages or none in particular.

    Raises:
        ValueError: an unknown language; the message is a hint.
    """
    if value.strip().lower() in _SEVERAL:
        return None, True
    parts = [part for part in re.split(r"[+,;/|&]", value) if part.strip()]
    codes = {code_of(_name(part)) for part in parts}
    if len(codes) > 1:
        return None, True
    return (codes.pop() if codes else None), False


def _name(value: str) -> str | None:
    try:
        return normalize_language(value)
    except (ValueError, ScriptoriumError):
        known = {spelling.lower(): spelling for pair in CODES.items() for spelling in pair}
        near = difflib.get_close_matches(value.strip().lower(), known, n=1, cutoff=0.6)
        hint = f"; did you mean {known[near[0]]}?" if near else ""
        known_names = ", ".join(f"{name} ({code})" for name, code in CODES.items())
        raise ValueError(
            f"{hint} Give one of {known_names}, or leave it empty to let the model decide"
        ) from None
