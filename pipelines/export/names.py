"""File names from recording ids: safe on every system, unique, and never outside the destination. Pure.

An id may hold anything. Its folders are kept, other characters than those of ordinary names become `_`. A
name that had to be changed, or that looks as if it had been, ends in a digest of the id: different ids never
share a name.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

import numpy as np

_DIGEST = 10  # hex digits
_LOOKS_CHANGED = re.compile(rf"-[0-9a-f]{{{_DIGEST}}}(\.|$)")
_UNSAFE = re.compile(r"[^\w .,()+=@#&~!-]")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")  # devices of Windows
_LONGEST_PART = 150  # bytes; file systems allow 255, and suffixes follow
_LONGEST = 700  # bytes; object stores allow 1024


def file_name(recording_id: str, suffix: str = "", collisions: frozenset[int] = frozenset()) -> str:
    """A relative path for a recording's file, with `/` between folders.

    Args:
        recording_id: any text.
        suffix: of the file, with its dot.
        collisions: from `find_collisions`: ids whose names differ in case only.
    """
    changed = bool(_LOOKS_CHANGED.search(recording_id))
    parts = []
    original = _path(recording_id).split("/")
    for number, part in enumerate(original):
        is_last = number == len(original) - 1
        safe = _safe_part(part)
        # A folder must not have the name that another recording's file could have.
        if suffix and not is_last and safe.casefold().endswith(suffix):
            safe = f"{safe[: -len(suffix)]}_{suffix[1:]}"
        changed |= safe != part or not part
        if safe:
            parts.append(safe)
    name = "/".join(parts) or "_"
    while len(name.encode()) > _LONGEST:
        name, changed = name.partition("/")[2] or name[-100:], True
    if changed or name_key(recording_id) in collisions:
        name += f"-{digest(recording_id)}"
    return name + suffix


def flat_name(recording_id: str, allowed: str = "_") -> str:
    """A key of a recording without folders, dots and blanks, for archives and for Kaldi.

    Args:
        recording_id: any text.
        allowed: characters besides ASCII letters and digits that may stay.
    """
    safe = re.sub(rf"[^0-9A-Za-z{re.escape(allowed)}]", "_", recording_id)[:100]
    if not safe or safe != recording_id or re.search(rf"_[0-9a-f]{{{_DIGEST}}}$", safe):
        safe = f"{safe}_{digest(recording_id)}"
    return safe


def digest(text: str) -> str:
    """Ten hex digits that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]


def find_collisions(recording_ids: Iterable[str]) -> frozenset[int]:
    """The ids that would have the same name: those that differ in case only, and `/a` beside `a`.

    Eight bytes of memory for each id.
    """
    keys = np.fromiter(map(name_key, recording_ids), dtype=np.uint64)
    found, counts = np.unique(keys, return_counts=True)
    return frozenset(found[counts > 1].tolist())


def name_key(recording_id: str) -> int:
    """A number that two names share which differ in case only."""
    folded = unicodedata.normalize("NFC", _path(recording_id)).casefold()
    return int(hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()[:16], 16)


def _path(recording_id: str) -> str:
    """An id as a relative path: ids are often absolute paths or URIs."""
    return recording_id.replace("://", "/").lstrip("/")


def _safe_part(part: str) -> str:
    safe = _UNSAFE.sub("_", unicodedata.normalize("NFC", part))
    # Hidden files are not listed, Windows drops dots and blanks at the end, and `..` leaves the folder.
    safe = re.sub(r"^[.\s-]", "_", safe)
    safe = re.sub(r"[.\s]+$", "_", safe)
    if _RESERVED.match(safe):
        safe = f"_{safe}"
    encoded = safe.encode("utf-8", "ignore")
    return encoded[:_LONGEST_PART].decode("utf-8", "ignore") if len(encoded) > _LONGEST_PART else safe
