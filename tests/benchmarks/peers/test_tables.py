"""The tables of the comparison come from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.peers import pages, tables
from tests.benchmarks.peers.contestants import WITH_MODEL, WITHOUT_MODEL
from tests.benchmarks.peers.costs import cost_of
from tests.benchmarks.peers.data import Data

SETS = {
    "long": Data(Path("long"), tuple("abcdef"), 7200.0),
    "short": Data(Path("short"), tuple(f"c{number}" for number in range(1000)), 3600.0),
    "clips": Data(Path("clips"), ("k0", "k1", "k2"), 10.0),
}
OURS = next(one for one in WITHOUT_MODEL if one.name == "ours")
NEMO = next(one for one in WITHOUT_MODEL if one.name == "nemo")
FFMPEG = WITHOUT_MODEL[0]


def run(who: str, data: str, cpu: float, part: str = "cost", **facts: Any) -> dict[str, Any]:
    """A record."""
    usage = {"code": 0, "wall": cpu / 2, "cpu": cpu, "peak_mib": 100.0, "left": [], "timed_out": False}
    return {"part": part, "who": who, "data": data, "round": 0, **usage, "lost": 0, "doubled": 0, **facts}


RECORDS = [
    run("ours", "one", 9.0),
    run("ours", "one", 11.0),
    run("ours", "one", 10.0),
    run("ours", "long", 16.0, peak_mib=900.0),
    run("ours", "long", 14.0, peak_mib=1200.0),
    run("ours", "short", 25.0),
    run("ours", "short", 1000.0, code=1),
    run("ours", "short", 7.0, part="decoding"),
    run("ffmpeg", "one", 0.1),
    run("ffmpeg", "long", 4.0),
    run("ffmpeg", "short", 60.0),
    run("nemo", "one", 50.0),
    run("nemo", "short", 150.0),
]


def test_costs_are_net_of_the_start_and_beside_decoding() -> None:
    cost = cost_of(OURS, RECORDS, SETS)
    assert (cost.start_wall, cost.start_cpu) == (5.0, 10.0)
    assert cost.long_net == pytest.approx(2.5)
    assert cost.short_net == pytest.approx(15.0)
    assert cost.short_beside == pytest.approx(8.0)
    assert cost.peak_long == 1200.0
    # The failed run does not count.
    assert (cost.rounds, cost.short_cpu) == (1, 25.0)


def test_bare_ffmpeg_has_no_start_and_is_the_decoding_of_those_who_call_it() -> None:
    ffmpeg = cost_of(FFMPEG, RECORDS, SETS)
    assert (ffmpeg.start_cpu, ffmpeg.short_beside) == (None, None)
    assert ffmpeg.short_net == pytest.approx(60.0)
    nemo = cost_of(NEMO, RECORDS, SETS)
    assert nemo.short_beside == pytest.approx(40.0)
    assert nemo.long_net is None


def test_the_table_of_costs_has_a_line_for_everyone_who_ran() -> None:
    table = tables.cost_table(RECORDS, SETS)
    assert [line[0] for line in table[1:]] == [FFMPEG.title, NEMO.title, "Scriptorium"]
    assert len({len(line) for line in table}) == 1
    assert "2.50 (1.25)" in table[-1]


def test_a_kill_costs_what_both_runs_took_beyond_one() -> None:
    records = [
        *RECORDS,
        run("ours", "short", 20.0, part="kill", stored=400, said_committed=380, said_under_way=30),
        run("ours", "short", 21.0, part="again", lost=0, doubled=0),
    ]
    # The records of failed runs are no reason to be wrong about an undisturbed one.
    table = tables.kill_table([one for one in records if not one["code"]], SETS)
    assert table[1] == ("Scriptorium", "1000", "400", "380 + 30 under way", "0 / 0", "6.0", "0")


def test_damaged_files_have_a_text_or_a_reason_or_nothing() -> None:
    reasons = {"x": "bad_header", "y": "empty"}
    records = [run("ours", "broken", 20.0, part="broken", code=3, damaged_rows=4, reasons=reasons)]
    assert tables.broken_table(records)[1] == ("Scriptorium", "3", "0", "4 / 2 / 4")


def test_texts_are_compared_with_ours() -> None:
    def models(who: str, texts: dict[str, str]) -> list[dict[str, Any]]:
        return [run(who, "one", 10.0, "models"), run(who, "clips", 14.0, "models", texts=texts)]

    records = [
        *models("ours-demo", {"k0": "one", "k1": "two", "k2": "three"}),
        *models("ray-demo", {"k0": "one ", "k1": "too"}),
    ]
    lines = {line[0]: line for line in tables.model_table(records, SETS)}
    assert lines["Ray's own example"][4:6] == ("4.0", "1 of 3")
    assert lines["Scriptorium"][5] == "3 of 3"


def test_markdown_makes_our_line_bold() -> None:
    lines = tables.markdown(tables.cost_table(RECORDS, SETS)).splitlines()
    assert lines[1].startswith("| --- | --- |")
    assert lines[-1].startswith("| **Scriptorium** | **5.0 / 10.0** |")
    assert len(tables.plain(tables.cost_table(RECORDS, SETS)).splitlines()) == len(lines) - 1


def test_the_short_table_fits_a_readme() -> None:
    table = tables.short_table(RECORDS, SETS)
    assert len(table[0]) <= 7
    assert table[-1][-1] == "-"


def test_a_table_replaces_the_one_between_its_marks() -> None:
    page = f"above\n{pages.BEGIN}\nold\n{pages.END}\nbelow\n"
    new = pages.replaced(page, "new")
    assert new == f"above\n{pages.BEGIN}\nnew\n{pages.END}\nbelow\n"
    with pytest.raises(ValueError, match="no <!--"):
        pages.replaced("no marks", "new")


def test_both_pages_have_their_marks() -> None:
    for page in (pages.README, pages.RESULTS):
        assert pages.BEGIN in pages.replaced(page.read_text(), "new")


def test_every_contestant_has_a_name_of_its_own() -> None:
    names = [one.name for one in (*WITHOUT_MODEL, *WITH_MODEL)]
    assert len(names) == len({*names})
