"""Audio that is not where the manifest says, but there under a name that means the same."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.audio.files.names import existing_path, names_in, variants
from actors.errors import ScriptoriumError
from pipelines.planning.uri_policy import check_address
from pipelines.plurals import counted
from pipelines.storage import files

# Missing files that are looked for at most: where more are missing, the manifest's folder is wrong.
_MAX_MISSING = 10_000

logger = logging.getLogger(__name__)


def find_names(table: pa.Table, allowed: Sequence[str]) -> tuple[pa.Table, np.ndarray]:
    """Replace the addresses of missing files by those of files that exist under another spelling.

    Args:
        table: recordings with the columns of their headers.
        allowed: see `pipelines.planning.uri_policy.check_allowed`.

    Returns:
        The table, and which of its rows have a new address, bool, shape (rows,).
    """
    found = np.zeros(table.num_rows, bool)
    missing = pc.and_(
        pc.fill_null(pc.equal(table["probe_error"], "audio_not_found"), False), pc.is_null(table["location"])
    )
    rows = np.flatnonzero(missing.to_numpy()).tolist()
    if not rows or len(rows) > _MAX_MISSING:
        return table, found
    listing = functools.lru_cache(maxsize=256)(names_in)
    audio = table["audio"].to_pylist()
    for row in rows:
        other = _elsewhere(audio[row], listing)
        if other is not None and _may_read(other, table["origin"][row].as_py(), allowed):
            audio[row], found[row] = other, True
    if found.any():
        logger.warning(
            "%s found under another spelling of the name, such as %r",
            counted(int(found.sum()), "file"),
            audio[int(np.flatnonzero(found)[0])],
        )
        column = table.schema.get_field_index("audio")
        table = table.set_column(column, "audio", pa.array(audio, pa.string()))
    return table, found


def _elsewhere(audio: str, listing: object) -> str | None:
    if not files.is_remote(audio):
        path = existing_path(audio, listing)  # type: ignore[arg-type]
        return path if path is not None and path != audio and _is_unicode(path) else None
    for variant in variants(audio):
        try:
            if files.exists(variant):
                return variant
        except ScriptoriumError:
            return None
    return None


def _is_unicode(path: str) -> bool:
    return path.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in path)


def _may_read(audio: str, origin: str | None, allowed: Sequence[str]) -> bool:
    try:
        check_address(audio, origin or audio, allowed)
    except ScriptoriumError:
        return False
    return True
