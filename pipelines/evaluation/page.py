"""OUT/evaluation.html: the result of an evaluation as one page, without scripts; light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.evaluation import tables
from pipelines.evaluation.metrics.edits import DELETE, EQUAL, INSERT
from pipelines.evaluation.speaker_scores import speaker_lines

STYLE = (
    ":root{color-scheme:light dark;--line:#8884;--bad:light-dark(#c33,#f88);"
    "--new:light-dark(#27a,#8cf);--soft:light-dark(#666,#aaa)}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem}"
    "h1{margin-bottom:0}h2{margin:2.5rem 0 .5rem;font-size:1.25rem;overflow-wrap:anywhere}"
    "h3{margin:1.5rem 0 .25rem;font-size:1rem;overflow-wrap:anywhere}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}"
    "td,th{padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);text-align:right}"
    "td,th{white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left;white-space:normal}"
    "td:first-child,th:first-child{overflow-wrap:break-word;min-width:6rem;max-width:16rem}"
    "tr:last-child td{font-weight:600;border-bottom:0}.note,.facts{color:var(--soft);overflow-wrap:anywhere}"
    "del{color:var(--bad)}ins{color:var(--new)}p.text{margin:.25rem 0;overflow-wrap:anywhere}"
    "svg{max-width:24rem;width:100%;height:auto;display:block}svg text{font-size:9px;fill:currentColor}"
)


def page(result: dict[str, Any]) -> str:
    """Render a result of `pipelines.evaluation.evaluate.evaluate`."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Scriptorium evaluation</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>Evaluation</h1>{''.join(_body(result))}</body></html>"
    )


def _body(result: dict[str, Any]) -> Iterator[str]:
    protocol = result["protocol"]
    preset = f", preset {protocol['preset']}" if protocol["preset"] else ""
    facts = f"{tables.run_line(result['run'])} · normaliser {protocol['normalizer']}{preset}"
    yield f"<p class=facts>{html.escape(result['out'])}<br>{html.escape(facts)}</p>"
    if result["notes"]:
        items = "".join(f"<li>{html.escape(note)}" for note in result["notes"])
        yield f"<ul class=note>{items}</ul>"
    if result.get("speakers"):
        yield "<h2>Speakers</h2>"
        yield from (f"<p>{html.escape(line)}</p>" for line in speaker_lines(result["speakers"]))
    for title, section in tables.sections(result):
        yield f"<h2>{html.escape(title)}</h2>"
        for head, rows, note in tables.grids(section):
            yield _table(head, rows)
            yield f"<p class=note>{html.escape(note)}</p>" if note else ""
        yield f"<p>{html.escape(tables.macro_line(section, protocol['cer_languages']))}</p>"
        yield (
            "<p class=note>In brackets: the range in which 95 % of resampled sets of recordings lie. sub, "
            "del and ins count words, or characters in the languages that take CER.</p>"
        )
        if section["confidence"] and section is result["references"]:
            yield "<h2>Confidence</h2>"
            figures, lines = section["confidence"], tables.confidence_lines(section["confidence"])
            curves = [_curve(part["curve"], name) for part, name in _with_confidence(figures)]
            for line, curve in zip(lines, curves, strict=True):
                yield f"<p>{html.escape(line)}</p>{curve}"
            yield (
                "<p class=note>On the line, confidence is the share of right words. Above it the model is "
                "better than it says, below it worse.</p>"
            )
        if section["worst"]:
            yield "<h2>Recordings with the most errors</h2>"
            yield (
                "<p class=note>Red and struck: said, but not in the run. "
                "Blue and underlined: only in the run.</p>"
            )
        for case in section["worst"]:
            yield f"<h3>{html.escape(tables.case_title(case))}</h3><p class=text>{_marked(case)}</p>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = line("th", head) + "".join(line("td", row) for row in rows)
    return f"<div class=wide><table>{body}</table></div>"


def _marked(case: dict[str, Any]) -> str:
    """Both texts in one: what is only in the reference struck out, what is only in the run underlined."""
    parts = []
    for kind, reference, hypothesis in tables.excerpt(case):
        if kind == EQUAL:
            parts.append(html.escape(reference))
            continue
        if kind != INSERT:
            parts.append(f"<del>{html.escape(reference)}</del>")
        if kind != DELETE:
            parts.append(f"<ins>{html.escape(hypothesis)}</ins>")
    return case["joint"].join(parts)


def _with_confidence(figures: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """The figures of segments and, where they have confidences, of words."""
    return [(figures, "segments"), *([(figures["words"], "words")] if figures["words"] else [])]


def _curve(bins: Sequence[dict[str, float]], name: str) -> str:
    """Calibration as a drawing: accuracy over confidence, the area of a point by its units."""
    side, edge = 200.0, 24.0
    # Both axes from the same value to 1: good models have points near 1 only.
    least = min((min(part["confidence"], part["accuracy"]) for part in bins), default=0.0)
    origin = min(0.9, math.floor(max(0.0, least) * 10) / 10)

    def x(value: float) -> float:
        return edge + side * (value - origin) / (1 - origin)

    left, top, bottom = edge, 8.0, 8.0 + side

    def y(value: float) -> float:
        return 8 + side * (1 - value) / (1 - origin)

    most = max((part["units"] for part in bins), default=1)
    points = "".join(
        f'<circle cx="{x(part["confidence"]):.1f}" cy="{y(part["accuracy"]):.1f}" '
        f'r="{2 + 6 * (part["units"] / most) ** 0.5:.1f}" fill="currentColor" fill-opacity=".6">'
        f"<title>confidence {part['confidence']:.2f}, right {part['accuracy']:.2f}, "
        f"{part[name]:,} {name}</title></circle>"
        for part in bins
    )
    return (
        f'<svg viewBox="0 0 {side + 2 * edge:g} {side + 40:g}" role="img" '
        f'aria-label="calibration curve of {name}: share of right words over confidence">'
        f'<g fill="none" stroke="currentColor" stroke-opacity=".3"><rect x="{left:g}" y="{top:g}" '
        f'width="{side:g}" height="{side:g}"/>'
        f'<path d="M{left:g} {bottom:g}L{left + side:g} {top:g}"/></g>{points}'
        f'<text x="{left:g}" y="{bottom + 12:g}">{origin:g}</text>'
        f'<text x="{left + side - 4:g}" y="{bottom + 12:g}">1</text>'
        f'<text x="{left + side / 2 - 24:g}" y="{bottom + 24:g}">confidence</text>'
        f'<text transform="translate({left - 8:g} {bottom - side / 2 + 24:g}) rotate(-90)">'
        "share right</text></svg>"
    )
