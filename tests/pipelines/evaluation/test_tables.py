"""Tables, CSV and the page show what was measured, in every script, without markup of others."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from pipelines.evaluation.evaluate import Options, evaluate
from pipelines.evaluation.page import page
from pipelines.evaluation.tables import aligned_lines, csv_bytes, excerpt, grids, percent, render
from tests.pipelines.evaluation.outputs import make_manifest, make_output, transcript


@pytest.fixture
def result(tmp_path: Path) -> dict[str, Any]:
    rows = [transcript("a", "red green blue"), transcript("<b>", "四左邊", "yue"), transcript("c", "same")]
    out = make_output(tmp_path / "out", rows)
    references = [
        {"id": "a", "text": "red grey blue", "language": "en", "room": "hall"},
        {"id": "<b>", "text": "水左邊", "language": "yue", "room": "<i>"},
        {"id": "c", "text": "same", "language": "en", "room": "hall"},
    ]
    manifest = make_manifest(tmp_path / "m.jsonl", references)
    return evaluate(out, manifest, out, Options(by=["room"]))[0]


def printed(result: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(render(result))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_terminal_shows_tables_macro_average_and_worst_cases(result: dict[str, Any]) -> None:
    text = printed(result)
    assert "Against references" in text
    assert "Against another run" in text
    assert "macro average over 2 languages: 29.17" in text  # (1/4 + 1/3) / 2
    assert "CER in yue, WER in all others" in text
    assert "a · en · 1 error in 3 (33.3 %) · ok" in text


def test_columns_without_any_value_are_left_out(result: dict[str, Any]) -> None:
    head, rows, _ = next(grids(result["references"]))
    assert "AAS ms" not in head
    assert "language %" in head
    assert rows[-1][0] == "all"


def test_long_tables_say_how_much_is_hidden(result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.evaluation.tables.GROUPS", 1)
    _, rows, note = next(grids(result["references"]))
    assert len(rows) == 2
    assert note.startswith("1 further value ")


def test_the_csv_has_a_row_for_every_group(result: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_bytes(result).decode())))
    groups = [(row["compared_with"], row["column"], row["value"]) for row in rows]
    assert ("references", "room", "<i>") in groups
    assert ("against", "language", "en") in groups
    english = next(row for row in rows if row["value"] == "en" and row["compared_with"] == "references")
    assert float(english["wer"]) == 0.25
    assert english["wer_interval_low"] == "0.0"


def test_the_page_escapes_texts_and_names(result: dict[str, Any]) -> None:
    text = page(result)
    assert "&lt;b&gt;" in text and "&lt;i&gt;" in text
    assert "<b>" not in text and "<i>" not in text
    assert "<del>水</del><ins>四</ins>左邊" in text


def test_the_page_needs_nothing_from_elsewhere(result: dict[str, Any]) -> None:
    text = page(result)
    assert "<script" not in text
    assert set(re.findall(r"https?://[^\s\"'<>)]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "color-scheme: light dark" in text and "prefers-color-scheme: dark" in text


def test_texts_in_wide_characters_are_aligned() -> None:
    above, below = aligned_lines(
        [("substitute", "水", "ab c"), ("equal", "左邊", "左邊"), ("insert", "", "x")]
    )
    assert above.endswith("水   左邊 *")
    assert below.endswith("ab c 左邊 x")
    assert cell_len(above) == cell_len(below)


def test_long_alignments_are_broken_into_lines() -> None:
    lines = aligned_lines([("equal", "word " * 12, "word " * 12)] * 4)
    assert len(lines) == 8
    assert max(map(len, lines)) < 130


def test_an_excerpt_keeps_some_words_on_each_side_of_an_error() -> None:
    text = "a b c d e f g h i j"
    case = {"joint": " ", "alignment": [("equal", text, text), ("delete", "x", ""), ("equal", text, text)]}
    assert excerpt(case) == [
        ("equal", "… h i j", "… h i j"),
        ("delete", "x", ""),
        ("equal", "a b c …", "a b c …"),
    ]


def test_a_missing_share_is_a_dash() -> None:
    assert percent(None) == "-"
    assert percent(0.12345) == "12.35" or percent(0.12345) == "12.34"
