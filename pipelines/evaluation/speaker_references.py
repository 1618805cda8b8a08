"""Who speaks when, and says what, in truth: RTTM files, or the columns `turns` and `rttm` of a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.errors import UsageError
from pipelines.evaluation.metrics.speakers import Turn
from pipelines.manifests.file_formats import read_lines
from pipelines.manifests.manifest import Recording, read_manifest
from pipelines.storage import files

_FIELDS = 8  # SPEAKER file channel start duration <NA> <NA> speaker ...


@dataclass
class TrueSpeakers:
    """The turns of a recording, and the text of each speaker where it is known."""

    turns: list[Turn] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    language: str | None = None


def read_references(uri: str, names: Mapping[str, str] | None = None) -> dict[str, TrueSpeakers]:
    """The true speakers of recordings by id; empty where the manifest says nothing about speakers.

    Args:
        uri: an RTTM file, whose file names are the ids, or a manifest with the column `turns` (a list of
            {start, end, speaker} and perhaps `text`) or `rttm` (the address of a file).
        names: for columns of ours the names that the manifest has for them.

    Raises:
        UsageError: a reference is wrong; the message says which and what to do.
    """
    if is_rttm(uri):
        return read_rttm(uri)
    found: dict[str, TrueSpeakers] = {}
    for recording in read_manifest(uri, names):
        turns, rttm = recording.metadata.get("turns"), recording.metadata.get("rttm")
        if turns not in (None, ""):
            found[recording.id] = _of_turns(recording, turns)
        elif isinstance(rttm, str) and rttm.strip():
            found[recording.id] = _of_file(recording, uri, rttm.strip())
    return found


def is_rttm(uri: str) -> bool:
    """Whether an address is that of an RTTM file, by its name."""
    return uri.lower().endswith(".rttm")


def read_rttm(uri: str) -> dict[str, TrueSpeakers]:
    """The turns of an RTTM file by the name of the recording.

    Raises:
        UsageError: a line is no RTTM; the message has its number.
    """
    found: dict[str, TrueSpeakers] = {}
    for number, line in read_lines(uri):
        fields = line.split()
        if not fields or fields[0].startswith(";") or fields[0] != "SPEAKER":
            continue
        try:
            start, seconds = float(fields[3]), float(fields[4])
            name, speaker = fields[1], fields[_FIELDS - 1]
        except (IndexError, ValueError):
            raise UsageError(f"{uri}: line {number}: no RTTM: {line.strip()[:80]!r}") from None
        found.setdefault(name, TrueSpeakers()).turns.append((start, start + seconds, speaker))
    return found


def _of_turns(recording: Recording, value: Any) -> TrueSpeakers:
    try:
        turns = sorted(
            _turns(json.loads(value) if isinstance(value, str) else value), key=lambda turn: turn[:3]
        )
    except (ValueError, TypeError, KeyError):
        raise UsageError(
            f"{recording.origin}: `turns` must be a list of objects with `start`, `end` and `speaker`; "
            "correct it, or give the column another name"
        ) from None
    texts: dict[str, list[str]] = {}
    for _, _, speaker, text in turns:
        if text is not None:
            texts.setdefault(speaker, []).append(text)
    return TrueSpeakers(
        [(start, end, speaker) for start, end, speaker, _ in turns],
        {speaker: " ".join(parts) for speaker, parts in texts.items()},
        recording.language,
    )


def _turns(value: Any) -> Iterator[tuple[float, float, str, str | None]]:
    for turn in value:
        text = turn.get("text")
        yield (
            float(turn["start"]),
            float(turn["end"]),
            str(turn["speaker"]),
            None if text is None else str(text),
        )


def _of_file(recording: Recording, manifest: str, rttm: str) -> TrueSpeakers:
    is_relative = "://" not in rttm and not rttm.startswith("/")
    uri = files.join(files.parent(manifest), rttm) if is_relative else rttm
    try:
        found = read_rttm(uri)
    except FileNotFoundError:
        raise UsageError(f"{recording.origin}: there is no file {uri}: correct the column `rttm`") from None
    if len(found) > 1 and recording.id not in found:
        raise UsageError(
            f"{recording.origin}: {uri} has several recordings and none is called {recording.id!r}"
        )
    return found.get(recording.id) or next(iter(found.values()), TrueSpeakers())
