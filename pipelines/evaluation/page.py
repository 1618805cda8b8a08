"""OUT/evaluation.html: the result of an evaluation as one page, without scripts; light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from pipelines.evaluation import tables
from pipelines.evaluation.metrics.edits import DELETE, EQUAL, INSERT
from pipelines.evaluation.speaker_scores import speaker_lines
from pipelines.pages import charts, templates


def page(result: dict[str, Any]) -> str:
    """Render a result of `pipelines.evaluation.evaluate.evaluate`."""
    protocol = result["protocol"]
    preset = f", preset {protocol['preset']}" if protocol["preset"] else ""
    return templates.render(
        "evaluation.html",
        result=result,
        facts=f"{tables.run_line(result['run'])} · normaliser {protocol['normalizer']}{preset}",
        speakers=speaker_lines(result["speakers"]) if result.get("speakers") else [],
        sections=[
            {
                "title": title,
                "grids": [*tables.grids(section)],
                "macro": tables.macro_line(section, protocol["cer_languages"]),
                # The other run is no truth that confidence could be measured by.
                "curves": _curves(section["confidence"]) if section is result["references"] else [],
                "cases": [_case(case) for case in section["worst"]],
            }
            for title, section in tables.sections(result)
        ],
    )


def _curves(figures: dict[str, Any] | None) -> list[tuple[str, Markup]]:
    """A line of text and a calibration curve for segments and, where they have confidences, for words."""
    if not figures:
        return []
    parts = [(figures, "segments"), *([(figures["words"], "words")] if figures["words"] else [])]
    lines = tables.confidence_lines(figures)
    return [(line, _curve(part["curve"], name)) for line, (part, name) in zip(lines, parts, strict=True)]


def _curve(bins: Sequence[dict[str, float]], name: str) -> Markup:
    """Calibration as a drawing: accuracy over confidence, the area of a point by its units."""
    # Both axes from the same value to 1: good models have points near 1 only.
    least = min((min(part["confidence"], part["accuracy"]) for part in bins), default=0.0)
    origin = min(0.9, math.floor(max(0.0, least) * 10) / 10)
    most = max((part["units"] for part in bins), default=1)
    points = [
        (
            part["confidence"],
            part["accuracy"],
            part["units"] / most,
            f"confidence {part['confidence']:.2f}, right {part['accuracy']:.2f}, {part[name]:,} {name}",
        )
        for part in bins
    ]
    said = "; ".join(point[3] for point in points)
    return charts.scatter(f"calibration curve of {name}", said, points, ("confidence", "share right"), origin)


def _case(case: dict[str, Any]) -> dict[str, Any]:
    """A recording with its two texts in one: parts that both have, that one has, or that differ."""
    return {
        "title": tables.case_title(case),
        "joint": case["joint"],
        "excerpt": [
            (
                "equal" if kind == EQUAL else "different",
                None if kind == INSERT else reference,
                None if kind == DELETE else hypothesis,
            )
            for kind, reference, hypothesis in tables.excerpt(case)
        ],
    }
