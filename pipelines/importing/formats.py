"""Reads corrected files: SubRip, WebVTT, Praat's TextGrid, CSV, Label Studio's JSON."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from actors.errors import UsageError
from actors.text.languages import CODES, normalize_language
from pipelines.export.documents import labelstudio, tiers
from pipelines.importing.documents import Document, Piece

_CUE_TIMES = re.compile(r"^\s*((?:\d+:)?\d+:\d+[.,]\d+)\s*-->\s*((?:\d+:)?\d+:\d+[.,]\d+)")
# What subtitle editors write into SubRip; other angle brackets are text.
_STYLE = re.compile(r"</?(?:[biu]|font(?: [^<>\n]*)?)>", re.IGNORECASE)
_TAG = re.compile(r"</?[^<>\n]*>")
_RECORDING_NOTE = re.compile(r"^NOTE recording: (.*)$", re.MULTILINE)
_OF_WORDS = re.compile(r" - (words|confidence|flags)$")
_SECOND_TIER = re.compile(r" \(\d+\)$")


def parse(origin: str, form: str, data: bytes) -> list[Document]:
    """The documents in a file.

    Args:
        origin: name of the file, for messages.
        form: of FORMS.
        data: content of the file.

    Raises:
        UsageError: the file is not of this format.
    """
    try:
        return FORMS[form](origin, data)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'scriptorium[import]'") from None
    except Exception as error:
        raise UsageError(
            f"{origin}: cannot be read as {form}: {' '.join(str(error).split())[:300]}"
        ) from None


def _srt(origin: str, data: bytes) -> list[Document]:
    return [Document(origin, "srt", None, _subtitles(_text(data), "srt"))]


def _vtt(origin: str, data: bytes) -> list[Document]:
    text = _text(data)
    note = _RECORDING_NOTE.search(text)
    return [Document(origin, "vtt", note[1].strip() if note else None, _subtitles(text, "vtt"))]


def _subtitles(text: str, form: str) -> list[Piece]:
    """Cues by their lines of times. Libraries for subtitles drop what they take for markup or for numbers."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    starts = [number for number, line in enumerate(lines) if _CUE_TIMES.match(line)]
    if not starts and any("-->" in line for line in lines):
        raise UsageError("its times are not those of subtitles")
    pieces = []
    for number, first in enumerate(starts):
        last = starts[number + 1] if number + 1 < len(starts) else len(lines)
        shown = lines[first + 1 : last]
        # The number or name of the next cue stands right before its times, behind an empty line.
        if number + 1 < len(starts) and len(shown) > 1 and shown[-1].strip() and not shown[-2].strip():
            shown = shown[:-1]
        while shown and not shown[-1].strip():
            shown.pop()
        if form == "vtt":
            shown = shown[: next((at for at, line in enumerate(shown) if not line.strip()), len(shown))]
        said = "\n".join(shown)
        times = _CUE_TIMES.match(lines[first])
        assert times is not None
        said = html.unescape(_TAG.sub("", said)) if form == "vtt" else _STYLE.sub("", said)
        pieces.append(Piece(_seconds(times[1]), _seconds(times[2]), said))
    return pieces


def _seconds(time: str) -> float:
    seconds = 0.0
    for part in time.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return round(seconds, 3)


def _textgrid(origin: str, data: bytes) -> list[Document]:
    from praatio import textgrid

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corrected.TextGrid"
        path.write_bytes(data)
        grid = textgrid.openTextgrid(
            str(path), includeEmptyIntervals=False, reportingMode="silence", duplicateNamesMode="rename"
        )
    pieces = []
    for tier in grid.tiers:
        if not isinstance(tier, textgrid.IntervalTier) or _OF_WORDS.search(tier.name):
            continue
        speaker = _SECOND_TIER.sub("", tier.name)
        for interval in tier.entries:
            pieces.append(Piece(float(interval.start), float(interval.end), interval.label, speaker))
    return [Document(origin, "textgrid", None, pieces)]


def _csv(origin: str, data: bytes) -> list[Document]:
    text = _text(data)
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    missing = [
        name for name in ("recording_id", "start", "end", "text") if name not in (rows.fieldnames or ())
    ]
    if missing:
        raise UsageError(f"{origin}: it has no column {', '.join(missing)}: keep the columns of the export")
    found: dict[str, Document] = {}
    for number, row in enumerate(rows, 2):
        try:
            # Spreadsheets of many countries write a comma.
            start, end = (float(str(row[name]).replace(",", ".")) for name in ("start", "end"))
        except ValueError:
            raise UsageError(f"{origin}, row {number}: start and end must be seconds") from None
        name = row["recording_id"]
        document = found.setdefault(name, Document(origin, "csv", name, is_whole=False))
        language = normalize_language(row.get("language") or None)
        document.pieces.append(
            Piece(start, end, row["text"] or "", row.get("speaker"), CODES[language] if language else None)
        )
    return list(found.values())


def _labelstudio(origin: str, data: bytes) -> list[Document]:
    tasks = json.loads(_text(data))
    documents = []
    for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks], 1):
        where = f"{origin}, task {number}"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise UsageError(f"{where}: it has no `data`: export from Label Studio as JSON, not as JSON-MIN")
        given = [entry for entry in task.get("annotations") or () if not entry.get("was_cancelled")]
        # A task that nobody has worked on has predictions only.
        predictions = task.get("predictions") or [{}]
        chosen: dict[str, Any] = max(given, key=_changed_at) if given else predictions[0]
        documents.append(
            Document(
                where,
                "labelstudio",
                task["data"].get("recording_id") or task["data"].get("recording"),
                _regions(chosen.get("result") or ()),
                who=_annotator(chosen),
            )
        )
    return documents


def _regions(results: Any) -> list[Piece]:
    regions: dict[str, dict[str, Any]] = {}
    for result in results:
        value = result.get("value") or {}
        if "start" not in value:
            continue
        region = regions.setdefault(result.get("id") or str(len(regions)), {"text": ""})
        region["start"], region["end"] = float(value["start"]), float(value["end"])
        if result.get("type") == "textarea":
            text = value.get("text") or ""
            region["text"] = "\n".join(text) if isinstance(text, list) else text
        elif result.get("type") == "labels" and value.get("labels"):
            region["speaker"] = value["labels"][0]
    return [
        Piece(region["start"], region["end"], region["text"], region.get("speaker"))
        for region in regions.values()
    ]


def _changed_at(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _annotator(annotation: Mapping[str, Any]) -> str | None:
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        by = by.get("email") or by.get("username") or by.get("id")
    return None if by is None else str(by)


def _text(data: bytes) -> str:
    """A text in UTF-8, or in UTF-16 with its mark, as spreadsheets and subtitle editors write it."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("it is not in UTF-8: save it as UTF-8") from None


FORMS: dict[str, Callable[[str, bytes], list[Document]]] = {
    "srt": _srt,
    "vtt": _vtt,
    "textgrid": _textgrid,
    "csv": _csv,
    "labelstudio": _labelstudio,
}
# What these formats call speech of nobody in particular.
NO_SPEAKER = ("", labelstudio.NO_SPEAKER, tiers.NO_SPEAKER)
SUFFIXES = {
    ".srt": "srt", ".vtt": "vtt", ".textgrid": "textgrid", ".csv": "csv", ".tsv": "csv",
    ".json": "labelstudio",
}  # fmt: skip
