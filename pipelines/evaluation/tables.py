"""The result of an evaluation as tables for a terminal and as CSV, and the pieces that the page shows."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.evaluation.metrics.edits import EQUAL
from pipelines.evaluation.metrics.word_times import LIMITS_MS
from pipelines.evaluation.speaker_scores import speaker_lines
from pipelines.plurals import counted

GROUPS = 50  # rows of a table for people; JSON and CSV have all
CONTEXT = 3  # units that are right, shown on each side of an error
LINE_CELLS = 110
Figures = dict[str, Any]


def percent(value: float | None, digits: int = 2) -> str:
    """A share as per cent; `-` without a value."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _rate(name: str) -> Callable[[Figures], str]:
    def cell(part: Figures) -> str:
        limits = part.get(f"{name}_interval")
        if part[name] is None or not limits:
            return percent(part[name])
        return f"{percent(part[name])} ({percent(limits[0])}-{percent(limits[1])})"

    return cell


COLUMNS: dict[str, Callable[[Figures], str]] = {
    "recordings": lambda part: f"{part['recordings']:,}",
    "exact": lambda part: f"{part['exact']:,}",
    "words": lambda part: f"{part['words']:,}" if part["words"] else "-",
    "WER %": _rate("wer"),
    "CER %": _rate("cer"),
    "sub": lambda part: f"{part['substitutions']:,}",
    "del": lambda part: f"{part['deletions']:,}",
    "ins": lambda part: f"{part['insertions']:,}",
    "language %": lambda part: percent(part["language_accuracy"], 1),
    "AAS ms": lambda part: "-" if part["aas_ms"] is None else f"{part['aas_ms']:.1f}",
    **{
        f"≤{limit} ms %": lambda part, name=f"within_{limit}_ms": percent(part[name], 1)  # type: ignore[misc]
        for limit in LIMITS_MS
    },
}
_OPTIONAL = tuple(
    name for name in COLUMNS if name not in ("recordings", "exact", "WER %", "CER %", "sub", "del", "ins")
)


def sections(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The comparisons of a result with a title."""
    if result["references"]:
        yield f"Against references: {result['references']['source']}", result["references"]
    if result["against"]:
        yield f"Against another run, as if it were right: {result['against']['source']}", result["against"]


def grids(section: dict[str, Any]) -> Iterator[tuple[list[str], list[list[str]], str]]:
    """The tables of a comparison: (head, rows, note below). Columns without any value are left out."""
    for column, groups in section["by"].items():
        shown = list(groups.items())[:GROUPS]
        parts = [*shown, ("all", section["total"])]
        rows = [[name, *(cell(part) for cell in COLUMNS.values())] for name, part in parts]
        head = [column, *COLUMNS]
        visible = [
            place
            for place, name in enumerate(head)
            if name not in _OPTIONAL or any(row[place] != "-" for row in rows)
        ]
        hidden = len(groups) - len(shown)
        note = f"{counted(hidden, 'further value')} in the JSON and the CSV file" if hidden else ""
        yield [head[place] for place in visible], [[row[place] for place in visible] for row in rows], note


def macro_line(section: dict[str, Any], cer_languages: Sequence[str]) -> str:
    """The macro average over languages in one line."""
    macro = section["macro"]
    used = [name for name in cer_languages if name in section["by"]["language"]]
    unit = f"CER in {', '.join(used)}, WER in all others" if used else "WER"
    average = _rate("error_rate")(macro)
    return f"macro average over {counted(macro['languages'], 'language')}: {average} % ({unit})"


def run_line(run: dict[str, Any]) -> str:
    """The run in one line: audio, speed, models."""
    parts = [f"{run['audio_hours']:,.2f} audio hours"]
    if run["rtfx"]:
        parts.append(f"RTFx {run['rtfx']:,.1f} ({run['wall_seconds']:,.0f} s of all runs, start included)")
    models = [str(run[name]) for name in ("asr_model", "aligner_model") if run.get(name)]
    return " · ".join(parts + models)


def confidence_lines(figures: dict[str, Any]) -> list[str]:
    """What the confidence of segments and of words is worth, one line each."""
    lines = []
    for name, part in (("segment", figures), ("word", figures["words"])):
        if part:
            area = "-" if part["auc"] is None else f"{part['auc']:.3f}"
            lines.append(
                f"confidence of {counted(part[f'{name}s'], name)}, {part[f'{name}s_with_errors']:,} with "
                f"errors: AUC {area}, calibration error {percent(part['calibration_error'], 1)} %"
            )
    return lines


def case_title(case: dict[str, Any]) -> str:
    """A listed recording in one line."""
    rate = percent(case["error_rate"], 1)
    return (
        f"{case['recording_id']} · {case['language'] or '-'} · {counted(case['errors'], 'error')} in "
        f"{case['units']:,} ({rate} %) · {case['status']}"
    )


def excerpt(case: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The alignment of a listed recording, shortened to a few units around each error."""
    joint, shown = case["joint"], []
    alignment = case["alignment"]
    for place, (kind, reference, hypothesis) in enumerate(alignment):
        if kind == EQUAL:
            units = reference.split(" ") if joint else list(reference)
            before = CONTEXT if place else 0
            after = CONTEXT if place + 1 < len(alignment) else 0
            if len(units) > before + after + 1:
                units = [*units[:before], "…", *units[len(units) - after :]]
            text = joint.join(units)
            shown.append((kind, text, text))
        else:
            shown.append((kind, reference, hypothesis))
    return shown


def render(result: dict[str, Any]) -> RenderableType:
    """The result for a terminal."""
    parts: list[RenderableType] = [Text(run_line(result["run"]))]
    parts += [Text(f"note: {note}") for note in result["notes"]]
    parts += map(Text, speaker_lines(result["speakers"]) if result.get("speakers") else [])
    for title, section in sections(result):
        for number, (head, rows, note) in enumerate(grids(section)):
            table = Table(title=Text(title) if not number else None, title_justify="left")
            for place, name in enumerate(head):
                table.add_column(name, justify="right" if place else "left", overflow="fold")
            for row in rows[:-1]:
                table.add_row(*map(Text, row))
            table.add_section()
            table.add_row(*map(Text, rows[-1]))
            parts += [table, *([Text(note)] if note else [])]
        parts.append(Text(macro_line(section, result["protocol"]["cer_languages"])))
        if section["confidence"] and section is result["references"]:
            parts += map(Text, confidence_lines(section["confidence"]))
        for case in section["worst"]:
            parts += [
                Text(""),
                Text(case_title(case), style="bold"),
                *map(Text, aligned_lines(excerpt(case))),
            ]
    return Group(*parts)


def aligned_lines(chunks: Sequence[tuple[str, str, str]]) -> list[str]:
    """An alignment as pairs of lines, one text below the other; `*` where a text has nothing."""
    lines, above, below = [], "", ""
    for _, reference, hypothesis in chunks:
        width = max(cell_len(reference), cell_len(hypothesis), 1)
        if above and cell_len(above) + width > LINE_CELLS:
            lines += [f"  reference: {above}", f"  run:       {below}"]
            above = below = ""
        above += _padded(reference, width) + " "
        below += _padded(hypothesis, width) + " "
    return [*lines, f"  reference: {above}".rstrip(), f"  run:       {below}".rstrip()]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text)) if text else "*" * width


def csv_bytes(result: dict[str, Any]) -> bytes:
    """All groups as CSV: one row for each, with every figure; intervals are two columns."""
    rows = []
    for name in ("references", "against"):
        if not (section := result[name]):
            continue
        groups = [("", "", section["total"]), ("", "macro average", section["macro"])]
        groups += [
            (column, value, part) for column, by in section["by"].items() for value, part in by.items()
        ]
        for column, value, part in groups:
            rows.append({"compared_with": name, "column": column, "value": value, **_flat(part)})
    if result["references"] and (figures := result["references"]["confidence"]):
        for row in rows:
            if row["compared_with"] == "references" and not row["column"] and not row["value"]:
                row |= _confidence_cells(figures)
    head = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _confidence_cells(figures: dict[str, Any]) -> dict[str, Any]:
    """What confidence is worth, for the row of all recordings."""
    return {
        f"{name}_confidence_{value}": part[value]
        for name, part in (("segment", figures), ("word", figures["words"]))
        if part
        for value in ("auc", "calibration_error")
    }


def _flat(part: Figures) -> Figures:
    flat: Figures = {}
    for name, value in part.items():
        if name.endswith("_interval"):
            flat[f"{name}_low"], flat[f"{name}_high"] = value or ("", "")
        else:
            flat[name] = value
    return flat
