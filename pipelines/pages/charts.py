"""Charts as inline SVG, drawn by pygal. Colours and fonts come from the page's CSS, so that they follow its mode.

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
    chart.x_labels = list(bounds)
    counts = [
        {"value": value, "formatter": lambda value, name=label: f"{name}: {value:,.0f}"}
        for value, label in zip(values, labels, strict=True)
    ]
    chart.add("", counts)
    return _drawn(chart, title, description, "bars")


def rows(title: str, description: str, values: Mapping[str, float], unit: Callable[[float], str]) -> Markup:
    """Horizontal bars, the first at the top.

    Args:
        title: of the chart.
        description: what it says, for those who do not see it.
        values: lengths of the bars by name.
        unit: a length in words.
    """
    import pygal

    height = 60 + 24 * max(len(values), 2)
    chart = pygal.HorizontalBar(**{**_common(title), "height": height, "value_formatter": unit})
    names = list(values)[::-1]
    chart.x_labels = names
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
) -> Markup:
    """Lines over a common axis, which starts at zero.

    Args:
        title: of the chart.
        description: what it says, for those who do not see it.
        series: points by name.
        x_title: what the horizontal axis counts.
        unit: a height in words.
    """
    import pygal

    chart = pygal.XY(
        **_common(title),
        stroke=True,
        show_dots=True,
        dots_size=2,
        x_title=x_title,
        formatter=lambda point: f"{point[0]:.4g}: {unit(point[1])}",
    )
    chart.config(show_legend=len(series) > 1, legend_at_bottom=True, legend_box_size=9)
    chart.config(legend_at_bottom_columns=min(3, len(series)), width=2 * WIDTH, height=HEIGHT + 60)
    chart.config(x_value_formatter=lambda value: f"{value:g}", value_formatter=unit)
    end = max((point[0] for points in series.values() for point in points), default=0)
    chart.x_labels = _round_numbers(end)
    for name, points in series.items():
        chart.add(name, list(points))
    return _drawn(chart, title, description, "lines")


def _round_numbers(end: float) -> list[float]:
    """About six round numbers from zero to `end`."""
    if end <= 0:
        return [0]
    rough = end / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(step * index, 10) for index in range(int(end / step) + 1)]


def _common(title: str) -> dict[str, Any]:
    from pygal.style import Style

    return {
        "width": WIDTH,
        "height": HEIGHT,
        "style": Style(label_font_size=11, major_label_font_size=11, legend_font_size=12, title_font_size=12),
        "css": [],
        "js": [],
        "show_legend": False,
        "disable_xml_declaration": True,
        "min_scale": 3,
        "max_scale": 6,
        "margin": 4,
        "spacing": 8,
        "include_x_axis": True,
        "range": None,
        "zero": 0,
        "truncate_label": 34,
        "truncate_legend": 34,
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
    return Markup(chart.render(is_unicode=True))  # noqa: S704 (serialised by an XML library)


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
    element.text = text
    return element
