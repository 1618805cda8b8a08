"""The formats in which one transcript is one document, and how documents are joined to one file. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from actors.records import Row
from pipelines.export.documents import (
    annotation_files,
    labelstudio,
    plain_files,
    scoring_files,
    subtitle_files,
)
from pipelines.export.documents.subtitle_files import SubtitleOptions

Made = tuple[str, Counter[str]]


@dataclass(frozen=True)
class DocumentFormat:
    """A format with one document for each transcript.

    Attributes:
        name: in the command.
        suffix: of its files.
        about: one line for the help.
        make: the document of a TRANSCRIPT row, and counts for the summary.
        joins: whether the documents of many recordings can stand in one file.
        head: the beginning of a file; `separator` stands between its documents, `tail` at its end.
        joined: the document of a row within a file of many; None: as `make`.
    """

    name: str
    suffix: str
    about: str
    make: Callable[[Row, SubtitleOptions], Made]
    joins: bool = False
    head: str = ""
    separator: str = ""
    tail: str = ""
    joined: Callable[[Row, SubtitleOptions], Made] | None = None


def _plain(function: Callable[[Row], str]) -> Callable[[Row, SubtitleOptions], Made]:
    return lambda row, _: (function(row), Counter())


def _subtitles(form: str) -> Callable[[Row, SubtitleOptions], Made]:
    return lambda row, options: subtitle_files.subtitle_text(row, form, options)


def _csv(row: Row) -> str:
    return plain_files.csv_rows(row, header=True)


def _csv_joined(row: Row) -> str:
    return plain_files.csv_rows(row, header=False)


def _json_joined(row: Row) -> str:
    return json.dumps(json.loads(plain_files.whisperx_json(row)), ensure_ascii=False)


def _txt_joined(row: Row) -> str:
    return f"# {' '.join(row['recording_id'].split())}\n{plain_files.txt(row)}"


def _task_joined(row: Row) -> str:
    return json.dumps(labelstudio.task(row), ensure_ascii=False)


_CSV_HEAD = ",".join(plain_files.CSV_HEADER) + "\n"

DOCUMENTS: dict[str, DocumentFormat] = {
    made.name: made
    for made in (
        DocumentFormat("srt", ".srt", "subtitles: SubRip", _subtitles("srt")),
        DocumentFormat("vtt", ".vtt", "subtitles: WebVTT, with speakers", _subtitles("vtt")),
        DocumentFormat("ttml", ".ttml", "subtitles: TTML, as broadcasters take it", _subtitles("ttml")),
        DocumentFormat(
            "txt", ".txt", "plain text, a paragraph for each turn", _plain(plain_files.txt),
            joins=True, separator="\n", joined=_plain(_txt_joined),
        ),
        DocumentFormat(
            "json", ".json", "segments and words in WhisperX's shape", _plain(plain_files.whisperx_json),
            joins=True, head="[\n", separator=",\n", tail="\n]\n", joined=_plain(_json_joined),
        ),
        DocumentFormat(
            "csv", ".csv", "a line for each turn", _plain(_csv), joins=True, head=_CSV_HEAD,
            joined=_plain(_csv_joined),
        ),
        DocumentFormat("textgrid", ".TextGrid", "Praat: turns and words", _plain(annotation_files.textgrid)),
        DocumentFormat("elan", ".eaf", "ELAN: turns and words", _plain(annotation_files.eaf)),
        DocumentFormat("audacity", ".txt", "Audacity's label track", _plain(annotation_files.audacity)),
        DocumentFormat("ctm", ".ctm", "NIST: times of words", _plain(scoring_files.ctm), joins=True),
        DocumentFormat("rttm", ".rttm", "NIST: who spoke when", _plain(scoring_files.rttm), joins=True),
        DocumentFormat("stm", ".stm", "NIST: turns with their text", _plain(scoring_files.stm), joins=True),
        DocumentFormat(
            "labelstudio", ".json", "tasks of Label Studio with predictions", _plain(labelstudio.task_json),
            joins=True, head="[\n", separator=",\n", tail="\n]\n", joined=_plain(_task_joined),
        ),
    )
}  # fmt: skip
