"""Files whose name differs from the wanted one only in how it is written: another normal form, or spaces."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Callable, Sequence
from urllib.parse import unquote

# Names of a folder that are compared with a missing one, for a hint.
_MAX_COMPARED = 20_000

Listing = Callable[[str], Sequence[str]]


def names_in(folder: str) -> Sequence[str]:
    """The names in a folder; none where it cannot be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return ()


def existing_path(path: str, listing: Listing = names_in) -> str | None:
    """The local path that exists and means the same as a missing one; None where there is none or several.

    macOS writes an accented letter as two characters (NFD), most others as one (NFC); spreadsheets drop
    spaces at the ends of names; players and browsers write `%20` for a space.

    Args:
        path: absolute.
        listing: the names in a folder.
    """
    if os.path.lexists(path):
        return path
    folder, name = os.path.split(path)
    if not name or folder == path:
        return None
    real = existing_path(folder, listing)
    if real is None:
        return None
    same = [one for one in listing(real) if _plain(one) in (_plain(name), _plain(unquote(name)))]
    return os.path.join(real, same[0]) if len(same) == 1 else None


def variants(uri: str) -> list[str]:
    """Other spellings of a remote address, which may be those of an object."""
    spellings = (unicodedata.normalize(form, uri) for form in ("NFC", "NFD"))
    return [spelling for spelling in dict.fromkeys(spellings) if spelling != uri]


def hint_of(path: str) -> str:
    """What a message about a missing local file adds: a name that is there; empty where none is like it."""
    folder, name = os.path.split(path)
    names = names_in(folder)[:_MAX_COMPARED]
    if not names:
        missing = folder
        while missing and not os.path.isdir(os.path.dirname(missing)):
            missing = os.path.dirname(missing)
        return f" (there is no folder {missing})" if missing and not os.path.isdir(folder) else ""
    if "\\x" in name and any(_readable(one) == name for one in names):
        return " (the name is not UTF-8, which no table can hold: rename the file)"
    close = difflib.get_close_matches(_plain(name), [_plain(one) for one in names], n=1, cutoff=0.8)
    found = next((one for one in names if close and _plain(one) == close[0]), None)
    return "" if found is None else f" (there is {_readable(found)!r})"


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _readable(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
