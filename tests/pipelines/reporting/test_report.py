"""The report: its totals, what breaks them, and the HTML page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.errors import CODES
from pipelines.config import RunConfig
from pipelines.output import run_record, transcripts
from pipelines.reporting import report
from pipelines.reporting.error_advice import ADVICE
from tests.pipelines.output.test_shards import row
from tests.pipelines.reporting import synthetic


class _Elements(HTMLParser):
    """Names of the elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


PLANNED = pa.array(["a", "b", "c"])


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
        ([], [], {"in_neither_table": 3}),
    ],
)
def test_discrepancies_are_counted_by_kind(
    transcripts: list[str], letters: list[str], wrong: dict[str, int]
) -> None:
    parts = [pa.array([name]) for name in transcripts]
    found = report.discrepancies(PLANNED, parts, letters)
    assert {name: count for name, count in found.items() if count} == wrong


def test_the_totals_line_says_whether_the_totals_are_exact() -> None:
    sums = {
        "recordings": 3,
        "transcripts": 2,
        "dead_letters": 1,
        "audio_hours": 1.25,
        "silence_hours": 0.25,
        "exact": True,
        "discrepancies": {"twice": 0},
    }
    assert report.totals_line(sums).startswith(
        "3 recordings = 2 transcripts + 1 dead letter (nothing lost, nothing duplicated)"
    )
    assert report.totals_line(sums).endswith("1.2 h of audio, 15.0 min of it without speech")
    broken = report.totals_line(
        {**sums, "exact": False, "discrepancies": {"in_neither_table": 1, "twice": 0}}
    )
    assert "the totals do not match: 1 in neither table; run the same command again" in broken


def test_an_unfinished_run_is_reported_as_such(tmp_path: Path) -> None:
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
    page = (tmp_path / "report.html").read_text()
    assert "the totals do not match" in page and "not finished" in page


def test_the_page_has_every_part_and_the_numbers_of_the_json(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path)
    found = report.write(str(tmp_path))
    page = (tmp_path / "report.html").read_text()
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles == [
        *("Throughput", "Distributions", "What was transcribed", "Flags", "Repair of doubtful segments"),
        *("Samples", "Dead letters", "Cost", "Runs", "Provenance"),
    ]
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(found))
    assert "60 recordings = 57 transcripts + 3 dead letters (nothing lost" in page
    assert page.count('role="img"') >= 6
    assert "took 40 min" not in page and "40 min" in page  # the length of the run, for people
    assert "The bottleneck was the stage recognise, which worked 92 % of the time." in page
    assert "scriptorium retry" in page and "--code storage_unavailable" in page
    assert "1 further dead letter" not in page and "2.00 EUR" in page


def test_prices_that_are_given_replace_those_of_the_run(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path)
    given = report.Prices(gpu_hour=6.0, currency="USD")
    cost = report.build(str(tmp_path), given)["cost"]
    # Two GPUs for 40 minutes.
    assert cost["cost"] == pytest.approx(8.0) and cost["currency"] == "USD" and not cost["assumed"]


def test_nothing_in_names_texts_and_messages_becomes_markup(tmp_path: Path) -> None:
    hostile = (
        "\"'><script>alert(1)</script>&amp;<img src=x onerror=alert(2)>{{ 7 * 7 }}</style></svg>\udcff\x00"
    )
    synthetic.write_run(tmp_path, name=hostile, text=hostile, flag=hostile, language='x" onload=y')
    report.write(str(tmp_path))
    page = (tmp_path / "report.html").read_bytes().decode()
    elements = _Elements()
    elements.feed(page)
    assert not elements.tags & {"script", "img", "iframe", "object"}
    assert not [name for name in elements.attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;" in page and "{{ 7 * 7 }}" in page
    assert page.count("</style>") == 1


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path)
    report.write(str(tmp_path))
    page = (tmp_path / "report.html").read_text()
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "<script" not in page and "@import" not in page and "url(" not in page


def test_every_error_code_has_advice() -> None:
    assert ADVICE.keys() == CODES.keys()


def test_dead_letters_of_a_rare_cause_are_not_hidden_by_a_common_one() -> None:
    def letter(number: int, code: str) -> dict[str, Any]:
        return {
            **dict.fromkeys(("audio", "error_stage", "error_message", "attempts")),
            **{"recording_id": str(number), "error_code": code},
        }

    letters = [letter(number, "not_audio") for number in range(1000)] + [letter(1000, "too_long")]
    shown = report._failures(letters)
    assert [row["error_code"] for row in shown] == ["not_audio"] * 5 + ["too_long"]


def test_only_settings_that_differ_from_the_defaults_are_shown() -> None:
    config = RunConfig().model_dump(mode="json")
    assert report.changed_settings(config) == {}
    config["asr"]["language"] = "de"
    config["asr"]["a_setting_of_the_future"] = 1
    assert report.changed_settings(config) == {"asr.language": "de"}


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
