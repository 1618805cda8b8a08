"""Every document is read by the library that its users use, and has the text, times, speakers and flags."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pympi
import pysubs2
import pytest
import srt
import webvtt
from praatio import textgrid as praat

from actors.records import Row
from pipelines.export.arguments import DOCUMENT_FORMATS
from pipelines.export.documents.formats import DOCUMENTS
from pipelines.export.documents.subtitle_files import SubtitleOptions
from tests.pipelines.export.transcripts import demo_rows, interview, made_rows

ROWS = [*made_rows()[:5], *demo_rows()]
by_id = pytest.mark.parametrize("row", ROWS, ids=lambda row: row["recording_id"])


def document(form: str, row: Row, **options: Any) -> str:
    return DOCUMENTS[form].make(row, SubtitleOptions(**options))[0]


def squeezed(text: str) -> str:
    """A text without white space and without the hyphens of speakers."""
    return "".join(re.sub(r"(?m)^- ", "", text).split())


def segment_texts(row: Row) -> str:
    return squeezed("".join(segment["text"] for segment in row["segments"]))


def test_the_help_lists_the_formats_that_exist() -> None:
    assert set(DOCUMENT_FORMATS) == set(DOCUMENTS)


@by_id
def test_srt_has_all_of_the_text(row: Row) -> None:
    cues = list(srt.parse(document("srt", row), ignore_errors=False))
    shown = squeezed("\n".join(cue.content for cue in cues))
    if row["recording_id"] != "two.wav":  # whose channels are interleaved
        assert shown == segment_texts(row).replace("-->", "→")
    assert sorted(shown) == sorted(segment_texts(row).replace("-->", "→"))


@by_id
@pytest.mark.parametrize("form", ["srt", "vtt", "ttml"])
def test_pysubs2_reads_subtitles(form: str, row: Row) -> None:
    read = pysubs2.SSAFile.from_string(document(form, row), format_=form)
    cues = list(srt.parse(document("srt", row)))
    assert [(event.start, event.end) for event in read] == [
        (round(cue.start.total_seconds() * 1000), round(cue.end.total_seconds() * 1000)) for cue in cues
    ]


def test_webvtt_has_voices_notes_and_classes() -> None:
    text = document("vtt", interview(), low_confidence=0.5, highlight=True)
    read = webvtt.from_buffer(io.StringIO(text))
    assert {voice for caption in read for voice in re.findall(r"<v ([^>]+)>", caption.raw_text)} == {
        "Ada L.",
        "S2",
    }
    assert "NOTE flags" not in text
    assert "NOTE recording: interview 1.wav" in text
    assert '<c.low-confidence>"Quoted"</c>' in text
    assert "&lt;fully&gt;" in text
    assert "&amp;" in text
    times = re.findall(r"<(\d\d:\d\d:\d\d\.\d{3})>", text)
    assert len(times) > 5
    assert times == sorted(times)


def test_ttml_names_speakers_and_states_confidence() -> None:
    text = document("ttml", interview())
    assert '<ttm:name type="full">Ada L.</ttm:name>' in text
    assert re.search(r'scriptorium:confidence="0\.\d+"', text)
    assert 'xml:lang="en"' in text


@by_id
def test_praatio_reads_textgrids(row: Row, tmp_path: Path) -> None:
    path = tmp_path / "x.TextGrid"
    path.write_text(document("textgrid", row), encoding="utf-8")
    read = praat.openTextgrid(str(path), includeEmptyIntervals=False)
    turns = [name for name in read.tierNames if " - " not in name]
    labels = sorted((entry.start, entry.label) for name in turns for entry in read.getTier(name).entries)
    if row["segments"]:
        assert sorted(squeezed("".join(label for _, label in labels))) == sorted(segment_texts(row))
    timed = sum(word["start"] is not None for segment in row["segments"] for word in segment["words"])
    assert sum(len(read.getTier(f"{name} - words").entries) for name in turns if row["segments"]) == timed


def test_textgrids_have_speakers_confidence_and_flags(tmp_path: Path) -> None:
    path = tmp_path / "x.TextGrid"
    path.write_text(document("textgrid", interview()), encoding="utf-8")
    read = praat.openTextgrid(str(path), includeEmptyIntervals=False)
    assert {"Ada L.", "S2", "speech", "Ada L. - words", "speech - flags"} <= set(read.tierNames)
    assert [entry.label for entry in read.getTier("speech - flags").entries] == ["repetitive"]
    assert [entry.label for entry in read.getTier("speech").entries] == ['"Quoted" --> words.']


@by_id
def test_pympi_reads_elan_files(row: Row, tmp_path: Path) -> None:
    path = tmp_path / "x.eaf"
    path.write_text(document("elan", row), encoding="utf-8")
    read = pympi.Elan.Eaf(str(path))
    turns = [name for name in read.get_tier_names() if " - " not in name]
    shown = "".join(value for name in turns for _, _, value in read.get_annotation_data_for_tier(name))
    assert sorted(squeezed(shown)) == sorted(segment_texts(row))
    for name in turns:
        spans = [(start, end) for start, end, _ in sorted(read.get_annotation_data_for_tier(name))]
        words = [
            (start, end) for start, end, _ in sorted(read.get_annotation_data_for_tier(f"{name} - words"))
        ]
        assert all(any(a <= start and end <= b for a, b in spans) for start, end in words)
        assert read.get_parameters_for_tier(f"{name} - words")["PARENT_REF"] == name


def test_elan_files_attach_confidence_and_flags_to_turns(tmp_path: Path) -> None:
    path = tmp_path / "x.eaf"
    path.write_text(document("elan", interview()), encoding="utf-8")
    read = pympi.Elan.Eaf(str(path))
    assert read.get_parameters_for_tier("Ada L.")["PARTICIPANT"] == "Ada L."
    flags = read.get_ref_annotation_data_for_tier("speech - flags")
    assert [(value, parent) for _, _, value, parent in flags] == [("repetitive", '"Quoted" --> words.')]


@by_id
def test_json_has_whisperx_shape(row: Row) -> None:
    body = json.loads(document("json", row))
    words = [word for segment in body["segments"] for word in segment["words"]]
    assert body["word_segments"] == words
    for segment in body["segments"]:
        assert {"start", "end", "text", "words"} <= set(segment)
    assert all({"word"} <= set(word) for word in words)
    unheard = [word for segment in row["segments"] for word in segment["words"] if word["start"] is None]
    assert sum("start" not in word for word in words) == len(unheard)


def test_json_has_speakers_scores_and_flags() -> None:
    body = json.loads(document("json", interview()))
    assert [segment.get("speaker") for segment in body["segments"]] == ["S1", "S2", None]
    assert body["segments"][2]["flags"] == ["repetitive"]
    assert body["word_segments"][0] == {
        "word": "So,",
        "start": 1.0,
        "end": 1.36,
        "score": 0.9,
        "speaker": "S1",
    }


def test_csv_has_a_line_for_each_turn() -> None:
    lines = list(csv.DictReader(io.StringIO(document("csv", interview()))))
    assert [line["speaker"] for line in lines] == ["Ada L.", "S2", ""]
    assert lines[1]["text"] == "Yes. I agree <fully> & more."
    assert json.loads(lines[1]["words"])[2] == ["agree", None, None, 0.9]
    assert lines[2]["flags"] == "repetitive"


@by_id
def test_nist_formats_have_their_fields(row: Row) -> None:
    for line in document("ctm", row).splitlines():
        file, channel, start, duration, word, confidence = line.split(" ")
        assert float(start) >= 0
        assert float(duration) >= 0
        assert file and word and channel in "12" and 0 <= float(confidence) <= 1
    for line in document("rttm", row).splitlines():
        fields = line.split(" ")
        assert fields[0] == "SPEAKER"
        assert len(fields) == 10
    for line in document("stm", row).splitlines():
        assert re.fullmatch(r"\S+ [12] \S+ [\d.]+ [\d.]+ <o,\S+> .+", line)


def test_rttm_is_read_by_pyannote() -> None:
    database = pytest.importorskip("pyannote.database.util")
    path = io.StringIO(document("rttm", interview()))
    read = database.load_rttm(path)
    (annotation,) = read.values()
    assert set(annotation.labels()) == {"Ada_L.", "S2", "speech"}


def test_label_studio_tasks_have_regions_with_label_and_text() -> None:
    (task,) = json.loads(document("labelstudio", interview()))
    assert task["data"]["recording_id"] == "interview 1.wav"
    result = task["predictions"][0]["result"]
    labels = {entry["id"]: entry for entry in result if entry["type"] == "labels"}
    texts = {entry["id"]: entry for entry in result if entry["type"] == "textarea"}
    assert labels.keys() == texts.keys()
    assert [entry["value"]["labels"] for entry in labels.values()] == [["Ada L."], ["S2"], ["Speech"]]
    assert [entry["score"] for entry in labels.values()] == [0.9, 0.9, 0.4]
    assert [entry["value"]["text"] for entry in texts.values()][1] == ["Yes. I agree <fully> & more."]


def test_audacity_labels_have_three_fields() -> None:
    lines = [line.split("\t") for line in document("audacity", interview()).splitlines()]
    assert all(float(start) <= float(end) for start, end, _ in lines)
    assert lines[0][2] == "Ada L.: So, what do you think?"


def test_plain_text_names_speakers_where_there_are_several() -> None:
    assert document("txt", interview()).startswith("Ada L.: So, what do you think?\nS2: Yes. I agree")
    assert document("txt", demo_rows()[1]) == "Please nine two seven hello music yes six no.\n"
