"""The sum that every report states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.config import RunConfig
from pipelines.output import run_record, transcripts
from pipelines.reporting import report
from tests.pipelines.output.test_shards import row

ALL = {"a", "b", "c"}


@pytest.mark.parametrize(
    ("transcripts", "letters", "wrong"),
    [
        (["a", "b"], ["c"], {}),
        (["a"], ["c"], {"in_neither_table": 1}),
        (["a", "b", "c"], ["c"], {"twice": 1}),
        (["a", "a", "b"], ["c"], {"twice": 1}),
        # Three and three, and yet wrong: counts alone would not tell.
        (["a", "x"], ["c"], {"in_neither_table": 1, "in_no_plan": 1}),
        (["a", "a", "b"], [], {"twice": 1, "in_neither_table": 1}),
    ],
)
def test_what_breaks_the_sum_is_named(
    transcripts: list[str], letters: list[str], wrong: dict[str, int]
) -> None:
    found = report.discrepancies(ALL, transcripts, letters)
    assert {name: count for name, count in found.items() if count} == wrong


def test_the_sentence_says_whether_the_sum_holds() -> None:
    sums = {
        "recordings": 3,
        "transcripts": 2,
        "dead_letters": 1,
        "audio_hours": 1.0,
        "exact": True,
        "discrepancies": {"twice": 0},
    }
    assert report.sentence(sums).startswith(
        "3 recordings = 2 transcripts + 1 dead letters (nothing lost, nothing twice)"
    )
    broken = report.sentence({**sums, "exact": False, "discrepancies": {"in_neither_table": 1, "twice": 0}})
    assert "the sum does not hold: 1 in neither table; the same command again goes on" in broken


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
    assert "the sum does not hold" in (tmp_path / "report.html").read_text()


def test_signed_addresses_of_failures_are_told_without_their_signatures(tmp_path: Path) -> None:
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
    told = (tmp_path / "report.json").read_text()
    assert "there is nothing at https://host/a.wav?***: 404" in told
    assert "hush" not in told + (tmp_path / "report.html").read_text()
