"""The report: its totals, what breaks them, and the HTML page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.config import RunConfig
from pipelines.output import run_record, transcripts
from pipelines.reporting import html_report, report
from tests.pipelines.output.test_shards import row

ALL = {"a", "b", "c"}


@pytest.mark.parametrize(
    ("transcripts", "letters", "wrong"),
    [
        (["a", "b"], ["c"], {}),
        (["a"], ["c"], {"in_neither_table": 1}),
        (["a", "b", "c"], ["c"], {"twice": 1}),
        (["a", "a", "b"], ["c"], {"twice": 1}),
        # The numbers match, but the recordings do not.
        (["a", "x"], ["c"], {"in_neither_table": 1, "in_no_plan": 1}),
        (["a", "a", "b"], [], {"twice": 1, "in_neither_table": 1}),
    ],
)
def test_discrepancies_are_counted_by_kind(
    transcripts: list[str], letters: list[str], wrong: dict[str, int]
) -> None:
    found = report.discrepancies(ALL, transcripts, letters)
    assert {name: count for name, count in found.items() if count} == wrong


def test_the_totals_line_says_whether_the_totals_are_exact() -> None:
    sums = {
        "recordings": 3,
        "transcripts": 2,
        "dead_letters": 1,
        "audio_hours": 1.0,
        "silence_hours": 0.25,
        "exact": True,
        "discrepancies": {"twice": 0},
    }
    assert report.totals_line(sums).startswith(
        "3 recordings = 2 transcripts + 1 dead letter (nothing lost, nothing duplicated)"
    )
    assert report.totals_line(sums).endswith("1.00 audio hours, 0.25 of them without speech")
    broken = report.totals_line(
        {**sums, "exact": False, "discrepancies": {"in_neither_table": 1, "twice": 0}}
    )
    assert "the totals do not match: 1 in neither table; run the same command again" in broken


def test_an_unfinished_run_is_reported_as_such(tmp_path: Path) -> None:
    import pyarrow as pa

    from pipelines.output import plans
    from pipelines.schema import PLAN

    run_record.open_run(str(tmp_path), RunConfig(), "transcribe", "m.jsonl")
    planned = {**row("s1", "r1"), "start": 0.0, "duration": 5.0, "audio": "a.wav"}
    plans.write(
        str(tmp_path),
        pa.Table.from_pylist([{name: planned.get(name) for name in PLAN.names}], schema=PLAN),
        "run",
        60,
    )
    report.write(str(tmp_path))
    sums = json.loads((tmp_path / "report.json").read_text())
    assert not sums["exact"] and sums["discrepancies"] == {"in_neither_table": 1, "twice": 0, "in_no_plan": 0}
    assert "the totals do not match" in (tmp_path / "report.html").read_text()


def test_the_page_aligns_numbers_and_says_how_many_dead_letters_it_hides() -> None:
    row = {
        "recording_id": "<b>",
        "error_stage": "decode",
        "error_code": "not_audio",
        "attempts": 1,
        "error_message": "no",
    }
    page = html_report.page(
        {
            "out": "out",
            "models": {"asr": {"backend": "fake", "model": "m"}},
            "config_hash": "c",
            "version": "1",
            "exact": True,
            "dead_letters": 1001,
            "by_status": {"ok": 12345},
            "by_language": {"de": {"recordings": 2, "hours": 1.5}},
            "by_flag": {},
            "by_error": {"not_audio": 1001},
            "failures": [row],
            "runs": [{"run_id": "r", "started_at": "s", "finished_at": None, "host": "h"}],
        },
        "1 recording & more",
    )
    assert "<td class=number>12,345</td>" in page and "<td class=number>1.50</td>" in page
    assert "1,000 further dead letters in OUT/dead_letters" in page
    assert "&lt;b&gt;" in page and "1 recording &amp; more" in page and "<h2>Transcripts by flag" not in page
    assert "not finished" in page and "remote recognisers" not in page and "speed" not in page


def test_the_page_shows_the_speed_of_runs_that_measured_it() -> None:
    speeds = {"recognise": {"NVIDIA H200": {"rtfx": 3363.4}}, "align": {"NVIDIA H200": {"rtfx": 5909.0}}}
    run = {"run_id": "r", "started_at": "s", "finished_at": None, "host": "h"}
    page = html_report.page(
        {
            "out": "out",
            "models": {},
            "config_hash": "c",
            "version": "1",
            "exact": True,
            "dead_letters": 0,
            **{name: {} for name in ("by_status", "by_language", "by_flag", "by_error")},
            "failures": [],
            "runs": [run, run | {"model_costs": speeds}],
        },
        "",
    )
    assert "recognise 3,363x on NVIDIA H200, align 5,909x on NVIDIA H200" in page
    assert "remote recognisers" not in page


def test_the_addresses_of_failures_are_shown_without_signatures(tmp_path: Path) -> None:
    run_record.open_run(str(tmp_path), RunConfig(), "transcribe", "https://host/m.jsonl?hush")
    uri = "https://host/a.wav?hush"
    letter = {
        "recording_id": "r",
        "audio": uri,
        "error_code": "audio_not_found",
        "error_message": f"there is nothing at {uri}: 404",
    }
    transcripts._write_dead_letters(str(tmp_path), [letter])
    report.write(str(tmp_path))
    text = (tmp_path / "report.json").read_text()
    assert "there is nothing at https://host/a.wav?***: 404" in text
    assert "hush" not in text + (tmp_path / "report.html").read_text()
