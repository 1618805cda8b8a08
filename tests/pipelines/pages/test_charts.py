"""Charts: what they draw, and what they leave out."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pipelines.pages import charts

SVG = "{http://www.w3.org/2000/svg}"


def parsed(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart)


def test_a_histogram_has_a_bar_with_a_title_for_each_bin() -> None:
    root = parsed(
        charts.columns("Lengths", "Most are short.", ["0", "5"], [3, 1], ["0 to 5 s", "5 s and more"])
    )
    bars = [group for group in root.iter(f"{SVG}g") if group.get("class") == "bar"]
    assert [bar.findtext(f"{SVG}title") for bar in bars] == ["0 to 5 s: 3", "5 s and more: 1"]
    heights = [float(bar.find(f"{SVG}rect").get("height", 0)) for bar in bars]  # type: ignore[union-attr]
    assert heights[0] == pytest.approx(3 * heights[1], rel=0.01)


def test_screen_readers_get_a_title_and_a_description() -> None:
    root = parsed(charts.rows("Flags", "loops 2", {"loops": 2.0}, str))
    named = {element.get("id"): element.text for element in root.iter() if element.get("id")}
    assert root.get("role") == "img"
    assert named[root.get("aria-labelledby")] == "Flags"
    assert named[root.get("aria-describedby")] == "loops 2"


def test_nothing_is_styled_or_run_by_the_chart() -> None:
    chart = charts.lines("Speed", "", {"a": [(0, 1), (1, 2)], "b": [(0, 2), (1, 0)]}, "minutes", str)
    tags = {element.tag for element in parsed(chart).iter()}
    assert not tags & {f"{SVG}script", f"{SVG}style", f"{SVG}a"} and "<!--" not in chart
    assert "1: 2" in chart  # the title of a point


def test_names_are_escaped_and_what_xml_cannot_have_is_replaced() -> None:
    chart = charts.rows("Flags", "", {"<script>\x00": 1.0}, str)
    assert "<script>" not in chart and "&lt;script&gt;\ufffd" in chart


def test_the_same_chart_is_drawn_in_the_same_way() -> None:
    assert charts.rows("A", "", {"x": 1.0}, str) == charts.rows("A", "", {"x": 1.0}, str)


@pytest.mark.parametrize("end", [1e-9, 0.3, 1, 7, 99, 1e12])
def test_an_axis_has_a_few_round_numbers_up_to_its_end(end: float) -> None:
    ticks = charts._ticks(end)
    assert ticks[0] == 0 and ticks[-1] >= end * (1 - 1e-6) and 3 <= len(ticks) <= 8


@pytest.mark.parametrize("end", [1, 2, 3, 12, 1000])
def test_counts_have_whole_numbers_only(end: int) -> None:
    ticks = charts._ticks(end, whole=True)
    assert all(tick == int(tick) for tick in ticks) and len(set(ticks)) == len(ticks)


@pytest.mark.parametrize("end", [0, -1, float("nan"), float("inf")])
def test_an_axis_without_values_is_drawn(end: float) -> None:
    assert charts._ticks(end) == [0, 1]


def test_a_scatter_begins_at_its_origin_and_has_a_title_for_each_point() -> None:
    points = [(0.92, 0.95, 1.0, "most"), (0.98, 0.97, 0.25, "few")]
    root = parsed(charts.scatter("Curve", "", points, ("confidence", "right"), 0.9))
    dots = [
        (group.findtext(f"{SVG}title"), circle)
        for group in root.iter(f"{SVG}g")
        if group.get("class") == "dots" and (circle := group.find(f"{SVG}circle")) is not None
    ]
    assert [title for title, _ in dots] == ["most", "few"]
    assert [float(circle.get("r", 0)) for _, circle in dots] == [8, 5]
    across, height = (float(dots[0][1].get(name, 0)) for name in ("cx", "cy"))
    # 0.92 is a fifth of the way from 0.9 to 1.
    assert 40 < across < 80 and 100 < height < 160
