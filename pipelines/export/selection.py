"""What `scriptorium select` kept, for exports."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.compute as pc

from actors.errors import UsageError
from pipelines.storage import files
from pipelines.storage.parquet import read_table


def kept_recordings(folder: str, is_training: bool) -> frozenset[str]:
    """The ids of the recordings of which something was kept.

    Raises:
        UsageError: the folder is no selection, or one of segments for documents of whole recordings.
    """
    if _summary(folder)["unit"] != "recording" and not is_training:
        raise UsageError(
            f"{folder} has chosen segments, but a document is a whole recording: select --unit recording"
        )
    return frozenset(_kept(folder, "recording_id"))


def kept_keys(folder: str, unit: str) -> frozenset[str] | None:
    """The keys of the samples that were kept; None: whole recordings were chosen.

    Raises:
        UsageError: segments were chosen, and the samples shall be something else.
    """
    if _summary(folder)["unit"] == "recording":
        return None
    if unit != "segment":
        raise UsageError(f"{folder} has chosen segments: --unit must be segment, not {unit}")
    return frozenset(_kept(folder, "id"))


def _kept(folder: str, column: str) -> list[str]:
    table = read_table(files.join(files.absolute(folder), "selection.parquet"), ["kept", column])
    found: list[str] = table.filter(pc.field("kept"))[column].to_pylist()
    return found


def _summary(folder: str) -> dict[str, Any]:
    uri = files.join(files.absolute(folder), "summary.json")
    try:
        body: dict[str, Any] = json.loads(files.read_bytes(uri))
    except FileNotFoundError:
        raise UsageError(
            f"{folder} is no selection: it has no summary.json of `scriptorium select`"
        ) from None
    return body
