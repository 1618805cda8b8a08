"""Charts as inline SVG, drawn by pygal, with the colours and fonts of the page's CSS, light or dark.

Each chart has a title and a description for screen readers, and a title on each mark, which browsers show on
hover. pygal's own styles and scripts are removed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

# Units of the drawing; a phone shows them at about their size in CSS pixels.
WIDTH, HEIGHT = 380, 250
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def columns(
    title: str,
    description: str,
    bounds: Sequence[str],
    values: Sequence[float],
    labels: Sequence[str],
    every: int = 1,
) -> Markup:
    """A histogram as upright bars.

    Args:
        title: of the chart.
        description: what it says, for those who do not see it.
        bounds: lower bounds of the bars, for the axis.
        values: heights of the bars.
        labels: of the bars, in full.
        every: bars from one bound that is written to the next.
    """
    import pygal

    chart = pygal.Bar(**_common(title), x_labels_major_every=every, show_minor_x_labels=every == 1)
    chart.config(margin_right=12)
    chart.y_labels = _ticks(max(values, default=0), whole=True)
    chart.x_labels = list(bounds)
    counts = [
        {"value": value, "formatter": lambda value, name=label: f"{name}: {value:,.0f}"}
        for value, label in zip(values, labels, strict=True)
    ]
    chart.add("", counts)
    return _drawn(chart, title, description, "bars")


def rows(
    title: str,
    description: str,
    values: Mapping[str, float],
    unit: Callable[[float], str],
    end: float | None = None,
) -> Markup:
    """Horizontal bars, the first at the top.

    Args:
        title: of the chart.
        description: what it says, for those who do not see it.
        values: lengths of the bars by name.
        unit: a length in words.
        end: of the axis; None: as the longest bar needs it, in whole numbers.
    """
    import pygal

    height = 40 + 26 * max(len(values), 2)
    chart = pygal.HorizontalBar(**{**_common(title), "height": height, "value_formatter": unit})
    chart.config(margin_right=16)
    values = {_clean(name): value for name, value in values.items()}
    names = list(values)[::-1]
    chart.x_labels = names
    longest = max(values.values(), default=0)
    chart.y_labels = _ticks(longest, whole=True) if end is None else [end * step / 4 for step in range(5)]
    bars = [
        {"value": values[name], "formatter": lambda value, name=name: f"{name}: {unit(value)}"}
        for name in names
    ]
    chart.add("", bars)
    return _drawn(chart, title, description, "bars")


def lines(
    title: str,
    description: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_title: str,
    unit: Callable[[float], str] = str,
    is_wide: bool = False,
) -> Markup:
    """Lines over a common axis, which starts at zero. The page has the legend, in the order of the series.

    Args:
        title: of the chart.
        description: what it says, for those who do not see it.
        series: points by name.
        x_title: what the horizontal axis counts.
        unit: a height in words.
        is_wide: draw it for two columns of charts.
    """
    import pygal

    chart = pygal.XY(
        **_common(title),
        show_dots=True,
        dots_size=2,
        x_title=x_title,
        formatter=lambda point: f"{point[0]:.4g}: {unit(point[1])}",
    )
    if is_wide:
        chart.config(width=2 * WIDTH, height=HEIGHT + 40)
    chart.config(x_value_formatter=lambda value: f"{value:g}", value_formatter=unit)
    points = [point for line in series.values() for point in line]
    end = max((x for x, _ in points), default=0)
    chart.x_labels = [tick for tick in _ticks(end) if tick <= end]
    chart.y_labels = _ticks(max((y for _, y in points), default=0))
    for name, line in series.items():
        chart.add(_clean(name), list(line))
    return _drawn(chart, f"{title}, wide" if is_wide else title, description, "lines")


def scatter(
    title: str,
    description: str,
    points: Sequence[tuple[float, float, float, str]],
    axes: tuple[str, str],
    origin: float,
) -> Markup:
    """Points of a size in a square from `origin` to 1, with its diagonal.

    Args:
        title: of the chart.
        description: what it says, for those who do not see it.
        points: x, y, share of the largest area, and a title.
        axes: titles of both axes.
        origin: where both axes begin.
    """
    import pygal

    common = {**_common(title), "width": HEIGHT + 60, "height": HEIGHT + 60, "include_x_axis": False}
    chart = pygal.XY(**common, stroke=False, x_title=axes[0], y_title=axes[1], formatter=lambda point: "")
    ticks = [round(origin + (1 - origin) * step / 5, 3) for step in range(6)]
    chart.config(xrange=(origin, 1), range=(origin, 1), zero=origin)
    chart.config(x_value_formatter=lambda value: f"{value:g}", value_formatter=lambda value: f"{value:g}")
    chart.x_labels = chart.y_labels = ticks
    dots = [
        {
            "value": (x, y),
            "node": {"r": 2 + 6 * max(area, 0) ** 0.5},
            "formatter": lambda value, said=said: said,
        }
        for x, y, area, said in points
    ]
    chart.add("", dots)
    chart.add("", [(origin, origin), (1, 1)], stroke=True, show_dots=False)
    return _drawn(chart, title, description, "points")


def _clean(text: str) -> str:
    """A text without the characters that XML cannot have."""
    return _NOT_XML.sub("\ufffd", text)


def _ticks(end: float, whole: bool = False) -> list[float]:
    """About five round numbers from zero to at least `end`; whole ones for counts."""
    if not end > 0 or not math.isfinite(end):
        return [0, 1]
    rough = max(end / 5, 1.0) if whole else end / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    return [round(step * index, 10) for index in range(math.ceil(end / step - 1e-9) + 1)]


def _common(title: str) -> dict[str, Any]:
    from pygal.style import Style

    return {
        "width": WIDTH,
        "height": HEIGHT,
        "style": Style(label_font_size=12, major_label_font_size=12, title_font_size=12),
        "css": [],
        "js": [],
        "show_legend": False,
        "disable_xml_declaration": True,
        "margin": 4,
        "spacing": 8,
        "include_x_axis": True,
        "zero": 0,
        "truncate_label": 34,
        "no_data_text": "nothing to show",
        "value_formatter": lambda value: f"{value:,.0f}",
    }


def _drawn(chart: Any, title: str, description: str, kind: str) -> Markup:
    # Of the page, not random: the same report is the same file.
    chart.uuid = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")

    def adapted(root: Any) -> Any:
        _adapt(root, title, description)
        root.set("class", f"pygal {kind}")
        return root

    chart.add_xml_filter(adapted)
    return Markup(chart.render(is_unicode=True))


def _adapt(root: Any, title: str, description: str) -> None:
    """Remove styles, scripts and tooltips that need scripts; add what screen readers and browsers show.

    Works on elements of the standard library and of lxml, which pygal uses where it is installed.
    """
    for parent in [*root.iter()]:
        for child in [*parent]:
            tag = child.tag if isinstance(child.tag, str) else "comment"
            if tag in ("style", "script", "comment") or "tooltip-overlay" in (child.get("class") or ""):
                parent.remove(child)
        notes = {child.get("class"): child for child in [*parent] if child.tag == "desc"}
        for child in notes.values():
            parent.remove(child)
        if "value" in notes:
            parent.insert(0, _element(root, "title", notes["value"].text))
    for child in [child for child in [*root] if child.tag == "title"]:
        root.remove(child)
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = _element(root, tag, text)
        child.set("id", f"{root.get('id')}-{tag}")
        root.insert(place, child)
    root.set("role", "img")
    root.set("aria-labelledby", f"{root.get('id')}-title")
    root.set("aria-describedby", f"{root.get('id')}-desc")


def _element(root: Any, tag: str, text: str) -> Any:
    element = root.makeelement(tag, {})
    element.text = _clean(text)
    return element
