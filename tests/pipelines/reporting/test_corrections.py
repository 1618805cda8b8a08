"""Corrections are counted in the report, on its page and in `scriptorium status`."""

from __future__ import annotations

from pathlib import Path

from pipelines.corrections import store
from pipelines.output.transcript_reader import find_parts, iter_transcripts
from pipelines.reporting import corrections, html_report, report
from tests.pipelines.reporting import synthetic


def test_corrections_are_counted(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    synthetic.write_run(tmp_path / "out")
    assert corrections.of_output(out) == {"recordings": 0, "segments": 0, "changed": 0, "by": {}}
    row = next(row for row in iter_transcripts(find_parts(out)) if row["segments"])
    text = row["segments"][0]["text"]
    for who, new in (("ada", "another text"), ("ada", "the text"), ("<b>eve</b>", text)):
        store.add(out, [store.correction_of(row, 0, new, who=who, source="test")])
    found = report.build(out)
    # Only the newest one of a segment counts, and it is the model's own text.
    assert found["corrections"] == {"recordings": 1, "segments": 1, "changed": 0, "by": {"<b>eve</b>": 1}}
    page = html_report.page(found, "totals")
    assert "<h2>Corrections</h2>" in page and "&lt;b&gt;eve" in page and "<b>eve" not in page
